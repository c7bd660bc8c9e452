"""Features: each against plain Python, on each engine, from each history; what none may see; what each reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import duckdb
import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from bikes_assets.core.code_version import code_version
from bikes_assets.core.columns import column_lineage, compute, schema_of
from bikes_assets.core.digest import TableDigest, table_digest
from bikes_assets.core.errors import FeatureError
from bikes_assets.demand.features import (
    COLUMN_LINEAGE,
    DEMAND_FEATURES,
    FEATURE_NAMES,
    FEATURES,
    STEPS,
    demand_features,
    on_hourly_grid,
)
from bikes_assets.demand.tables import HOURLY_RENTALS
from bikes_assets.demand.transformations import transformations

HOUR = timedelta(hours=1)
BRUTE_FORCE_MONTHS = ("2011-01", "2011-03", "2012-01", "2012-08")

READS = {
    "hour_of_day": ("ts",),
    "hour_of_week": ("ts",),
    "working_day": ("workingday",),
    "public_holiday": ("holiday",),
    "temperature": ("temp",),
    "humidity": ("hum",),
    "wind_speed": ("windspeed",),
    "weather_kind": ("weathersit",),
    "wet_hours_3h": ("weathersit",),
    "temperature_above_27d": ("temp",),
    "humidity_above_7d": ("hum",),
    "demand_lag_24h": ("cnt",),
    "demand_lag_168h": ("cnt",),
    "demand_level_7d": ("cnt",),
    "demand_trend_1d": ("cnt",),
    "demand_trend_7d": ("cnt",),
}
FRACTIONAL = {
    "temperature",
    "humidity",
    "wind_speed",
    "temperature_above_27d",
    "humidity_above_7d",
    "demand_level_7d",
    "demand_trend_1d",
    "demand_trend_7d",
}
DEMAND = [name for name, columns in READS.items() if columns == ("cnt",)]

ENGINES: dict[str, Callable[[pa.Table], Any]] = {
    "pandas": lambda table: table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get),
    "polars": pl.from_arrow,
    "polars lazy": lambda table: pl.from_arrow(table).lazy(),
    "duckdb": duckdb.from_arrow,
}


def between(rentals: pd.DataFrame, first: str, end: str) -> pd.DataFrame:
    return rentals[(rentals["ts"] >= first) & (rentals["ts"] < end)].reset_index(drop=True)


def month_before(month: str) -> str:
    return str(pd.Period(month, "M") - 1)


def month_after(month: str) -> str:
    return str(pd.Period(month, "M") + 1)


def digest(features: pd.DataFrame) -> TableDigest:
    return table_digest(DEMAND_FEATURES.conform(features), DEMAND_FEATURES)


def hand_made(counts: Sequence[int | None], weather: Sequence[int | None] | None = None) -> pd.DataFrame:
    """Return HOURLY_RENTALS from Tuesday 2012-05-01 00:00 on; an hour whose count is None is absent."""
    number = range(len(counts))
    start = [datetime(2012, 5, 1) + hour * HOUR for hour in number]
    frame = pd.DataFrame({"ts": pd.Series(start, dtype="datetime64[us]"), "instant": [hour + 1 for hour in number]})
    frame = frame.assign(season=2, yr=1, mnth=5, hr=frame["ts"].dt.hour, holiday=0, weekday=2, workingday=1)
    frame["weathersit"] = pd.array(weather or [1] * len(counts), dtype="Int64")
    frame = frame.assign(temp=0.5, atemp=0.5, hum=0.5, windspeed=0.1, casual=0)
    frame["cnt"] = frame["registered"] = pd.array(counts, dtype="Int64")
    present = frame.dropna(subset="cnt").astype({"cnt": "int64", "registered": "int64"})
    return present[list(HOURLY_RENTALS.names)].reset_index(drop=True)


def may(rentals: pd.DataFrame) -> pd.DataFrame:
    return demand_features(rentals, "2012-05").set_index("ts")


def at(features: pd.DataFrame, column: str, *hours: str) -> list[object]:
    """Return a column's values at some hours, None where missing."""
    values = features[column].astype("object")
    return [None if pd.isna(values[pd.Timestamp(hour)]) else values[pd.Timestamp(hour)] for hour in hours]


def moved(one: pd.Series, two: pd.Series) -> list[str]:
    """Return the names of the features that differ between two rows, in order."""
    either = [(name, *(None if pd.isna(row[name]) else row[name] for row in (one, two))) for name in one.index]
    return [name for name, before, after in either if before != after]


