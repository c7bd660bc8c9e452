"""The bare script: the four nodes month by month, tables as Parquet and models by skops, with nothing recorded.

python benchmarks/plain/bare.py FOLDER
"""

import sys
from pathlib import Path

import nodes
import skops.io


def main(folder: Path) -> None:
    """Materialize all months."""
    for name in ("raw", "features", "model", "predictions"):
        (folder / name).mkdir(parents=True)
    for month in nodes.MONTHS:
        rows = nodes.raw(month)
        rows.to_parquet(folder / "raw" / f"{month}.parquet")
        table = nodes.features(rows)
        table.to_parquet(folder / "features" / f"{month}.parquet")
        fitted = nodes.model(table)
        skops.io.dump(fitted, folder / "model" / f"{month}.skops")
        nodes.predictions(table, fitted).to_parquet(folder / "predictions" / f"{month}.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
