"""Sources of raw rows: CSV, Parquet, SQL and DVC, each with the version that was read."""
