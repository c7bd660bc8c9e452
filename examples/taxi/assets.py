"""Taxi trips and their fares: plain functions on pandas. They return frames and a fitted regressor, and know no lineage."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from bikes_assets import column_function, compute

if TYPE_CHECKING:
    import narwhals as nw

    from bikes_assets import Float64, Int64

TRIPS = 3_000
ZONES = ("airport", "harbour", "old town", "station", "university")
INPUTS = ["distance", "passengers", "night", "crawl"]
"""Columns that the model reads."""


@dg.asset(group_name="taxi")
def trips() -> pd.DataFrame:
    """Taxi trips of a week, drawn with a seed."""
    random = np.random.default_rng(11)
    pickup = np.datetime64("2024-05-06T00:00:00", "us") + np.sort(random.integers(0, 7 * 86_400, TRIPS)) * 1_000_000
    distance = random.gamma(2.0, 2.5, TRIPS).round(2)
    fare = (3.2 + 1.9 * distance + random.normal(0, 1, TRIPS)).clip(3.2).round(2)
    return pd.DataFrame(
        {
            "trip": np.arange(TRIPS),
            "pickup": pickup,
            "zone": random.choice(ZONES, TRIPS),
            "distance": distance,
            "passengers": random.integers(1, 5, TRIPS),
            "fare": fare,
            "tip": (fare * random.uniform(0, 0.2, TRIPS)).round(2),
        }
    )


def night(pickup: nw.Expr) -> Int64:
    """Whether the trip begins between 22 and 6 o'clock.

    Unit: 1 or 0.
    Why: fares are higher at night.
    """
    hour = pickup.dt.hour()
    return (hour >= 22) | (hour < 6)


def crawl(pickup: nw.Expr, distance: nw.Expr) -> Float64:
    """Distance of a trip that begins in the morning's rush hour.

    Unit: km.
    Why: the meter counts minutes where the traffic stands.
    """
    return distance * (pickup.dt.hour() == 8)


FEATURES = [column_function(night), column_function(crawl)]
PASSED = ["distance", "passengers", "fare"]


@dg.asset(group_name="taxi")
def trip_features(trips: pd.DataFrame) -> pd.DataFrame:
    """What the model reads of each trip, and the fare to predict."""
    return compute(trips, FEATURES, key="trip", passed=PASSED)


@dg.asset(group_name="taxi", io_manager_key="models")
def fare_model(trip_features: pd.DataFrame) -> Ridge:
    """Ridge regression of the fare."""
    return Ridge().fit(trip_features[INPUTS].astype("float64"), trip_features["fare"])


@dg.asset(group_name="taxi")
def fare_predictions(trip_features: pd.DataFrame, fare_model: Ridge) -> pd.DataFrame:
    """What the model says of each trip."""
    predicted = fare_model.predict(trip_features[INPUTS].astype("float64"))
    return pd.DataFrame({"trip": trip_features["trip"], "predicted": predicted.round(2)})


@dg.asset(group_name="taxi")
def zone_summary(trips: pd.DataFrame, fare_predictions: pd.DataFrame) -> pd.DataFrame:
    """Trips, mean fare and mean error of the model by zone, in SQL."""
    with closing(sqlite3.connect(":memory:")) as database:
        trips.to_sql("trips", database, index=False)
        fare_predictions.to_sql("predictions", database, index=False)
        return pd.read_sql_query(
            "select zone, count(*) as trips, avg(fare) as mean_fare, avg(abs(predicted - fare)) as mean_error "
            "from trips join predictions using (trip) group by zone",
            database,
        )
