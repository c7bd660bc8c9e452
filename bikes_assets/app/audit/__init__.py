"""The audit log of this project's store: its key, what is appended to it and when, and what is answered from it."""
