"""Lineage of tables, columns and models: pure, without Dagster, MLflow or anything about bikes."""
