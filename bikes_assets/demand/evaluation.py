"""How good predictions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def scores(actual: Any, predicted: Any) -> dict[str, float]:
    """Return the error of predictions against actuals, both of n rows in rentals/hour.

    Returns:
        rows: n.
        r2: share of the variance explained, 1 - sum (a - p)^2 / sum (a - mean a)^2; NaN-free: 0 where actuals do not vary.
        rmse: root of the mean squared error, rentals/hour.
        mae: mean absolute error, rentals/hour.
        bias: mean of predicted - actual, rentals/hour.
    """
    import numpy as np

    truth, guess = np.asarray(actual, dtype="float64"), np.asarray(predicted, dtype="float64")
    error = guess - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "rows": float(len(truth)),
        "r2": 1 - float((error**2).sum()) / spread if spread else 0.0,
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
    }


def quality(predicted: pd.DataFrame, rentals: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the hourly errors of predictions and their scores.

    Args:
        predicted: `ts`, `prediction`.
        rentals: `ts`, `cnt` of the same hours.

    Returns:
        A frame of `ts`, `actual` (Int64), `prediction` and `error` (prediction - actual), and the scores; both without
        rows when there is nothing to compare.
    """
    joined = predicted.merge(rentals[["ts", "cnt"]], on="ts", validate="one_to_one").rename(columns={"cnt": "actual"})
    joined["error"] = joined["prediction"] - joined["actual"].astype("float64")
    frame = joined[["ts", "actual", "prediction", "error"]]
    return frame, scores(frame["actual"], frame["prediction"]) if len(frame) else {}
