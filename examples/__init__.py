"""Projects that use the library and nothing of the bikes."""
