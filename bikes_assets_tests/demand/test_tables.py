"""Declared tables: names, meanings, units and ranges; and the shipped data against them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from bikes_assets.core.checks import Subject, range_check
from bikes_assets.core.schema import Column, Schema
from bikes_assets.demand.features import DEMAND_FEATURES
from bikes_assets.demand.tables import (
    DEMAND_PREDICTIONS,
    HOURLY_FROM_RECORDS,
    HOURLY_RENTALS,
    LICENCE,
    PREDICTION_QUALITY,
    QUALITY_LINEAGE,
    RENTAL_RECORDS,
)

TABLES = {
    table.name: table
    for table in (RENTAL_RECORDS, HOURLY_RENTALS, DEMAND_FEATURES, DEMAND_PREDICTIONS, PREDICTION_QUALITY)
}
WITHOUT_UNIT = {"instant", "dteday", "ts", "season", "mnth", "holiday", "weekday", "workingday", "weathersit"}
"""Names, codes and flags: all other columns are measures."""


def test_the_tables_and_their_keys() -> None:
    assert {name: table.key for name, table in TABLES.items()} == {
        "rental_records": ("dteday", "hr"),
        "hourly_rentals": ("ts",),
        "demand_features": ("ts",),
        "demand_predictions": ("ts",),
        "prediction_quality": ("ts",),
    }


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_names_stand_once_and_the_key_is_among_them(table: Schema) -> None:
    assert len(set(table.names)) == len(table.names)
    assert set(table.key) <= set(table.names)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_column_has_a_meaning(table: Schema) -> None:
    meanings = [column.meaning for column in table.columns]
    assert all(len(meaning) > 10 and meaning.endswith(".") for meaning in meanings)
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_measures_have_a_unit_and_codes_have_none(table: Schema) -> None:
    without = {column.name for column in table.columns if not column.unit}
    assert without == WITHOUT_UNIT & set(table.names)


def test_units_of_the_rentals() -> None:
    assert {column.name: column.unit for column in HOURLY_RENTALS.columns if column.unit} == {
        "yr": "years",
        "hr": "hour",
        "temp": "(degrees Celsius + 8) / 47",
        "atemp": "(degrees Celsius + 16) / 66",
        "hum": "fraction",
        "windspeed": "original value / 67",
        "casual": "rentals/hour",
        "registered": "rentals/hour",
        "cnt": "rentals/hour",
    }


def test_columns_of_the_results() -> None:
    assert [(column.name, column.type, column.unit) for column in PREDICTION_QUALITY.columns] == [
        ("ts", "timestamp", ""),
        ("actual", "int64", "rentals/hour"),
        ("prediction", "float64", "rentals/hour"),
        ("baseline", "float64", "rentals/hour"),
        ("error", "float64", "rentals/hour"),
        ("baseline_error", "float64", "rentals/hour"),
        ("weather_kind", "int64", "code"),
    ]
    assert DEMAND_PREDICTIONS.columns == tuple(PREDICTION_QUALITY[name] for name in ("ts", "prediction", "baseline"))


def test_every_column_of_the_quality_is_made_from_columns_that_there_are() -> None:
    assert tuple(QUALITY_LINEAGE) == PREDICTION_QUALITY.names
    for inputs in QUALITY_LINEAGE.values():
        for table, names in inputs.items():
            assert set(names) <= set(TABLES[table].names)


def test_only_weather_and_features_may_be_missing() -> None:
    missing = {name: [column.name for column in table.columns if column.nullable] for name, table in TABLES.items()}
    assert missing == {
        "rental_records": ["weathersit"],
        "hourly_rentals": ["weathersit"],
        "demand_features": list(DEMAND_FEATURES.names[2:]),
        "demand_predictions": [],
        "prediction_quality": ["weather_kind"],
    }


def test_rentals_are_the_records_with_the_hour_in_place_of_the_date() -> None:
    assert HOURLY_RENTALS.names == ("ts", *(name for name in RENTAL_RECORDS.names if name != "dteday"))
    shared = set(HOURLY_RENTALS.names) - {"ts"}
    assert all(replace(HOURLY_RENTALS[name], tags=(LICENCE,)) == RENTAL_RECORDS[name] for name in shared)


def test_every_column_of_the_rentals_is_made_from_columns_of_the_records() -> None:
    assert tuple(HOURLY_FROM_RECORDS) == HOURLY_RENTALS.names
    assert HOURLY_FROM_RECORDS["ts"] == ("dteday", "hr")
    assert HOURLY_FROM_RECORDS["cnt"] == ("cnt",)
    assert {name for names in HOURLY_FROM_RECORDS.values() for name in names} == set(RENTAL_RECORDS.names)


@pytest.mark.parametrize("column", HOURLY_RENTALS.columns, ids=HOURLY_RENTALS.names)
def test_the_shipped_data_lies_within_the_declared_range(rentals: pd.DataFrame, column: Column) -> None:
    values = rentals[column.name]
    assert values.isna().sum() == (609 if column.name == "weathersit" else 0)
    known = values.dropna()
    if column.allowed:
        assert set(known) == set(column.allowed)
    if column.minimum is not None:
        assert known.min() >= column.minimum
    if column.maximum is not None:
        assert known.max() <= column.maximum
    assert column.allowed or column.minimum is not None or column.name == "ts"


def test_the_shipped_data_is_of_the_schema_and_a_value_out_of_range_is_not(rentals: pd.DataFrame) -> None:
    check = range_check(HOURLY_RENTALS)
    assert HOURLY_RENTALS.conform(rentals).num_rows == 17_379
    assert check.function(Subject("hourly_rentals", "", rentals)).passed
    verdict = check.function(Subject("hourly_rentals", "", rentals.assign(hum=rentals["hum"] + 0.5)))
    assert not verdict.passed
    assert verdict.found.startswith("hum ")
