"""Meter readings by week: a table of two key columns, features of each meter's own past, a model and its predictions.

`bikes --project examples.energy.definitions run` materializes all of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import narwhals as nw

from bikes_assets import (
    About,
    Column,
    Computed,
    Derivations,
    Float64,
    Lake,
    ModelFormat,
    ModelIOManager,
    NothingToDo,
    Outcome,
    Project,
    Schema,
    SourceFormat,
    SourceInputManager,
    TableIOManager,
    column_function,
    column_lineage,
    compute,
    lineage_asset,
    range_check,
    reader_for,
    schema_check,
    schema_of,
)

HERE = Path(__file__).parent
WEEKS = dg.WeeklyPartitionsDefinition("2024-01-01", end_date="2024-02-05", day_offset=1)
"""Weeks from Monday to Sunday; a partition's key is its Monday, such as 2024-01-08."""

METER = Column("meter", "string", "Name of the meter.")
HOUR = Column("hour", "timestamp", "Hour in which the reading was taken.")
KWH = Column("kwh", "float64", "Energy since the reading before.", unit="kWh", minimum=0)
READINGS = Schema("readings", key=("meter", "hour"), columns=(METER, HOUR, KWH))


def parse(raw: Any) -> Any:
    """Return the rows as declared."""
    import pandas as pd

    hours = pd.to_datetime(raw.frame["hour"]).astype("datetime64[us]")
    return pd.DataFrame({"meter": raw.frame["meter"], "hour": hours, "kwh": raw.frame["kwh"].astype("float64")})


def _weeks(rows: Any) -> Any:
    """Return the Monday of each row's week, as a partition's key."""
    import pandas as pd

    return (rows["hour"] - pd.to_timedelta(rows["hour"].dt.weekday, "D")).dt.strftime("%Y-%m-%d")


def weeks_in(rows: Any) -> list[str]:
    """Return the partitions that the rows are of."""
    return sorted(_weeks(rows).unique())


def week_of(rows: Any, week: str) -> Any:
    """Return the rows of one partition."""
    return rows[_weeks(rows) == week]


@lineage_asset(
    partitions=WEEKS,
    ins={"meters": dg.AssetIn(input_manager_key="source")},
    group="energy",
    kinds={"csv"},
    schema=READINGS,
    lineage={name: {"meters": [name]} for name in READINGS.names},
    checks=(schema_check(READINGS), range_check(READINGS)),
)
def readings(context, meters) -> Outcome:
    """Readings of each meter, as the file has them."""
    return Outcome(meters, datasets={"raw": ("meters", None)}, role="readings")


def kwh_day_before(kwh: nw.Expr) -> Float64:
    """Energy in the same hours of the day before.

    Unit: kWh.
    Why: days resemble one another.
    """
    return kwh.shift(4)


def kwh_of_last_day(kwh: nw.Expr) -> Float64:
    """Energy of the 24 hours before.

    Unit: kWh.
    Why: a busy day is often followed by another.
    """
    return kwh.shift(1) + kwh.shift(2) + kwh.shift(3) + kwh.shift(4)


FEATURES = [column_function(kwh_day_before), column_function(kwh_of_last_day)]
INPUTS = [function.name for function in FEATURES]
ENERGY_FEATURES = schema_of("energy_features", [METER, HOUR], [KWH], FEATURES)
WITH_WEEK_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0)
WEEK_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)


@lineage_asset(
    partitions=WEEKS,
    ins={"readings": dg.AssetIn(partition_mapping=WITH_WEEK_BEFORE)},
    group="energy",
    kinds={"narwhals"},
    schema=ENERGY_FEATURES,
    lineage={
        **{name: {"readings": [name]} for name in ("meter", "hour", "kwh")},
        **{column: {"readings": names} for column, names in column_lineage(FEATURES).items()},
    },
)
def energy_features(context, readings) -> Outcome:
    """Each meter's own past; the day before may lie in the week before."""
    table = compute(readings, FEATURES, key="hour", by=["meter"], passed=["kwh"])
    table = week_of(table, context.partition_key)
    return Outcome(table[list(ENERGY_FEATURES.names)], datasets={"raw": ("readings", None)}, role="features")


