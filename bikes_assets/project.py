"""The bikes' own project, as the commands know it: its tables, models and source, and where the settings put them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bikes_assets.app.settings import ROOT, settings
from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import DataError, SettingsError
from bikes_assets.demand import evaluation, features, model, source, tables
from bikes_assets.lineage.trace import Computed, Derivations
from bikes_assets.orchestration.project import About, Project, Rebuild
from bikes_assets.storage.checksums import read_memory, write_memory
from bikes_assets.storage.code.environment import user
from bikes_assets.storage.lake import MODEL_ROWS, Lake, ModelFormat
from bikes_assets.storage.sources.readers import Reader, reader_for
from bikes_assets.storage.sources.source_state import SourceFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

SCHEMAS = {
    item.name: item
    for item in (tables.HOURLY_RENTALS, features.DEMAND_FEATURES, tables.DEMAND_PREDICTIONS, tables.PREDICTION_QUALITY)
}
"""Declared columns of each table in the lake."""

SERVING, PINS = "champion_model", "champion_pins"
"""The asset that says which model serves a month, and the asset of recorded decisions about it."""

ASSETS = {**SCHEMAS, **dict.fromkeys(("demand_model", PINS, SERVING), MODEL_ROWS)}
"""Assets that have a table in the lake, and its columns."""

COMPARED = ("demand_model", "prediction_quality")
"""Assets whose runs people compare in MLflow's experiment; all other runs are in a second experiment."""

MODELS = ModelFormat(
    model.dump,
    model.load,
    model.card,
    model.state,
    model.estimator,
    model.TRUSTED_TYPES,
    part="estimator",
    stored=model.stored,
)

DERIVATIONS = Derivations(
    same_row={
        "demand_features": {name: {"hourly_rentals": [name]} for name in ("ts", tables.ACTUAL.name)},
        "demand_predictions": {"ts": {"demand_features": ["ts"]}},
        "prediction_quality": tables.QUALITY_LINEAGE,
    },
    computed={
        "demand_features": Computed("hourly_rentals", features.FEATURES, features.STEPS, features.on_hourly_grid)
    },
    predicted={"demand_predictions": ("demand_features", {"prediction": "", "baseline": "baseline"})},
)

ABOUT = About(
    purpose="Predict the number of bike rentals of each hour of a month in Washington D.C., a day ahead.",
    users="People who plan how many bikes and docks are needed where they look after such a service; readers of this "
    "project as an example.",
    not_for="Decisions about single persons; other cities or services; single stations, as it knows the sum of all.",
    oversight="A person can pin another model for a month, with a reason (bikes pin). Checks of skill, plausibility and "
    "drift stop a version or warn before it is published.",
    risks="The data are counts by hour, without persons, stations or routes. Wrong predictions leave bikes where they are "
    "not needed; no decision about a person rests on them.",
    limits=(
        "Observed weather is used as a perfect forecast: with real forecasts accuracy would be lower.",
        "Demand is known up to 24 hours before the hour that is predicted, so what begins within a day is seen too late.",
        "The data are of 2011 and 2012, while the service grew: the level of later years is not known to it.",
        "Single events, such as festivals, strikes and storms, are not among its features.",
        "609 values of the kind of weather of 2012 are missing in the source; the last known of the day before is used.",
    ),
    obtained={
        "rental_records": "Capital Bikeshare's trips, summed by hour, by way of the UCI Machine Learning Repository "
        "(dataset 275, Fanaee-T and Gama 2013); put together again from two Python packages, see data/raw/README.md."
    },
)
"""What reports on models say that only people know; the data's licence is a tag of the source's columns."""


def _months(records: Any) -> Sequence[str]:
    """Return the months of the source's rows.

    Raises:
        SettingsError: none of the months to work on is among them.
    """
    months = source.months_in(records)
    if months:  # if both ends are set, definitions are loaded without the source
        _check_months(min(months), max(months))
    return months


SOURCE = SourceFormat(lambda raw: source.parse(raw.frame, raw.locate), _months, source.month_of, tables.RENTAL_RECORDS)
"""How the source is read: its parser, months, rows of a month, and columns."""


