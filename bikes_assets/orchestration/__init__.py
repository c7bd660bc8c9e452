"""The Dagster layer: the asset decorator, IO managers, engines, reconciliation."""
