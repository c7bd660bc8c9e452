"""Runs, in one process, of whatever is stale: months in order, each partition once."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.app import answers, env_file, state
from bikes_assets.app.audit import upkeep
from bikes_assets.app.reconciliation import pipeline
from bikes_assets.app.settings import ROOT, settings
from bikes_assets.app.state import plan
from bikes_assets.app.store import claim, current, current_identity, definitions, is_own
from bikes_assets.cli.terminal import complain
from bikes_assets.core.errors import LineageError, SettingsError, TrackingError
from bikes_assets.core.record import Record, partition_address
from bikes_assets.core.staleness import (
    DUE,
    CurrentState,
    Ended,
    Key,
    Materialized,
    NextRun,
    Plan,
    Status,
    next_runs,
    staleness_of,
)

if TYPE_CHECKING:
    import dagster as dg

    from bikes_assets.orchestration.reconcile_marks import Reconciliation

_STORAGE = "BIKES_DAGSTER_STORAGE"
_EVENT_LOG = re.compile(
    r"bikes_assets\.(?:events\.sqlite_storage|adapters\.storage)|\bConsolidatedSqliteEventLogStorage\b"
)
"""What dagster.yaml names if the event log is one SQLite file, from which the record is read."""
# errors are reported once, in the summary; Dagster's UI has every event
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_POLL_SECONDS = 2.0
_WAITING = ("pending", "stale", "missing")


@dataclass
class Summary:
    """What a run did.

    Attributes:
        partitions: number of partitions materialized, by asset.
        rows: rows of the partitions materialized, by asset.
        unchanged: number of partitions that were rematerialized with an unchanged digest.
        champion: address of the champion of the newest month that was materialized.
        champion_month: that month.
        seconds: wall time.
        skipped: addresses of partitions that had nothing to do.
        unlogged: whether something is left that MLflow did not take.
    unaudited: why the audit log was not brought up to date, "" where it was.
        left: what is left, and why.
        restored: what was restored in MLflow before anything was materialized, in words.
        failed: what failed, by address, with its message.
        waiting: what could not be materialized yet: it waits for partitions that failed, or that were not requested.
    """

    partitions: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    champion: str = ""
    champion_month: str = ""
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    unlogged: bool = False
    unaudited: str = ""
    left: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: list[Status] = field(default_factory=list)


def setup() -> Path:
    """Prepare the folder DAGSTER_HOME, make .env name it for Dagster's own commands, and return it.

    Raises:
        SettingsError: BIKES_DAGSTER_STORAGE is unusable, or differs from what DAGSTER_HOME was created with.
    """
    from bikes_assets.storage.files import write_file

    known, instance = current(), _instance_file()
    if not instance.exists():
        template = "dagster-postgres.yaml" if known.storage else "dagster.yaml"
        write_file(str(instance), Path(__file__).parents[1].joinpath(template).read_bytes())
    # if the environment names another store than the project's own, .env is not changed
    if is_own() and not (os.environ.get("BIKES_DATA") or os.environ.get("DAGSTER_HOME")):
        env_file.write_home(ROOT / ".env", str(settings().default_home))
    os.environ["DAGSTER_HOME"] = str(known.dagster_home)  # absolute, also for the processes that Dagster starts
    return known.dagster_home


def _instance_file() -> Path:
    """Return the path of dagster.yaml; if the file exists, it must name the storage in the settings.

    Raises:
        SettingsError: it names another place, or BIKES_DAGSTER_STORAGE is unusable.
    """
    known = current()
    instance, postgres = known.dagster_home / "dagster.yaml", _postgres(known.storage)
    if not instance.exists():
        return instance
    try:
        text = re.sub("#.*", "", instance.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise _no_configuration(instance, str(error)) from error
    if postgres != (_STORAGE in text):
        found = (
            f"kept elsewhere than in the database of {_STORAGE}; unset it"
            if postgres
            else f"kept in a database, expected its URL in {_STORAGE}; set it"
        )
        raise SettingsError(
            f"{instance}: found Dagster's records {found}, or move the file away and a new one is created; records are not "
            "carried over"
        )
    if not (postgres or _EVENT_LOG.search(text)):
        raise _no_configuration(
            instance,
            "it names no event log that this project reads, such as EventLogStorage of bikes_assets.events.sqlite_storage; "
            "Dagster's default is a file for each run",
        )
    return instance


def ready() -> Path:
    """Return DAGSTER_HOME, prepared with Dagster's databases; nothing is written if lake and log are of two stores.

    Raises:
        SettingsError: BIKES_DAGSTER_STORAGE is unusable or differs from what DAGSTER_HOME was created with, or the
            event log belongs to another store than the lake.
        StoreError: a database is damaged.
    """
    from bikes_assets.events.dagster_home import create_databases

    _instance_file()
    current_identity()
    home = setup()
    if not current().storage:
        with _configured(home):
            create_databases(home)
    return home


@contextmanager
def opened() -> Iterator[dg.DagsterInstance]:
    """Yield Dagster's instance, whose event log belongs to the same store as the lake.

    Raises:
        SettingsError: the event log or MLflow belongs to another store than the lake.
    """
    import dagster as dg

    home = ready()
    with _configured(home):
        instance = dg.DagsterInstance.from_config(str(home))
    with instance:
        claim(instance)
        yield instance


@contextmanager
def _configured(home: Path) -> Iterator[None]:
    """Turn Dagster's errors about its configuration, or about the template of new databases, into one line."""
    try:
        yield
    except Exception as error:
        import dagster as dg
        import yaml
        from dagster_shared.check import CheckError

        if isinstance(error, dg.DagsterInvalidConfigError) and error.errors:
            # without the expected part, which is the whole schema
            told = " ".join(item.message.partition(" Expected: ")[0] for item in error.errors)
        elif isinstance(error, dg.DagsterInvalidConfigError | CheckError | yaml.YAMLError | RecursionError):
            told = re.sub(r"\.new-\w+/", "", str(error))
        else:
            raise
        raise _no_configuration(home / "dagster.yaml", told) from error


