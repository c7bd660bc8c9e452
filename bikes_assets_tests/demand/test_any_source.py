"""Any source that the rules allow goes all the way: features, model, champion, predictions, quality, drift, checks, plots.

What a month cannot have is skipped with a reason (`NothingToDo`); no other exception comes, and every metric is a finite number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bikes_assets.core.checks import Check, Subject, run_checks, stops
from bikes_assets.core.digest import object_digest
from bikes_assets.core.errors import NothingToDo
from bikes_assets.demand import champion, checks, drift, evaluation, features, model, plots, source
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import Model, Recipe
from bikes_assets_tests.fire.processes import SOAK
from bikes_assets_tests.sources import WEATHER, generated

COUNTS = ("casual", "registered", "cnt")
OF_CODE = ("no_leak_in_time", "column_lineage_holds")
"""Checks of the features' code, which cost seconds and look at no value."""

QUICK = replace(Recipe(), parameters={**Recipe().parameters, "max_iter": 2})

Rows = pd.DataFrame
"""Rows of the source, as text."""


def text(start: str, end: str) -> Rows:
    return generated(start, end).astype(str)


def month_of(rows: Rows) -> pd.Series:
    return rows["dteday"].str[:7]


def walk(rows: Rows, *, recipe: Recipe = QUICK, min_training_months: int = 1) -> dict[str, str]:
    """Do all that the assets do with a source, month by month; return what was skipped, and why."""
    records = source.parse(rows.astype("string[pyarrow]"), lambda position: ("hour.csv", position + 2))
    known = source.months_in(records)
    months = [str(month) for month in pd.period_range(known[0], known[-1], freq="M")]
    skipped: dict[str, str] = {}
    rentals: dict[str, pd.DataFrame] = {}
    featured: dict[str, pd.DataFrame] = {}
    models: dict[str, Model] = {}
    for month in months:
        rentals[month] = source.hourly_rentals(source.month_of(records, month))
        draw(plots.demand_over_time(rentals[month]))
        checked(checks.OF_RENTALS, Subject("hourly_rentals", month, rentals[month]))
        before = [rentals[key] for key in months[: months.index(month) + 1][-2:]]
        rented = pd.concat(before, ignore_index=True)
        featured[month] = features.demand_features(rented, month)
        checked(checks.OF_FEATURES, Subject("demand_features", month, featured[month], {}, {"hourly_rentals": rented}))
    for month in months:
        place = months.index(month)
        year = pd.concat([featured[key] for key in months[: place + 1][-13:]], ignore_index=True)
        earlier = pd.concat([featured[key] for key in months[:place] or months[:1]], ignore_index=True)
        try:
            models[month] = fitted(earlier if place else earlier.iloc[:0], month, recipe, min_training_months)
        except NothingToDo as reason:
            skipped[f"demand_model[{month}]"] = str(reason)
        try:
            candidates = {key: models[key] for key in months[: place + 1][-3:] if key in models}
            validation = featured[months[place - 1]] if place else featured[month].iloc[:0]
            serve(month, candidates, validation, featured[month], rentals[month], year)
        except NothingToDo as reason:
            skipped[f"champion_model[{month}]"] = str(reason)
    return skipped


def fitted(earlier: pd.DataFrame, month: str, recipe: Recipe, min_training_months: int) -> Model:
    """Fit the model of a month, look at it, and store and load it."""
    made = model.fit(earlier, month, FEATURE_NAMES, recipe, min_training_months=min_training_months)
    finite(made.metrics)
    draw(plots.importance(made, earlier))
    assert set(model.unused(made)) <= set(made.features)
    checked(checks.OF_MODEL, Subject("demand_model", month, made, made.metrics))
    loaded = model.load(model.dump(made), model.card(made))
    assert object_digest(model.state(loaded)) == object_digest(model.state(made))
    return replace(loaded, origin=f"demand_model[{month}]@1")


def serve(
    month: str,
    candidates: Mapping[str, Model],
    validation: pd.DataFrame,
    now: pd.DataFrame,
    rentals: pd.DataFrame,
    year: pd.DataFrame,
) -> None:
    """Choose the champion of a month, predict by it, and say how good that was."""
    choice = champion.choose(candidates, None, validation, month)
    finite(choice.metrics)
    finite(choice.rmse)
    draw(plots.candidates(choice))
    inputs = {"demand_model": candidates, "demand_features": validation}
    checked(checks.OF_CHAMPION, Subject("champion_model", month, choice.model, choice.metrics, inputs))
    predicted = champion.predictions(choice.model, now)
    checked(checks.OF_PREDICTIONS, Subject("demand_predictions", month, predicted, {}, {"demand_features": now}))
    errors = evaluation.quality(predicted, rentals, now)
    assert len(errors) == len(rentals)
    drifted = drift.month_drift(choice.model, year, errors["error"], month)
    metrics = {**evaluation.quality_scores(errors), **drifted.metrics}
    finite(metrics)
    for series in evaluation.quality_series(errors).values():
        finite(series)
    for plot in plots.of_quality(errors, drifted).values():
        draw(plot)
    inputs = {"demand_features": year, "champion_model": choice.model}
    checked(checks.OF_QUALITY, Subject("prediction_quality", month, errors, metrics, inputs))


