"""Answers as JSON: what commands print with `--json` and servers answer with, defined once."""
