"""The four nodes in a plain MLflow script: the bare script's files, and a run for each month in an SQLite store.

A run has the parameters, the metrics, the model, and the tables as its inputs, all by MLflow's own functions.

python benchmarks/plain/tracked.py FOLDER
"""

import logging
import os
import sys
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import nodes
import sklearn
import skops.io

TRUSTED = [
    "numpy.dtype",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]


def main(folder: Path) -> None:
    """Materialize and log all months."""
    for name in ("raw", "features", "model", "predictions"):
        (folder / name).mkdir(parents=True)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("plain", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("plain")
    for month in nodes.MONTHS:
        with mlflow.start_run(run_name=month):
            rows = nodes.raw(month)
            rows.to_parquet(folder / "raw" / f"{month}.parquet")
            mlflow.log_input(mlflow.data.from_pandas(rows, source=str(nodes.SOURCE), name="raw"), context="raw")
            table = nodes.features(rows)
            place = folder / "features" / f"{month}.parquet"
            table.to_parquet(place)
            mlflow.log_input(
                mlflow.data.from_pandas(table, source=str(place), name="features", targets="rentals"),
                context="training",
            )
            mlflow.log_params({"month": month, **nodes.PARAMS})
            fitted = nodes.model(table)
            skops.io.dump(fitted, folder / "model" / f"{month}.skops")
            mlflow.sklearn.log_model(
                fitted,
                name="model",
                input_example=table[nodes.INPUTS].tail(3),
                pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
                skops_trusted_types=TRUSTED,
            )
            predicted = nodes.predictions(table, fitted)
            predicted.to_parquet(folder / "predictions" / f"{month}.parquet")
            mlflow.log_metrics(nodes.scores(predicted))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
