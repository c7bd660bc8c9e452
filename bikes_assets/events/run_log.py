"""Runs that published nothing and runs in progress, read from Dagster's storage in SQL, without importing Dagster.

Its tables are not a public interface: tests compare what is read here with the results of Dagster's own calls.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bikes_assets.core.staleness import Ended, Key
from bikes_assets.storage.sqlite_files import named_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask: TypeAlias = Callable[..., list[tuple[Any, ...]]]

BACKLOG = "bikes_assets/mlflow_backlog"
"""Key under which Dagster's storage keeps that something is left to log in MLflow."""

_ASSETS = """
with recursive known(asset_key) as (
    select min(asset_key) from event_logs
    union all select (select min(e.asset_key) from event_logs e where e.asset_key > known.asset_key) from known
    where known.asset_key is not null)
select asset_key from known where asset_key is not null
"""
_PLANNED = "from event_logs where asset_key = :asset and dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'"
_LATEST = f"select partition, max(id) {_PLANNED} group by partition"
_EARLIER = f"select max(id) {_PLANNED} and coalesce(partition, '') = :partition and id < :before"
_PLAN = """
select p.run_id, p.step_key, r.status, r.end_time, p.timestamp, exists(
    select 1 from event_logs m where m.run_id = p.run_id and m.asset_key = p.asset_key and m.id > p.id
    and m.partition = p.partition and m.dagster_event_type = 'ASSET_MATERIALIZATION')
or p.partition is null and exists(
    select 1 from event_logs m where m.run_id = p.run_id and m.asset_key = p.asset_key and m.id > p.id
    and m.partition is null and m.dagster_event_type = 'ASSET_MATERIALIZATION')
from event_logs p left join runs r on r.run_id = p.run_id where p.id = :event
"""
_AT_WORK = """
select p.asset_key, p.partition, r.status from runs r join event_logs p on p.run_id = r.run_id
where r.status not in ('SUCCESS', 'FAILURE', 'CANCELED') and p.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'
"""
_ENDS = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED")
"""Types of the events that change what is current: each is looked up by itself in the table's index of types."""
_LAST_OF_TYPE = "select max(id) from event_logs where dagster_event_type = :type"
_STEPS = "select run_id, step_key, event from event_logs where dagster_event_type = 'STEP_SUCCESS'"
_RUNS = (
    "select run_id, start_time, end_time from runs "
    "where status = 'SUCCESS' and start_time is not null and end_time is not null"
)
_QUEUE = "select max(timestamp) from daemon_heartbeats where daemon_type = 'QUEUED_RUN_COORDINATOR'"
_QUEUE_SECONDS = 300
"""Seconds after the daemon's last heartbeat until it counts as stopped, so that nobody processes the queue."""
_FAILURE = """
select event from event_logs where run_id = :run
and dagster_event_type in ('STEP_FAILURE', 'PIPELINE_FAILURE', 'PIPELINE_CANCELED')
and (step_key is null or step_key = :step) order by step_key is null, id desc
"""
_REPRODUCTIONS = """
select run_id, timestamp, event from event_logs
where dagster_event_type in ('STEP_OUTPUT', 'STEP_FAILURE') and event like :mark order by id desc
"""
REPRODUCTION = "reproduction"
"""Metadata key under which a step that rebuilt a version says what came of it, whether it succeeds or fails."""
_IS_MATERIALIZED = (
    "select exists(select 1 from main.sqlite_master where name = 'event_logs') "
    "and exists(select 1 from history.sqlite_master where name = 'kvs')"
)
OVER: dict[str, Literal["failed", "skipped"]] = {"SUCCESS": "skipped", "FAILURE": "failed", "CANCELED": "failed"}
"""Dagster's statuses of runs that are over, and the state of an attempt in them that published nothing."""


def runs_of(storage: str) -> tuple[dict[Key, Ended], set[Key]]:
    """Return the latest attempt at each partition where it published nothing, and the partitions in progress or queued.

    Queued runs count only while a daemon processes the queue.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
    """
    with asking(storage) as ask:
        queue = [unix_seconds(at) for (at,) in ask(_QUEUE) if at]
        is_worked_off = any(at > time.time() - _QUEUE_SECONDS for at in queue)
        at_work = {
            (_named(asset), partition)
            for asset, partition, status in ask(_AT_WORK)
            if is_worked_off or status not in ("QUEUED", "NOT_STARTED")
        }
        ended: dict[Key, Ended] = {}
        for (asset,) in ask(_ASSETS):
            for partition, event in ask(_LATEST, asset=asset):
                if found := _ended(ask, asset, partition, event):
                    ended[_named(asset), partition] = found
        return ended, at_work


def remembered(storage: str, key: str) -> str:
    """Return the value of a key in the storage (Dagster's `daemon_cursor_storage`), "" where there is none."""
    with asking(storage) as ask:
        return next((value for (value,) in ask("select value from kvs where key = :key", key=key)), "")


