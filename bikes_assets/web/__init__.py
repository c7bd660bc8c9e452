"""What this project serves by itself: over HTTP, and to agents."""
