"""What this project serves over HTTP by itself."""
