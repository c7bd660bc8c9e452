"""Guards of the code, and whether a test notices when one is taken out."""