def _no_configuration(file: Path, why: str) -> SettingsError:
    told = f"{file}: found no configuration of Dagster ({' '.join(why.split())})"
    return SettingsError(f"{told}; correct it, or move it away: a new one is created")


def agree() -> Reconciliation:
    """Reconcile run states, events and MLflow by `orchestration.reconcile`, imported only if something has changed."""
    if known := state.reconciliation():
        return known
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from bikes_assets.orchestration.reconcile import sync

    with opened() as instance:
        return sync(pipeline(instance))


def audited() -> None:
    """Bring the audit log up to date after a command has written something; where that fails, complain."""
    if told := upkeep.problem():
        complain(f"{told}; later: bikes sync")


def _postgres(url: str) -> bool:
    """Return whether Dagster's records are in PostgreSQL; its URL, with a password, only goes to the environment."""
    if url and find_spec("dagster_postgres") is None:
        raise SettingsError(
            f"{_STORAGE}: PostgreSQL needs a package that is missing: pip install 'bikes-assets[postgres]'"
        )
    if url:
        os.environ[_STORAGE] = url  # it may come from .env, and dagster.yaml names the variable
    return bool(url)


def check_served(month: str) -> None:
    """Refuse a month that no model serves.

    Raises:
        LineageError: it is not a month that models serve.
    """
    from bikes_assets.project import SERVING

    served = plan().nodes[SERVING].partitions
    if month not in served:
        expected = (
            f"one that a model serves, from {served[0]} to {served[-1]}" if served else "none: no model serves any yet"
        )
        raise LineageError(f"found month {month!r}, expected {expected}")


