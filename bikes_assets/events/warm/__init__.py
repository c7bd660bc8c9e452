"""Runs that begin in a process which has imported the libraries already."""
