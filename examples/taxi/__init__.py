"""Taxi trips: plain Dagster assets on pandas, without partitions, that get their lineage from the wiring alone."""
