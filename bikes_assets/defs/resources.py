"""Resources, executor and IO managers. Definitions stand in a file of their own: beside an asset they would hide it."""

from functools import partial

import dagster as dg

from bikes_assets.app import answers
from bikes_assets.app.settings import settings
from bikes_assets.app.state import SOURCE, source_reader, stores
from bikes_assets.app.store import ASSETS, COLUMNS, COMPARED, MODELS, claim, lake
from bikes_assets.demand.features import COLUMNS_READ
from bikes_assets.orchestration.engines import EngineIOManager, engine_of
from bikes_assets.orchestration.io_managers import ModelIOManager, SourceInputManager, TableIOManager
from bikes_assets.orchestration.reconcile import Pipeline
from bikes_assets.tracking.resource import connect, tracking_resource
from bikes_assets.tracking.runs import MlflowRuns


def mlflow_runs(store: str, restored: list[str] | None = None) -> MlflowRuns:
    """Return the writer of MLflow's runs.

    Args:
        store: id of the store that they are of.
        restored: where given, an experiment that was deleted or renamed is restored, and that is said here.

    Raises:
        SettingsError: MLflow is in use by another store.
        TrackingError: MLflow cannot be reached.
    """
    known = settings()
    pages = known.mlflow_url, known.dagster_url
    return connect(known.tracking_uri, known.experiment, *pages, COLUMNS, store, restored, COMPARED)


def pipeline(instance: dg.DagsterInstance) -> Pipeline:
    """Return what is to agree: see `orchestration.reconcile`.

    Raises:
        SettingsError: the instance is of another store than the lake.
    """
    connected = partial(mlflow_runs, claim(instance))
    return Pipeline(instance, lake(), MODELS, ASSETS, connected, settings().tracking_uri, answers.refreshed, stores())


def _engine() -> TableIOManager:
    """Return what hands rentals to the features: as pandas frames, or lazily where another engine is set."""
    known = settings()
    if known.engine == "pandas":
        return TableIOManager(lake())
    engine = engine_of(known.engine, known.engine_memory, known.data_folder / "spill")
    return EngineIOManager(lake(), engine, COLUMNS_READ)


@dg.definitions
def resources() -> dg.Definitions:
    """Return the resources, and the executor: in process, for a process a step would import everything for each step."""
    known = settings()
    records = SourceInputManager(lake(), source_reader, SOURCE)
    return dg.Definitions(
        resources={
            "source": records.resource(),
            "tables": TableIOManager(lake()).resource(),
            "engine": _engine().resource(),
            "models": ModelIOManager(lake(), MODELS).resource(),
            "mlflow": tracking_resource(
                known.tracking_uri, known.experiment, known.mlflow_url, known.dagster_url, COLUMNS, claim, COMPARED
            ),
        },
        executor=dg.in_process_executor,
    )
