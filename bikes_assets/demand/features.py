"""Features of an hour's demand: one small function per feature.

A function's name is the feature, its parameters are the columns of hourly_rentals that it reads, its docstring is its
documentation. Lags are by hour, on a grid on which an absent hour is a missing value, not a zero. Demand is known up to
24 hours before the hour that is predicted, never nearer; observed weather is used as a perfect forecast.

Functions say what they make of an hour and the hours before it; `compute` puts the hours in order, those of each
station by themselves where there are stations. One window never reads another, which lazy engines do not compute: a
window that ends a day ago is the difference of two windows that end now.

Rolling means are sums of whole numbers, divided once: sums of other floats would differ in their last bits with the
history that was loaded, and from engine to engine.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import narwhals as nw

from bikes_assets.core.columns import ColumnFunction, column_function, column_lineage, compute, schema_of
from bikes_assets.core.schema import Column
from bikes_assets.demand.tables import ACTUAL, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bikes_assets.core.columns import Float64, Int64

HORIZON_HOURS = 24
IMPUTATION_HOURS = 24
SCALE = 10_000
HISTORY_HOURS = 672
"""No feature looks farther back than 28 days, so the month before holds all the history that a month needs."""


_ONE = 2.0**40
"""What a known hour adds to a tally, so that one rolling sum holds both sum and count: windows are what features cost. It is
exact while the sums stay below 2^39."""


def tally(column: str, hours: int, scale: int = 1) -> ColumnFunction:
    """Return the step `{column}_{hours}h`: sum and number of a column's known values over the last `hours` hours.

    Args:
        column: a column that is whole when it is multiplied by `scale`.
        hours: length of the window; it ends with the hour itself.
        scale: what the values are multiplied by.
    """

    def tallied(values: nw.Expr) -> nw.Expr:
        # a missing value makes way for 0, in a form in which DuckDB sees that none is missing and need not count them
        known = nw.max_horizontal(_whole(values, scale) + _ONE, nw.lit(0.0))
        return known.rolling_sum(hours, min_samples=1)

    meaning = f"Sum of {column} over the last {hours} hours, and 2^40 for each hour in which it is known."
    return ColumnFunction(tallied, (column,), Column(f"{column}_{hours}h", "float64", meaning), "windows are shared.")


def _sum_and_count(tallied: nw.Expr) -> tuple[nw.Expr, nw.Expr]:
    """Return the sum and the number of known values that a tally, or the difference of two, holds."""
    count = (tallied / _ONE).round()
    return tallied - count * _ONE, count


def _mean(tallied: nw.Expr) -> nw.Expr:
    """Return the mean of a tally's known values, missing where there are none."""
    return _ratio(*_sum_and_count(tallied))


def _ratio(part: nw.Expr, whole: nw.Expr) -> nw.Expr:
    """Return part / whole, missing where `whole` is 0 or missing."""
    return nw.when(whole > 0).then(part / whole)


def _whole(column: nw.Expr, scale: int = SCALE) -> nw.Expr:
    """Return a column as whole numbers: the weather's four decimals in ten-thousandths."""
    return (column * scale).round()


def _above_mean(column: nw.Expr, tallied: nw.Expr) -> nw.Expr:
    """Return how far a scaled weather column is above the mean of its tally."""
    total, count = _sum_and_count(tallied)
    return _ratio(_whole(column) * count - total, count * SCALE)


def hour_of_day(ts: nw.Expr) -> Int64:
    """Hour of the day, 0 to 23, local time.

    Unit: hour.
    Why: commuting makes two peaks on working days, leisure makes one at noon on others.
    """
    return ts.dt.hour()


def hour_of_week(ts: nw.Expr) -> Int64:
    """Hour of the week, 0 Sunday 00:00 to 167 Saturday 23:00.

    Unit: hour.
    Why: each day of the week has a rhythm of its own; the baseline is the mean by this.
    """
    return ts.dt.weekday().cast(nw.Int64) % 7 * 24 + ts.dt.hour()