def last_end(storage: str) -> int:
    """Return the number of the last event by which an asset was materialized or observed, or a run ended; 0 without one."""
    with asking(storage) as ask:
        return max((number or 0 for kind in _ENDS for (number,) in ask(_LAST_OF_TYPE, type=kind)), default=0)


def seconds_of(storage: str) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Return the wall seconds of each step that succeeded, by run and step, and of each run that succeeded."""
    with asking(storage) as ask:
        steps: dict[tuple[str, str], float] = {}
        for run, step, event in ask(_STEPS):
            data = json.loads(event)["dagster_event"]["event_specific_data"]
            steps[run, step] = steps.get((run, step), 0.0) + data["duration_ms"] / 1000
        return steps, {run: end - start for run, start, end in ask(_RUNS)}


def reproductions(storage: str) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Yield what steps reported of versions that they rebuilt, newest first.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.

    Yields:
        When it was reported, Unix seconds; the run; and the values of a `verification.reproduction.Reproduction`.
    """
    with asking(storage) as ask:
        rows = ask(_REPRODUCTIONS, mark=f'%"{REPRODUCTION}"%')
    for run, timestamp, event in rows:
        data = json.loads(event)["dagster_event"].get("event_specific_data") or {}
        entries = (data.get("user_failure_data") or data).get("metadata_entries") or ()
        for entry in (item for item in entries if item.get("label") == REPRODUCTION):
            found = (entry.get("entry_data") or {}).get("data")
            if isinstance(found, dict) and "verdict" in found:
                yield unix_seconds(timestamp), run, found


def _ended(ask: Ask, asset: str, partition: str | None, event: int | None) -> Ended | None:
    """Return the latest attempt at a partition, where it is over and published nothing.

    Args:
        ask: see `asking`.
        asset: key of the asset, as the storage has it.
        partition: the partition.
        event: number of the event by which the latest attempt was planned.
    """
    while event is not None:
        for run, step, status, end, planned, made in ask(_PLAN, event=event):
            if status in OVER:
                found = Ended(OVER[status], end or unix_seconds(planned), "", run)
                return None if made else _explained(ask, step, found)
        ((event,),) = ask(_EARLIER, asset=asset, partition=partition or "", before=event)
    return None


def _named(asset_key: str) -> str:
    return "/".join(json.loads(asset_key))


def _explained(ask: Ask, step: str, ended: Ended) -> Ended:
    """Return an attempt with the reason why it published nothing."""
    if ended.state == "skipped":
        return Ended("skipped", ended.time, "there was nothing to work on", ended.run)
    found = [json.loads(event)["dagster_event"] for (event,) in ask(_FAILURE, run=ended.run, step=step)]
    errors = [((event.get("event_specific_data") or {}).get("error")) or {} for event in found]
    for error in errors:
        while error.get("cause"):
            error = error["cause"]
        if error.get("message"):
            return Ended("failed", ended.time, error["message"].strip().split("\n")[0][:500], ended.run)
    said = next((event["message"] for event in found if event.get("message")), "the run ended before its turn came")
    return Ended("failed", ended.time, said.split("\n")[0][:500], ended.run)


def unix_seconds(timestamp: Any) -> float:
    """Return a time of the storage, which is UTC without an offset, in Unix seconds."""
    moment = timestamp if isinstance(timestamp, datetime) else datetime.fromisoformat(str(timestamp))
    return moment.replace(tzinfo=UTC).timestamp()


@contextmanager
def asking(storage: str) -> Iterator[Ask]:
    """Yield a function for queries with named parameters, all in one transaction; a missing storage has no rows."""
    if "://" in storage:
        import sqlalchemy as sa

        engine = sa.create_engine(storage, poolclass=sa.NullPool)
        with engine.connect() as remote:
            if not sa.inspect(remote).has_table("daemon_heartbeats"):  # Dagster has not created it yet
                yield lambda *_, **__: []
                return

            def ask(query: str, **values: Any) -> list[tuple[Any, ...]]:
                answer = remote.execute(sa.text(query), values)
                return [tuple(row) for row in answer] if answer.returns_rows else []

            yield ask
        return
    events, runs = Path(storage) / "event_log.db", Path(storage) / "history" / "runs.db"
    if not events.exists():  # Dagster's default: one file per run, and one with the asset events of all runs
        events = Path(storage) / "history" / "runs" / "index.db"
    if not events.exists() or not runs.exists():
        yield lambda *_, **__: []
        return
    expected = "Dagster's event log; restore it from a backup, or move its folder away and run bikes sync"
    with (
        named_errors(events, expected),
        closing(sqlite3.connect(f"{events.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as local,
    ):
        local.execute("pragma page_count").fetchone()  # an error where it was cut off, before the other is read
        with named_errors(runs, "Dagster's runs; restore it and the event log from one backup"):
            local.execute("attach ? as history", [f"{runs.absolute().as_uri()}?mode=ro"])
            local.execute("pragma history.page_count").fetchone()
        if not local.execute(_IS_MATERIALIZED).fetchone()[0]:  # its creation was cut short
            yield lambda *_, **__: []
            return
        yield lambda query, **values: local.execute(query, values).fetchall()
