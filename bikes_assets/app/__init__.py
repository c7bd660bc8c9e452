"""This project's settings, store and current state, and what is asked of them from Python."""
