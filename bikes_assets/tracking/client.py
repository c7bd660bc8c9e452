"""MLflow's store: its client, its experiments, and a lock where two processes would create the same thing twice."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import SettingsError, StoreError, TrackingError
from bikes_assets.core.secrets import shown
from bikes_assets.storage.disk import locked
from bikes_assets.storage.files import is_of_this_user
from bikes_assets.tracking import database
from bikes_assets.tracking.database import STORE
from bikes_assets.tracking.notes import NOTE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient
    from mlflow.entities import Experiment

PATIENCE = 3.0
"""Seconds that a Dagster run waits for MLflow in total; then MLflow counts as unreachable until the run has ended."""

EXPERIMENT = "bikes_assets.experiment"
"""Tag of an experiment: the name that it was created with, by which it is found after it was renamed."""

_EXPERIMENT = "MLFLOW_EXPERIMENT_ID"
_LINEAGE = "-lineage"

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
    """Return the client of a tracking store, one per process.

    A SQLite store is prepared first, by one process at a time: see `database.ready`.

    Raises:
        StoreError: a SQLite store is damaged, or of another version of MLflow.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # a dataset's integers without missing values stay integers on purpose
    warnings.filterwarnings("ignore", message=".*integer column", category=UserWarning, module="mlflow")
    if file := file_of(uri):
        with one_by_one(uri):
            database.ready(file)
    elif not uri.startswith("http"):
        _bound(uri)
    return MlflowClient(uri)


