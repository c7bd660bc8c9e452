"""What Dagster sees: thin assets, their partitions and resources. One file per group."""
