"""The command `bikes`, and the servers that it starts."""
