"""Marks of the last reconciliation, so that the next one only looks at what is new or has changed since.

For the event log the marks are its last event and the number of events up to it; for each Dagster run its state; for
each table the number of commits in its log and the state of its files; for MLflow's database a digest of the rows of
each Dagster run and registered version. They are compared without importing Dagster or MLflow. The rows of an MLflow
server cannot be read, so it has no marks, and everything in it is looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.core.transient import at_store
from bikes_assets.events.run_log import OVER, asking, remembered
from bikes_assets.lineage.event_log import identity, newest_event
from bikes_assets.storage.checksums import read_memory, write_memory
from bikes_assets.storage.files import filesystem_of, is_remote
from bikes_assets.tracking.client import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

_MODEL = re.compile("m-[0-9a-f]{32}")
WITHOUT_MLFLOW = "none"
_STATES = "select id, status, update_timestamp from runs"
_IDS = "select id, run_id from runs"
_RUNS = """
select t.value, r.run_uuid, r.status, r.lifecycle_stage, r.experiment_id, k.value, p.value
from tags t join runs r on r.run_uuid = t.run_uuid
left join tags k on k.run_uuid = t.run_uuid and k.key = 'materialization'
left join tags p on p.run_uuid = t.run_uuid and p.key in ('mlflow.parentRunId', 'parent_run_id')
where t.key = 'dagster_run_id'
"""
_STEPS = """
select run_id, step_key, dagster_event_type, asset_key, count(*) from event_logs where dagster_event_type in (
'STEP_START', 'STEP_SUCCESS', 'STEP_FAILURE', 'STEP_UP_FOR_RETRY', 'STEP_RESTARTED', 'ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
and step_key is not null group by run_id, step_key, dagster_event_type, asset_key
"""
_SKIPPED = {"STEP_START": 1, "STEP_SUCCESS": 1}
_MATERIALIZED = {**_SKIPPED, "ASSET_MATERIALIZATION": 1}
_PARENTS = "select run_id, value from run_tags where key = 'mlflow_run_id'"
_MODELS = (
    "select model_id, status, lifecycle_stage, source_run_id from logged_models",
    "select model_id, tag_key, tag_value from logged_model_tags",
)
_VERSIONS = (
    "select name, version, current_stage, source, run_id, status, storage_location from model_versions",
    "select name, version, key, value from model_version_tags",
)
_REST = (
    "select name from registered_models",
    "select name, key, value from registered_model_tags",
    "select name, alias, version from registered_model_aliases",
    "select experiment_id, name, artifact_location, lifecycle_stage from experiments",
    "select experiment_id, key, value from experiment_tags",
)
NONE = (0, "")
"""Mark of a table of which nothing is known."""
REST = ""
"""Key of everything in the registry beside versions."""


@dataclass
class Reconciliation:
    """What reconciliation has done.

    Attributes:
        done: what was done, in words.
        left: what could not be done, and why.
        refused: what MLflow refuses and would refuse again, and why; nothing else waits for it.
        foreign: what others have registered, which is left alone; nothing needs to be done about it.
        set_aside: events that are ignored as unreliable, and why; they do no harm.
    """

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores to reconcile.

    Attributes:
        lake: folder or URL of the lake.
        assets: the lake's assets.
        events: DAGSTER_HOME of an instance on SQLite, or a database URL.
        tracking_uri: MLflow's store or server.
        memory: local file that stores the marks.
    """

    lake: str
    assets: Sequence[str]
    events: str
    tracking_uri: str
    memory: Path


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks: a compact state of the stores.

    Attributes:
        event: number of the last event.
        log: identity of the event log up to that event.
        runs: the state of each finished Dagster run.
        at_work: the unfinished Dagster runs.
        tables: the number of commits of each table, and a digest of its files' states.
        removals: a digest of everything that retention has removed.
        mlflow: a digest of MLflow's rows for each Dagster run; None if they cannot be read.
        registry: a digest of each registered version, by name and number, and of the rest; None if they cannot be read.
        database: changes when MLflow's database is written to; `WITHOUT_MLFLOW` where there is none to log to.
        set_aside: the ignored events, and why.
        foreign: what others have registered.
    """

    event: int = 0
    log: str = ""
    runs: Mapping[str, str] = field(default_factory=dict[str, str])
    at_work: Sequence[str] = ()
    tables: Mapping[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    removals: str = ""
    mlflow: Mapping[str, str] | None = None
    registry: Mapping[str, str] | None = None
    database: str = ""
    set_aside: Sequence[str] = ()
    foreign: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """What may have to be reconciled.

    Attributes:
        after: look at events after this one.
        runs: Dagster runs to look at, None for all.
        tables: the first commit to look at, by table.
        registered: registered versions to look at, by name and number, including `REST` if something else changed; None
            for all.
    """

    after: int = 0
    runs: Collection[str] | None = None
    tables: Mapping[str, int] = field(default_factory=dict[str, int])
    registered: Collection[str] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to be reconciled."""
        return not (self.runs is None or self.runs or self.tables or self.registered is None or self.registered)


def kept(stores: Stores) -> Marks | None:
    """Return the marks of the last complete reconciliation; None without any."""
    return read_memory(stores.memory, _marks)


def keep(stores: Stores, marks: Marks) -> None:
    """Store the marks of a complete reconciliation."""
    write_memory(stores.memory, asdict(marks))


def look(stores: Stores, known: Marks | None = None) -> Marks:
    """Return the current marks: the event log's first, so that what its events refer to exists by then.

    Args:
        stores: the stores.
        known: earlier marks, whose MLflow part is reused if its database was not written to since.
    """
    event = newest_event(stores.events)
    runs, at_work = _dagster_runs(stores.events)
    file = file_of(stores.tracking_uri)
    if file and not file.exists():
        file = None
    database = _state(file) if file else "" if stores.tracking_uri else WITHOUT_MLFLOW
    if known and database and database == known.database:
        mlflow, registry = known.mlflow, known.registry
    else:
        mlflow, registry = _in_mlflow(file) if file else (None, None)
    return Marks(
        event,
        identity(stores.events, event),
        runs,
        at_work,
        {asset: _table(f"{stores.lake}/{asset}") for asset in stores.assets},
        _digest(_files(f"{stores.lake}/removed")),
        mlflow,
        registry,
        database,
    )


def differing(stores: Stores, known: Marks | None, now: Marks, *, whole: bool = True) -> Scope:
    """Return what may have to be reconciled.

    Args:
        stores: the stores.
        known: marks of the last complete reconciliation, None without any.
        now: the current marks.
        whole: whether to look at everything in an MLflow whose rows cannot be read, or only at what is new.
    """
    if known is None or known.removals != now.removals or known.log != identity(stores.events, known.event):
        return everything(stores.assets)
    if (
        known.database == WITHOUT_MLFLOW != now.database
    ):  # what was materialized without MLflow is to be logged there now
        return everything(stores.assets)
    tables: dict[str, int] = {}
    for asset, (count, digest) in now.tables.items():
        looked_at, as_of_then = known.tables.get(asset, NONE)
        if (count, digest) != (looked_at, as_of_then):
            is_longer = looked_at < count and as_of_then == _table(f"{stores.lake}/{asset}", looked_at)[1]
            tables[asset] = looked_at if is_longer else 0
    runs: set[str] | None = _changed(known.runs, now.runs)
    if now.mlflow is not None and known.mlflow is not None:
        runs |= _changed(known.mlflow, now.mlflow) & now.runs.keys()
    elif whole and now.database != WITHOUT_MLFLOW:
        runs = None
    registered = () if now.database == WITHOUT_MLFLOW else None
    if now.registry is not None and known.registry is not None:
        registered = _changed(known.registry, now.registry)
    # if a table is looked at as a whole, so are all its events
    return Scope(0 if 0 in tables.values() else known.event, runs, tables, registered)


def evident(stores: Stores, experiments: Collection[str]) -> set[str]:
    """Return the Dagster runs whose events and rows in MLflow's database evidently match, without reading a record.

    Such a run succeeded in Dagster, and began and ended each step once. In MLflow it has one finished parent, one
    finished run for the first attempt of each step that materialized something, and no other.

    Args:
        stores: the stores.
        experiments: ids of MLflow's experiments.
    """
    file = file_of(stores.tracking_uri)
    if not file:
        return set()
    with asking(stores.events) as ask:
        steps: dict[str, dict[str, dict[str, int]]] = {}
        others = set[str]()
        for run, step, kind, asset, number in ask(_STEPS):
            if kind == "ASSET_MATERIALIZATION" and "/".join(json.loads(asset)) not in stores.assets:
                others.add(run)
            steps.setdefault(run, {}).setdefault(step, {})[kind] = number
        parents = dict(ask(_PARENTS))
        succeeded = {run for (run,) in ask("select run_id from runs where status = 'SUCCESS'")}
    in_mlflow: dict[str, set[tuple[Any, ...]]] = {}
    with _reading(file) as store:
        for run, uuid, status, stage, of, attempt, parent in store.execute(_RUNS):
            if stage == "active" and str(of) in experiments:
                in_mlflow.setdefault(run, set()).add((attempt, status, parent or uuid, uuid if not attempt else ""))
    return {
        run for run in succeeded - others if _is_evident(run, steps.get(run, {}), parents.get(run), in_mlflow.get(run))
    }


def _is_evident(
    run: str, steps: Mapping[str, Mapping[str, int]], parent: str | None, rows: set[tuple[Any, ...]] | None
) -> bool:
    """Return whether each step of a run succeeded at once, and MLflow's rows are exactly those of the steps."""
    made = [step for step, kinds in steps.items() if kinds == _MATERIALIZED]
    expected = {(f"{run}/{step}/1", "FINISHED", parent, "") for step in made} | {(None, "FINISHED", parent, parent)}
    return bool(made) and all(kinds in (_MATERIALIZED, _SKIPPED) for kinds in steps.values()) and rows == expected


def everything(assets: Iterable[str]) -> Scope:
    """Return the scope that includes everything."""
    return Scope(tables=dict.fromkeys(assets, 0))


def is_so(stores: Stores, backlog: str) -> Marks | None:
    """Return the marks of the last reconciliation if nothing has changed since, else None.

    Args:
        stores: the stores.
        backlog: key that tells whether something is left to log in MLflow.
    """
    known = kept(stores)
    if known is None or remembered(stores.events, backlog):
        return None
    now = look(stores, known)
    is_still = known.event == now.event and not now.at_work and differing(stores, known, now).is_empty
    return known if is_still else None


def _changed(known: Mapping[str, str], now: Mapping[str, str]) -> set[str]:
    return {name for name in known.keys() | now.keys() if known.get(name) != now.get(name)}


def _marks(values: Any) -> Marks:
    return Marks(**values | {"tables": {asset: (count, digest) for asset, (count, digest) in values["tables"].items()}})


def _dagster_runs(storage: str) -> tuple[dict[str, str], list[str]]:
    """Return the state of each finished run, and the unfinished runs, read from indexes, as the rows are long."""
    with asking(storage) as ask:
        ids = dict(ask(_IDS))
        states = [(ids[number], status, changed) for number, status, changed in ask(_STATES) if number in ids]
    over = {run: f"{status} {changed}" for run, status, changed in states if status in OVER}
    return over, sorted(run for run, _, _ in states if run not in over)


def _table(uri: str, most: int | None = None) -> tuple[int, str]:
    """Return a table's number of commits, at most `most` if given, and a digest of their files' states."""
    commits = [item for item in _files(f"{uri}/_delta_log") if item[0].endswith(".json") and item[0][:20].isdecimal()]
    commits = sorted(commits)[:most]
    return len(commits), _digest(commits)


def _files(folder: str) -> list[tuple[str, ...]]:
    """Return the files in a folder, each with a mark that changes when it is rewritten; empty without a folder."""
    if is_remote(folder):
        filesystem, path = filesystem_of(folder)
        filesystem.invalidate_cache()
        with at_store(folder):
            found: dict[str, Any] = filesystem.find(path, detail=True) if filesystem.exists(path) else {}
        return sorted((name.rpartition("/")[2], str(about.get("ETag", about))) for name, about in found.items())
    place = Path(folder.removeprefix("file://"))
    if not place.is_dir():
        return []
    with os.scandir(place) as entries:
        states = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return sorted((name, str(stat.st_size), str(stat.st_mtime_ns), str(stat.st_ino)) for name, stat in states)


def _state(file: Path) -> str:
    """Return a mark that changes when a SQLite database is written to: its change counter, and the files' states."""
    with file.open("rb") as database:
        counter = database.read(28)[24:].hex()  # https://www.sqlite.org/fileformat.html#file_change_counter
    places = (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-journal"))
    stats = [
        (stat.st_ino, stat.st_size, stat.st_mtime_ns) for place in places if place.exists() for stat in (place.stat(),)
    ]
    return f"{counter} {stats}"


def _reading(file: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30))


def _in_mlflow(file: Path) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """Return digests of MLflow's database: of each Dagster run's rows, each registered version, and the rest."""
    try:
        with _reading(file) as store:
            return _rows_of_runs(store), _rows_of_registry(store)
    except sqlite3.Error:  # whoever uses the database reports the error
        return None, None


def _rows_of_runs(store: sqlite3.Connection) -> dict[str, str]:
    return _grouped(store.execute(_RUNS), lambda row: str(row[0]))


def _rows_of_registry(store: sqlite3.Connection) -> dict[str, str]:
    models = _grouped((row for query in _MODELS for row in store.execute(query)), lambda row: str(row[0]))
    rows = [row for query in _VERSIONS for row in store.execute(query)]
    # a version's digest includes its logged model
    rows += [(*row[:2], models[name]) for row in rows for name in _MODEL.findall(str(row[3])) if name in models]
    rest = sorted(repr(row) for query in _REST for row in store.execute(query))
    return _grouped(rows, lambda row: f"{row[0]}/{row[1]}") | {REST: _digest(rest)}


def _grouped(rows: Iterable[tuple[Any, ...]], key: Callable[[tuple[Any, ...]], str]) -> dict[str, str]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(repr(row))
    return {name: _digest(sorted(items)) for name, items in groups.items()}


def _digest(values: object) -> str:
    return hashlib.sha256(repr(values).encode(errors="surrogatepass")).hexdigest()[:32]
