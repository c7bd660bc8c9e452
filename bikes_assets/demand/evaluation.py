"""How good predictions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


WEATHER = {"1": "clear", "2": "mist or clouds", "3": "light rain or snow", "4": "heavy rain"}
"""Names of the kinds of weather, by code."""


def scores(actual: Any, predicted: Any) -> dict[str, float]:
    """Return the error of predictions against actuals, both of n rows in rentals/hour.

    Returns:
        rows: n. r2: share of the variance explained, 1 - sum (a - p)^2 / sum (a - mean a)^2; NaN-free: 0 where actuals
        do not vary. rmse: root of the mean squared error, rentals/hour. mae: mean absolute error, rentals/hour. bias:
        mean of predicted - actual, rentals/hour.
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


def skill(rmse: float, baseline_rmse: float) -> float:
    """Return the share of a baseline's RMSE that is avoided, 1 - rmse / baseline_rmse; 0 if the baseline has no error.

    It is 1 for a perfect prediction, 0 for one as good as the baseline and negative for a worse one.
    """
    return 1 - rmse / baseline_rmse if baseline_rmse else 0.0


def quality(predicted: pd.DataFrame, rentals: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Return the hourly errors of predictions and of their baseline.

    Args:
        predicted: DEMAND_PREDICTIONS.
        rentals: `ts`, `cnt` of the same hours.
        features: `ts`, `weather_kind` of the same hours, and of others.

    Returns:
        PREDICTION_QUALITY of the hours in all three; errors are predicted - actual.
    """
    actuals = rentals[["ts", "cnt"]].rename(columns={"cnt": "actual"})
    joined = predicted.merge(actuals, on="ts", validate="one_to_one")
    joined = joined.merge(features[["ts", "weather_kind"]], on="ts", validate="one_to_one")
    actual = joined["actual"].astype("float64")
    joined["error"] = joined["prediction"] - actual
    joined["baseline_error"] = joined["baseline"] - actual
    return joined[["ts", "actual", "prediction", "baseline", "error", "baseline_error", "weather_kind"]]


def quality_scores(errors: pd.DataFrame) -> dict[str, float]:
    """Return the `scores` of PREDICTION_QUALITY, its `baseline_rmse` and its `skill`; empty when it has no rows."""
    if errors.empty:
        return {}
    found = scores(errors["actual"], errors["prediction"])
    baseline_rmse = scores(errors["actual"], errors["baseline"])["rmse"]
    return {**found, "baseline_rmse": baseline_rmse, "skill": skill(found["rmse"], baseline_rmse)}


def scores_by(errors: pd.DataFrame, by: str) -> dict[str, dict[str, float]]:
    """Return the `quality_scores` of PREDICTION_QUALITY by `month`, `hour` of day or kind of `weather`, in order."""
    groups = {
        "month": errors["ts"].dt.strftime("%Y-%m"),
        "hour": errors["ts"].dt.strftime("%H:00"),
        "weather": errors["weather_kind"].astype("string").fillna("missing"),
    }
    return {str(name): quality_scores(rows) for name, rows in errors.groupby(groups[by])}


def segments(errors: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Return the `quality_scores` of PREDICTION_QUALITY: of all rows, by hour of the day, and by kind of weather."""
    weather = {name: scores for name, scores in scores_by(errors, "weather").items() if scores}
    return {
        "all": {"all rows": quality_scores(errors)},
        "hour of the day": scores_by(errors, "hour"),
        "weather": {WEATHER.get(name, name): scores for name, scores in weather.items()},
    }


def rmse_by(errors: pd.Series, key: pd.Series) -> dict[int, float]:
    """Return the root mean square of n errors by n whole numbers, in ascending order; missing numbers are left out."""
    mean = (errors.astype("float64") ** 2).groupby(key).mean()
    return {int(number): float(value) ** 0.5 for number, value in mean.items()}  # pyright: ignore[reportArgumentType]


def quality_series(errors: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Return RMSE of predictions and baseline, rentals/hour, by hour of the day (0 to 23) and by kind of weather."""
    keys = {"hour": errors["ts"].dt.hour, "weather": errors["weather_kind"]}
    return {
        f"{prefix}rmse_by_{name}": rmse_by(errors[f"{prefix}error"], key)
        for name, key in keys.items()
        for prefix in ("", "baseline_")
    }
