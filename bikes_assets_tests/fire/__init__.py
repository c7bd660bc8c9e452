"""Campaigns that interrupt, kill and starve runs, and then compare what Dagster and MLflow say of them."""
