"""The front door: Dagster loads everything under defs/ from here."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from bikes_assets.app.settings import settings
from bikes_assets.core import secrets
from bikes_assets.core.address import Address
from bikes_assets.events.pages import lineage_page

secrets.guard()  # what a process of Dagster's prints is stored with the run's logs


@dg.definitions
def defs() -> dg.Definitions:
    """Return the project's definitions."""
    tree = dg.ComponentTree.for_project(Path(__file__).parent)
    with _nothing_collected(), warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # of the functions that Dagster uses itself
        # `load_from_defs_folder` would also write the documentation of Dagster's own components, of which none is used here
        found = tree.build_defs(Path()).map_asset_specs(func=_with_lineage)
    return dg.Definitions.merge(found, dg.Definitions(component_tree=tree))


def _with_lineage(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Return an asset with a link to its lineage among the metadata that its page shows."""
    page = lineage_page(settings().lineage_url, str(Address(spec.key.to_user_string())))
    return spec.merge_attributes(metadata={"lineage_page": dg.MetadataValue.url(page)})


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
