"""MLflow's store: its client, its experiments, and one process at a time where two would create the same thing twice."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import warnings
from contextlib import closing, contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

PATIENCE = 3.0
"""Seconds that a Dagster run waits for MLflow in all; then MLflow counts as away until the run has ended."""

_EXPERIMENT = "MLFLOW_EXPERIMENT_ID"

_DEFAULTS = {
    # its own retries would hold a materialization for minutes when its server is gone, and could write twice
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@cache
def client_of(uri: str) -> MlflowClient:
    """Return the client of a tracking store, one a process.

    The first use of an empty SQLite store creates its tables; two processes doing so at once would break it, so it is
    done under a file lock.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # a dataset's integers without missing values stay integers: that is meant
    warnings.filterwarnings("ignore", message=".*integer column", category=UserWarning, module="mlflow")
    if not uri.startswith("sqlite:///"):
        return MlflowClient(uri)
    with one_by_one(uri):
        # MLflow would try a file that cannot be opened for minutes
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store:
            store.execute("pragma schema_version")
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def experiment_of(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of the experiment of that name, created once; a SQLite store keeps artifacts beside itself."""
    known = client.get_experiment_by_name(name)
    if known:
        return known.experiment_id
    with one_by_one(uri):
        known = client.get_experiment_by_name(name)
        if known:
            return known.experiment_id
        folder = _store_folder(uri)
        return client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri() if folder else None)


@contextmanager
def one_by_one(uri: str) -> Iterator[None]:
    """Let one process of this machine at a time look whether something is in MLflow and create it where it is not."""
    from filelock import FileLock

    folder, timeout = _store_folder(uri), 120.0
    file = folder / ".lock" if folder else None
    if file is None:  # a server: whoever waits for one that waits for it must not wait long
        owner = os.getuid() if hasattr(os, "getuid") else 0
        file = Path(tempfile.gettempdir()) / f"bikes-assets-{owner}" / f"{sha256(uri.encode()).hexdigest()[:16]}.lock"
        timeout = PATIENCE
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file, timeout=timeout):
        yield


@contextmanager
def fluent(uri: str, experiment_id: str, runs: list[Any]) -> Iterator[Any]:
    """Have MLflow's fluent calls in this thread go to a store, an experiment and the last of some active runs.

    Gives the stack that MLflow keeps its active runs on. What was there before comes back: MLflow writes store and experiment
    to the environment, where every process that this one starts would find them.
    """
    import mlflow
    from mlflow.tracking import fluent as state

    inside: Any = state
    stack = inside._active_run_stack
    outer, experiment, variable = stack.get(), inside._active_experiment_id, os.environ.get(_EXPERIMENT)
    uri_before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    stack.set([*runs])
    inside._active_experiment_id = experiment_id  # a run that is started in the block lands there
    mlflow.set_tracking_uri(uri)
    try:
        yield stack
    finally:
        stack.set(outer)
        inside._active_experiment_id = experiment
        os.environ.pop(_EXPERIMENT, None)
        if variable is not None:
            os.environ[_EXPERIMENT] = variable
        mlflow.set_tracking_uri(uri_before)  # pyright: ignore[reportArgumentType] - None: none was set


def _store_folder(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else None