def run_history(
    partitions: Sequence[str] | None, progress: Callable[[str, int, int], None], *, force: bool = False
) -> Summary:
    """Materialize what is stale, missing or failed and what becomes stale by it, each partition once.

    Args:
        partitions: partition keys; None for all.
        progress: called before each run with the partition, the number of partitions that are done, and the number that
            are due.
        force: rematerialize all of these partitions, whatever its state.

    Returns:
        What was done. What is downstream of a failed partition is left; everything else is done.

    Raises:
        SettingsError: there is no such partition.
        DataError: the source cannot be read.
    """
    start, made = time.monotonic(), plan()
    source = state.observed()
    known = sorted({key for node in made.nodes.values() for key in node.partitions if key is not None})
    if unknown := [key for key in partitions or () if key not in known]:
        expected = f"one from {known[0]} to {known[-1]}" if known else "none: no asset has partitions"
        raise SettingsError(f"found partition {', '.join(key or repr(key) for key in unknown)}, expected {expected}")
    targets = {
        (asset, key)
        for asset, node in made.nodes.items()
        for key in node.partitions
        if partitions is None or key in partitions
    }
    work = Work(made, state.now(source), targets, asked=targets if force else set())
    wanted = set(targets)
    if work.waits() or work.look()[0] or state.unlogged():
        with _alone(lambda: progress("waiting for another bikes run", 0, 0)):
            work.current = state.now(source)
            _work_off(work, progress)
    found = staleness_of(made, work.current)
    work.summary.waiting = [found[key] for key in found if key in wanted and found[key].state in _WAITING]
    work.summary.seconds = time.monotonic() - start
    return work.summary


class Work:
    """Partitions to materialize, and their current state.

    Args:
        plan: the current plan of the definitions.
        found: the current state.
        targets: partitions to materialize unless they are fresh.
        asked: partitions to materialize whatever their state.
    """

    def __init__(self, plan: Plan, found: CurrentState, targets: set[Key], asked: set[Key]) -> None:
        self.plan, self.current, self.targets, self.asked = plan, found, set(targets), set(asked)
        self.tried: set[Key] = set()
        self.done = 0
        self.summary = Summary()

    def look(self) -> tuple[NextRun | None, int]:
        """Return what can be materialized now, None if there is nothing; and how many partitions are known to be due."""
        found = staleness_of(self.plan, self.current, self.asked)
        # what failed before, or in another run meanwhile, is tried once
        retried = {key for key, status in found.items() if status.state == "failed"} - self.tried
        runs = next_runs(self.plan, found, targets=self.targets, current=self.current, retried=retried, across=True)
        return next(runs, None), sum(found[key].state in DUE for key in self.targets)

    def waits(self) -> bool:
        """Return whether another run is at work on something that is to be materialized."""
        return bool(self.current.at_work & self.targets)

    def take(self, run: NextRun, made: dict[str, Record], failed: dict[str, str], run_id: str) -> None:
        """Note what a run published, by asset, and what failed, by asset, with its message."""
        for asset in run.assets:
            key = (asset, run.partition)
            self.asked.discard(key)
            self.tried.add(key)
            self.done += 1
            if asset in made:
                new, old = Materialized.of(made[asset]), self.current.materialized.get(key)
                self.current.materialized[key] = new
                self.current.altered.pop(key, None)
                self.current.ended.pop(key, None)
                self.summary.unchanged += bool(old and old.digest == new.digest)
                self.targets.discard(key)  # once is enough, even if its code is edited meanwhile
            elif asset in failed:
                self.current.ended[key] = Ended("failed", time.time(), failed[asset], run_id)
                self.summary.failed[partition_address(*key)] = failed[asset]
            elif not failed:
                self.current.ended[key] = Ended("skipped", time.time(), "", run_id)
                self.summary.skipped.append(partition_address(*key))
                self.targets.discard(key)


