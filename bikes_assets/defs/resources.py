"""Resources, executor and IO managers. Definitions stand in a file of their own: beside an asset they would hide it."""

import getpass

import dagster as dg

from bikes_assets.adapters.lake import Lake, ModelFormat, ModelIOManager, SourceInputManager, TableIOManager
from bikes_assets.adapters.mlflow_runs import MlflowRuns
from bikes_assets.adapters.sync import Pipeline
from bikes_assets.adapters.tracking import connect, tracking_resource
from bikes_assets.defs.partitions import source_reader
from bikes_assets.demand import features, model, source, tables
from bikes_assets.settings import ROOT, settings

SCHEMAS = {
    item.name: item
    for item in (tables.HOURLY_RENTALS, features.DEMAND_FEATURES, tables.DEMAND_PREDICTIONS, tables.PREDICTION_QUALITY)
}
ASSETS = (*SCHEMAS, "demand_model", "champion_pins", "champion_model")
"""Assets of which the lake has a table."""

COLUMNS = {**SCHEMAS, tables.RENTAL_RECORDS.name: tables.RENTAL_RECORDS}
"""Declared columns of every dataset, the external source's too."""

MODELS = ModelFormat(model.dump, model.load, model.card, model.state, model.estimator, model.TRUSTED_TYPES)


def lake() -> Lake:
    """Return the lake that the settings name."""
    made_by = {"user": getpass.getuser(), "deployment": settings().deployment}
    return Lake(settings().lake_location, SCHEMAS, ROOT, serving="champion_model", made_by=made_by)


def mlflow_runs() -> MlflowRuns:
    """Return the writer of MLflow's runs.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    known = settings()
    return connect(known.tracking_uri, known.experiment, known.mlflow_url, known.dagster_url, COLUMNS)


def pipeline(instance: dg.DagsterInstance) -> Pipeline:
    """Return what is to agree: see `adapters.sync`."""
    return Pipeline(instance, lake(), MODELS, ASSETS, mlflow_runs, settings().tracking_uri)


def _io_manager(manager: dg.IOManager) -> dg.IOManagerDefinition:
    return dg.IOManagerDefinition(lambda _: manager, required_resource_keys={"mlflow"})


@dg.definitions
def resources() -> dg.Definitions:
    """Return the resources, and the executor: in process, for a process a step would import everything for each step."""
    known = settings()
    records = SourceInputManager(
        lake(), source_reader, lambda raw: source.parse(raw.frame, raw.locate), source.month_of, tables.RENTAL_RECORDS
    )
    return dg.Definitions(
        resources={
            "source": dg.InputManagerDefinition(lambda _: records),
            "tables": _io_manager(TableIOManager(lake())),
            "models": _io_manager(ModelIOManager(lake(), MODELS)),
            "mlflow": tracking_resource(
                known.tracking_uri, known.experiment, known.mlflow_url, known.dagster_url, COLUMNS
            ),
        },
        executor=dg.in_process_executor,
    )
