"""Four plain nodes with lineage, against a bare script and a plain MLflow script that compute the same.

Raw rows, features, model and predictions of twelve months: as `@dg.asset` functions with `with_lineage` and the IO
managers, by public names alone. All scripts call the same functions, those of `benchmarks/plain/nodes.py`.
"""

import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pandas as pd
from timing import HERE, Cost, cost, medians, table

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
MOST = 2.5
TABLES = ("raw", "features", "predictions")
BARE, TRACKED, LINEAGE, WITHOUT = "bare script", "plain MLflow script", "with lineage and MLflow", "with lineage alone"
SCRIPTS = {
    BARE: ["bare.py"],
    TRACKED: ["tracked.py"],
    LINEAGE: ["lineage.py"],
    WITHOUT: ["lineage.py", "without-mlflow"],
}


def run(name: str, stores: Path) -> Cost:
    """Run a script into a store that holds nothing, and return its cost."""
    store, home = stores / name, stores / "dagster"
    for folder in (store, home):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    shutil.copy(HERE.parent / "bikes_assets" / "dagster.yaml", home)
    script, *words = SCRIPTS[name]
    command = [sys.executable, str(HERE / "plain" / script), str(store), *words]
    return cost(command, {"DAGSTER_HOME": str(home), "PYTHONPATH": str(HERE.parent)})


def stored(stores: Path, name: str, asset: str) -> pd.DataFrame:
    """Return the rows of all months of a table, in the order of time."""
    lake = stores / name / "lake"
    rows = pd.read_parquet((lake if lake.exists() else stores / name) / asset)
    return rows.drop(columns="partition", errors="ignore").sort_values("ts", ignore_index=True)


def compare(stores: Path) -> None:
    """Compare the results of all scripts, and look for what MLflow should have.

    Raises:
        AssertionError: they differ, or something was not logged.
    """
    for asset in TABLES:
        expected = stored(stores, BARE, asset)
        assert len(expected) > 8_000
        for name in SCRIPTS:
            pd.testing.assert_frame_equal(
                stored(stores, name, asset), expected, check_exact=True, obj=f"{asset}, {name}"
            )
    for name in (TRACKED, LINEAGE):
        with closing(sqlite3.connect(stores / name / "mlflow.db")) as connection:
            for what, least in (("logged_models", 12), ("runs", 12), ("inputs", 24)):
                (count,) = connection.execute(f"SELECT count(*) FROM {what}").fetchone()
                assert count >= least, f"{name}: {count} {what}"


def main() -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory(prefix="bikes-bench-") as folder:
        stores = Path(folder)
        measures = [lambda name=name: run(name, stores) for name in SCRIPTS]
        costs = dict(zip(SCRIPTS, medians(measures, ROUNDS), strict=True))
        compare(stores)
    base = costs[BARE]
    limits = {LINEAGE: f"{MOST}"}
    table(
        ("12 months, four nodes", "CPU s", "wall s", "peak MB", "CPU ratio", "at most"),
        [
            (
                name,
                f"{found.cpu:.1f}",
                f"{found.wall:.1f}",
                f"{found.peak:.0f}",
                f"{found.cpu / base.cpu:.2f}",
                limits.get(name, ""),
            )
            for name, found in costs.items()
        ],
    )
    print(f"\nMedians of {ROUNDS}, as processes, in turns. The tables of all were equal.")
    print("The MLflow script logs a run a month: parameters, metrics, model, and two tables as inputs.")


if __name__ == "__main__":
    main()
