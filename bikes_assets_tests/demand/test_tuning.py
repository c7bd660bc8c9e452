"""How recipes are validation, what a search draws, and that neither sees the hold-out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from bikes_assets.core.errors import NothingToDo, SettingsError
from bikes_assets.demand import tuning
from bikes_assets.demand.evaluation import scores
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import Recipe, fit, fit_estimator, unfitted

RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})
MONTHS = [f"{year}-{month:02}" for year in (2011, 2012) for month in range(1, 13)]


def months_of(frame):
    return frame["ts"].dt.strftime("%Y-%m")


def changed_in(frame, month):
    """Return the frame with other demand in one month."""
    return frame.assign(cnt=frame["cnt"].where(months_of(frame) != month, 7))


def test_the_groups_hold_every_feature_once() -> None:
    assert Counter(name for names in tuning.GROUPS.values() for name in names) == Counter(FEATURE_NAMES)


def test_the_months_before_the_hold_out_are_judged_as_the_pipeline_judges() -> None:
    known = [month for month in MONTHS if month < tuning.HOLD_OUT]
    validation = tuning.validation_months(known)
    assert validation == ["2011-11", "2011-12", *(f"2012-0{month}" for month in range(1, 8))]
    assert tuning.cut_months(validation) == ["2012-01", "2012-03", "2012-05"]
    assert tuning.fitted_months(known)[-1] == "2012-05"


def test_a_month_needs_three_to_fit_on_and_one_between() -> None:
    assert tuning.validation_months(MONTHS[:5]) == ["2011-05"]
    with pytest.raises(NothingToDo, match=r"found months 2011-01 to 2011-04, expected at least 5"):
        tuning.validation_months(MONTHS[:4])


def test_each_month_is_predicted_as_by_its_own_model(half_year) -> None:
    # Given the pipeline's model of 2011-06, fitted on the months before 2011-05
    june = half_year[months_of(half_year) == "2011-06"]
    before = half_year[half_year["ts"] < "2011-06-01"]
    model = fit(before, "2011-06", FEATURE_NAMES, RIDGE, min_training_months=3)
    # Then the evaluation of that month is how it predicts it
    found = tuning.evaluate(half_year, RIDGE)
    assert list(found.months) == ["2011-05", "2011-06"]
    assert found.months["2011-06"] == scores(june["cnt"], model.predict(june))


def test_walk_forward_is_over_the_rows_of_all_months(half_year) -> None:
    found = tuning.evaluate(half_year, RIDGE)
    rows = [values["rows"] for values in found.months.values()]
    squares = [values["rows"] * values["rmse"] ** 2 for values in found.months.values()]
    assert found.walk_forward["rows"] == sum(rows)
    assert found.walk_forward["rmse"] == pytest.approx((sum(squares) / sum(rows)) ** 0.5)


def test_a_fixed_cut_is_one_fit_on_the_rows_before(half_year) -> None:
    before, after = half_year[half_year["ts"] < "2011-05-01"], half_year[half_year["ts"] >= "2011-05-01"]
    model = fit_estimator(unfitted(RIDGE, FEATURE_NAMES), before)
    assert tuning.evaluate(half_year, RIDGE).cuts == {"2011-05": scores(after["cnt"], model.predict(after))}


def test_the_month_between_and_the_judged_one_are_never_fitted_on(half_year) -> None:
    usual = tuning.evaluate(half_year, RIDGE).months["2011-06"]
    assert tuning.evaluate(changed_in(half_year, "2011-05"), RIDGE).months["2011-06"] == usual
    assert tuning.evaluate(changed_in(half_year, "2011-04"), RIDGE).months["2011-06"] != usual
    # the validation month itself: other demand changes its figures, but not the predictions
    other = tuning.evaluate(changed_in(half_year, "2011-06"), RIDGE).months["2011-06"]
    june = half_year["cnt"][months_of(half_year) == "2011-06"].astype(float)
    assert other["bias"] - usual["bias"] == pytest.approx(june.mean() - 7)


def test_the_hold_out_is_refused(half_year) -> None:
    late = half_year.assign(ts=half_year["ts"] + (pd.Timestamp("2012-08-01") - half_year["ts"].max()))
    with pytest.raises(SettingsError, match=r"found rows of 2012-08, expected rows before 2012-08"):
        tuning.evaluate(late, RIDGE)
    with pytest.raises(SettingsError, match=r"found --before 2012-09, expected 2012-08 or earlier"):
        tuning.check_before("2012-09")
    tuning.check_before("2012-08")


def test_draws_begin_with_the_default_and_repeat_with_their_seed() -> None:
    first, again, other = (list(tuning.draws(30, seed)) for seed in (1, 1, 2))
    assert first[0] == Recipe()
    assert first == again
    assert first != other
    assert len({repr(item) for item in first}) == 30


def test_draws_end_where_the_spaces_do(monkeypatch) -> None:
    small = tuning.Space("sklearn.linear_model.Ridge", {}, {"alpha": (1.0, 2.0)})
    monkeypatch.setattr(tuning, "SPACES", (small, small))
    # the default, and two values with each of two levels and two sets of features
    assert len(list(tuning.draws(100, 0))) == 9


@pytest.mark.parametrize("space", tuning.SPACES, ids=lambda space: space.estimator)
def test_every_declared_value_can_be_fitted(half_year, space) -> None:
    quick = {"max_iter": 2, "n_estimators": 2}
    few = {name: value for name, value in quick.items() if name in {*space.fixed, *space.options}}
    for name, values in space.options.items():
        for value in values:
            drawn = {other: options[0] for other, options in space.options.items()} | space.fixed
            parameters = drawn | few | ({name: value} if name not in quick else {})
            fit_estimator(unfitted(Recipe(space.estimator, parameters), FEATURE_NAMES), half_year.head(200))


def test_each_group_is_left_out_and_stands_alone(half_year) -> None:
    found = tuning.ablations()
    assert list(found) == [
        "default",
        "without calendar",
        "without weather",
        "without weather change",
        "without level",
        "without trends",
        "with lags",
        *(f"{group} alone" for group in tuning.GROUPS),
    ]
    read = {name: unfitted(recipe, FEATURE_NAMES).features for name, recipe in found.items()}
    assert set(read["default"]) - set(read["without trends"]) == {"demand_trend_1d", "demand_trend_7d"}
    assert set(read["with lags"]) == set(FEATURE_NAMES)
    assert read["lags alone"] == ("demand_lag_24h", "demand_lag_168h")
    # the target is relative to the level only where the level is read, and something else
    assert {name for name, recipe in found.items() if not recipe.level} == {
        "without level",
        *(f"{group} alone" for group in tuning.GROUPS),
    }
    for recipe in found.values():
        quick = replace(recipe, parameters={**recipe.parameters, "max_iter": 2})
        fit_estimator(unfitted(quick, FEATURE_NAMES), half_year.head(200))


def test_a_recipe_is_described_by_what_is_not_as_by_default() -> None:
    usual = dict(Recipe().parameters)
    assert tuning.described(Recipe()) == "default"
    assert tuning.described(Recipe(parameters=usual | {"max_iter": 7}, without=())) == "max_iter=7, all features"
    assert tuning.described(Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0}, level="")) == (
        "Ridge, alpha=1.0, demand itself"
    )
    without = {name: value for name, value in usual.items() if name != "max_features"}
    assert tuning.described(Recipe(parameters=without)) == "max_features left to the estimator"


def test_a_judgement_is_told_as_figures_and_series() -> None:
    month = {"rows": 2.0, "r2": 0.5, "rmse": 3.0, "mae": 2.0, "bias": 1.0}
    better = month | {"rmse": 2.0}
    one = tuning.Evaluation({"2012-01": month, "2012-02": month}, month | {"r2": 0.7}, {"2012-01": month | {"r2": 0.9}})
    other = tuning.Evaluation({"2012-01": better, "2012-02": month}, better, {"2012-01": month})
    assert one.r2 == pytest.approx(0.8)
    assert one.metrics() == pytest.approx(
        {
            "r2": 0.8,
            "walk_forward_r2": 0.7,
            "walk_forward_rmse": 3.0,
            "walk_forward_mae": 2.0,
            "walk_forward_bias": 1.0,
            "cuts_r2": 0.9,
            "cuts_rmse": 3.0,
        }
    )
    assert one.series()["month_r2"] == {201201: 0.5, 201202: 0.5}
    assert one.series()["cut_r2"] == {201201: 0.9}
    steps = [list(series) for series in one.series().values()]
    assert all(early < late for series in steps for early, late in pairwise(series))
    assert tuning.better_months(other, one) == 1
    assert tuning.better_months(one, one) == 0
