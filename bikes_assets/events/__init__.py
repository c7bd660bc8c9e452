"""Dagster's instance and event log: what runs did, what they recorded, and what Dagster's pages show about it."""
