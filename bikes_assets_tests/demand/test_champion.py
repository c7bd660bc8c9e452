"""Which model serves, and what no model may be validated on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor

from bikes_assets.core.errors import ModelError, NothingToDo
from bikes_assets.demand.champion import choose, fixed_cut, predictions
from bikes_assets.demand.evaluation import scores
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import Model, Recipe, build
from bikes_assets.demand.tables import DEMAND_PREDICTIONS

RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})
CUT = "2011-05-20T12:00"

JUNE = pd.DataFrame(
    {
        "ts": pd.date_range("2011-06-01", periods=4, freq="h", unit="us"),
        "cnt": pd.array([10, 20, 30, 40], dtype="Int64"),
        "x": [1, 2, 3, 4],
    }
)
"""Four hours of the month that candidates for 2011-07 are validation on."""


def always(value: float, origin: str, trained: tuple[str, ...] = ("2011-04",), baseline: Model | None = None) -> Model:
    """Return a model that says the same for every hour."""
    said = DummyRegressor(strategy="constant", constant=value).fit([[0]], [value])
    return Model("always", said, ("x",), trained, "2011-05", origin=origin, baseline=baseline)


def rmse(value: float) -> float:
    return float(np.sqrt(np.mean([(actual - value) ** 2 for actual in (10, 20, 30, 40)])))


def test_the_lowest_error_serves() -> None:
    candidates = {"2011-05": always(0, "old"), "2011-06": always(24, "good"), "2011-07": always(60, "new")}
    choice = choose(candidates, None, JUNE, "2011-07")
    assert choice.model is candidates["2011-06"]
    assert choice.reason == "lowest error of 3 on 2011-06"
    assert choice.rmse == pytest.approx({"old": rmse(0), "good": rmse(24), "new": rmse(60)})
    assert choice.metrics == scores([10, 20, 30, 40], [24, 24, 24, 24])


def test_on_a_tie_the_older_model_stays() -> None:
    # Given two that are wrong by as much, the newer one first
    candidates = {"2011-07": always(20, "new"), "2011-06": always(30, "old")}
    assert rmse(20) == rmse(30)
    assert choose(candidates, None, JUNE, "2011-07").model.origin == "old"


def test_the_record_tells_why_it_was_chosen() -> None:
    candidates = {"2011-06": always(24, "demand_model[2011-06]@4"), "2011-07": always(60, "demand_model[2011-07]@5")}
    assert choose(candidates, None, JUNE, "2011-07").params == {
        "champion": "demand_model[2011-06]@4",
        "reason": "lowest error of 2 on 2011-06",
        "validated_on": "2011-06",
        "candidates": "demand_model[2011-06]@4: 11.22, demand_model[2011-07]@5: 36.74",
    }


def test_the_order_of_the_candidates_is_that_of_their_months() -> None:
    candidates = {"2012-01": always(20, "new"), "2011-12": always(30, "old"), "2011-11": always(20, "oldest")}
    choice = choose(candidates, None, JUNE, "2012-01")
    assert choice.model.origin == "oldest"
    assert list(choice.rmse) == ["oldest", "old", "new"]


def test_the_baseline_of_the_newest_can_win() -> None:
    newest = always(100, "new", baseline=always(25, ""))
    choice = choose({"2011-06": always(90, "old", baseline=always(26, "")), "2011-07": newest}, None, JUNE, "2011-07")
    assert choice.model.origin == "new baseline"
    assert choice.model.predict(JUNE).tolist() == [25.0] * 4
    assert choice.reason == "lowest error of 3 on 2011-06"
    assert list(choice.rmse) == ["old", "new", "new baseline"]


def test_a_baseline_that_is_no_better_does_not_win() -> None:
    newest = always(20, "new", baseline=always(30, ""))
    assert choose({"2011-07": newest}, None, JUNE, "2011-07").model is newest


def test_a_model_without_a_number_for_an_hour_does_not_win() -> None:
    # Given an older model that predicts no number
    broken = always(0, "old")
    broken.estimator.constant_ = np.array([[np.nan]])
    choice = choose({"2011-06": broken, "2011-07": always(99, "new")}, None, JUNE, "2011-07")
    assert choice.model.origin == "new"


def test_a_pinned_model_serves_whatever_its_error() -> None:
    pinned = replace(always(500, "chosen"), decision="the new docks open (ann)")
    choice = choose({"2011-07": always(25, "new")}, pinned, JUNE, "2011-07")
    assert choice.model is pinned
    assert choice.reason == "pinned: the new docks open (ann)"
    assert choice.metrics["rmse"] == pytest.approx(rmse(500))
    assert choice.rmse == pytest.approx({"new": rmse(25)})


@pytest.mark.parametrize("trained", [("2011-05", "2011-06"), ("2011-05", "2011-07")])
def test_a_model_is_not_judged_on_rows_that_it_was_fitted_on(trained: tuple[str, ...]) -> None:
    candidates = {"2011-06": always(25, "fair"), "2011-07": always(25, "peeked", trained)}
    with pytest.raises(ModelError) as error:
        choose(candidates, None, JUNE, "2011-07")
    assert str(error.value) == f"peeked was fitted on {trained[-1]}, it cannot be validated on 2011-06"


def test_a_baseline_is_not_judged_on_rows_that_it_was_fitted_on() -> None:
    newest = always(25, "new", baseline=always(25, "", ("2011-06",)))
    with pytest.raises(ModelError, match="new baseline was fitted on 2011-06"):
        choose({"2011-07": newest}, None, JUNE, "2011-07")


def test_without_candidates_or_rows_there_is_nothing_to_do() -> None:
    with pytest.raises(NothingToDo, match=r"^champion_model\[2011-07\] is skipped: there is no model$"):
        choose({}, None, JUNE, "2011-07")
    with pytest.raises(NothingToDo, match=r"^champion_model\[2011-07\] is skipped: there is no row to validate on$"):
        choose({"2011-07": always(25, "new")}, None, JUNE.iloc[:0], "2011-07")


# Predictions and their errors


def test_predictions_are_one_for_each_hour() -> None:
    found = predictions(always(25, "new"), JUNE)
    assert found["ts"].tolist() == JUNE["ts"].tolist()
    assert found["prediction"].tolist() == [25.0] * 4
    assert found["baseline"].tolist() == [25.0] * 4
    conformed = DEMAND_PREDICTIONS.conform(found)
    assert conformed.num_rows == 4


def test_the_baseline_is_the_models_own() -> None:
    found = predictions(always(25, "new", baseline=always(30, "")), JUNE)
    assert found["prediction"].tolist() == [25.0] * 4
    assert found["baseline"].tolist() == [30.0] * 4


def test_predictions_stand_by_their_hour_whatever_the_rows_labels() -> None:
    later = JUNE[JUNE["cnt"] > 20]
    assert later.index.tolist() == [2, 3]
    found = predictions(always(25, "new"), later)
    assert found["prediction"].tolist() == [25.0, 25.0]
    assert found["ts"].tolist() == later["ts"].tolist()


def test_predictions_are_never_negative() -> None:
    assert predictions(always(-3, "new"), JUNE)["prediction"].tolist() == [0.0] * 4


def test_no_rows_have_no_predictions() -> None:
    found = predictions(always(25, "new"), JUNE.iloc[:0])
    assert found.empty
    assert [str(kind) for kind in found.dtypes] == ["datetime64[us]", "float64", "float64"]
    assert DEMAND_PREDICTIONS.conform(found).num_rows == 0


def test_a_fixed_cut_is_fitted_before_it_and_judged_after_it(half_year: pd.DataFrame) -> None:
    found = fixed_cut(half_year, CUT, FEATURE_NAMES, RIDGE)
    assert found["rows"] == 11 * 24 + 12 + 30 * 24
    names = [name for name in FEATURE_NAMES if name not in RIDGE.without]
    before, after = half_year[half_year["ts"] < CUT], half_year[half_year["ts"] >= CUT]
    by_hand = build(RIDGE).fit(before[names].astype("float64"), before["cnt"].astype("float64"))
    assert found == scores(after["cnt"], np.maximum(by_hand.predict(after[names].astype("float64")), 0))


def test_rows_after_the_cut_do_not_reach_the_fit(half_year: pd.DataFrame) -> None:
    # Given absurd demand in the second half of what is validation: errors there are absurd, and elsewhere as before
    after = half_year["ts"] >= "2011-06-10"
    judged_alone = fixed_cut(half_year[~after], CUT, FEATURE_NAMES, RIDGE)
    poisoned = half_year.assign(cnt=half_year["cnt"].mask(after, 1_000_000))
    whole = fixed_cut(poisoned, CUT, FEATURE_NAMES, RIDGE)
    clean = fixed_cut(half_year, CUT, FEATURE_NAMES, RIDGE)
    added = float((1_000_000 - half_year["cnt"][after]).sum())
    assert clean["bias"] * clean["rows"] - whole["bias"] * whole["rows"] == pytest.approx(added, rel=1e-12)
    assert judged_alone["rows"] == clean["rows"] - after.sum()


def test_rows_before_the_cut_do_reach_the_fit(half_year: pd.DataFrame) -> None:
    before = half_year["ts"] < "2011-03-01"
    changed = half_year.assign(cnt=half_year["cnt"].mask(before, 5_000))
    one, other = (fixed_cut(each, CUT, FEATURE_NAMES, RIDGE)["rmse"] for each in (half_year, changed))
    assert other > 1.5 * one


def test_a_fixed_cut_is_exact_to_the_hour() -> None:
    # Given a level that changes at the cut, and a mean to fit
    hours = pd.date_range("2011-05-20T10:00", periods=4, freq="h", unit="us")
    rows = pd.DataFrame({"ts": hours, "cnt": [10, 20, 100, 100], "x": [0.0, 1.0, 0.0, 1.0]})
    mean = Recipe("sklearn.tree.DecisionTreeRegressor", {"min_samples_leaf": 2}, level="", without=())
    assert fixed_cut(rows, CUT, ["x"], mean) == {"rows": 2.0, "r2": 0.0, "rmse": 85.0, "mae": 85.0, "bias": -85.0}


def test_a_fixed_cut_never_predicts_less_than_nothing() -> None:
    # Given demand that falls by 5 an hour, and a line that goes on below zero
    hours = pd.date_range("2011-05-20T10:00", periods=4, freq="h", unit="us")
    rows = pd.DataFrame({"ts": hours, "cnt": [10, 5, 100, 100], "x": [0.0, 1.0, 4.0, 5.0]})
    line = Recipe("sklearn.linear_model.LinearRegression", {}, level="", without=())
    assert fixed_cut(rows, CUT, ["x"], line)["bias"] == -100.0
