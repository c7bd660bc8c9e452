"""How good predictions are: figures by hand, and against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from bikes_assets.demand.evaluation import quality, quality_scores, quality_series, rmse_by, scores, skill
from bikes_assets.demand.tables import PREDICTION_QUALITY

JUNE = pd.DataFrame(
    {
        "ts": pd.date_range("2011-06-01", periods=4, freq="h", unit="us"),
        "cnt": pd.array([10, 20, 30, 40], dtype="Int64"),
        "weather_kind": pd.array([1, 1, None, 3], dtype="Int64"),
    }
)


def saying(value: float, hours: pd.DataFrame, baseline: float = 20.0) -> pd.DataFrame:
    """Return predictions that say the same for every hour."""
    said = {"prediction": [value] * len(hours), "baseline": [baseline] * len(hours)}
    return pd.DataFrame({"ts": hours["ts"], **said}, index=hours.index)


# Scores


def test_scores_by_hand() -> None:
    assert scores([10, 20, 30, 40], [12, 18, 33, 40]) == {
        "rows": 4.0,
        "r2": pytest.approx(1 - 17 / 500),
        "rmse": pytest.approx((17 / 4) ** 0.5),
        "mae": pytest.approx(7 / 4),
        "bias": pytest.approx(3 / 4),
    }


def test_scores_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    actual, predicted = random.poisson(200, 500), random.normal(190, 30, 500)
    found = scores(pd.Series(actual, dtype="Int64"), predicted)
    assert found["r2"] == pytest.approx(r2_score(actual, predicted))
    assert found["rmse"] == pytest.approx(mean_squared_error(actual, predicted) ** 0.5)
    assert found["mae"] == pytest.approx(mean_absolute_error(actual, predicted))
    assert found["bias"] == pytest.approx(predicted.mean() - actual.mean())
    assert found["rows"] == 500.0


def test_a_perfect_prediction() -> None:
    assert scores([1, 2], [1, 2]) == {"rows": 2.0, "r2": 1.0, "rmse": 0.0, "mae": 0.0, "bias": 0.0}


def test_actuals_that_do_not_vary_have_no_variance_to_explain() -> None:
    found = scores([5, 5, 5], [5, 6, 7])
    assert found["r2"] == 0.0
    assert found["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert scores([5], [5])["r2"] == 0.0


def test_the_bias_of_a_prediction_that_is_too_low_is_negative() -> None:
    assert scores([10, 10], [4, 8])["bias"] == -4.0


# Skill


@pytest.mark.parametrize(
    ("rmse", "baseline_rmse", "expected"), [(0.0, 50.0, 1.0), (50.0, 50.0, 0.0), (20.0, 50.0, 0.6), (75.0, 50.0, -0.5)]
)
def test_skill_is_the_share_of_the_baselines_error_that_is_avoided(
    rmse: float, baseline_rmse: float, expected: float
) -> None:
    assert skill(rmse, baseline_rmse) == pytest.approx(expected)


def test_beside_a_baseline_without_error_there_is_no_skill() -> None:
    assert skill(0.0, 0.0) == 0.0
    assert skill(3.0, 0.0) == 0.0


# Errors


def test_errors_are_what_was_said_minus_actual() -> None:
    frame = quality(saying(25.0, JUNE), JUNE, JUNE)
    assert frame["ts"].tolist() == JUNE["ts"].tolist()
    assert frame["actual"].tolist() == [10, 20, 30, 40]
    assert frame["prediction"].tolist() == [25.0] * 4
    assert frame["baseline"].tolist() == [20.0] * 4
    assert frame["error"].tolist() == [15.0, 5.0, -5.0, -15.0]
    assert frame["baseline_error"].tolist() == [10.0, 0.0, -10.0, -20.0]
    assert PREDICTION_QUALITY.conform(frame)["weather_kind"].to_pylist() == [1, 1, None, 3]


def test_the_scores_of_a_month_hold_its_baselines_error_and_its_skill() -> None:
    found = quality_scores(quality(saying(25.0, JUNE), JUNE, JUNE))
    by_hand = scores([10, 20, 30, 40], [25, 25, 25, 25])
    baseline_rmse = float(np.sqrt((100 + 0 + 100 + 400) / 4))
    assert found == by_hand | {
        "baseline_rmse": pytest.approx(baseline_rmse),
        "skill": pytest.approx(1 - by_hand["rmse"] / baseline_rmse),
    }


@pytest.mark.parametrize("integer", ["int64", "Int64"])
def test_errors_are_of_the_hours_that_all_have(integer: Any) -> None:
    rentals = JUNE.astype({"cnt": integer}).iloc[1:]
    frame = quality(saying(25.0, JUNE.iloc[:3]), rentals, JUNE)
    assert frame["actual"].tolist() == [20, 30]
    assert PREDICTION_QUALITY.conform(frame).schema == PREDICTION_QUALITY.arrow()


def test_the_weather_of_other_hours_does_not_matter() -> None:
    before = JUNE.assign(ts=JUNE["ts"] - pd.Timedelta(days=30))
    frame = quality(saying(25.0, JUNE), JUNE, pd.concat([before, JUNE], ignore_index=True))
    assert PREDICTION_QUALITY.conform(frame)["weather_kind"].to_pylist() == [1, 1, None, 3]


@pytest.mark.parametrize("empty", ["predictions", "rentals", "both", "common hours"])
def test_nothing_to_compare_has_no_scores(empty: str) -> None:
    predicted, rentals = saying(25.0, JUNE), JUNE
    predicted = predicted.iloc[:2] if empty == "common hours" else predicted
    predicted = predicted.iloc[:0] if empty in {"predictions", "both"} else predicted
    rentals = rentals.iloc[2:] if empty == "common hours" else rentals
    rentals = rentals.iloc[:0] if empty in {"rentals", "both"} else rentals
    frame = quality(predicted, rentals, JUNE)
    assert quality_scores(frame) == {}
    assert PREDICTION_QUALITY.conform(frame).num_rows == 0
    assert quality_series(frame) == {
        "rmse_by_hour": {},
        "baseline_rmse_by_hour": {},
        "rmse_by_weather": {},
        "baseline_rmse_by_weather": {},
    }


def test_an_hour_that_stands_twice_is_refused() -> None:
    twice = pd.concat([JUNE, JUNE.tail(1)])
    with pytest.raises(pd.errors.MergeError, match="not unique"):
        quality(saying(25.0, JUNE), twice, JUNE)
    with pytest.raises(pd.errors.MergeError, match="not unique"):
        quality(saying(25.0, JUNE), JUNE, twice)


# Errors by a whole number


def test_the_error_by_hour_and_by_weather_is_that_of_their_rows() -> None:
    # Given the hours 0 to 3 of one day, whose errors are 15, 5, -5, -15, and those of their baseline 10, 0, -10, -20
    series = quality_series(quality(saying(25.0, JUNE), JUNE, JUNE))
    assert series["rmse_by_hour"] == {0: 15.0, 1: 5.0, 2: 5.0, 3: 15.0}
    assert series["baseline_rmse_by_hour"] == {0: 10.0, 1: 0.0, 2: 10.0, 3: 20.0}
    assert series["rmse_by_weather"] == {1: pytest.approx(125**0.5), 3: 15.0}  # the hour without weather is of no kind
    assert series["baseline_rmse_by_weather"] == {1: pytest.approx(50**0.5), 3: 20.0}


def test_numbers_come_in_their_order_whatever_that_of_the_rows() -> None:
    found = rmse_by(pd.Series([3.0, -4.0, 1.0]), pd.Series([23, 0, 23]))
    assert list(found) == [0, 23]
    assert found == {0: 4.0, 23: pytest.approx(5**0.5)}


@pytest.mark.parametrize(
    ("by", "groups"),
    [("month", ["2012-01", "2012-02"]), ("hour", ["08:00", "09:00"]), ("weather", ["1", "missing"])],
)
def test_errors_by_group_add_up_to_all_rows(by, groups):
    from bikes_assets.demand.evaluation import scores_by

    errors = pd.DataFrame(
        {
            "ts": pd.to_datetime(["2012-01-31T08:00", "2012-01-31T09:00", "2012-02-01T08:00"]),
            "actual": [10, 20, 30],
            "prediction": [11.0, 20.0, 26.0],
            "baseline": [12.0, 20.0, 38.0],
            "weather_kind": pd.array([1, None, 1], dtype="Int64"),
        }
    )
    found = scores_by(errors, by)

    assert list(found) == groups
    assert sum(values["rows"] for values in found.values()) == 3
    assert scores_by(errors, "month")["2012-02"]["skill"] == 0.5
