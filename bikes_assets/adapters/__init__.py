"""The name under which a dagster.yaml of an earlier release finds its storages."""
