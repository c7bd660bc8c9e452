"""What lies where in this project: its tables, its models and the lake that holds them. It knows nothing of Dagster."""

import getpass
from importlib.util import find_spec

from bikes_assets.adapters.delta import LakeTable
from bikes_assets.adapters.lake import MODEL_ROWS, Lake, ModelFormat
from bikes_assets.demand import features, model, tables
from bikes_assets.lineage.errors import SettingsError
from bikes_assets.settings import ROOT, settings

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

MODELS = ModelFormat(
    model.dump, model.load, model.card, model.state, model.estimator, model.TRUSTED_TYPES, part="estimator"
)


def lake() -> Lake:
    """Return the lake that the settings name.

    Raises:
        SettingsError: it is at a URL whose package is missing.
    """
    location = settings().lake_location
    if location.startswith(("s3://", "s3a://")) and find_spec("s3fs") is None:
        raise SettingsError(f"BIKES_LAKE: {location} needs a package that is missing: pip install 'bikes-assets[s3]'")
    made_by = {"user": getpass.getuser(), "deployment": settings().deployment}
    return Lake(location, SCHEMAS, ROOT, serving=SERVING, made_by=made_by)


def table(asset: str) -> LakeTable:
    """Return the table of one of ASSETS."""
    return lake().table(asset, SCHEMAS.get(asset, MODEL_ROWS))
