"""Where the worlds meet: files, Delta Lake, MLflow and Dagster's events. Knows nothing of bikes."""
