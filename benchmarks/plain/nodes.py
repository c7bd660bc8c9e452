"""What the three pipelines of plain_nodes.py compute: functions of pandas and scikit-learn that know nothing else."""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a fit is repeatable, and all have one core; read when scikit-learn is imported

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

SOURCE = Path(__file__).parents[2] / "data" / "raw" / "hour.csv"
MONTHS = [f"2012-{month:02}" for month in range(1, 13)]
INPUTS = ["hour", "weekday", "working_day", "temperature", "humidity", "rentals_day_before"]
PARAMS = {"max_iter": 100, "learning_rate": 0.1, "random_state": 0}


def raw(month: str) -> pd.DataFrame:
    """Return the source's rows of a month."""
    rows = pd.read_csv(SOURCE)
    rows = rows[rows["dteday"].str.startswith(month)]
    ts = (pd.to_datetime(rows["dteday"]) + pd.to_timedelta(rows["hr"], unit="h")).astype("datetime64[us]")
    return pd.DataFrame(
        {
            "ts": ts,
            "workingday": rows["workingday"],
            "temp": rows["temp"],
            "hum": rows["hum"],
            "cnt": rows["cnt"],
        }
    ).reset_index(drop=True)


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what the model reads of each hour, and the rentals to predict; the first day has none before it."""
    day_before = rows.set_index("ts")["cnt"].reindex(rows["ts"] - pd.Timedelta(days=1)).to_numpy()
    return pd.DataFrame(
        {
            "ts": rows["ts"],
            "hour": rows["ts"].dt.hour.astype("int64"),
            "weekday": rows["ts"].dt.weekday.astype("int64"),
            "working_day": rows["workingday"],
            "temperature": rows["temp"],
            "humidity": rows["hum"],
            "rentals_day_before": day_before.astype("float64"),
            "rentals": rows["cnt"],
        }
    )


def model(table: pd.DataFrame) -> HistGradientBoostingRegressor:
    """Return gradient boosting of the rentals, fitted on all but the last seven days."""
    known = table[table["ts"] < table["ts"].max() - pd.Timedelta(days=7)]
    return HistGradientBoostingRegressor(**PARAMS).fit(known[INPUTS], known["rentals"])


def predictions(table: pd.DataFrame, fitted: HistGradientBoostingRegressor) -> pd.DataFrame:
    """Return what the model predicts for each hour, beside what was rented."""
    return table[["ts", "rentals"]].assign(predicted=fitted.predict(table[INPUTS]))


def scores(predicted: pd.DataFrame) -> dict[str, float]:
    """Return the errors of the last seven days, which the model was not fitted on."""
    last = predicted[predicted["ts"] >= predicted["ts"].max() - pd.Timedelta(days=7)]
    error = last["predicted"] - last["rentals"]
    return {"rmse": float((error**2).mean() ** 0.5), "mae": float(error.abs().mean())}
