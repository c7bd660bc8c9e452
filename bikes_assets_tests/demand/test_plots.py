"""Plots: what they draw, of real rows and of none."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bikes_assets.demand import plots
from bikes_assets.demand.champion import Choice, predictions
from bikes_assets.demand.evaluation import quality
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
    return quality(predictions(model, may), may)[0]


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


def test_error_by_hour_of_the_day(errors: pd.DataFrame) -> None:
    figure = plots.error_by_hour(errors)
    bars = figure.axes[0].patches
    eight = errors[errors["ts"].dt.hour == 8]["error"]
    assert len(bars) == 24
    assert bars[8].get_height() == pytest.approx(sum(abs(error) for error in eight) / 31)
    assert figure.axes[0].get_xlabel() == "hour of the day"
    assert is_drawn(figure)


def test_the_champion_stands_out_among_the_candidates(model: Model) -> None:
    champion = Model("b", model.estimator, model.features, model.training_months, "2011-04", origin="b")
    figure = plots.candidates(Choice(champion, "lowest error", {"a": 60.0, "b": 40.0, "c": 50.0}, {}))
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


@pytest.mark.parametrize("plot", [plots.predicted_and_actual, plots.error_by_hour])
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
    assert is_drawn(plots.candidates(Choice(model, "pinned: alone", {}, {})))
