"""Sending events: which ones a receiver has not had, how it is reached, and the file that remembers it."""
