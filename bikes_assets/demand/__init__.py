"""The domain, pure: rental records, features, models and their evaluation. No Dagster, no MLflow, no files."""
