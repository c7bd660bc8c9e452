"""The bare script: the pipeline's computation in pandas, scikit-learn and Parquet, with no lineage, orchestrator or tracking.

python benchmarks/bare.py FOLDER: reads the shipped CSV file, computes the features of all months at once, fits, judges and
chooses a model for each month, predicts with it, and writes tables and models to FOLDER.
"""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # as the pipeline's recipe says; it is read when scikit-learn is imported

import numpy as np
import pandas as pd
import skops.io
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

SOURCE = Path(__file__).parents[1] / "data" / "raw" / "hour.csv"
LEVEL = "demand_level_7d"
INPUTS = [
    "hour_of_day",
    "hour_of_week",
    "working_day",
    "public_holiday",
    "temperature",
    "humidity",
    "wind_speed",
    "weather_kind",
    "wet_hours_3h",
    "temperature_above_27d",
    "humidity_above_7d",
    "demand_trend_1d",
    "demand_trend_7d",
]


def rentals() -> pd.DataFrame:
    """Return the source's rows, by hour."""
    rows = pd.read_csv(SOURCE)
    ts = pd.to_datetime(rows["dteday"]) + pd.to_timedelta(rows["hr"], unit="h")
    return rows.assign(ts=ts).sort_values("ts", ignore_index=True)


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the features of every hour, on a grid on which an absent hour is missing."""
    grid = rows.set_index("ts").asfreq("h")
    cnt, weather = grid["cnt"], grid["weathersit"].ffill(limit=24)

    def total(values: pd.Series, hours: int) -> pd.Series:
        return values.fillna(0).rolling(hours, min_periods=1).sum()

    def above(values: pd.Series, hours: int) -> pd.Series:
        whole, count = (values * 10_000).round(), total(values.notna().astype(float), hours)
        return ((whole * count - total(whole, hours)) / (count * 10_000)).where(count > 0)

    def until_yesterday(hours: int) -> pd.Series:
        known = cnt.notna().astype(float)
        count = total(known, hours + 24) - total(known, 24)
        return ((total(cnt, hours + 24) - total(cnt, 24)) / count).where(count > 0)

    day, week, four_weeks = until_yesterday(24), until_yesterday(168), until_yesterday(648)
    table = pd.DataFrame(
        {
            "cnt": cnt,
            "hour_of_day": grid.index.hour,
            "hour_of_week": (grid.index.dayofweek + 1) % 7 * 24 + grid.index.hour,
            "working_day": grid["workingday"],
            "public_holiday": grid["holiday"],
            "temperature": grid["temp"],
            "humidity": grid["hum"],
            "wind_speed": grid["windspeed"],
            "weather_kind": weather,
            "wet_hours_3h": total((grid["weathersit"] >= 3).astype(float), 3),
            "temperature_above_27d": above(grid["temp"], 648),
            "humidity_above_7d": above(grid["hum"], 168),
            "demand_lag_24h": cnt.shift(24),
            "demand_lag_168h": cnt.shift(168),
            LEVEL: week,
            "demand_trend_1d": (day / week).where(week > 0),
            "demand_trend_7d": (week / four_weeks).where(four_weeks > 0),
        }
    )
    return table[cnt.notna()].astype("float64").reset_index()


class Relative:
    """Gradient boosting of demand relative to its level."""

    def __init__(self, rows: pd.DataFrame) -> None:
        """Fit on rows of features and demand."""
        self.usual = float(np.nanmedian(rows[LEVEL]))
        self.regressor = HistGradientBoostingRegressor(
            learning_rate=0.05,
            max_iter=250,
            max_features=0.5,
            categorical_features=["hour_of_week"],
            early_stopping=False,
            random_state=0,
        ).fit(rows[INPUTS], rows["cnt"] / self.scale(rows))

    def scale(self, rows: pd.DataFrame) -> pd.Series:
        """Return what the regressor's answers are multiplied with."""
        return 1 + rows[LEVEL].fillna(self.usual)

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the demand of each row."""
        return (self.regressor.predict(rows[INPUTS]) * self.scale(rows)).to_numpy().clip(min=0)


class Weekly:
    """The baseline: mean demand by hour of the week."""

    def __init__(self, rows: pd.DataFrame) -> None:
        """Fit on rows of features and demand."""
        self.regressor = DecisionTreeRegressor(random_state=0).fit(rows[["hour_of_week"]], rows["cnt"])

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the demand of each row."""
        return self.regressor.predict(rows[["hour_of_week"]])


def errors(actual: pd.Series, predicted: np.ndarray) -> dict[str, float]:
    """Return the error of predictions."""
    error = predicted - actual
    return {
        "rows": len(actual),
        "r2": 1 - (error**2).sum() / ((actual - actual.mean()) ** 2).sum(),
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": error.abs().mean(),
        "bias": error.mean(),
    }


def main(folder: Path) -> None:
    """Do everything for every month of the source, in order."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    rows = rentals()
    rows.to_parquet(folder / "hourly_rentals.parquet")
    table = features(rows)
    table.to_parquet(folder / "demand_features.parquet")
    by_month = dict(list(table.groupby(table["ts"].dt.strftime("%Y-%m"))))
    months = list(by_month)
    fitted: dict[str, tuple[Relative | Weekly, Weekly]] = {}
    predictions, scored = [], []
    for number, month in enumerate(months[2:], start=2):
        training = pd.concat([by_month[key] for key in months[: number - 1]])
        validation, current = by_month[months[number - 1]], by_month[month]
        baseline = Weekly(training)
        model = Relative(training) if number > 3 else baseline
        fitted[month] = model, baseline
        figures = {"month": month, "validation_rmse": errors(validation["cnt"], model.predict(validation))["rmse"]}
        figures["validation_baseline_rmse"] = errors(validation["cnt"], baseline.predict(validation))["rmse"]
        parts = {"model": getattr(model, "regressor", None), "baseline": baseline.regressor}
        skops.io.dump(parts, folder / "models" / f"{month}.skops")
        candidates = [fitted[key] for key in months[max(2, number - 2) : number + 1]]
        if model is not baseline:
            candidates.append((baseline, baseline))
        judged = [errors(validation["cnt"], candidate.predict(validation))["rmse"] for candidate, _ in candidates]
        champion, its_baseline = candidates[int(np.argmin(judged))]
        said, base = champion.predict(current), its_baseline.predict(current)
        predictions.append(current[["ts", "cnt", "weather_kind"]].assign(prediction=said, baseline=base))
        baseline_rmse = errors(current["cnt"], base)["rmse"]
        scored.append({**figures, **errors(current["cnt"], said), "baseline_rmse": baseline_rmse})
    quality = pd.concat(predictions, ignore_index=True)
    quality["error"], quality["baseline_error"] = (quality[n] - quality["cnt"] for n in ("prediction", "baseline"))
    quality.to_parquet(folder / "prediction_quality.parquet")
    squares = quality[["error", "baseline_error"]] ** 2
    squares.groupby([quality["ts"].dt.strftime("%Y-%m"), quality["ts"].dt.hour.rename("hour")]).mean().pow(
        0.5
    ).to_parquet(folder / "rmse_by_hour.parquet")
    pd.DataFrame(scored).to_parquet(folder / "scores.parquet")
    whole = errors(quality["cnt"], quality["prediction"].to_numpy())
    print(f"R2 {whole['r2']:.4f}, RMSE {whole['rmse']:.1f} rentals/hour, over {len(quality):,} hours")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
