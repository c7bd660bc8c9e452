"""Checks of the bikes: what passes, what fails, and by which name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor

from bikes_assets.core.checks import Subject, failure, run_checks
from bikes_assets.core.code_version import code_version
from bikes_assets.demand import checks, column_lineage
from bikes_assets.demand.champion import predictions
from bikes_assets.demand.column_lineage import features_of_rentals
from bikes_assets.demand.drift import month_drift
from bikes_assets.demand.evaluation import quality, quality_scores, scores
from bikes_assets.demand.features import FEATURE_NAMES, demand_features
from bikes_assets.demand.model import Model, Recipe, fit
from bikes_assets.events.metadata import of_evidence

RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})
BY_EXPERIMENT = [check for check in checks.OF_FEATURES if check.name in ("no_leak_in_time", "column_lineage_holds")]


def hours(*texts: str) -> Subject:
    return Subject(
        "hourly_rentals",
        "2011-06",
        pd.DataFrame({"ts": pd.Series([pd.Timestamp(text) for text in texts], dtype="datetime64[us]")}),
    )


def always(
    value: float, rmse: float = 10.0, baseline: Model | None = None, decision: str = "", months: int = 3
) -> Model:
    """Return a model that says the same for every hour, fitted on so many months up to 2011-04."""
    said = DummyRegressor(strategy="constant", constant=value).fit([[0]], [value])
    metrics, known = {"rmse": rmse}, ("2011-01", "2011-02", "2011-03", "2011-04")[-months:]
    return Model("always", said, ("x",), known, "2011-05", metrics=metrics, baseline=baseline, decision=decision)


# Hours


def test_whole_hours_in_order_pass_with_gaps() -> None:
    verdict = checks.hour_sequence(hours("2011-06-01T00", "2011-06-01T01", "2011-06-30T23"))
    assert verdict.passed
    assert verdict.found == "3 hours in order"
    assert checks.hour_sequence(hours()).passed


@pytest.mark.parametrize(
    ("times", "found"),
    [
        (["2011-06-01T00", "2011-06-01T01:30"], "2011-06-01 01:30:00, which is not a whole hour, and 0 more like it"),
        (["2011-05-31T23", "2011-06-01T00"], "2011-05-31 23:00:00, which is not of 2011-06, and 0 more like it"),
        (["2010-06-01T00", "2012-06-01T00"], "2010-06-01 00:00:00, which is not of 2011-06, and 1 more like it"),
        (
            ["2011-06-01T01", "2011-06-01T00"],
            "2011-06-01 00:00:00, which is not after the hour before, and 0 more like it",
        ),
        (
            ["2011-06-01T01", "2011-06-01T01"],
            "2011-06-01 01:00:00, which is not after the hour before, and 0 more like it",
        ),
    ],
    ids=["minutes", "month before", "other years", "order", "twice"],
)
def test_hours_that_are_not_as_they_should_be_fail(times: list[str], found: str) -> None:
    verdict = checks.hour_sequence(hours(*times))
    assert not verdict.passed
    assert verdict.found == found


@pytest.mark.parametrize(
    ("absent", "passed", "told"),
    [
        (0, True, "all 720 hours"),
        (21, True, "21 of 720 hours absent (2.9%), at most 21 in a row"),
        (72, True, "72 of 720 hours absent (10.0%), at most 72 in a row"),
        (73, False, "73 of 720 hours absent (10.1%), at most 73 in a row"),
        (720, False, "720 of 720 hours absent (100.0%), at most 720 in a row"),
    ],
)
def test_three_days_of_a_month_may_be_absent(absent: int, passed: bool, told: str) -> None:
    # Given June, which has 720 hours
    june = pd.DataFrame({"ts": pd.date_range("2011-06-01", periods=720, freq="h")})
    verdict = checks.absent_hours(Subject("hourly_rentals", "2011-06", june.iloc[absent:]))
    assert verdict.passed is passed
    assert verdict.found == told
    assert verdict.metrics["longest gap"] == absent


def test_the_longest_gap_is_told_wherever_it_is() -> None:
    june = pd.DataFrame({"ts": pd.date_range("2011-06-01", periods=720, freq="h")})
    for kept in (june[5:], june[:-5], june.drop(range(100, 105))):
        kept = kept[kept["ts"].dt.hour != 12]  # and one hour of each day
        assert checks.absent_hours(Subject("hourly_rentals", "2011-06", kept)).metrics["longest gap"] == 5


def test_no_shipped_month_lacks_more_than_the_source_may(rentals: pd.DataFrame) -> None:
    months = rentals.groupby(rentals["ts"].dt.strftime("%Y-%m"))
    found = {month: checks.absent_hours(Subject("hourly_rentals", month, rows)) for month, rows in months}
    assert all(verdict.passed for verdict in found.values())
    assert found["2012-10"].found == "36 of 744 hours absent (4.8%), at most 36 in a row"


def test_features_have_a_row_for_each_hour_of_rentals(half_year: pd.DataFrame, rentals: pd.DataFrame) -> None:
    june = half_year[half_year["ts"].dt.strftime("%Y-%m") == "2011-06"]
    both = rentals[rentals["ts"].dt.strftime("%Y-%m").isin(["2011-05", "2011-06"])]
    subject = Subject("demand_features", "2011-06", june, inputs={"hourly_rentals": both})
    assert checks.every_hour(subject).found == "720 hours, as many as rentals have"
    lost = checks.every_hour(replace(subject, value=june.drop(june.index[[7, 9]])))
    assert not lost.passed
    assert lost.found == "2 of 720 hours of rentals have no row, the first 2011-06-01 07:00:00"


# Column lineage

EVIDENCE: dict[str, Any] = {
    "rows": 900, "trials": 150, "seed": 0, "time": 1_700_000_000.0, "holds": True, "findings": [], "blocked": [],
    "edges": [{"output": "lag", "input": "cnt", "state": "observed", "trials": 9, "checks": ["time"], "observed": None}],
    "unchecked": [], "signals": [],
}  # fmt: skip
"""As older records have it: blocked tables are not counted, and nothing tells what was not tried."""


def shown(**more: Any) -> Subject:
    version = code_version("bikes_assets.demand.column_lineage", "features_evidence")
    rows = pd.DataFrame({"ts": range(9)})
    evidence = {**EVIDENCE, "code_version": version, **more}
    return Subject("demand_features", "2011-06", rows, inputs={"hourly_rentals": rows}, evidence=evidence)


def test_evidence_of_older_records_is_still_read() -> None:
    verdict = checks.column_lineage_holds(shown())
    assert verdict.passed
    assert verdict.found == (
        "every feature moved with its own columns alone, on 900 rows in 150 perturbed tables, 2023-11-14 22:13 UTC"
    )
    assert verdict.metrics == {"rows": 900, "trials": 150, "blocked": 0, "findings": 0}
    assert of_evidence(EVIDENCE).md_str.splitlines()[-1] == "| lag | cnt | observed |  | 9 |  |"


@pytest.mark.parametrize(("blocked", "passed"), [(3, False), (0, True)], ids=["the code fails", "too few rows"])
def test_what_code_lets_nobody_try_fails_and_what_few_rows_do_not_show_is_told(blocked: int, passed: bool) -> None:
    untried = [
        {"check": check, "output": "lag", "column": "", "message": f"lag was not tried, {check}"}
        for check in ("time", "undeclared influence")
    ]
    subject = shown(unverified=untried, blocked_trials=blocked)
    leaks, lineage = checks.no_leak_in_time(subject), checks.column_lineage_holds(subject)

    assert (leaks.passed, lineage.passed) == (passed, passed)
    if passed:
        assert "; nothing to perturb in these rows for 1 more, on 900 rows" in leaks.found
    else:
        assert leaks.found.startswith("lag was not tried, time, on")
        assert lineage.found.startswith("lag was not tried, undeclared influence, on")


@pytest.mark.slow
def test_a_column_that_is_blank_throughout_is_tried_once_and_is_no_error(
    rentals: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a month whose source has no weather
    blank = rentals[rentals["ts"] < "2011-02"].assign(weathersit=pd.array([None] * 688, dtype="Int64"))
    tables = list[int]()

    def counted(some: pd.DataFrame) -> Any:
        tables.append(len(some))
        return features_of_rentals(some)

    monkeypatch.setattr(column_lineage, "features_of_rentals", counted)
    subject = Subject("demand_features", "2011-01", blank, inputs={"hourly_rentals": blank})
    # When
    leaks, lineage = (verdict for _, verdict in run_checks(BY_EXPERIMENT, subject))
    # Then as many tables are tried as of rentals with weather, once for both checks
    assert 20 < len(tables) <= 30
    assert leaks.passed
    assert "nothing to perturb" not in leaks.found
    assert lineage.passed
    assert "; nothing to perturb in these rows for 2 more, on 688 rows" in lineage.found
    assert [(item["output"], item["column"], item["failed"]) for item in lineage.evidence["unverified"]] == [
        ("weather_kind", "weathersit", False),
        ("wet_hours_3h", "weathersit", False),
    ]
    # And a later month without weather shows no more, while one with weather does
    checks.column_lineage_holds(replace(subject, partition="2011-02", evidence=lineage.evidence))
    assert len(tables) <= 30
    known = Subject("demand_features", "2011-02", blank, inputs={"hourly_rentals": blank.assign(weathersit=1)})
    assert {
        edge["state"]
        for edge in checks.column_lineage_holds(replace(known, evidence=lineage.evidence)).evidence["edges"]
    } == {"observed"}


# Models


@pytest.mark.parametrize(
    ("rmse", "passed", "found"), [(40.0, True, 0.2), (44.9, True, 0.102), (45.1, False, 0.098), (60.0, False, -0.2)]
)
def test_a_model_is_to_be_a_tenth_better_than_its_baseline(rmse: float, passed: bool, found: float) -> None:
    verdict = checks.model_skill(Subject("demand_model", "2011-06", always(1, rmse, baseline=always(2, 50.0))))
    assert verdict.passed is passed
    assert verdict.metrics["skill"] == pytest.approx(found)
    assert verdict.found.endswith(f"on 2011-05: RMSE {rmse:.2f}, that of the baseline is 50.00 rentals/hour")


@pytest.mark.parametrize(("months", "passed"), [(1, True), (2, True), (3, False), (4, False)])
def test_a_baseline_has_no_skill_which_is_judged_once_there_is_history_to_learn_from(months: int, passed: bool) -> None:
    baseline = always(1, 50.0, months=months)
    champion = {"champion_model": baseline}
    for verdict in (
        checks.model_skill(Subject("demand_model", "2011-06", baseline)),
        checks.quality_skill(replace(scored(rmse=50.0, baseline_rmse=50.0), inputs=champion)),
    ):
        assert verdict.passed is passed
        assert verdict.metrics["skill"] == 0.0
        assert verdict.found.startswith(
            f"not evaluated with {months} of 3 months to learn from: skill 0.00 on " if passed else "skill "
        )


JUNE = pd.DataFrame({"cnt": pd.array([10, 20, 30, 40], dtype="Int64"), "x": [1, 2, 3, 4]})


def champion(model: Model, newest: Model) -> Subject:
    inputs = {"demand_model": {"2011-06": always(0), "2011-07": newest}, "demand_features": JUNE}
    return Subject("champion_model", "2011-07", model, scores(JUNE["cnt"], model.predict(JUNE)), inputs)


def test_a_champion_is_as_good_as_the_newest_baseline() -> None:
    newest = always(99, baseline=always(30))
    assert checks.minimum_skill(champion(always(26), newest)).passed
    assert checks.minimum_skill(champion(newest.baseline, newest)).passed
    worse = checks.minimum_skill(champion(always(31), newest))
    assert not worse.passed
    assert worse.found == "RMSE 12.69, that of the baseline is 12.25 rentals/hour"
    assert worse.waived == ""


def test_a_candidate_that_is_a_baseline_is_its_own() -> None:
    assert not checks.minimum_skill(champion(always(31), always(30))).passed
    assert checks.minimum_skill(champion(always(24), always(30))).passed


def test_a_pinned_champion_that_is_worse_is_only_warned_about() -> None:
    pinned = always(99, decision="the new docks open (ann)")
    subject = champion(pinned, always(99, baseline=always(30)))
    found = run_checks(checks.OF_CHAMPION, subject)
    assert [(check.blocking, verdict.passed, verdict.waived) for check, verdict in found] == [
        (True, False, "pinned: the new docks open (ann)")
    ]
    assert failure(found, subject) is None
    unpinned = champion(replace(pinned, decision=""), always(99, baseline=always(30)))
    assert failure(run_checks(checks.OF_CHAMPION, unpinned), unpinned) is not None


def test_a_champion_without_a_number_is_stopped() -> None:
    broken = always(0)
    broken.estimator.constant_ = np.array([[np.nan]])
    subject = champion(broken, always(30))
    assert failure(run_checks(checks.OF_CHAMPION, subject), subject) is not None


# Predictions


def predicted(
    prediction: list[float], baseline: float = 50.0, lags: tuple[float | None, ...] = (100.0, None)
) -> Subject:
    value = pd.DataFrame({"prediction": prediction, "baseline": baseline})
    features = pd.DataFrame(
        {"demand_lag_24h": pd.array(lags, "Int64"), "demand_lag_168h": pd.array([90, None], "Int64")}
    )
    return Subject("demand_predictions", "2011-06", value, inputs={"demand_features": features})


@pytest.mark.parametrize(
    ("subject", "passed", "found"),
    [
        (predicted([10.0, 200.0]), True, "10 to 200 rentals/hour, where the highest known demand is 100"),
        (predicted([10.0, 201.0]), False, "10 to 201 rentals/hour, where the highest known demand is 100"),
        (
            predicted([10.0, 10.0], baseline=500.0),
            False,
            "10 to 500 rentals/hour, where the highest known demand is 100",
        ),
        (predicted([10.0, float("nan")]), False, "1 predictions that are no finite number"),
        (predicted([float("inf"), float("nan")]), False, "2 predictions that are no finite number"),
        (predicted([]), True, "no hour"),
    ],
    ids=["twice", "more than twice", "baseline", "NaN", "infinite", "none"],
)
def test_predictions_are_finite_and_near_what_is_known(subject: Subject, passed: bool, found: str) -> None:
    verdict = checks.plausible(subject)
    assert (verdict.passed, verdict.found) == (passed, found)


def test_without_a_lag_predictions_are_held_against_nothing() -> None:
    subject = predicted([9999.0])
    features = subject.inputs["demand_features"].iloc[1:]
    verdict = checks.plausible(replace(subject, inputs={"demand_features": features}))
    assert verdict.passed
    assert verdict.found == "50 to 9999 rentals/hour, and no lag to compare with"


# Quality


def scored(**metrics: float) -> Subject:
    return Subject("prediction_quality", "2011-06", None, metrics=metrics, inputs={"champion_model": always(1)})


def test_predictions_are_to_be_a_tenth_better_than_their_baseline() -> None:
    assert checks.quality_skill(scored(rmse=44.9, baseline_rmse=50.0)).passed
    assert not checks.quality_skill(scored(rmse=46.0, baseline_rmse=50.0)).passed
    assert checks.quality_skill(scored()).passed  # a month without rows


@pytest.fixture(scope="module")
def april(rentals: pd.DataFrame) -> Subject:
    """Return the quality of 2012-04, with DEMAND_FEATURES of 2011-04 to 2012-04 and a model for the month."""
    months = [f"2011-{month:02}" for month in range(3, 13)] + [f"2012-0{month}" for month in range(1, 5)]
    known = rentals[rentals["ts"] < "2012-05-01"]
    features = pd.concat([demand_features(known, month) for month in months], ignore_index=True)
    model = fit(features[features["ts"] < "2012-04-01"], "2012-04", FEATURE_NAMES, RIDGE, min_training_months=3)
    return quality_of(features, model)


def quality_of(features: pd.DataFrame, model: Model) -> Subject:
    rows = features[features["ts"] >= "2012-04-01"]
    errors = quality(predictions(model, rows), rows, features)
    metrics = {**quality_scores(errors), **month_drift(model, features, errors["error"], "2012-04").metrics}
    inputs = {"champion_model": model, "demand_features": features}
    return Subject("prediction_quality", "2012-04", errors, metrics, inputs)


def test_drift_is_named_with_its_figures(april: Subject) -> None:
    # Given the month after the warmest March, whose demand had risen at other times than the year before
    verdict = checks.no_drift(april)
    assert not verdict.passed
    assert "demand_trend_7d (index 3.08, distance 0.57)" in verdict.found
    assert verdict.found.endswith("features compared with 2011-04, 2011-05, 2012-03")
    assert verdict.metrics["psi_demand_trend_7d"] == april.metrics["psi_demand_trend_7d"]


def test_a_feed_that_broke_is_named(april: Subject) -> None:
    features = april.inputs["demand_features"]
    broken = features.assign(humidity=features["humidity"].mask(features["ts"] >= "2012-04-01", 0.0))
    assert "humidity" in checks.no_drift(quality_of(broken, april.inputs["champion_model"])).found
    assert "humidity" not in checks.no_drift(april).found


def test_without_the_season_before_drift_is_told_and_not_judged(april: Subject) -> None:
    features = april.inputs["demand_features"]
    first_year = features[features["ts"] >= "2012-01-01"].reset_index(drop=True)
    subject = quality_of(first_year, april.inputs["champion_model"])
    verdict = checks.no_drift(replace(subject, metrics={**subject.metrics, "psi_error": 0.4}))
    assert verdict.passed
    assert verdict.found.startswith("not evaluated before a year of history: error (index 0.40, distance ")
    assert verdict.found.endswith(", features compared with 2012-03")


def test_a_sound_month_passes_all_that_blocks(april: Subject) -> None:
    found = run_checks(checks.OF_QUALITY, april)
    assert {check.name: verdict.passed for check, verdict in found if check.blocking} == {
        "schema": True,
        "ranges": True,
    }
    assert [check.name for check, _ in found] == ["schema", "ranges", "skill", "drift"]


# Which checks there are


def test_the_checks_of_each_asset_and_what_blocks() -> None:
    tables = {"schema": True, "ranges": True}
    hours_of = {"hour_sequence": True, "absent_hours": False}
    assert {
        name: {check.name: check.blocking for check in getattr(checks, name)}
        for name in dir(checks)
        if name[:3] == "OF_"
    } == {
        "OF_RENTALS": tables | hours_of,
        "OF_FEATURES": tables | hours_of | {"no_leak_in_time": True, "column_lineage_holds": True},
        "OF_MODEL": {"skill": False},
        "OF_CHAMPION": {"minimum_skill": True},
        "OF_PREDICTIONS": tables | {"plausible": True},
        "OF_QUALITY": tables | {"skill": False, "drift": False},
    }


def test_the_code_is_not_tried_on_a_month_of_next_to_nothing(half_year: pd.DataFrame, rentals: pd.DataFrame) -> None:
    """As where the first month has no row, or one: there is nothing to perturb."""
    for count in (0, 1):
        inputs = {"hourly_rentals": rentals.iloc[:count]}
        for check in (checks.no_leak_in_time, checks.column_lineage_holds):
            verdict = check(Subject("demand_features", "2011-01", half_year.iloc[:count], inputs=inputs))
            assert (verdict.passed, verdict.found) == (True, "too few hours to try anything on")
