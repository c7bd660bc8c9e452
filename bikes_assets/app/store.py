"""This project's tables, its models and the lake that stores them, and the identity of the store."""

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
"""Declared columns of every dataset, including the external source."""

SERVING, PINS = "champion_model", "champion_pins"
"""The asset that says which model serves a month, and the asset of recorded decisions about it."""

ASSETS = (*SCHEMAS, "demand_model", PINS, SERVING)
"""Assets that have a table in the lake."""

COMPARED = ("demand_model", "prediction_quality")
"""Assets whose runs people compare in MLflow's experiment; all other runs are in a second experiment."""

MODELS = ModelFormat(
    model.dump, model.load, model.card, model.state, model.estimator, model.TRUSTED_TYPES, part="estimator"
)


def lake() -> Lake:
    """Return the lake that the settings name.

    Raises:
        SettingsError: the event log in the settings belongs to another store.
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
    """Return the store in the settings; its id is "" for a new one, and for a copy that was never written to.

    Raises:
        SettingsError: its lake and its event log belong to two stores.
    """
    return identity.check(settings().lake_location, settings().event_storage, lambda: ASSETS)


def claim(instance: dg.DagsterInstance) -> str:
    """Write the store's id to the lake and to an instance's event log before anything else, and return it.

    A lost event log is marked so that `bikes sync` writes it again. An instance in memory keeps nothing.

    Raises:
        SettingsError: they belong to two stores.
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
        SettingsError: it belongs to another store.
    """
    from bikes_assets.tracking.client import client_of_store

    return client_of_store(settings().tracking_uri, current_identity().store)
