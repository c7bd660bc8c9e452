"""A run of the whole shipped history into a fresh store, against the bare script that computes the same."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import BIKES, ROUNDS, Cost, bare, cost, fresh_store, medians, table

MOST = 1.5
COMPARE = """
import sys
import pandas as pd
from bikes_assets import load
for name, months in (("demand_features", "2011-01..2012-12"), ("prediction_quality", "2011-03..2012-12")):
    ours, bare = load(f"{name}[{months}]"), pd.read_parquet(f"{sys.argv[1]}/{name}.parquet")
    assert (ours["ts"].to_numpy() == bare["ts"].to_numpy()).all(), name
    for column in set(ours) & set(bare) - {"ts"}:
        pair = [frame[column].astype("Float64") for frame in (ours, bare)]
        assert (pair[0].isna() == pair[1].isna()).all(), column
        assert (pair[0] - pair[1]).abs().max() <= 1e-9, column
"""


def main() -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory() as folder:

        def run() -> Cost:
            with fresh_store() as env:
                found = cost([*BIKES, "run"], env)
                subprocess.run(
                    [sys.executable, "-c", COMPARE, folder], env={**os.environ, **env}, check=True, cwd=Path.cwd()
                )
                return found

        base, whole = medians([lambda: cost(bare(folder)), run])
    table(
        ("24 months, 136 materializations", "CPU s", "wall s", "peak MB", "CPU ratio", "at most"),
        [
            ("bare script", f"{base.cpu:.1f}", f"{base.wall:.1f}", f"{base.peak:.0f}", "1", ""),
            (
                "`bikes run`, fresh store",
                f"{whole.cpu:.1f}",
                f"{whole.wall:.1f}",
                f"{whole.peak:.0f}",
                f"{whole.cpu / base.cpu:.2f}",
                MOST,
            ),
        ],
    )
    print(f"\nMedians of {ROUNDS}. Features, predictions and errors of both were equal within 1e-9 each time.")


if __name__ == "__main__":
    main()