def _work_off(work: Work, progress: Callable[[str, int, int], None]) -> None:
    """Materialize everything that is due, in this process; wait for what other runs are materializing."""
    from bikes_assets.events.code_location import attribute_runs
    from bikes_assets.events.warm.libraries import learn, memory_of
    from bikes_assets.events.workers import end_abandoned
    from bikes_assets.orchestration.reconcile import sync
    from bikes_assets.tracking.resource import backlog

    # it warns of each check without a result, which a partition with nothing to do has
    logging.getLogger("dagster._core.execution.plan.active").setLevel(logging.ERROR)
    job = definitions().resolve_implicit_global_asset_job_def()
    module = current().definitions.partition(":")[0]
    with opened() as instance:
        _check_mlflow(instance, work.summary)
        location = "bikes_assets" if is_own() else module
        attribute_runs(instance, job, module, location)
        work.summary.unaudited = upkeep.problem()  # settings have an entry before anything is materialized with them
        if end_abandoned(instance) or backlog(instance):
            sync(pipeline(instance))
            work.current = state.now()
        while (looked := work.look())[0] or work.waits():
            run, due = looked
            if run is None:
                progress("waiting for other runs", work.done, work.done + due)
                time.sleep(_POLL_SECONDS)
                end_abandoned(instance)
                work.current = state.now()
                continue
            progress(run.partition or run.assets[0], work.done, work.done + due)
            try:
                _execute(job, instance, run, work)
            finally:
                work.summary.unaudited = upkeep.problem()
        progress("done", work.done, work.done)
        if backlog(instance):
            work.summary.left = sync(pipeline(instance)).left
        work.summary.unlogged = bool(backlog(instance))
        learn(memory_of(instance.root_directory, location))
    answers.refreshed()


def _check_mlflow(instance: dg.DagsterInstance, summary: Summary) -> None:
    """Refuse to begin if MLflow belongs to another store; if it is unreachable or damaged, a run only reports it."""
    if current().mlflow:
        with suppress(TrackingError):
            pipeline(instance).connect(summary.restored)


def _execute(job: dg.JobDefinition, instance: dg.DagsterInstance, run: NextRun, work: Work) -> None:
    import dagster as dg

    from bikes_assets.events.attempts import innermost, what_failed
    from bikes_assets.events.metadata import RECORD
    from bikes_assets.events.workers import WHY, WORKER, was_interrupted
    from bikes_assets.storage.processes import Process

    keys = [dg.AssetKey.from_user_string(asset) for asset in run.assets]
    # the partition is a tag: as a parameter, Dagster takes it only where all assets have the same definition of partitions
    partitions = job.asset_layer.get(keys[0]).partitions_def if run.partition else None
    result = job.execute_in_process(
        instance=instance,
        asset_selection=keys,
        run_config=_QUIET,
        tags={
            WORKER: str(Process.this()),
            WHY: run.why[:250],
            **(partitions.get_tags_for_partition_key(str(run.partition)) if partitions else {}),
        },
        raise_on_error=False,
    )
    if was_interrupted(result):
        raise KeyboardInterrupt
    made: dict[str, Record] = {}
    for event in result.get_asset_materialization_events():
        _count(work.summary, event.materialization)
        record: Any = event.materialization.metadata[RECORD].value
        made[event.materialization.asset_key.to_user_string()] = Record.from_dict(record)
    steps = {asset.replace("/", "__"): asset for asset in run.assets}
    failed = {
        steps.get(str(event.step_key), str(event.step_key)): innermost(event.step_failure_data.error)
        for event in result.all_events
        if event.is_step_failure
    }
    if not result.success and not failed:
        failed = dict.fromkeys(run.assets, what_failed(instance, result.dagster_run))
    work.take(run, made, failed, result.run_id)


@contextmanager
def _alone(waiting: Callable[[], None]) -> Iterator[None]:
    """Let one process of this machine at a time do the work; the next one finds it done."""
    from filelock import FileLock, Timeout

    lock = FileLock(current().dagster_home / ".bikes_run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _count(summary: Summary, made: Any) -> None:
    asset = made.asset_key.to_user_string()
    summary.partitions[asset] += 1
    if "dagster/row_count" in made.metadata:  # a model has none
        summary.rows[asset] += made.metadata["dagster/row_count"].value
    if asset == current().lake.serving and (made.partition or "") >= summary.champion_month:
        (model,) = made.metadata["lineage"].value["models"]
        summary.champion, summary.champion_month = model["origin"], made.partition
