"""The project that this process works on, as OpenLineage's events describe it."""

from __future__ import annotations

from bikes_assets.app import answers, state
from bikes_assets.app.store import columns, current
from bikes_assets.lineage.openlineage.catalog import Catalog
from bikes_assets.lineage.queries import column_digest


def catalog() -> Catalog:
    """Return the project, with its index brought up to date.

    Raises:
        SettingsError: the event log belongs to another store than the lake.
        StoreError: the event log no longer exists.
    """
    known, index = current(), answers.refreshed()
    return Catalog(
        known.name,
        known.lake.location,
        str(known.lake.root),
        columns(),
        state.descriptions(),
        state.owners(),
        known.lake.serving,
        lambda version, column: column_digest(index, version, column),
    )
