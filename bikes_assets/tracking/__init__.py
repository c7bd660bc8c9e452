"""MLflow: runs, datasets, logged and registered models. The only package that imports mlflow."""