@lineage_asset(
    partitions=WEEKS,
    ins={"energy_features": dg.AssetIn()},
    group="energy",
    kinds={"scikitlearn"},
    io_manager="models",
)
def energy_model(context, energy_features) -> Outcome:
    """Ridge regression on the readings of a week."""
    from sklearn.linear_model import Ridge

    known = energy_features.dropna()
    inputs = known[INPUTS].astype("float64")
    return Outcome(
        Ridge().fit(inputs, known["kwh"]),
        datasets={"training": ("energy_features", None)},
        used={"energy_features": [*INPUTS, "kwh"]},
        example=inputs.head(3),
    )


ENERGY_PREDICTIONS = Schema(
    "energy_predictions",
    key=("meter", "hour"),
    columns=(METER, HOUR, Column("predicted", "float64", "Energy as predicted.", unit="kWh", nullable=True)),
)


@lineage_asset(
    partitions=WEEKS,
    ins={"energy_features": dg.AssetIn(), "energy_model": dg.AssetIn(partition_mapping=WEEK_BEFORE)},
    group="energy",
    kinds={"scikitlearn"},
    schema=ENERGY_PREDICTIONS,
    lineage={
        **{name: {"energy_features": [name]} for name in ("meter", "hour")},
        "predicted": {"energy_features": INPUTS, "energy_model": ["*"]},
    },
)
def energy_predictions(context, energy_features, energy_model: Any | None) -> Outcome:
    """What the model of the week before predicts."""
    if not energy_model:  # the first week has none
        raise NothingToDo(f"energy_predictions[{context.partition_key}]: found no model of the week before")
    table = energy_features.dropna().sort_values(["meter", "hour"])
    table["predicted"] = energy_model.predict(table[INPUTS].astype("float64"))
    return Outcome(
        table[list(ENERGY_PREDICTIONS.names)],
        datasets={"inference": ("energy_features", None)},
        role="predictions",
        used={"energy_features": INPUTS},
    )


DATA = Path(os.environ.get("ENERGY_DATA", str(HERE / "data")))
FILE = os.environ.get("ENERGY_FILE", str(HERE / "readings.csv"))
SCHEMAS = {schema.name: schema for schema in (READINGS, ENERGY_FEATURES, ENERGY_PREDICTIONS)}
LAKE = Lake(str(DATA / "lake"), SCHEMAS, root=HERE)
SOURCE = SourceFormat(parse, weeks_in, week_of, READINGS)


def _reader() -> Any:
    return reader_for(FILE, columns=READINGS.names)


defs = dg.Definitions(
    assets=[
        dg.AssetSpec("meters", partitions_def=WEEKS),
        *(readings, energy_features, energy_model, energy_predictions),
    ],
    resources={
        "source": SourceInputManager(LAKE, _reader, SOURCE).resource(),
        "tables": TableIOManager(LAKE).resource(),
        "models": ModelIOManager(LAKE, ModelFormat.of_estimators()).resource(),
        "mlflow": dg.ResourceDefinition.none_resource(),
    },
    executor=dg.in_process_executor,
)


def _environment(rebuild: Any) -> dict[str, str]:
    """Return the settings by which these definitions use a temporary lake and another source."""
    return {"ENERGY_DATA": str(rebuild.folder), "ENERGY_FILE": rebuild.source}


PROJECT = Project(
    name="energy",
    definitions="examples.energy.definitions:defs",
    lake=LAKE,
    data=DATA,
    sources={"meters": (_reader, SOURCE)},
    derivations=Derivations(
        same_row={
            "energy_features": {name: {"readings": [name]} for name in READINGS.names},
            "energy_predictions": {name: {"energy_features": [name]} for name in ("meter", "hour")},
        },
        computed={
            "energy_features": Computed("readings", FEATURES, steps=(), grid=lambda rows: rows, by=("meter",)),
        },
        predicted={"energy_predictions": ("energy_features", {"predicted": ""})},
    ),
    environment=_environment,
    about=About(
        purpose="Predict what each meter reads in the week after the one that the model was fitted on.",
        limits=["A model knows a single week, so no season and no holiday."],
        licences={"meters": "MIT, as this code: the readings are drawn at random"},
    ),
)