def checked(of: tuple[Check, ...], subject: Subject) -> None:
    """Have checks look at something: each says something with finite numbers, and no blocking one fails."""
    for check, verdict in run_checks([check for check in of if check.name not in OF_CODE], subject):
        assert verdict.found
        finite(verdict.metrics)
        # what was fitted on next to nothing may predict next to anything: that is for these two to say
        assert not stops(check, verdict) or check.name in ("plausible", "minimum_skill"), verdict.found


def finite(numbers: Mapping[Any, float]) -> None:
    assert not {name: number for name, number in numbers.items() if not math.isfinite(number)}


def draw(plot: Any) -> None:
    svg = plot.svg()
    assert svg.startswith("<svg")
    assert "nan" not in svg
    assert "inf" not in svg


# --- what is done to a plausible source


def blank(rows: Rows, months: list[str]) -> Rows:
    return rows.assign(weathersit=rows["weathersit"].mask(month_of(rows).isin(months), ""))


def unrented(rows: Rows, months: list[str]) -> Rows:
    return rows.assign(**{name: rows[name].mask(month_of(rows).isin(months), "0") for name in COUNTS})


def absent(rows: Rows, months: list[str]) -> Rows:
    return rows[~month_of(rows).isin(months)]


def one_row(rows: Rows, months: list[str]) -> Rows:
    return rows[~month_of(rows).isin(months) | ~month_of(rows).duplicated()]


def constant(rows: Rows, column: str, value: str) -> Rows:
    return rows.assign(**{column: value})


START, MONTHS = "2011-10-01", ("2011-10", "2011-11", "2011-12", "2012-01", "2012-02")
NEWEST = MONTHS[-1]
ALL = [*MONTHS]

CASES: dict[str, Callable[[Rows], Rows]] = {
    "blank weather throughout": lambda rows: blank(rows, ALL),
    "blank weather at first": lambda rows: blank(rows, ALL[:3]),
    "blank weather in the newest": lambda rows: blank(rows, [NEWEST]),
    "blank weather here and there": lambda rows: blank(rows, ALL[1::2]),
    "one row in the newest": lambda rows: one_row(rows, [NEWEST]),
    "one row in the first": lambda rows: one_row(rows, ALL[:1]),
    "one row in each": lambda rows: one_row(rows, ALL),
    "nothing rented in one": lambda rows: unrented(rows, ALL[2:3]),
    "nothing rented in the first": lambda rows: unrented(rows, ALL[:2]),
    "nothing rented ever": lambda rows: unrented(rows, ALL),
    "one month absent": lambda rows: absent(rows, ALL[3:4]),
    "two months absent": lambda rows: absent(rows, ALL[2:4]),
    "three months": lambda rows: absent(rows, ALL[3:]),
    "one month": lambda rows: absent(rows, ALL[1:]),
    "one row": lambda rows: rows.iloc[:1],
    "mondays alone": lambda rows: rows[rows["weekday"] == "1"],
    "one hour a day": lambda rows: rows[rows["hr"] == "3"],
    "two days a month": lambda rows: rows[rows["dteday"].str[8:] < "03"],
    "all weather at its least": lambda rows: rows.assign(**dict.fromkeys(WEATHER, "0"), weathersit="1"),
    "all weather at its most": lambda rows: rows.assign(**dict.fromkeys(WEATHER, "1"), weathersit="4"),
    "demand that is always the same": lambda rows: rows.assign(casual="1", registered="0", cnt="1"),
    "demand without end": lambda rows: rows.assign(casual="1000000", registered="0", cnt="1000000"),
}