def working_day(workingday: nw.Expr) -> Int64:
    """1 on a day that is neither weekend nor holiday, else 0.

    Unit: flag.
    Why: it tells commuters' days from others where the hour of the week cannot.
    """
    return workingday


def public_holiday(holiday: nw.Expr) -> Int64:
    """1 on a public holiday, else 0.

    Unit: flag.
    Why: a Monday off looks like a Sunday.
    """
    return holiday


def temperature(temp: nw.Expr) -> Float64:
    """Air temperature of the hour, scaled as in the source; observed weather is used as a perfect forecast.

    Unit: (degrees Celsius + 8) / 47.
    Why: people ride when it is warm, and less when it is hot.
    """
    return temp


def humidity(hum: nw.Expr) -> Float64:
    """Relative humidity of the hour; observed weather is used as a perfect forecast.

    Unit: fraction.
    Why: damp and muggy hours keep riders away.
    """
    return hum


def wind_speed(windspeed: nw.Expr) -> Float64:
    """Wind speed of the hour, scaled as in the source; observed weather is used as a perfect forecast.

    Unit: original value / 67.
    Why: wind makes riding hard.
    """
    return windspeed


def weather_kind(weathersit: nw.Expr) -> Int64:
    """Weather of the hour, 1 clear to 4 heavy rain; where it is missing, the last known of the day before.

    Unit: code.
    Why: rain empties the docks; observed weather is used as a perfect forecast.
    """
    return weathersit.fill_null(strategy="forward", limit=IMPUTATION_HOURS)


def wet_hours_3h(weathersit: nw.Expr) -> Int64:
    """Number of hours with rain or snow among this one and the two before; a missing one counts as dry.

    Unit: hours.
    Why: streets stay wet, and so do plans.
    """
    return (weathersit >= 3).cast(nw.Int64).fill_null(0).rolling_sum(3, min_samples=1)


def temperature_above_27d(temp: nw.Expr, temp_648h: nw.Expr) -> Float64:
    """Temperature above its mean over the last 27 days.

    Unit: degrees Celsius / 47.
    Why: 15 degrees are an invitation in March and a warning in September.
    """
    return _above_mean(temp, temp_648h)


def humidity_above_7d(hum: nw.Expr, hum_168h: nw.Expr) -> Float64:
    """Humidity above its mean over the last 7 days.

    Unit: fraction.
    Why: it tells a damp day from a damp season.
    """
    return _above_mean(hum, hum_168h)


def demand_lag_24h(cnt: nw.Expr) -> Int64:
    """Rentals in the same hour of the day before.

    Unit: rentals/hour.
    Why: the freshest demand that is known when the hour is predicted.
    """
    return cnt.shift(24)


def demand_lag_168h(cnt: nw.Expr) -> Int64:
    """Rentals in the same hour of the week before.

    Unit: rentals/hour.
    Why: the same hour of the same day of the week.
    """
    return cnt.shift(168)


def demand_level_7d(cnt_192h: nw.Expr, cnt_24h: nw.Expr) -> Float64:
    """Mean demand over the 7 days that end a day ago.

    Unit: rentals/hour.
    Why: the level of the season and of the service's growth, to which the model's estimate is relative.
    """
    return _mean(cnt_192h - cnt_24h)


def demand_trend_1d(cnt_48h: nw.Expr, cnt_24h: nw.Expr, demand_level_7d: nw.Expr) -> Float64:
    """Mean demand of yesterday relative to that of the 7 days that end a day ago.

    Unit: ratio.
    Why: whether the last day was better than its week, which tomorrow often is too.
    """
    return _ratio(_mean(cnt_48h - cnt_24h), demand_level_7d)


