"""Plots: what they draw, of real rows and of none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bikes_assets.demand import plots
from bikes_assets.demand.champion import Choice, predictions
from bikes_assets.demand.drift import Drift, MonthDrift
from bikes_assets.demand.evaluation import quality, quality_series
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import Model, Recipe, fit, permutation_importance
from bikes_assets.demand.svg import Plot
from bikes_assets_tests.demand.drawings import check_drawn

RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})


def names(plot: Plot) -> list[str]:
    return [name for _, name in plot.ticks]


@pytest.fixture(scope="module")
def model(half_year: pd.DataFrame) -> Model:
    """Return the model of 2011-05, compared on April."""
    return fit(half_year, "2011-05", FEATURE_NAMES, RIDGE, min_training_months=3)


@pytest.fixture(scope="module")
def errors(model: Model, half_year: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of May."""
    may = half_year[half_year["ts"].dt.strftime("%Y-%m") == "2011-05"]
    return quality(predictions(model, may), may, may)


def test_demand_over_time_has_gaps_where_hours_are_absent(rentals: pd.DataFrame) -> None:
    # Given 2011-03, which lacks 14 of its 744 hours
    march = rentals[(rentals["ts"] >= "2011-03-01") & (rentals["ts"] < "2011-04-01")]
    figure = plots.demand_over_time(march)
    drawn = np.asarray(figure.lines[0].values)
    assert len(drawn) == 744
    assert np.isnan(drawn).sum() == 14
    assert np.nansum(drawn) == march["cnt"].sum()
    assert figure.beside == "rentals/hour"
    assert figure.ticks[:3] == [(0.0, "Mar 2011"), (96.0, "5"), (192.0, "9")]
    check_drawn(figure)


def test_predicted_over_actual(errors: pd.DataFrame) -> None:
    figure = plots.predicted_and_actual(errors)
    actual, predicted = figure.lines
    assert (actual.label, predicted.label) == ("actual", "predicted")
    assert actual.values == errors["actual"].tolist()
    assert predicted.values == errors["prediction"].tolist()
    check_drawn(figure)


def test_error_by_hour_of_the_day_beside_that_of_the_baseline(errors: pd.DataFrame) -> None:
    figure = plots.error_by_hour(errors)
    baseline, predicted = figure.lines
    series = quality_series(errors)
    assert (baseline.label, predicted.label) == ("baseline", "predicted")
    assert predicted.at == baseline.at == list(range(24))
    assert predicted.values == list(series["rmse_by_hour"].values())
    assert baseline.values == list(series["baseline_rmse_by_hour"].values())
    assert figure.under == "hour of the day"
    check_drawn(figure)


def test_error_by_weather_says_how_many_hours_it_is_of(errors: pd.DataFrame) -> None:
    # Given 2011-05, in which it never rained heavily
    figure = plots.error_by_weather(errors)
    baseline, predicted = figure.bars
    series = quality_series(errors)
    assert predicted.values == list(series["rmse_by_weather"].values())
    assert baseline.values == list(series["baseline_rmse_by_weather"].values())
    hours = errors["weather_kind"].value_counts()
    assert names(figure) == [
        f"clear\n{hours[1]} hours",
        f"mist or clouds\n{hours[2]} hours",
        f"light rain or snow\n{hours[3]} hours",
    ]
    check_drawn(figure)


def test_what_drifts_is_red_and_what_is_not_judged_is_grey() -> None:
    drifts = {"temperature": Drift(0.05, 0.1), "demand_level_7d": Drift(5.0, 0.6), "humidity": Drift(1.0, 0.4)}
    figure = plots.drift(MonthDrift(drifts, ["2011-05"], {"temperature", "humidity"}))
    (bars,) = figure.bars
    assert names(figure) == ["humidity", "demand_level_7d", "temperature"]
    assert bars.values == pytest.approx([3.0, 3.69897, 1.69897])  # decades above 0.001
    assert bars.colors == ["#c0392b", "#b8bec6", "#2f6fab"]  # red, grey, blue
    assert figure.rules == [(pytest.approx(2.0), "small"), (pytest.approx(2.39794), "large")]
    check_drawn(figure)


def test_no_drift_at_all_is_drawn_too() -> None:
    check_drawn(plots.drift(MonthDrift({}, [], set())))
    check_drawn(plots.drift(MonthDrift({"error": Drift(0.0, 0.0)}, [], {"error"})))


def test_the_plots_of_a_months_quality(errors: pd.DataFrame) -> None:
    found = plots.of_quality(errors, MonthDrift({"error": Drift(0.1, 0.1)}, [], {"error"}))
    assert list(found) == ["predicted and actual", "error by hour", "error by weather", "drift"]


def test_the_champion_stands_out_among_the_candidates(model: Model) -> None:
    champion = Model("b", model.estimator, model.features, model.training_months, "2011-04", origin="b")
    figure = plots.candidates(Choice(champion, "lowest error", "2011-04", {"a": 60.0, "b": 40.0, "c": 50.0}, {}, []))
    (bars,) = figure.bars
    assert bars.values == [60.0, 50.0, 40.0]
    assert names(figure) == ["a", "c", "b"]
    assert bars.colors == ["#b8bec6", "#b8bec6", "#2f6fab"]
    check_drawn(figure)


def test_a_pinned_model_is_drawn_among_the_candidates(model: Model) -> None:
    pinned = Model(
        "p", model.estimator, model.features, model.training_months, "2011-04", origin="demand_model[2011-03]@1"
    )
    figure = plots.candidates(Choice(pinned, "pinned: audit", "2011-04", {"a": 60.0, "b": 40.0}, {"rmse": 55.0}, []))
    assert names(figure) == ["a", "[2011-03]@1", "b"]
    assert figure.bars[0].colors == ["#b8bec6", "#2f6fab", "#b8bec6"]


def test_importance_shows_the_largest_last(model: Model, half_year: pd.DataFrame) -> None:
    figure = plots.importance(model, half_year, most=5)
    assert figure.bars[0].values == sorted(permutation_importance(model, half_year).values())[-5:]
    check_drawn(figure)


@pytest.mark.parametrize("plot", [plots.predicted_and_actual, plots.error_by_hour, plots.error_by_weather])
def test_no_errors_are_an_empty_plot(plot: object, errors: pd.DataFrame) -> None:
    figure = plot(errors.iloc[:0])
    check_drawn(figure)
    assert not any(item.values for item in (*figure.lines, *figure.bars))


def test_no_rentals_are_an_empty_plot(rentals: pd.DataFrame) -> None:
    figure = plots.demand_over_time(rentals.iloc[:0])
    check_drawn(figure)
    assert figure.lines[0].values == []


def test_no_candidates_are_an_empty_plot(model: Model) -> None:
    check_drawn(plots.candidates(Choice(model, "pinned: alone", "2011-04", {}, {}, [])))
