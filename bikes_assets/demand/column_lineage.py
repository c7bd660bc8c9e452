"""Declaration and function of the features, in the form that `verification.column_lineage.check` takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bikes_assets.core.schema import Schema
from bikes_assets.demand.features import COLUMN_LINEAGE, HISTORY_HOURS, HORIZON_HOURS, features_of
from bikes_assets.demand.source import rental_invariants
from bikes_assets.demand.tables import ACTUAL, HOURLY_RENTALS, TIMESTAMP
from bikes_assets.verification.column_lineage import Evidence, Window, check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from bikes_assets.verification.invariants import Invariant

TARGET = ("cnt", "casual", "registered")
"""Demand, and the columns from which it can be computed."""

_COPY = "copy"
_KEY = TIMESTAMP.name

WINDOWS = {
    ("temperature", "temp"): Window(0),
    ("humidity", "hum"): Window(0),
    ("wind_speed", "windspeed"): Window(0),
    ("working_day", "workingday"): Window(0),
    ("public_holiday", "holiday"): Window(0),
    ("weather_kind", "weathersit"): Window(24),
    ("wet_hours_3h", "weathersit"): Window(2),
    ("temperature_above_27d", "temp"): Window(647),
    ("humidity_above_7d", "hum"): Window(167),
    ("demand_lag_24h", "cnt"): Window(24, 24),
    ("demand_lag_168h", "cnt"): Window(168, 168),
    ("demand_level_7d", "cnt"): Window(191, 24),
    ("demand_trend_1d", "cnt"): Window(191, 24),
    ("demand_trend_7d", "cnt"): Window(671, 24),
}
"""Window of hours before an hour that contribute to its feature."""


def features_evidence(
    rentals: pd.DataFrame,
    seed: int = 0,
    function: Callable[[pd.DataFrame], Any] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Evidence:
    """Return the result of verifying the features' declaration by perturbation.

    Contradictory rows, such as a demand that is not the sum of its parts, are tried as well: they reveal more. A
    function that refuses them is tried again with tables that satisfy `source.rental_invariants`.

    Args:
        rentals: HOURLY_RENTALS of some months; more than HISTORY_HOURS, or there is little to observe.
        seed: seed of the perturbations.
        function: computes the features from rentals; default is the shipped one.
        progress: called after each table with the experiment and the number of perturbed tables so far.
    """
    may_be_missing = [
        column if column == TIMESTAMP else replace(column, nullable=True) for column in HOURLY_RENTALS.columns
    ]
    nullable = rentals.astype({name: "Int64" for name, dtype in rentals.dtypes.items() if dtype.kind == "i"})

    def found(invariants: Sequence[Invariant]) -> Evidence:
        return check(
            function or features_of_rentals,
            nullable,
            {name: columns for name, columns in COLUMN_LINEAGE.items() if name != _KEY},
            key=_KEY,
            schema=Schema(HOURLY_RENTALS.name, HOURLY_RENTALS.key, tuple(may_be_missing)),
            target=TARGET,
            horizon=HORIZON_HOURS,
            windows=WINDOWS,
            rows=[ACTUAL.name],
            history=HISTORY_HOURS,
            copy=_COPY,
            invariants=invariants,
            seed=seed,
            progress=progress,
        )

    freely = found(())
    return found(rental_invariants(nullable)) if any(item.failed for item in freely.unverified) else freely


def features_of_rentals(rentals: pd.DataFrame) -> Any:
    """Return the features of each hour in the rentals; copies, if there are any, are kept apart."""
    if _COPY not in rentals:
        return features_of(on_grid(rentals.assign(**{_COPY: 0}))).drop(columns=_COPY, errors="ignore")
    return features_of(on_grid(rentals), by=[_COPY])


def on_grid(rentals: pd.DataFrame) -> pd.DataFrame:
    """Return `features.on_hourly_grid` of each of many copies."""
    import numpy as np
    import pandas as pd

    rentals = rentals.astype(
        {name: "Int64" for name, dtype in rentals.dtypes.items() if dtype.kind == "i" and name != _COPY}
    )
    hours = rentals[_KEY].to_numpy().astype("datetime64[h]")
    copies, number = np.unique(rentals[_COPY].to_numpy(), return_inverse=True)
    first, last = (ends.to_numpy() for _, ends in pd.Series(hours).groupby(number).agg(["min", "max"]).items())
    sizes = (last - first) // np.timedelta64(1, "h") + 1
    begins = np.cumsum(sizes) - sizes
    place = (hours - first[number]) // np.timedelta64(1, "h") + begins[number]
    grid = rentals.set_index(place).reindex(np.arange(sizes.sum()))
    within = np.arange(sizes.sum()) - np.repeat(begins, sizes)
    grid[_KEY] = (np.repeat(first, sizes) + within * np.timedelta64(1, "h")).astype("datetime64[us]")
    grid[_COPY] = np.repeat(copies, sizes)
    return grid
