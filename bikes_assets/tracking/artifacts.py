"""Plots as artifacts of MLflow's runs, where the page of a run shows them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bikes_assets.tracking.names import file_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

MOST_OF_PLOT = 1_000_000
"""Size of the largest plot that is logged, in bytes."""


def log_plots(client: MlflowClient, run_id: str, plots: Mapping[str, str]) -> None:
    """Log plots as artifacts of a run; one that is too large is left out. Logging one again replaces it.

    Args:
        client: client of the tracking store.
        run_id: the run.
        plots: SVG of each, by title.
    """
    files = {f"{file_name(title)}.svg": svg.encode() for title, svg in plots.items()}
    logged = {name: content for name, content in files.items() if len(content) <= MOST_OF_PLOT}
    if not logged:
        return
    with TemporaryDirectory() as folder:
        for name, content in logged.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run_id, folder)
