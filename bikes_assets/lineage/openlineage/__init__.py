"""Runs as OpenLineage's events: who reads them needs nothing of this project.

`history` reads Dagster's event log; everything else maps what it found to events, and reads nothing. The package
`openlineage-python` is needed, the extra `openlineage`.
"""
