"""Features of an hour's demand: one small function per feature.

A function's name is the feature, its parameters are the columns of hourly_rentals that it reads, its docstring is its
documentation. Lags are by hour, on a grid on which an absent hour is a missing value, not a zero. Demand is known up to
24 hours before the hour that is predicted, never nearer; the weather of the hour itself stands for its forecast.

Rolling means are sums of whole numbers, divided once: sums of other floats would differ in their last bits with the
history that was loaded. A window that ends a day ago is the difference of two windows that end now, which is exact over
whole numbers and spares a window over a window, which lazy engines do not compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import narwhals as nw

from bikes_assets.demand.tables import ACTUAL, TIMESTAMP
from bikes_assets.lineage.code import code_version
from bikes_assets.lineage.columns import column_function, column_lineage, compute, schema_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from bikes_assets.lineage.columns import Float64, Int64

HORIZON_HOURS = 24
IMPUTATION_HOURS = 24
SCALE = 10_000
HISTORY_HOURS = 672
"""No feature looks farther back than 28 days, so the month before holds all the history that a month needs."""


def _lag(column: nw.Expr, hours: int) -> nw.Expr:
    return column.shift(hours).over(order_by="ts")


def _sum(column: nw.Expr, hours: int) -> nw.Expr:
    """Return the sum of a whole-number column over the last `hours` hours, this one included; missing counts as 0."""
    return column.fill_null(0).rolling_sum(hours, min_samples=1).over(order_by="ts")


def _known(column: nw.Expr) -> nw.Expr:
    return (~column.is_null()).cast(nw.Int64)


def _mean_until_yesterday(column: nw.Expr, hours: int) -> nw.Expr:
    """Return the mean over `hours` hours that end a day ago, of the hours that are not absent."""
    total = _sum(column, hours + HORIZON_HOURS) - _sum(column, HORIZON_HOURS)
    count = _sum(_known(column), hours + HORIZON_HOURS) - _sum(_known(column), HORIZON_HOURS)
    return _ratio(total, count)


def _ratio(part: nw.Expr, whole: nw.Expr) -> nw.Expr:
    """Return part / whole, missing where `whole` is 0 or missing."""
    return nw.when(whole > 0).then(part / whole)


def _imputed(column: nw.Expr) -> nw.Expr:
    """Return a column whose missing values are the last known one, at most a day old: from the past only."""
    return column.fill_null(strategy="forward", limit=IMPUTATION_HOURS).over(order_by="ts")


def _whole(column: nw.Expr) -> nw.Expr:
    """Return a scaled weather column in ten-thousandths, as whole numbers: the source has four decimals."""
    return (column * SCALE).round()


def _above_mean(column: nw.Expr, hours: int) -> nw.Expr:
    """Return how far a scaled weather column is above its mean over the last `hours` hours, this one included."""
    whole, count = _whole(column), _sum(_known(column), hours)
    return _ratio(whole * count - _sum(whole, hours), count * SCALE)


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
    """Air temperature of the hour, scaled as in the source; it stands for its forecast.

    Unit: (degrees Celsius + 8) / 47.
    Why: people ride when it is warm, and less when it is hot.
    """
    return temp


def humidity(hum: nw.Expr) -> Float64:
    """Relative humidity of the hour; it stands for its forecast.

    Unit: fraction.
    Why: damp and muggy hours keep riders away.
    """
    return hum


def wind_speed(windspeed: nw.Expr) -> Float64:
    """Wind speed of the hour, scaled as in the source; it stands for its forecast.

    Unit: original value / 67.
    Why: wind makes riding hard.
    """
    return windspeed


def weather_kind(weathersit: nw.Expr) -> Int64:
    """Weather of the hour, 1 clear to 4 heavy rain; where it is missing, the last known of the day before.

    Unit: code.
    Why: rain empties the docks; it stands for its forecast.
    """
    return _imputed(weathersit)


def wet_hours_3h(weathersit: nw.Expr) -> Int64:
    """Number of hours with rain or snow among this one and the two before; a missing one counts as dry.

    Unit: hours.
    Why: streets stay wet, and so do plans.
    """
    return _sum((weathersit >= 3).cast(nw.Int64), 3)


def temperature_above_27d(temp: nw.Expr) -> Float64:
    """Temperature above its mean over the last 27 days.

    Unit: degrees Celsius / 47.
    Why: 15 degrees are an invitation in March and a warning in September.
    """
    return _above_mean(temp, 648)


def humidity_above_7d(hum: nw.Expr) -> Float64:
    """Humidity above its mean over the last 7 days.

    Unit: fraction.
    Why: it tells a damp day from a damp season.
    """
    return _above_mean(hum, 168)


def demand_lag_24h(cnt: nw.Expr) -> Int64:
    """Rentals in the same hour of the day before.

    Unit: rentals/hour.
    Why: the freshest demand that is known when the hour is predicted.
    """
    return _lag(cnt, 24)


def demand_lag_168h(cnt: nw.Expr) -> Int64:
    """Rentals in the same hour of the week before.

    Unit: rentals/hour.
    Why: the same hour of the same day of the week.
    """
    return _lag(cnt, 168)


def demand_level_7d(cnt: nw.Expr) -> Float64:
    """Mean demand over the 7 days that end a day ago.

    Unit: rentals/hour.
    Why: the level of the season and of the service's growth, to which the model's estimate is relative.
    """
    return _mean_until_yesterday(cnt, 168)


def demand_trend_1d(cnt: nw.Expr) -> Float64:
    """Mean demand of yesterday relative to that of the 7 days that end a day ago.

    Unit: ratio.
    Why: whether the last day was better than its week, which tomorrow often is too.
    """
    return _ratio(_mean_until_yesterday(cnt, 24), _mean_until_yesterday(cnt, 168))


def demand_trend_7d(cnt: nw.Expr) -> Float64:
    """Mean demand of the 7 days that end a day ago relative to that of the 27 days that do.

    Unit: ratio.
    Why: whether demand is rising or falling with the season.
    """
    return _ratio(_mean_until_yesterday(cnt, 168), _mean_until_yesterday(cnt, 648))


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

COLUMN_LINEAGE = {"ts": ("ts",), "cnt": ("cnt",), **column_lineage(FEATURES)}
"""Columns of DEMAND_FEATURES, and the columns of HOURLY_RENTALS that each is made from."""


def demand_features(rentals: pd.DataFrame, month: str) -> pd.DataFrame:
    """Return the features of one month.

    Args:
        rentals: HOURLY_RENTALS of the month and the one before it (where there is one).
        month: such as 2012-08.

    Returns:
        DEMAND_FEATURES, one row for each hour of the month that `rentals` has.
    """
    grid = on_hourly_grid(rentals)
    table = compute(grid, FEATURES, key="ts")
    table.insert(1, ACTUAL.name, grid[ACTUAL.name])
    present = table[ACTUAL.name].notna() & (table["ts"].dt.strftime("%Y-%m") == month)
    return table[present].reset_index(drop=True)


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


def transformations(names: Sequence[str] = FEATURE_NAMES) -> dict[str, str]:
    """Return what makes the features, for the record: code version of each, imputation and windows."""
    versions = {f"feature.{name}": code_version(__name__, name) for name in names}
    return versions | {
        "imputation": f"last known weather, at most {IMPUTATION_HOURS} h old",
        "demand_horizon_hours": str(HORIZON_HOURS),
        "history_hours": str(HISTORY_HOURS),
    }