ORDINARY = (
    "blank weather throughout",
    "blank weather at first",
    "one row in each",
    "nothing rented ever",
    "one month absent",
)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES if SOAK else ORDINARY)
def test_an_allowed_source_goes_all_the_way(case: str) -> None:
    rows = CASES[case](text(START, "2012-03-01"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        skipped = walk(rows)
    first = {f"demand_model[{MONTHS[0]}]", f"champion_model[{MONTHS[0]}]", f"demand_model[{MONTHS[1]}]"}
    first |= {f"champion_model[{MONTHS[1]}]"}
    if len(set(month_of(rows))) == len(MONTHS):  # every month from the third on has its model and its champion
        assert set(skipped) == first


@st.composite
def allowed(draw: Any) -> Rows:
    """Rows of four months, some of them changed in some ways that the rules allow."""
    rows = text(START, "2012-02-01")
    months = ALL[:4]
    some = st.lists(st.sampled_from(months), max_size=4, unique=True)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = blank(rows, draw(some))
    rows = unrented(rows, draw(some))
    rows = one_row(rows, draw(st.lists(st.sampled_from(months), max_size=2, unique=True)))
    for column in draw(st.lists(st.sampled_from(WEATHER), max_size=2, unique=True)):
        rows = constant(rows, column, draw(st.sampled_from(["0", "0.5", "1"])))
    if draw(st.booleans()):  # weather that is missing in some hours
        rows = rows.assign(weathersit=rows["weathersit"].mask(rng.random(len(rows)) < draw(st.floats(0, 1)), ""))
    if draw(st.booleans()):  # hours and whole days without a row
        days = rows["dteday"].isin(rng.permutation(rows["dteday"].unique())[: draw(st.integers(0, 100))])
        rows = rows[~(days | (rng.random(len(rows)) < draw(st.floats(0, 0.9))))]
    if draw(st.booleans()) and len(rows):
        rows = rows[rows["hr"].isin(draw(st.lists(st.sampled_from([str(hour) for hour in range(24)]), min_size=1)))]
    rows = absent(rows, draw(st.lists(st.sampled_from(months), max_size=1)))
    return rows.sample(frac=1, random_state=1) if len(rows) else text(START, "2011-10-02")


@pytest.mark.soak
@settings(
    max_examples=60 if SOAK else 2,
    deadline=None,
    derandomize=not SOAK,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=allowed())
def test_any_allowed_source_goes_all_the_way(rows: Rows) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        walk(rows)


# --- what becomes of a feature without any value


def of_months(rows: Rows) -> pd.DataFrame:
    records = source.parse(rows.astype("string[pyarrow]"), lambda position: ("hour.csv", position + 2))
    rentals = source.hourly_rentals(records)
    return pd.concat(
        [features.demand_features(rentals, month) for month in source.months_in(records)], ignore_index=True
    )


def test_a_feature_without_any_value_is_read_and_used_by_nothing() -> None:
    # Given weather that is blank in all months that are fitted, and known in the one that is predicted
    rows = text(START, "2012-02-01")
    known = of_months(blank(rows, ALL[:2]))
    everything = {**Recipe().parameters, "max_iter": 5, "max_features": 1.0}
    recipe = replace(Recipe(), parameters=everything)
    # When it is fitted with and without the feature
    made = model.fit(known, "2012-01", FEATURE_NAMES, recipe, min_training_months=1)
    left_out = replace(recipe, without=[*recipe.without, "weather_kind"])
    without = model.fit(known, "2012-01", FEATURE_NAMES, left_out, min_training_months=1)
    # Then it stands among those that the model reads, so that the model is stale when it gets values, and moves nothing
    assert "weather_kind" in made.features
    assert "weather_kind" in model.unused(made)
    assert known[known["ts"] >= "2011-12"]["weather_kind"].notna().any()
    assert (made.predict(known) == without.predict(known)).all()
    assert (made.predict(known) == made.predict(known.assign(weather_kind=4))).all()


def test_without_any_level_demand_itself_is_fitted_and_predicted() -> None:
    # Given a month of two hours to fit on, before which no demand is known, and months of which it is
    rows = text(START, "2012-01-01")
    known = of_months(rows[(month_of(rows) != MONTHS[0]) | (rows["dteday"] == START) & rows["hr"].isin(["0", "1"])])
    assert known[known["ts"] < "2011-11"]["demand_level_7d"].isna().all()
    assert known[known["ts"] >= "2011-12"]["demand_level_7d"].notna().all()
    # When
    made = model.fit(known, "2011-12", FEATURE_NAMES, QUICK, min_training_months=1)
    # Then it predicts the mean of the two hours, and no multiple of later levels
    later = known[known["ts"] >= "2011-12"]
    assert made.name == "HistGradientBoostingRegressor"
    assert made.predict(later) == pytest.approx(known[known["ts"] < "2011-11"]["cnt"].mean())
