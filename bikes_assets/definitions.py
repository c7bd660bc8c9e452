"""The front door: Dagster loads everything under defs/ from here."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from bikes_assets.core import secrets

secrets.guard()  # what a process of Dagster's prints is stored with the run's logs


@dg.definitions
def defs() -> dg.Definitions:
    """Return the project's definitions."""
    tree = dg.ComponentTree.for_project(Path(__file__).parent)
    with _nothing_collected(), warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # of the functions that Dagster uses itself
        # `load_from_defs_folder` would also write the documentation of Dagster's own components, of which none is used here
        found = tree.build_defs(Path())
    return dg.Definitions.merge(found, dg.Definitions(component_tree=tree))


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Search for no garbage: what is imported and defined stays, and is a tenth of the time of loading it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
