"""The front door: Dagster loads everything under defs/ from here."""

from pathlib import Path

import dagster as dg

from bikes_assets.core import secrets

secrets.guard()  # what a process of Dagster's prints is stored with the run's logs


@dg.definitions
def defs() -> dg.Definitions:
    """Return the project's definitions."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
