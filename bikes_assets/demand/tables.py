"""Every table's columns: type, unit, range and meaning. Checks, Dagster, MLflow and the docs read them from here."""

from __future__ import annotations

from dataclasses import replace

from bikes_assets.core.schema import Column, Schema

_INSTANT = Column("instant", "int64", "Row number in the source.", minimum=1)
_CALENDAR = (
    Column(
        "season", "int64", "Season: 1 winter (from 21 December), 2 spring, 3 summer, 4 autumn.", allowed=(1, 2, 3, 4)
    ),
    Column("yr", "int64", "Years since the year that the source counts from.", unit="years", minimum=0),
    Column("mnth", "int64", "Month of the year, 1 January to 12 December.", minimum=1, maximum=12),
    Column("hr", "int64", "Hour of the day in local time: 14 is 14:00 to 14:59.", unit="hour", minimum=0, maximum=23),
    Column("holiday", "int64", "Whether the day is a public holiday in Washington D.C.", allowed=(0, 1)),
    Column("weekday", "int64", "Day of the week, 0 Sunday to 6 Saturday.", minimum=0, maximum=6),
    Column("workingday", "int64", "Whether the day is neither weekend nor holiday.", allowed=(0, 1)),
)
_WEATHER = (
    Column(
        "weathersit",
        "int64",
        "Weather: 1 clear or few clouds, 2 mist or clouds, 3 light rain or snow, 4 heavy rain or storm. Missing where "
        "the source is blank.",
        allowed=(1, 2, 3, 4),
        nullable=True,
    ),
    Column("temp", "float64", "Air temperature, scaled.", "(degrees Celsius + 8) / 47", minimum=0, maximum=1),
    Column("atemp", "float64", "Felt temperature, scaled.", "(degrees Celsius + 16) / 66", minimum=0, maximum=1),
    Column("hum", "float64", "Relative humidity.", "fraction", minimum=0, maximum=1),
    Column("windspeed", "float64", "Wind speed, scaled.", "original value / 67", minimum=0, maximum=1),
)
_COUNTS = (
    Column("casual", "int64", "Rentals by users without registration.", unit="rentals/hour", minimum=0),
    Column("registered", "int64", "Rentals by registered users.", unit="rentals/hour", minimum=0),
    Column("cnt", "int64", "Rentals in the hour: casual + registered.", unit="rentals/hour", minimum=0),
)
TIMESTAMP = Column("ts", "timestamp", "Start of the hour, local time of Washington D.C., without timezone.")

LICENCE = "licence: CC BY 4.0"
"""The source's licence, which goes with whatever is computed from it."""

RENTAL_RECORDS = Schema(
    "rental_records",
    key=("dteday", "hr"),
    columns=tuple(
        replace(column, tags=(LICENCE,))
        for column in (_INSTANT, Column("dteday", "string", "Date, YYYY-MM-DD."), *_CALENDAR, *_WEATHER, *_COUNTS)
    ),
)
"""The source's own layout: one row an hour; hours without a row are absent, which is not the same as zero rentals."""

HOURLY_RENTALS = Schema("hourly_rentals", key=("ts",), columns=(TIMESTAMP, _INSTANT, *_CALENDAR, *_WEATHER, *_COUNTS))
"""Validated rentals, keyed by the start of the hour."""

HOURLY_FROM_RECORDS = {
    "ts": ("dteday", "hr"),
    **{column.name: (column.name,) for column in HOURLY_RENTALS.columns if column is not TIMESTAMP},
}
"""Columns of HOURLY_RENTALS, and the columns of RENTAL_RECORDS that each is computed from."""

ACTUAL = HOURLY_RENTALS["cnt"]
_RESULTS = (
    Column("prediction", "float64", "Demand that the month's champion predicts.", "rentals/hour", minimum=0),
    Column("baseline", "float64", "Demand that the champion's own baseline predicts.", "rentals/hour", minimum=0),
)

DEMAND_PREDICTIONS = Schema("demand_predictions", key=("ts",), columns=(TIMESTAMP, *_RESULTS))
"""One prediction for each hour that the source has, beside that of the baseline that was fitted on the same rows."""

PREDICTION_QUALITY = Schema(
    "prediction_quality",
    key=("ts",),
    columns=(
        TIMESTAMP,
        Column("actual", "int64", "Rentals in the hour.", "rentals/hour", minimum=0),
        *_RESULTS,
        Column("error", "float64", "prediction - actual.", "rentals/hour"),
        Column("baseline_error", "float64", "baseline - actual.", "rentals/hour"),
        Column(
            "weather_kind",
            "int64",
            "Weather of the hour as the champion knew it, 1 clear to 4 heavy rain.",
            "code",
            allowed=(1, 2, 3, 4),
            nullable=True,
        ),
    ),
)
"""The error of each prediction, and of its baseline."""

QUALITY_LINEAGE = {
    "ts": {"demand_predictions": ["ts"]},
    "actual": {"hourly_rentals": ["cnt"]},
    "prediction": {"demand_predictions": ["prediction"]},
    "baseline": {"demand_predictions": ["baseline"]},
    "error": {"demand_predictions": ["prediction"], "hourly_rentals": ["cnt"]},
    "baseline_error": {"demand_predictions": ["baseline"], "hourly_rentals": ["cnt"]},
    "weather_kind": {"demand_features": ["weather_kind"]},
}
"""Columns of PREDICTION_QUALITY, and the columns that each is computed from, by table."""
