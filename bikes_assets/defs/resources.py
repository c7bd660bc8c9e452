"""Resources, executor and IO managers. Definitions stand in a file of their own: beside an asset they would hide it."""

import dagster as dg

from bikes_assets.app.settings import settings
from bikes_assets.app.store import claim, columns, lake
from bikes_assets.demand.features import COLUMNS_READ
from bikes_assets.orchestration.engines import EngineIOManager, engine_of
from bikes_assets.orchestration.io_managers import ModelIOManager, SourceInputManager, TableIOManager
from bikes_assets.project import COMPARED, MODELS, SOURCE, source_reader
from bikes_assets.tracking.resource import tracking_resource


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
                known.tracking_uri,
                known.experiment,
                known.mlflow_url,
                known.dagster_url,
                columns(),
                claim,
                COMPARED,
                known.lineage_url,
            ),
        },
        executor=dg.in_process_executor,
    )