# Brute force: a list with one entry for each hour since the first, None where the hour is absent.


def timeline(rentals: pd.DataFrame, column: str) -> list[Any]:
    first = rentals["ts"].min().to_pydatetime()
    known = dict(zip(rentals["ts"].dt.to_pydatetime(), rentals[column].astype("object"), strict=True))
    end = rentals["ts"].max().to_pydatetime()
    hours = [first + number * HOUR for number in range(int((end - first) / HOUR) + 1)]
    return [None if pd.isna(known.get(hour)) else known[hour] for hour in hours]


def ten_thousandths(values: list[Any]) -> list[int | None]:
    """Return floats of at most four decimals, as the file spells them, in ten-thousandths."""
    scaled = [None if value is None else Decimal(repr(value)) * 10_000 for value in values]
    assert all(value is None or value == int(value) for value in scaled)
    return [None if value is None else int(value) for value in scaled]


def mean(values: list[Any], position: int, oldest: int, newest: int) -> Fraction | None:
    """Return the mean of the known values of `oldest` to `newest` hours ago, both included."""
    known = [value for value in values[max(0, position - oldest) : max(0, position - newest + 1)] if value is not None]
    return Fraction(sum(known), len(known)) if known else None


def share(part: Fraction | None, whole: Fraction | None) -> Fraction | None:
    return part / whole if part is not None and whole else None


def ago(values: list[Any], position: int, hours: int) -> Any:
    return values[position - hours] if position >= hours else None


class BruteForce:
    """Each feature of an hour in plain Python."""

    def __init__(self, rentals: pd.DataFrame) -> None:
        self.first = rentals["ts"].min().to_pydatetime()
        self.holiday, self.weather, self.cnt = (timeline(rentals, name) for name in ("holiday", "weathersit", "cnt"))
        self.temp, self.hum, self.windspeed = (timeline(rentals, name) for name in ("temp", "hum", "windspeed"))
        self.whole_temp, self.whole_hum = ten_thousandths(self.temp), ten_thousandths(self.hum)

    def __call__(self, name: str, hour: datetime) -> Any:
        return getattr(self, name)(hour, int((hour - self.first) / HOUR))

    def hour_of_day(self, hour: datetime, _: int) -> int:
        return int(hour.strftime("%H"))

    def hour_of_week(self, hour: datetime, _: int) -> int:
        return int(hour.strftime("%w")) * 24 + int(hour.strftime("%H"))

    def working_day(self, hour: datetime, now: int) -> int:
        return int(hour.isoweekday() <= 5 and self.holiday[now] == 0)

    def public_holiday(self, _: datetime, now: int) -> int:
        return self.holiday[now]

    def temperature(self, _: datetime, now: int) -> float:
        return self.temp[now]

    def humidity(self, _: datetime, now: int) -> float:
        return self.hum[now]

    def wind_speed(self, _: datetime, now: int) -> float:
        return self.windspeed[now]

    def weather_kind(self, _: datetime, now: int) -> int | None:
        known = (ago(self.weather, now, hours) for hours in range(25))
        return next((kind for kind in known if kind is not None), None)

    def wet_hours_3h(self, _: datetime, now: int) -> int:
        return sum(ago(self.weather, now, hours) in (3, 4) for hours in range(3))

    def temperature_above_27d(self, _: datetime, now: int) -> Fraction:
        return (self.whole_temp[now] - mean(self.whole_temp, now, 27 * 24 - 1, 0)) / 10_000

    def humidity_above_7d(self, _: datetime, now: int) -> Fraction:
        return (self.whole_hum[now] - mean(self.whole_hum, now, 7 * 24 - 1, 0)) / 10_000

    def demand_lag_24h(self, _: datetime, now: int) -> int | None:
        return ago(self.cnt, now, 24)

    def demand_lag_168h(self, _: datetime, now: int) -> int | None:
        return ago(self.cnt, now, 168)

    def demand_level_7d(self, _: datetime, now: int) -> Fraction | None:
        return mean(self.cnt, now, 24 + 7 * 24 - 1, 24)

    def demand_trend_1d(self, _: datetime, now: int) -> Fraction | None:
        return share(mean(self.cnt, now, 24 + 24 - 1, 24), mean(self.cnt, now, 24 + 7 * 24 - 1, 24))

    def demand_trend_7d(self, _: datetime, now: int) -> Fraction | None:
        return share(mean(self.cnt, now, 24 + 7 * 24 - 1, 24), mean(self.cnt, now, 24 + 27 * 24 - 1, 24))