def project() -> Project:
    """Return the bikes' project, with everything where the settings say."""
    known = settings()
    return Project(
        name=known.experiment,
        definitions="bikes_assets.definitions:defs",
        lake=Lake(
            known.lake_location,
            SCHEMAS,
            ROOT,
            serving=SERVING,
            made_by={"user": user(), "deployment": known.deployment},
            memory=known.data_folder / "commits",
        ),
        data=known.data_folder,
        home=known.dagster_home,
        storage=known.dagster_storage.get_secret_value(),
        models=MODELS,
        sources={tables.RENTAL_RECORDS.name: (source_reader, SOURCE)},
        derivations=DERIVATIONS,
        mlflow=known.tracking_uri,
        compared=COMPARED,
        environment=_environment,
        predict=_predictions,
        assets=ASSETS,
        datasets=known.openlineage_datasets,
        stamp=lambda: (settings(), source_months()),
        about=ABOUT,
        segments={tables.PREDICTION_QUALITY.name: evaluation.segments},
        pins=PINS,
    )


def source_reader() -> Reader:
    """Return a reader of the source that the settings name."""
    known = settings()
    return reader_for(
        known.source_location,
        columns=tables.RENTAL_RECORDS.names,
        date_column="dteday",
        query=known.source_query,
        altered=known.dvc,
    )


def source_months() -> tuple[str, str]:
    """Return the first and last month to work on: as set, else those of the source.

    The source's months are remembered with its fingerprint, so that loading definitions does not read an unchanged
    source again, and still works while the source is unavailable.

    Raises:
        DataError: the source cannot be read, and its months are not remembered.
        SettingsError: the first month to work on is later than the source's last, or the last earlier than its first.
    """
    known, memory = settings(), settings().data_folder / "months.json"
    if known.first_month and known.last_month:
        return known.first_month, known.last_month
    reader, kept = source_reader(), read_memory(memory, _span) or {}
    try:
        fingerprint = reader.fingerprint()
        if not fingerprint or (kept.get("source"), kept.get("fingerprint")) != (_source(), fingerprint):
            kept = {"source": _source(), "fingerprint": fingerprint, "span": reader.span()}
            write_memory(memory, kept)
    except DataError:
        if kept.get("source") != _source():
            raise
    first, last = kept["span"]
    _check_months(first, last)
    return str(known.first_month or first), str(known.last_month or last)


def _check_months(first: str, last: str) -> None:
    """Refuse months that all lie before the source's, or all after; any other month without rows is an empty one."""
    known = settings()
    if known.first_month and known.first_month > last:
        name, month = "BIKES_FIRST_MONTH", known.first_month
    elif known.last_month and known.last_month < first:
        name, month = "BIKES_LAST_MONTH", known.last_month
    else:
        return
    raise SettingsError(f"{name}: found {month}, expected one that the source may have: {first} to {last}")


def _source() -> str:
    """Return a text that identifies the source; hashed, for it may contain a password."""
    return file_digest(repr((settings().source_location, settings().source_query)).encode())


def _span(values: Any) -> dict[str, Any]:
    first, last = values["span"]
    return {"source": values["source"], "fingerprint": values["fingerprint"], "span": (first, last)}


def _environment(rebuild: Rebuild) -> Mapping[str, str]:
    """Return the settings with which versions are rebuilt."""
    first, last = rebuild.span
    return {
        "BIKES_DATA": str(rebuild.folder),
        "BIKES_LAKE": rebuild.lake,
        "BIKES_SOURCE": rebuild.source or str(rebuild.folder / "no source"),
        "BIKES_SOURCE_QUERY": rebuild.query,
        "BIKES_DVC": "mark",  # the file is identified by its SHA-256
        "BIKES_ENGINE": rebuild.engine,
        "BIKES_FIRST_MONTH": first,
        "BIKES_LAST_MONTH": last,
        "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{rebuild.folder}/mlflow.db",
    }


def _predictions(fitted: Any, rows: Mapping[str, Any]) -> Any:
    """Return what a model and its baseline predict for rows of features."""
    import numpy as np

    predicted = [each.predict(rows["demand_features"]) for each in (fitted, fitted.baseline) if each]
    return np.concatenate(predicted).astype("float64")
