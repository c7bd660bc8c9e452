"""Plots: what they draw, of real rows and of none."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bikes_assets.demand import plots
from bikes_assets.demand.champion import Choice, predictions
from bikes_assets.demand.drift import Drift, MonthDrift
from bikes_assets.demand.evaluation import quality, quality_series
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import Model, Recipe, fit, permutation_importance

RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})


def png(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def is_drawn(figure: Figure) -> bool:
    content = png(figure)
    return content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82") and len(content) > 2000


@pytest.fixture(scope="module")
def model(half_year: pd.DataFrame) -> Model:
    """Return the model of 2011-05, judged on April."""
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
    drawn = np.asarray(figure.axes[0].lines[0].get_ydata(), dtype="float64")
    assert len(drawn) == 744
    assert np.isnan(drawn).sum() == 14
    assert np.nansum(drawn) == march["cnt"].sum()
    assert figure.axes[0].get_ylabel() == "rentals/hour"
    assert is_drawn(figure)


def test_predicted_over_actual(errors: pd.DataFrame) -> None:
    figure = plots.predicted_and_actual(errors)
    actual, predicted = figure.axes[0].lines
    assert (actual.get_label(), predicted.get_label()) == ("actual", "predicted")
    assert list(actual.get_ydata()) == errors["actual"].tolist()
    assert list(predicted.get_ydata()) == errors["prediction"].tolist()
    assert is_drawn(figure)


def test_error_by_hour_of_the_day_beside_that_of_the_baseline(errors: pd.DataFrame) -> None:
    figure = plots.error_by_hour(errors)
    baseline, predicted = figure.axes[0].lines
    series = quality_series(errors)
    assert (baseline.get_label(), predicted.get_label()) == ("baseline", "predicted")
    assert list(predicted.get_xdata()) == list(baseline.get_xdata()) == list(range(24))
    assert list(predicted.get_ydata()) == list(series["rmse_by_hour"].values())
    assert list(baseline.get_ydata()) == list(series["baseline_rmse_by_hour"].values())
    assert figure.axes[0].get_xlabel() == "hour of the day"
    assert is_drawn(figure)


def test_error_by_weather_says_how_many_hours_it_is_of(errors: pd.DataFrame) -> None:
    # Given 2011-05, in which it never rained heavily
    figure = plots.error_by_weather(errors)
    baseline, predicted = figure.axes[0].containers
    series = quality_series(errors)
    assert [bar.get_height() for bar in predicted] == list(series["rmse_by_weather"].values())
    assert [bar.get_height() for bar in baseline] == list(series["baseline_rmse_by_weather"].values())
    hours = errors["weather_kind"].value_counts()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        f"clear\n{hours[1]} hours",
        f"mist or clouds\n{hours[2]} hours",
        f"light rain or snow\n{hours[3]} hours",
    ]
    assert is_drawn(figure)


def test_what_drifts_is_red_and_what_is_not_judged_is_grey() -> None:
    drifts = {"temperature": Drift(0.05, 0.1), "demand_level_7d": Drift(5.0, 0.6), "humidity": Drift(1.0, 0.4)}
    figure = plots.drift(MonthDrift(drifts, ["2011-05"], {"temperature", "humidity"}))
    bars = dict(
        zip((label.get_text() for label in figure.axes[0].get_yticklabels()), figure.axes[0].patches, strict=True)
    )
    assert list(bars) == ["humidity", "demand_level_7d", "temperature"]
    assert [bar.get_width() for bar in bars.values()] == pytest.approx([3.0, 3.69897, 1.69897])  # decades above 0.001
    colors = {name: bar.get_facecolor() for name, bar in bars.items()}
    assert len(set(colors.values())) == 3
    assert colors["humidity"][0] > 0.6 > colors["humidity"][2]  # red
    assert is_drawn(figure)


def test_no_drift_at_all_is_drawn_too() -> None:
    assert is_drawn(plots.drift(MonthDrift({}, [], set())))
    assert is_drawn(plots.drift(MonthDrift({"error": Drift(0.0, 0.0)}, [], {"error"})))


def test_the_plots_of_a_months_quality(errors: pd.DataFrame) -> None:
    found = plots.of_quality(errors, MonthDrift({"error": Drift(0.1, 0.1)}, [], {"error"}))
    assert list(found) == ["predicted and actual", "error by hour", "error by weather", "drift"]


def test_the_champion_stands_out_among_the_candidates(model: Model) -> None:
    champion = Model("b", model.estimator, model.features, model.training_months, "2011-04", origin="b")
    figure = plots.candidates(Choice(champion, "lowest error", "2011-04", {"a": 60.0, "b": 40.0, "c": 50.0}, {}))
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [60.0, 40.0, 50.0]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
    assert bars[0].get_facecolor() == bars[2].get_facecolor() != bars[1].get_facecolor()
    assert is_drawn(figure)


def test_importance_shows_the_largest_last(model: Model, half_year: pd.DataFrame) -> None:
    figure = plots.importance(model, half_year, most=5)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == sorted(permutation_importance(model, half_year).values())[-5:]
    assert is_drawn(figure)


@pytest.mark.parametrize("plot", [plots.predicted_and_actual, plots.error_by_hour, plots.error_by_weather])
def test_no_errors_are_an_empty_plot(plot: object, errors: pd.DataFrame) -> None:
    figure = plot(errors.iloc[:0])
    assert is_drawn(figure)
    assert all(len(line.get_xdata()) == 0 for line in figure.axes[0].lines)
    assert not figure.axes[0].patches


def test_no_rentals_are_an_empty_plot(rentals: pd.DataFrame) -> None:
    figure = plots.demand_over_time(rentals.iloc[:0])
    assert is_drawn(figure)
    assert len(figure.axes[0].lines[0].get_xdata()) == 0


def test_no_candidates_are_an_empty_plot(model: Model) -> None:
    assert is_drawn(plots.candidates(Choice(model, "pinned: alone", "2011-04", {}, {})))
