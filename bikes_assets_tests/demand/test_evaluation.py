"""How good predictions are: figures by hand, and against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from bikes_assets.demand.evaluation import quality, scores
from bikes_assets.demand.tables import PREDICTION_QUALITY

JUNE = pd.DataFrame(
    {
        "ts": pd.date_range("2011-06-01", periods=4, freq="h", unit="us"),
        "cnt": pd.array([10, 20, 30, 40], dtype="Int64"),
        "x": [1, 2, 3, 4],
    }
)


def saying(value: float, hours: pd.DataFrame) -> pd.DataFrame:
    """Return predictions that say the same for every hour."""
    return pd.DataFrame({"ts": hours["ts"], "prediction": [value] * len(hours)}, index=hours.index)


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


# Errors


def test_errors_are_prediction_minus_actual() -> None:
    frame, found = quality(saying(25.0, JUNE), JUNE)
    assert frame["ts"].tolist() == JUNE["ts"].tolist()
    assert frame["actual"].tolist() == [10, 20, 30, 40]
    assert frame["prediction"].tolist() == [25.0] * 4
    assert frame["error"].tolist() == [15.0, 5.0, -5.0, -15.0]
    assert found == scores([10, 20, 30, 40], [25, 25, 25, 25])
    assert PREDICTION_QUALITY.conform(frame).num_rows == 4


@pytest.mark.parametrize("integer", ["int64", "Int64"])
def test_errors_are_of_the_hours_that_have_both(integer: Any) -> None:
    rentals = JUNE.astype({"cnt": integer}).iloc[1:]
    frame, found = quality(saying(25.0, JUNE.iloc[:3]), rentals)
    assert frame["actual"].tolist() == [20, 30]
    assert found["rows"] == 2.0
    assert PREDICTION_QUALITY.conform(frame).schema == PREDICTION_QUALITY.arrow()


@pytest.mark.parametrize("empty", ["predictions", "rentals", "both", "common hours"])
def test_nothing_to_compare_has_no_scores(empty: str) -> None:
    predicted, rentals = saying(25.0, JUNE), JUNE
    predicted = predicted.iloc[:2] if empty == "common hours" else predicted
    predicted = predicted.iloc[:0] if empty in {"predictions", "both"} else predicted
    rentals = rentals.iloc[2:] if empty == "common hours" else rentals
    rentals = rentals.iloc[:0] if empty in {"rentals", "both"} else rentals
    frame, found = quality(predicted, rentals)
    assert found == {}
    assert PREDICTION_QUALITY.conform(frame).num_rows == 0


def test_an_hour_that_stands_twice_is_refused() -> None:
    twice = pd.concat([JUNE, JUNE.tail(1)])
    with pytest.raises(pd.errors.MergeError, match="not unique"):
        quality(saying(25.0, JUNE), twice)
