"""Dagster at work: the asset decorator, IO managers, engines, reconciliation."""
