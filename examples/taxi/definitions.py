"""What gives plain assets their lineage: where things lie, which columns are computed from which, and how to ask."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from bikes_assets import (
    Lake,
    LineageIndex,
    ModelFormat,
    ModelIOManager,
    TableIOManager,
    column_lineage,
    column_lineage_check,
    tracking_resource,
    with_lineage,
)
from examples.taxi import assets

DATA = Path(os.environ.get("TAXI_DATA", str(Path(__file__).parent / "data")))
LAKE = Lake(str(DATA / "lake"), schemas={}, root=Path(__file__).parent)
MODELS = ModelFormat.of_estimators()
FEATURES = {**{name: [name] for name in ["trip", *assets.PASSED]}, **column_lineage(assets.FEATURES)}
LINEAGE = {
    "trip_features": {column: {"trips": names} for column, names in FEATURES.items()},
    "fare_predictions": {
        "trip": {"trip_features": ["trip"]},
        "predicted": {"trip_features": assets.INPUTS, "fare_model": ["*"]},
    },
    "zone_summary": {
        "zone": {"trips": ["zone"]},
        "trips": {"trips": ["trip"]},
        "mean_fare": {"trips": ["fare"]},
        "mean_error": {"trips": ["fare"], "fare_predictions": ["predicted"]},
    },
}
PLAIN = [assets.trips, assets.trip_features, assets.fare_model, assets.fare_predictions, assets.zone_summary]
_, features, _, predictions, summary = ASSETS = with_lineage(PLAIN, LINEAGE)
JOINED = {"trips": ["trip"], "fare_predictions": ["trip"]}

defs = dg.Definitions(
    assets=ASSETS,
    asset_checks=[
        column_lineage_check(features, key="trip"),
        column_lineage_check(predictions, key="trip"),
        column_lineage_check(summary, key="zone", rows=JOINED),
    ],
    resources={
        "io_manager": TableIOManager(LAKE).resource(),
        "models": ModelIOManager(LAKE, MODELS).resource(),
        "mlflow": tracking_resource(
            f"sqlite:///{DATA}/mlflow.db", "taxi", "http://127.0.0.1:5000", "http://127.0.0.1:3000", {}
        ),
    },
    executor=dg.in_process_executor,
)


def lineage() -> LineageIndex:
    """Return what answers questions of lineage: `lineage().downstream("trips.distance")`."""
    return LineageIndex(DATA / "lineage.db", os.environ["DAGSTER_HOME"])
