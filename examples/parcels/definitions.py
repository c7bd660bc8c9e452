"""A second project on the same library: parcels a day, one feature, one model. It uses nothing of the bikes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
import narwhals as nw

from bikes_assets import (
    Check,
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
    Subject,
    TableIOManager,
    Tracer,
    Verdict,
    column_function,
    column_lineage,
    compute,
    lineage_asset,
    model_file,
    range_check,
    reader_for,
    schema_check,
    schema_of,
)

HERE = Path(__file__).parent
MONTHS = dg.MonthlyPartitionsDefinition("2024-01", end_date="2024-04", fmt="%Y-%m")

# 1. Your own table
DAY = Column("day", "timestamp", "Day of delivery.")
PARCELS = Schema(
    "parcels",
    key=("day",),
    columns=(DAY, Column("delivered", "int64", "Parcels delivered.", unit="parcels/day", minimum=0)),
)


def parse(raw: Any) -> Any:
    """Return the rows as declared; `conform` refuses what is not."""
    import pandas as pd

    return pd.DataFrame(
        {
            "day": pd.to_datetime(raw.frame["day"]).astype("datetime64[us]"),
            "delivered": raw.frame["delivered"].astype("int64"),
        }
    )


def months_in(rows: Any) -> list[str]:
    """Return the partitions that the rows are of."""
    return sorted(rows["day"].dt.strftime("%Y-%m").unique())


def month_of(rows: Any, month: str) -> Any:
    """Return the rows of one partition."""
    return rows[rows["day"].dt.strftime("%Y-%m") == month]


SOURCE = SourceFormat(parse, months_in, month_of, PARCELS)


# 2. Your own checks: what must hold before a partition is published
def days(subject: Subject) -> Verdict:
    """Return whether the file has most days of the month."""
    count = len(subject.value)
    return Verdict(count >= 25, f"{count} days", {"days": count})


CHECKS = (
    schema_check(PARCELS),
    range_check(PARCELS),
    Check("days", "at least 25 days of the month", blocking=False, function=days),
)


@lineage_asset(
    partitions=MONTHS,
    ins={"parcel_file": dg.AssetIn(input_manager_key="source")},
    group="parcels",
    kinds={"csv"},
    schema=PARCELS,
    checks=CHECKS,
)
def parcels(context, parcel_file) -> Outcome:
    """Parcels of each day, as the file has them."""
    return Outcome(parcel_file, datasets={"raw": ("parcel_file", None)}, role="parcels")


# 3. Your own features: the name is the column, the parameters are what it reads
def delivered_week_before(delivered: nw.Expr) -> Float64:
    """Parcels delivered on the same day of the week before.

    Unit: parcels/day.
    Why: shops send by the week.
    """
    return delivered.shift(7)


FEATURES = [column_function(delivered_week_before)]
PARCEL_FEATURES = schema_of("parcel_features", [DAY], [PARCELS["delivered"]], FEATURES)


@lineage_asset(
    partitions=MONTHS,
    ins={"parcels": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0))},
    group="parcels",
    kinds={"narwhals"},
    schema=PARCEL_FEATURES,
    lineage={
        **{name: {"parcels": [name]} for name in ("day", "delivered")},  # as they are
        **{column: {"parcels": names} for column, names in column_lineage(FEATURES).items()},
    },
)
def parcel_features(context, parcels) -> Outcome:
    """Features of each day; the week before may lie in the month before."""
    table = compute(parcels, FEATURES, key="day").merge(parcels, on="day")
    table = month_of(table, context.partition_key)
    return Outcome(table[list(PARCEL_FEATURES.names)], datasets={"raw": ("parcels", None)}, role="features")


# 4. Your own model: how it is written, read and described
TRUSTED = ("sklearn.linear_model._ridge.Ridge", "numpy.dtype")


def _dump(model: dict[str, Any]) -> bytes:
    return model_file.dumps(model["estimator"], TRUSTED)


def _load(content: bytes, card: dict[str, Any]) -> dict[str, Any]:
    return {"estimator": model_file.loads(content, TRUSTED), **card}


def _card(model: dict[str, Any]) -> dict[str, Any]:
    return {"name": "Ridge", "origin": model.get("origin", "")}


def _estimator(model: dict[str, Any]) -> Any:
    return model["estimator"]


RIDGE = ModelFormat(dump=_dump, load=_load, card=_card, state=_estimator, estimator=_estimator, trusted=TRUSTED)


@lineage_asset(
    partitions=MONTHS,
    ins={"parcel_features": dg.AssetIn()},
    group="parcels",
    kinds={"scikitlearn"},
    io_manager="models",
)
def parcel_model(context, parcel_features) -> Outcome:
    """Ridge regression of a month's parcels on those of the week before."""
    from sklearn.linear_model import Ridge

    known = parcel_features.dropna().astype({"delivered": "float64"})
    if known.empty:
        raise NothingToDo(
            f"parcel_model[{context.partition_key}]: found no day with a week before, expected one at least"
        )
    inputs = known[["delivered_week_before"]]
    fitted = {"estimator": Ridge().fit(inputs, known["delivered"])}
    return Outcome(fitted, datasets={"training": ("parcel_features", None)}, example=inputs.head(3))


# 5. Where things lie
FILE = os.environ.get("PARCELS_FILE", str(HERE / "parcels.csv"))
LAKE = Lake(
    os.environ.get("PARCELS_LAKE", str(HERE / "lake")),
    {"parcels": PARCELS, "parcel_features": PARCEL_FEATURES},
    root=HERE,
)


def _reader() -> Any:
    return reader_for(FILE, columns=PARCELS.names)


defs = dg.Definitions(
    assets=[dg.AssetSpec("parcel_file", partitions_def=MONTHS), parcels, parcel_features, parcel_model],
    resources={
        "source": dg.InputManagerDefinition(lambda _: SourceInputManager(LAKE, _reader, SOURCE)),
        "tables": TableIOManager(LAKE).resource(),
        "models": ModelIOManager(LAKE, RIDGE).resource(),
        "mlflow": dg.ResourceDefinition.none_resource(),  # or tracking_resource(...)
    },
    executor=dg.in_process_executor,
)


DERIVATIONS = Derivations(
    same_row={"parcel_features": {"delivered": {"parcels": ["delivered"]}}},
    computed={"parcel_features": Computed("parcels", FEATURES, steps=(), grid=lambda rows: rows)},
    predicted={},
)


def tracer() -> Tracer:
    """Return what tells of a row where its values came from: `tracer().trace("parcel_features[2024-02]#2024-02-03")`."""
    return Tracer(LAKE, DERIVATIONS, source=FILE)


# 6. Commands
def _environment(rebuild: Any) -> dict[str, str]:
    """Return the settings by which these definitions use a temporary lake and another source."""
    return {"PARCELS_LAKE": rebuild.lake, "PARCELS_FILE": rebuild.source}


PROJECT = Project(
    name="parcels",
    definitions="examples.parcels.definitions:defs",
    lake=LAKE,
    data=Path(os.environ.get("PARCELS_DATA", str(HERE / "data"))),
    models=RIDGE,
    sources={"parcel_file": (_reader, SOURCE)},
    derivations=DERIVATIONS,
    environment=_environment,
)