@cache
def _bound(uri: str) -> None:
    """Make MLflow try to connect to its database server once, for at most two seconds, not ten times for minutes."""
    from mlflow.store.db import utils
    from sqlalchemy import event, make_url
    from sqlalchemy.engine import Engine

    utils.MAX_RETRY_COUNT = 1
    url = make_url(uri)
    own = url.get_dialect()().create_connect_args(url)[1]
    limits = {
        "postgresql": {"connect_timeout": 2, "tcp_user_timeout": 2000},
        "mysql": {"connect_timeout": 2},
        "mssql": {"timeout": 2},
    }[url.get_backend_name()]

    def connecting(dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        if dialect.name == url.get_backend_name() and own.items() <= options.items():  # it is to this database
            options.update({name: limit for name, limit in limits.items() if name not in options})

    event.listen(Engine, "do_connect", connecting)


def client_of_store(uri: str, store: str | None) -> MlflowClient:
    """Return the client of a tracking store that serves only one store.

    Args:
        uri: MLflow's store or server.
        store: id of the store whose materializations it shows, "" where that has none yet, None for any.

    Raises:
        SettingsError: it is in use by another store.
        StoreError: a SQLite store is damaged, or of another version of MLflow.
    """
    client = client_of(uri)
    _check_owner(client, uri, store)
    return client


def lineage_of(experiment: str) -> str:
    """Return the name of the experiment that goes with one and holds the runs that nobody compares."""
    return experiment + _LINEAGE


def experiment_of(
    client: MlflowClient,
    uri: str,
    name: str,
    store: str | None = None,
    restored: list[str] | None = None,
    about: str = "",
) -> str:
    """Return the id of the experiment of that name, created once; a SQLite store keeps artifacts beside itself.

    Args:
        client: client of the tracking store.
        uri: MLflow's store or server.
        name: name of the experiment.
        store: id of the store whose materializations it shows, which its tag says; "" where that has none yet, None for
            any.
        restored: where given, a deleted or renamed experiment of the store is restored, and this is called with a
            message.
        about: its description, where it has none: people may have written their own.

    Raises:
        SettingsError: MLflow is in use by another store.
        TrackingError: the experiment was deleted or renamed.
    """
    tags = {STORE: store, EXPERIMENT: name} if store else {}
    described = {NOTE: about} if about else {}
    known = client.get_experiment_by_name(name)
    is_active = known is not None and known.lifecycle_stage == "active"
    if known and is_active and store is not None and (described | known.tags | tags) == known.tags:
        return known.experiment_id
    with one_by_one(uri):
        _check_owner(client, uri, store)
        known = _restored(client, name, store, restored) or client.get_experiment_by_name(name)
        if known is None:
            file = file_of(uri)
            return client.create_experiment(name, database.artifacts_of(file) if file else None, tags | described)
        for tag, value in (tags | (described if NOTE not in known.tags else {})).items():
            client.set_experiment_tag(known.experiment_id, tag, value)
        return known.experiment_id


@contextmanager
def one_by_one(uri: str) -> Iterator[None]:
    """Let one process of this machine at a time check whether something is in MLflow and create it where it is not.

    Raises:
        StoreError: the folder of the lock is not this user's alone.
    """
    store, timeout = file_of(uri), 120.0
    file = store.with_name(".lock") if store else None
    if file is None:  # a server: a process that waits for one that waits for the server must not wait long
        file, timeout = _own_folder() / f"{sha256(uri.encode()).hexdigest()[:16]}.lock", PATIENCE
    with locked(file, timeout):
        yield


def _own_folder() -> Path:
    """Return this user's temporary folder of locks; another user may have created something of its name.

    Raises:
        StoreError: the existing folder is not this user's alone.
    """
    folder = Path(tempfile.gettempdir()) / f"bikes-assets-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or not folder.is_dir() or not is_of_this_user(str(folder)):
        raise StoreError(
            f"{folder}: found something that others can write to, expected a folder of this user alone; have it removed, or set "
            "TMPDIR to another folder"
        )
    return folder


@contextmanager
def fluent(uri: str, experiment_id: str, runs: list[Any]) -> Iterator[Any]:
    """Direct MLflow's fluent calls in this thread to a store, an experiment and the last of some active runs.

    Yields the stack on which MLflow keeps its active runs. The previous state is restored afterwards: MLflow writes
    store and experiment to the environment, from which every child process would inherit them.
    """
    import mlflow
    from mlflow.tracking import fluent as state

    inside: Any = state
    stack = inside._active_run_stack
    outer, experiment, variable = stack.get(), inside._active_experiment_id, os.environ.get(_EXPERIMENT)
    uri_before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    stack.set([*runs])
    inside._active_experiment_id = experiment_id  # a run that is started in the block is pushed there
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


def file_of(uri: str) -> Path | None:
    """Return the file of a SQLite store, None for any other store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def _restored(client: MlflowClient, name: str, store: str | None, restored: list[str] | None) -> Experiment | None:
    """Restore a store's experiment that was deleted or renamed, and return it; None where that did not happen.

    Raises:
        TrackingError: restoring was not requested, or another experiment has its name now.
    """
    from mlflow.entities import ViewType

    there = client.get_experiment_by_name(name)
    wanted = f"tags.`{STORE}` = '{store}'" if store else None
    ours = client.search_experiments(ViewType.ALL, filter_string=wanted) if wanted else []
    was = next((item for item in ours if item.tags.get(EXPERIMENT) == name), there)
    if was is None or (was.name == name and was.lifecycle_stage == "active"):
        return None
    happened = [f"renamed to {was.name}"] if was.name != name else []
    happened += ["deleted"] if was.lifecycle_stage != "active" else []
    what = f"experiment {name} (id {was.experiment_id}) was {' and '.join(happened)}"
    if there and there.experiment_id != was.experiment_id:
        raise TrackingError(
            f"{what} in MLflow, and another experiment (id {there.experiment_id}) has its name now: rename that one, then bikes "
            "sync restores this one; or set BIKES_EXPERIMENT to another name"
        )
    if restored is None or was not in ours:
        by_hand = f"restore it (mlflow experiments restore --experiment-id {was.experiment_id})"
        how = "bikes sync restores it" if was in ours else by_hand
        raise TrackingError(f"{what} in MLflow: {how}, or set BIKES_EXPERIMENT to another name")
    if was.lifecycle_stage != "active":
        client.restore_experiment(was.experiment_id)
    if was.name != name:
        client.rename_experiment(was.experiment_id, name)
    restored.append(f"MLflow: {what}, and is there again")
    return was


def _check_owner(client: MlflowClient, uri: str, store: str | None) -> None:
    """Refuse an MLflow that serves another store: registered models and aliases of both would have the same names."""
    if store is None:
        return
    others = client.search_experiments(filter_string=f"tags.`{STORE}` != '{store}'", max_results=1)
    if others:
        raise SettingsError(
            f"MLflow at {shown(uri)}: found it in use by another store (its experiment {others[0].name}), expected one for this "
            "store alone, for both would move the same aliases; set BIKES_MLFLOW_TRACKING_URI to another server or database; "
            f"where that store is no more, move MLflow's away, or delete the tag {STORE} of its experiments"
        )