def demand_trend_7d(cnt_672h: nw.Expr, cnt_24h: nw.Expr, demand_level_7d: nw.Expr) -> Float64:
    """Mean demand of the 7 days that end a day ago relative to that of the 27 days that do.

    Unit: ratio.
    Why: whether demand is rising or falling with the season.
    """
    return _ratio(demand_level_7d, _mean(cnt_672h - cnt_24h))


STEPS = (
    *(tally("cnt", hours) for hours in (24, 48, 192, 672)),
    tally("temp", 648, SCALE),
    tally("hum", 168, SCALE),
)
"""Rolling sums that several features read, each computed once."""

FEATURES = tuple(
    column_function(function)
    for function in (
        hour_of_day,
        hour_of_week,
        working_day,
        public_holiday,
        temperature,
        humidity,
        wind_speed,
        weather_kind,
        wet_hours_3h,
        temperature_above_27d,
        humidity_above_7d,
        demand_lag_24h,
        demand_lag_168h,
        demand_level_7d,
        demand_trend_1d,
        demand_trend_7d,
    )
)
"""The features, in the order of their columns."""

FEATURE_NAMES = tuple(item.name for item in FEATURES)

DEMAND_FEATURES = schema_of("demand_features", [TIMESTAMP], [ACTUAL], FEATURES)
"""Features of each hour that the source has, and `cnt`, what is to be predicted."""

COLUMN_LINEAGE = {"ts": ("ts",), "cnt": ("cnt",), **column_lineage(FEATURES, STEPS)}
"""Columns of DEMAND_FEATURES, and the columns of HOURLY_RENTALS that each is computed from."""


COLUMNS_READ = tuple(dict.fromkeys(column for columns in COLUMN_LINEAGE.values() for column in columns))
"""The columns of HOURLY_RENTALS that are read at all."""


def demand_features(rentals: Any, month: str) -> pd.DataFrame:
    """Return the features of one month.

    Args:
        rentals: HOURLY_RENTALS of the month and the one before it (where there is one): a pandas frame, or a lazy frame
            that is on the hourly grid already.
        month: such as 2012-08.

    Returns:
        DEMAND_FEATURES, one row for each hour of the month that `rentals` has.
    """
    import pandas as pd
    import pyarrow as pa

    if isinstance(rentals, pd.DataFrame):
        return features_of(on_hourly_grid(rentals), month).reset_index(drop=True)
    made = nw.from_native(features_of(rentals, month)).lazy().collect("pyarrow").sort("ts")
    return made.to_native().to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def features_of(grid: Any, month: str | None = None, by: Sequence[str] = ()) -> Any:
    """Return the features of each hour that the source has; a lazy frame stays lazy, and is computed when it is read.

    Args:
        grid: HOURLY_RENTALS with a row for every hour from the first to the last: a frame of any engine.
        month: such as 2012-08; default is every month.
        by: columns of the stations, where the table has several: each has a grid and a history of its own.

    Returns:
        A frame of the same engine: `by`, then the columns of DEMAND_FEATURES.
    """
    rows = nw.from_native(compute(grid, FEATURES, "ts", steps=STEPS, by=by, passed=[ACTUAL.name]))
    rows = rows.filter(~nw.col(ACTUAL.name).is_null())
    if month:
        first = datetime.strptime(month, "%Y-%m")
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        rows = rows.filter(nw.col("ts") >= first, nw.col("ts") < after)
    return rows.to_native()


def on_hourly_grid(rentals: pd.DataFrame) -> pd.DataFrame:
    """Return rentals with a row for every hour from the first to the last; an absent hour has missing values.

    Integers are `Int64`, so that a missing one stays an integer.
    """
    import pandas as pd

    rentals = rentals.astype({name: "Int64" for name, dtype in rentals.dtypes.items() if dtype.kind == "i"})
    if rentals.empty:
        return rentals
    hours = pd.date_range(rentals["ts"].min(), rentals["ts"].max(), freq="h", unit="us", name="ts")
    return rentals.set_index("ts").reindex(hours).reset_index()
