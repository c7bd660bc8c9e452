"""Delta tables, model files and other files on disk or object storage. The only package that imports deltalake."""
