"""Reports on fitted models: what the store knows of one, as `governance.report` has it."""
