"""What lies where in this project: its tables, its models and the lake that holds them, and which store they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bikes_assets.app.settings import ROOT, settings
from bikes_assets.demand import features, model, tables
from bikes_assets.events import identity
from bikes_assets.storage.code.environment import user
from bikes_assets.storage.delta import LakeTable
from bikes_assets.storage.lake import MODEL_ROWS, Lake, ModelFormat

if TYPE_CHECKING:
    import dagster as dg
    from mlflow import MlflowClient

SCHEMAS = {
    item.name: item
    for item in (tables.HOURLY_RENTALS, features.DEMAND_FEATURES, tables.DEMAND_PREDICTIONS, tables.PREDICTION_QUALITY)
}
"""Declared columns of each table in the lake."""

COLUMNS = {**SCHEMAS, tables.RENTAL_RECORDS.name: tables.RENTAL_RECORDS}
"""Declared columns of every dataset, the external source's too."""

SERVING, PINS = "champion_model", "champion_pins"
"""The asset that says which model serves a month, and the one that holds recorded decisions about it."""

ASSETS = (*SCHEMAS, "demand_model", PINS, SERVING)
"""Assets of which the lake has a table."""

COMPARED = ("demand_model", "prediction_quality")
"""Assets whose runs people compare in MLflow's experiment; the runs of all others are in the experiment beside it."""

MODELS = ModelFormat(
    model.dump, model.load, model.card, model.state, model.estimator, model.TRUSTED_TYPES, part="estimator"
)


def lake() -> Lake:
    """Return the lake that the settings name.

    Raises:
        SettingsError: the event log that the settings name is of another store.
    """
    current_identity()
    made_by = {"user": user(), "deployment": settings().deployment}
    known = settings()
    return Lake(
        known.lake_location, SCHEMAS, ROOT, serving=SERVING, made_by=made_by, memory=known.data_folder / "commits"
    )


def table(asset: str) -> LakeTable:
    """Return the table of one of ASSETS."""
    return lake().table(asset, SCHEMAS.get(asset, MODEL_ROWS))


def current_identity() -> identity.Identity:
    """Return the store that the settings name; its id is "" for a new one, and for a copy that nothing was written to yet.

    Raises:
        SettingsError: its lake and its event log are of two stores.
    """
    return identity.check(settings().lake_location, settings().event_storage, lambda: ASSETS)


def claim(instance: dg.DagsterInstance) -> str:
    """Write the store's id to the lake and to an instance's event log before anything else is written, and return it.

    An event log that was lost is marked as one that `bikes sync` has to write again. An instance in memory keeps nothing.

    Raises:
        SettingsError: they are of two stores.
    """
    from bikes_assets.events.workers import is_of_one_machine
    from bikes_assets.tracking.resource import mark_backlog

    if instance.is_ephemeral:
        return current_identity().store
    known = settings()
    storage = instance.root_directory if is_of_one_machine(instance) else known.event_storage

    def say(text: str) -> None:
        instance.daemon_cursor_storage.set_cursor_values({identity.KEY: text})

    claimed = identity.claim(known.lake_location, storage, lambda: ASSETS, say, Path(instance.root_directory))
    if claimed.is_log_lost:
        mark_backlog(instance)
    return claimed.store


def mlflow_client() -> MlflowClient:
    """Return the client of MLflow's store.

    Raises:
        SettingsError: it is of another store.
    """
    from bikes_assets.tracking.client import client_of_store

    return client_of_store(settings().tracking_uri, current_identity().store)
