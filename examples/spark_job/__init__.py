"""A Spark job that reads a table of the lake and reports its lineage as OpenLineage's events."""
