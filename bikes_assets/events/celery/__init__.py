"""Runs that Celery's workers execute, on this machine or on others."""