@pytest.fixture(scope="module")
def brute_force(rentals: pd.DataFrame) -> BruteForce:
    return BruteForce(rentals)


@pytest.fixture(scope="module")
def months(rentals: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the features of some months, each computed from it and the month before."""
    parts = {month: between(rentals, month_before(month), month_after(month)) for month in BRUTE_FORCE_MONTHS}
    return {month: demand_features(part, month) for month, part in parts.items()}


# What each feature is


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_a_feature_is_what_plain_python_makes_of_it(
    name: str, brute_force: BruteForce, months: dict[str, pd.DataFrame]
) -> None:
    for features in months.values():
        found = features[name].astype("object")
        for hour, value in zip(features["ts"].dt.to_pydatetime(), found, strict=True):
            expected = brute_force(name, hour)
            if expected is None:
                assert pd.isna(value), hour
            elif name in FRACTIONAL:
                assert value == pytest.approx(float(expected), rel=1e-9, abs=1e-12), hour
            else:
                assert value == expected, hour


def test_a_known_hour_has_known_features(months: dict[str, pd.DataFrame]) -> None:
    # Given the Tuesday 2011-03-15 at 08:00
    march = months["2011-03"].set_index("ts")
    assert march.loc["2011-03-15 08:00"].round(6).to_dict() == {
        "cnt": 282,
        "hour_of_day": 8,
        "hour_of_week": 2 * 24 + 8,
        "working_day": 1,
        "public_holiday": 0,
        "temperature": 0.26,
        "humidity": 0.7,
        "wind_speed": 0.0896,
        "weather_kind": 1,
        "wet_hours_3h": 0,
        "temperature_above_27d": -0.06689,
        "humidity_above_7d": 0.194753,
        "demand_lag_24h": 241,
        "demand_lag_168h": 257,
        "demand_level_7d": 80.251534,
        "demand_trend_1d": 1.431369,
        "demand_trend_7d": 1.01304,
    }


def test_there_are_sixteen_features_and_each_says_what_it_is() -> None:
    assert list(READS) == list(FEATURE_NAMES)
    for item in FEATURES:
        assert item.column.meaning.endswith(".")
        assert item.column.unit
        assert item.rationale.endswith(".")
    assert len({item.column.meaning for item in FEATURES}) == 16
    assert DEMAND_FEATURES["demand_lag_24h"].unit == "rentals/hour"
    assert DEMAND_FEATURES["demand_lag_24h"].meaning == "Rentals in the same hour of the day before."
    assert FEATURES[11].rationale == "the freshest demand that is known when the hour is predicted."


def test_the_table_has_the_declared_columns_and_types(months: dict[str, pd.DataFrame]) -> None:
    conformed = DEMAND_FEATURES.conform(months["2011-03"])
    types = {name: str(kind) for name, kind in zip(conformed.schema.names, conformed.schema.types, strict=True)}
    made = {name: "double" if name in FRACTIONAL else "int64" for name in READS}
    assert types == {"ts": "timestamp[us]", "cnt": "int64", **made}
    assert DEMAND_FEATURES.key == ("ts",)


def test_nullable_integers_make_the_same_features(rentals: pd.DataFrame) -> None:
    # Given rentals with the integers of pandas, or with those that may be missing
    part = between(rentals, "2011-02", "2011-04")
    nullable = part.astype({name: "Int64" for name, dtype in part.dtypes.items() if dtype == "int64"})
    assert digest(demand_features(nullable, "2011-03")) == digest(demand_features(part, "2011-03"))


def test_the_order_of_the_rows_does_not_count_and_they_are_left_alone(rentals: pd.DataFrame) -> None:
    part = between(rentals, "2011-02", "2011-04")
    shuffled = part.sample(frac=1, random_state=0)
    before = shuffled.copy()
    assert digest(demand_features(shuffled, "2011-03")) == digest(demand_features(part, "2011-03"))
    pd.testing.assert_frame_equal(shuffled, before)


# Which rows there are


def test_there_is_one_row_for_each_hour_that_the_source_has(
    rentals: pd.DataFrame, months: dict[str, pd.DataFrame]
) -> None:
    # Given 2011-03, which lacks 14 of its 744 hours
    march = months["2011-03"]
    assert len(march) == 730
    assert march["ts"].tolist() == between(rentals, "2011-03", "2011-04")["ts"].tolist()
    assert march["cnt"].tolist() == between(rentals, "2011-03", "2011-04")["cnt"].tolist()
    assert pd.Timestamp("2011-03-13 02:00") not in march["ts"].tolist()


def test_rows_of_other_months_are_left_out(rentals: pd.DataFrame) -> None:
    features = demand_features(between(rentals, "2011-01", "2011-06"), "2011-03")
    assert set(features["ts"].dt.strftime("%Y-%m")) == {"2011-03"}
    assert features.index.tolist() == list(range(730))


def test_the_same_month_of_another_year_is_left_out(rentals: pd.DataFrame) -> None:
    features = demand_features(rentals, "2012-03")
    assert set(features["ts"].dt.year) == {2012}
    assert len(features) == 743


@pytest.mark.parametrize("known", ["the month before", "nothing"])
def test_a_month_without_rows_has_no_features(rentals: pd.DataFrame, known: str) -> None:
    part = between(rentals, "2011-02", "2011-03") if known == "the month before" else rentals.iloc[:0]
    features = demand_features(part, "2011-03")
    assert DEMAND_FEATURES.conform(features).num_rows == 0


# Missing values


def test_the_first_month_lacks_its_history(months: dict[str, pd.DataFrame]) -> None:
    # Given the first month, whose first day and week have no past, and which lacks 56 hours
    january = months["2011-01"].set_index("ts")
    assert len(january) == 688
    missing = january.isna().sum()
    assert missing[missing > 0].to_dict() == {
        "demand_lag_24h": 69,
        "demand_lag_168h": 181,
        "demand_level_7d": 24,
        "demand_trend_1d": 24,
        "demand_trend_7d": 24,
    }
    assert at(january, "temperature_above_27d", "2011-01-01 00:00") == [0.0]
    assert at(january, "demand_lag_24h", "2011-01-01 23:00", "2011-01-02 00:00") == [None, 16]
    assert at(january, "demand_level_7d", "2011-01-01 23:00", "2011-01-02 00:00") == [None, 16.0]
    assert at(january, "demand_lag_168h", "2011-01-07 23:00", "2011-01-08 00:00") == [None, 16]


def test_lags_reach_over_the_month_border_and_are_missing_where_the_hour_is_absent(
    months: dict[str, pd.DataFrame],
) -> None:
    # Given that 02:00 and 04:00 of 2011-02-28 are absent, 30 bikes were rented at 00:00 and 45 at 23:00
    march = months["2011-03"].set_index("ts")
    assert at(march, "demand_lag_24h", "2011-03-01 00:00", "2011-03-01 23:00") == [30, 45]
    assert at(march, "demand_lag_24h", "2011-03-01 02:00", "2011-03-01 04:00") == [None, None]
    # and that 02:00 of 2011-03-13 is absent, 1 bike was rented at 02:00 the day after
    assert at(march, "demand_lag_24h", "2011-03-14 02:00", "2011-03-15 02:00") == [None, 1]
    assert at(march, "demand_lag_168h", "2011-03-20 02:00", "2011-03-21 02:00") == [None, 1]
    assert march["demand_lag_24h"].isna().sum() == 15
    assert march["demand_lag_168h"].isna().sum() == 19


def test_an_absent_hour_is_told_from_one_without_rentals() -> None:
    # Given a first day with 0, nothing known, 10, 20 and 20 times 5, and a second one
    features = may(hand_made([0, None, 10, 20, *[5] * 20, *[7] * 24]))
    assert len(features) == 47
    hours = ("2012-05-02 00:00", "2012-05-02 01:00", "2012-05-02 02:00", "2012-05-02 03:00")
    assert at(features, "demand_lag_24h", *hours) == [0, None, 10, 20]
    # Then means count the 0 and leave out the absent hour
    assert at(features, "demand_level_7d", *hours) == [0.0, 0.0, 5.0, 10.0]
    assert at(features, "demand_level_7d", "2012-05-02 23:00") == [130 / 23]
    # and a ratio to nothing is missing
    assert at(features, "demand_trend_1d", *hours) == [None, None, 1.0, 1.0]


def test_an_hour_without_rentals_has_a_row() -> None:
    features = may(hand_made([4, 0, None, 4]))
    assert features["cnt"].tolist() == [4, 0, 4]


def test_weather_is_the_last_known_of_at_most_a_day_before() -> None:
    # Given weather that is known in hours 2 and 33 alone
    weather = [None, None, 2, *[None] * 30, 1, None]
    features = may(hand_made([1] * 35, weather))
    assert features["weather_kind"].isna().tolist() == [True] * 2 + [False] * 25 + [True] * 6 + [False] * 2
    assert features["weather_kind"].dropna().tolist() == [2] * 25 + [1] * 2


def test_absent_hours_count_as_hours_for_the_age_of_the_weather() -> None:
    # Given weather that is known in hour 0, and absent hours 5 to 14
    features = may(hand_made([*[1] * 5, *[None] * 10, *[1] * 15], [3, *[None] * 29]))
    known = features["weather_kind"].notna()
    assert known[known].index.max() == pd.Timestamp("2012-05-02 00:00")
    assert features["weather_kind"].dropna().unique().tolist() == [3]


def test_missing_weather_counts_as_dry() -> None:
    features = may(hand_made([1] * 8, [3, None, 4, 3, None, None, None, 2]))
    assert features["wet_hours_3h"].tolist() == [1, 1, 2, 2, 2, 1, 0, 0]


# The same on every engine, from every history


@pytest.mark.parametrize(("first", "end"), [("2011-01", "2011-05"), ("2011-12", "2012-04")])
@pytest.mark.parametrize("engine", ["polars", "polars lazy", "duckdb"])
def test_engines_agree(rentals: pd.DataFrame, engine: str, first: str, end: str) -> None:
    grid = pa.Table.from_pandas(on_hourly_grid(between(rentals, first, end)), preserve_index=False)
    shuffled = grid.take(pd.Series(range(len(grid))).sample(frac=1, random_state=0).to_numpy())
    there, here = (
        nw.from_native(compute(ENGINES[name](shuffled), FEATURES, "ts", steps=STEPS))
        .lazy()
        .collect("pandas")
        .to_native()
        for name in (engine, "pandas")
    )
    both = here.merge(there, on="ts", validate="one_to_one")
    assert len(both) == len(here) == len(there) == len(grid)
    for name in FEATURE_NAMES:
        one, other = (both[f"{name}_{side}"].astype("Float64").replace(float("nan"), pd.NA) for side in "xy")
        assert one.isna().equals(other.isna()), name
        tolerance = 1e-9 if name in FRACTIONAL else 0
        assert ((one - other).abs() <= tolerance * one.abs()).all(), name
        assert one.notna().sum() > 2000, name


@pytest.mark.parametrize("month", ["2011-03", "2011-09", "2012-03", "2012-08"])
def test_a_month_does_not_depend_on_the_history_that_is_loaded(rentals: pd.DataFrame, month: str) -> None:
    half_a_year_before = str(pd.Period(month, "M") - 6)
    month_alone = between(rentals, month, month_after(month))
    with_month_before = digest(demand_features(between(rentals, month_before(month), month_after(month)), month))
    assert digest(demand_features(between(rentals, half_a_year_before, month_after(month)), month)) == with_month_before
    assert digest(demand_features(rentals, month)) == with_month_before
    assert digest(demand_features(month_alone, month)) != with_month_before


# What no feature may see


@pytest.mark.parametrize("way", ["changed", "absent"])
@pytest.mark.parametrize("hour", ["2011-03-01 00:00", "2011-03-17 17:00", "2011-03-31 22:00"])
def test_demand_of_an_hour_is_not_known_before_the_next_day(rentals: pd.DataFrame, hour: str, way: str) -> None:
    here = pd.Timestamp(hour)
    part = between(rentals, "2011-02", "2011-05")
    changed = part.assign(cnt=part["cnt"].mask(part["ts"] == here, 100_000))
    other = changed if way == "changed" else part[part["ts"] != here]
    one, two = (
        pd.concat([demand_features(each, month) for month in ("2011-03", "2011-04")]).set_index("ts")[DEMAND]
        for each in (part, other)
    )
    known = (one.index < here + timedelta(hours=24)) & (one.index != here)
    assert known.any()
    pd.testing.assert_frame_equal(one[known], two[two.index.isin(one.index[known])])
    # and a day later each that reaches back a day does see it
    later = here + timedelta(hours=24)
    assert moved(one.loc[later], two.loc[later]) == [name for name in DEMAND if name != "demand_lag_168h"]


@pytest.mark.parametrize("column", [name for name in HOURLY_RENTALS.names if name != "ts"])
def test_a_column_moves_just_the_features_that_declare_it(rentals: pd.DataFrame, column: str) -> None:
    # Given the rentals of two months, one of their columns back to front
    part = between(rentals, "2011-12", "2012-02")
    turned = part.assign(**{column: part[column].to_numpy()[::-1]}).astype({column: part[column].dtype})
    assert not turned[column].equals(part[column])
    one, two = (digest(demand_features(each, "2012-01")).columns for each in (part, turned))
    assert {name for name in FEATURE_NAMES if one[name] != two[name]} == {
        name for name, columns in READS.items() if column in columns
    }


def test_nothing_reads_who_rented() -> None:
    read = {column for columns in COLUMN_LINEAGE.values() for column in columns}
    assert read == {"ts", "cnt", "workingday", "holiday", "temp", "hum", "windspeed", "weathersit"}


def test_no_feature_looks_farther_back_than_28_days(rentals: pd.DataFrame) -> None:
    # Given the features of one hour, and other values in all columns 672 hours before it and earlier
    part, hour = between(rentals, "2012-02", "2012-04"), pd.Timestamp("2012-03-30 12:00")
    assert (hour - pd.Timedelta(hours=672)) in set(part["ts"])
    values = {"cnt": 9_999, "temp": 0.01, "hum": 0.99, "windspeed": 0.5, "weathersit": 4, "holiday": 1, "workingday": 1}

    def features(oldest: int, newest: int) -> pd.Series:
        age = (hour - part["ts"]) // pd.Timedelta(hours=1)
        chosen = (age <= oldest) & (age >= newest)
        assert chosen.any()
        changed = part.assign(**{name: part[name].mask(chosen, value) for name, value in values.items()})
        return demand_features(changed, "2012-03").set_index("ts").loc[hour]

    untouched = demand_features(part, "2012-03").set_index("ts").loc[hour]
    pd.testing.assert_series_equal(features(10_000, 672), untouched)
    # Then an hour later the oldest window sees it, and at 647 hours the next
    assert moved(untouched, features(671, 671)) == ["demand_trend_7d"]
    assert moved(untouched, features(647, 647)) == ["temperature_above_27d", "demand_trend_7d"]


# What each feature reads


def test_lineage_is_what_the_signatures_say() -> None:
    assert column_lineage(FEATURES, STEPS) == READS
    assert COLUMN_LINEAGE == {"ts": ("ts",), "cnt": ("cnt",), **READS}
    assert tuple(COLUMN_LINEAGE) == DEMAND_FEATURES.names


def test_every_column_that_is_read_is_one_of_the_rentals() -> None:
    assert {column for columns in COLUMN_LINEAGE.values() for column in columns} < set(HOURLY_RENTALS.names)


@pytest.mark.parametrize("item", FEATURES, ids=FEATURE_NAMES)
def test_a_read_that_is_not_declared_fails(item: Any) -> None:
    def peeking(function: Callable[..., nw.Expr], *columns: nw.Expr) -> nw.Expr:
        return function(*columns) + nw.col("registered") * 0

    grid = on_hourly_grid(hand_made([1, 2, 3, 4]))
    others = [*STEPS, *(other for other in FEATURES if other is not item)]
    assert compute(grid, [item], "ts", steps=others).columns.tolist() == ["ts", item.name]
    with pytest.raises(FeatureError, match=rf"^{item.name}: cannot be computed from what it declares .*registered"):
        compute(grid, [replace(item, function=partial(peeking, item.function))], "ts", steps=others)


def test_an_hour_without_one_of_its_columns_cannot_be_computed() -> None:
    with pytest.raises(FeatureError, match=r"^temperature: declares temp, but the table has ts, instant"):
        demand_features(hand_made([1, 2]).drop(columns="temp"), "2012-05")


def test_the_schema_is_made_of_the_features() -> None:
    declared = schema_of("demand_features", [HOURLY_RENTALS["ts"]], [HOURLY_RENTALS["cnt"]], FEATURES)
    assert declared == DEMAND_FEATURES
    assert [column.name for column in declared.columns if column.nullable] == list(FEATURE_NAMES)


# The record of how they were made


def test_transformations_name_the_code_of_each_feature_and_the_windows() -> None:
    found = transformations()
    versions = {name: value for name, value in found.items() if name.startswith("feature.")}
    assert list(versions) == [f"feature.{name}" for name in READS]
    assert len(set(versions.values())) == 16
    assert {name: value for name, value in found.items() if name not in versions} == {
        "steps": code_version("bikes_assets.demand.features", "STEPS"),
        "imputation": "last known weather, at most 24 h old",
        "demand_horizon_hours": "24",
        "history_hours": "672",
    }
    assert found["feature.demand_lag_24h"] == code_version("bikes_assets.demand.features", "demand_lag_24h")
