"""The four nodes as plain Dagster assets with lineage: a run for each month, in Dagster's event log, the lake and MLflow.

python benchmarks/plain/lineage.py FOLDER [without-mlflow]
"""

import os
import sys
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import dagster as dg
import nodes
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from bikes_assets import Lake, ModelFormat, ModelIOManager, TableIOManager, tracking_resource, with_lineage

MONTHS = dg.MonthlyPartitionsDefinition("2012-01", end_date="2013-01", fmt="%Y-%m")


@dg.asset(partitions_def=MONTHS)
def raw(context: dg.AssetExecutionContext) -> pd.DataFrame:
    """The source's rows of a month."""
    return nodes.raw(context.partition_key)


@dg.asset(partitions_def=MONTHS)
def features(raw: pd.DataFrame) -> pd.DataFrame:
    """What the model reads of each hour, and the rentals to predict."""
    return nodes.features(raw)


@dg.asset(partitions_def=MONTHS, io_manager_key="models")
def model(features: pd.DataFrame) -> HistGradientBoostingRegressor:
    """Gradient boosting of the rentals."""
    return nodes.model(features)


@dg.asset(partitions_def=MONTHS)
def predictions(features: pd.DataFrame, model: HistGradientBoostingRegressor) -> pd.DataFrame:
    """What the model predicts for each hour, beside what was rented."""
    return nodes.predictions(features, model)


def main(folder: Path, *, is_tracked: bool) -> None:
    """Materialize all months."""
    lake = Lake(str(folder / "lake"), schemas={}, root=Path(__file__).parent)
    untracked = dg.ResourceDefinition.none_resource()
    dagster, server = "http://127.0.0.1:3000", "http://127.0.0.1:5000"
    defs = dg.Definitions(
        assets=with_lineage([raw, features, model, predictions]),
        resources={
            "io_manager": TableIOManager(lake).resource(),
            "models": ModelIOManager(lake, ModelFormat.of_estimators()).resource(),
            "mlflow": tracking_resource(f"sqlite:///{folder}/mlflow.db", "plain", server, dagster, {})
            if is_tracked
            else untracked,
        },
        executor=dg.in_process_executor,
    )
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        for month in nodes.MONTHS:
            job.execute_in_process(instance=instance, partition_key=month)


if __name__ == "__main__":
    main(Path(sys.argv[1]), is_tracked=len(sys.argv) == 2)
