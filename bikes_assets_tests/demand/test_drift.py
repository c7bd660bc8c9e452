"""Drift: the index by hand, what counts as missing, constant, few or a code, and which months are held against which."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from bikes_assets.demand.champion import predictions
from bikes_assets.demand.drift import (
    CALENDAR,
    LARGE_PSI,
    Drift,
    MonthDrift,
    drift,
    month_drift,
    of_metrics,
    population_stability,
    season,
)
from bikes_assets.demand.features import DEMAND_FEATURES, FEATURE_NAMES, demand_features
from bikes_assets.demand.model import Model, Recipe, fit

RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})
MONTHS = [f"{year}-{month:02}" for year in (2011, 2012) for month in range(1, 13)]
NAN = math.nan


def normal(seed: int, rows: int = 700, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, rows)


# The index


def test_the_index_by_hand() -> None:
    # Given two codes: 3 and 1 rows before, 1 and 3 now, no missing value; half a row more in each of three bins
    p, q = np.array([3.5, 1.5, 0.5]) / 5.5, np.array([1.5, 3.5, 0.5]) / 5.5
    expected = float(((q - p) * np.log(q / p)).sum())
    assert expected == pytest.approx(0.616217, abs=1e-6)
    assert population_stability(np.array([1.0, 1, 1, 2]), np.array([1.0, 2, 2, 2])) == pytest.approx(expected)


def test_the_same_sample_has_not_moved_and_the_index_has_no_direction_for_codes() -> None:
    a, b = np.array([1.0, 1, 1, 2]), np.array([1.0, 2, 2, 2])
    assert population_stability(a, a) == 0.0
    assert population_stability(normal(0), normal(0)) == 0.0
    assert population_stability(a, b) == pytest.approx(population_stability(b, a))


def test_two_samples_of_one_population_are_stable_and_one_that_moved_by_a_spread_is_not() -> None:
    assert population_stability(normal(0), normal(1)) < 0.1
    assert population_stability(normal(0), normal(1, mean=1.0)) > 0.7


def test_bins_are_tenths_of_the_reference() -> None:
    # Given a sample that lies whole in the reference's highest tenth
    reference = np.arange(1000, dtype="float64")
    p = np.append(np.full(10, 100.5), 0.5) / 1005.5
    q = np.append(np.full(9, 0.5), [1000.5, 0.5]) / 1005.5
    expected = float(((q - p) * np.log(q / p)).sum())
    assert population_stability(reference, np.full(1000, 950.0)) == pytest.approx(expected)


def test_missing_values_are_a_bin_of_their_own() -> None:
    known = normal(0)
    half = np.where(np.arange(700) % 2 == 0, known, NAN)
    assert population_stability(known, known) == 0.0
    assert population_stability(known, half) > 1.0
    assert population_stability(half, half) == 0.0


@pytest.mark.parametrize("value", [4.0, 6.0, 5.5])
def test_a_constant_that_changes_has_moved_either_way(value: float) -> None:
    constant = np.full(700, 5.0)
    assert population_stability(constant, constant) == 0.0
    assert population_stability(constant, np.full(700, value)) > 5


def test_a_code_that_was_never_seen_has_moved() -> None:
    kinds = np.repeat([1.0, 2, 3], [400, 200, 100])
    new = np.repeat([1.0, 2, 4], [400, 200, 100])
    assert population_stability(kinds, kinds[::-1]) == 0.0
    assert population_stability(kinds, new) > 0.25


@pytest.mark.parametrize("empty", [np.array([]), np.full(5, NAN)])
def test_an_empty_sample_has_a_finite_index(empty: np.ndarray) -> None:
    assert math.isfinite(population_stability(normal(0), empty))
    assert math.isfinite(population_stability(empty, normal(0)))


# Both metrics


def test_the_distance_is_scipys() -> None:
    a, b = normal(0), normal(1, mean=0.5)
    found = drift(a, b)
    assert found is not None
    assert found.ks == pytest.approx(float(ks_2samp(a, b).statistic))
    assert found.psi == population_stability(a, b)


@pytest.mark.parametrize(("missing", "distance"), [(0, 0.0), (350, 0.5), (700, 1.0)])
def test_values_that_went_missing_are_far_away(missing: int, distance: float) -> None:
    known = normal(0)
    gone = np.where(np.random.default_rng(1).permutation(700) < missing, NAN, known)
    found, back = drift(known, gone), drift(gone, known)
    assert found is not None
    assert back is not None
    assert found.ks == pytest.approx(distance, abs=0.02)
    assert back.ks == found.ks
    assert (found.psi > LARGE_PSI) is (missing > 0)


@pytest.mark.parametrize("rows", [0, 1, 167])
def test_less_than_a_week_is_not_measured(rows: int) -> None:
    assert drift(normal(1), normal(0, rows)) is None
    assert drift(normal(0, rows), normal(1)) is None
    assert drift(normal(1, 168), normal(2, 168)) is not None


# Months


@pytest.mark.parametrize(
    ("month", "expected"),
    [
        ("2012-08", ["2011-08", "2011-09", "2012-07"]),
        ("2012-12", ["2011-12", "2012-01", "2012-11"]),
        ("2012-01", ["2011-01", "2011-02", "2011-12"]),
        ("2011-12", ["2011-01", "2011-11"]),
        ("2011-08", ["2011-07"]),
        ("2011-01", []),
    ],
)
def test_the_season_of_a_month(month: str, expected: list[str]) -> None:
    assert season([key for key in MONTHS if key < month], month) == expected


@pytest.fixture(scope="module")
def year(rentals: pd.DataFrame) -> pd.DataFrame:
    """Return DEMAND_FEATURES of 2011-03 to 2012-04."""
    known = rentals[rentals["ts"] < "2012-05-01"]
    return pd.concat([demand_features(known, month) for month in MONTHS[2:16]], ignore_index=True)


@pytest.fixture(scope="module")
def champion(year: pd.DataFrame) -> Model:
    """Return a model for 2012-04, fitted on the months before 2012-03."""
    return fit(year[year["ts"] < "2012-04-01"], "2012-04", FEATURE_NAMES, RIDGE, min_training_months=3)


def of(year: pd.DataFrame, champion: Model, month: str = "2012-04", first: str = "2011-03") -> MonthDrift:
    """Return the drift of a month, as the asset has it."""
    known = year[(year["ts"] >= first) & (year["ts"].dt.strftime("%Y-%m") <= month)].reset_index(drop=True)
    rows = known[known["ts"].dt.strftime("%Y-%m") == month]
    errors = predictions(champion, rows)["prediction"] - rows["cnt"].astype("float64")
    return month_drift(champion, known, errors, month)


def test_every_feature_is_measured_but_those_of_the_calendar(year: pd.DataFrame, champion: Model) -> None:
    found = of(year, champion)
    assert set(found.drifts) == {*FEATURE_NAMES, "error"} - set(CALENDAR)
    assert set(CALENDAR) < set(DEMAND_FEATURES.names)
    assert found.reference == ["2011-04", "2011-05", "2012-03"]


def test_a_feature_is_held_against_its_season_alone(year: pd.DataFrame, champion: Model) -> None:
    # Given absurd values in a month that is not of the season, and in one that is
    elsewhere = year.assign(humidity=year["humidity"].mask(year["ts"].dt.strftime("%Y-%m") == "2011-10", 9.0))
    within = year.assign(humidity=year["humidity"].mask(year["ts"].dt.strftime("%Y-%m") == "2011-05", 9.0))
    assert of(elsewhere, champion).drifts["humidity"] == of(year, champion).drifts["humidity"]
    assert of(within, champion).drifts["humidity"].psi > of(year, champion).drifts["humidity"].psi + 0.25


def test_the_error_is_held_against_the_champions_on_the_month_before(year: pd.DataFrame, champion: Model) -> None:
    month = year["ts"].dt.strftime("%Y-%m")
    before, now = (year[month == key] for key in ("2012-03", "2012-04"))
    errors = [champion.predict(rows) - rows["cnt"].astype("float64").to_numpy() for rows in (before, now)]
    assert of(year, champion).drifts["error"] == drift(*errors)


def test_a_champion_that_was_fitted_on_the_month_before_has_no_error_to_hold_against(
    year: pd.DataFrame, champion: Model
) -> None:
    pinned = replace(champion, training_months=(*champion.training_months, "2012-03"))
    assert "error" not in of(year, pinned).drifts


def test_without_the_season_of_the_year_before_features_are_measured_but_not_judged(
    year: pd.DataFrame, champion: Model
) -> None:
    found = of(year, champion, first="2012-01")
    assert found.reference == ["2012-03"]
    assert found.compared == {"error"}
    assert "temperature" in found.drifts
    assert found.standing_out in ([], ["error"])


def test_what_the_champion_does_not_read_and_the_level_are_not_judged(year: pd.DataFrame, champion: Model) -> None:
    compared = of(year, champion).compared
    assert {"demand_lag_24h", "demand_lag_168h", "demand_level_7d"} & compared == set()
    assert {"temperature", "humidity", "demand_trend_7d", "error"} <= compared
    baseline = champion.baseline
    assert baseline is not None
    assert set(of(year, baseline).standing_out) <= {"error"}


def test_without_rows_before_or_in_the_month_nothing_is_measured(year: pd.DataFrame, champion: Model) -> None:
    assert of(year, champion, first="2012-04").drifts == {}
    empty = year[year["ts"] < "2012-04-01"]
    assert month_drift(champion, empty, pd.Series([], dtype="float64"), "2012-04").drifts == {}


# What stands out


@pytest.mark.parametrize(
    ("name", "item", "stands_out"),
    [
        ("humidity", Drift(0.26, 0.36), True),
        ("humidity", Drift(0.25, 0.9), False),
        ("humidity", Drift(9.0, 0.35), False),
        ("error", Drift(0.26, 0.0), True),
        ("error", Drift(0.25, 1.0), False),
        ("demand_level_7d", Drift(6.0, 1.0), False),
    ],
)
def test_much_and_far_stands_out_and_of_errors_much(name: str, item: Drift, stands_out: bool) -> None:
    found = MonthDrift({name: item}, [], {"humidity", "error"})
    assert found.standing_out == ([name] if stands_out else [])


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("temperature", lambda values: values * 0 + 0.5),
        ("humidity", lambda values: values / 2),
        ("wind_speed", lambda values: values * 1.609 + 0.1),
        ("weather_kind", lambda values: values * 0 + 2),
        ("temperature", lambda values: values.where(values.index % 2 == 0)),
    ],
    ids=[
        "a sensor that stands still",
        "another scale",
        "another unit",
        "one code for all",
        "every second value missing",
    ],
)
def test_a_feed_that_broke_stands_out(year: pd.DataFrame, champion: Model, name: str, fault: object) -> None:
    # Given a month of the shipped data in which that feature does not stand out
    april = year["ts"] >= "2012-04-01"
    assert name not in of(year, champion).standing_out
    broken = year.assign(**{name: year[name].where(~april, fault(year[name]))})
    assert name in of(broken, champion).standing_out


def test_figures_and_back(year: pd.DataFrame, champion: Model) -> None:
    found = of(year, champion)
    metrics = {"rmse": 1.0, **found.metrics}
    assert metrics["psi_humidity"] == found.drifts["humidity"].psi
    assert metrics["ks_error"] == found.drifts["error"].ks
    assert of_metrics(metrics, champion, year, "2012-04") == found
