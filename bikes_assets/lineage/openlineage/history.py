"""Dagster's runs and the attempts at their steps, with what each published: read in SQL, without importing Dagster.

Its tables and the form of its events are not a public interface: a test compares what is read here with the results of
Dagster's own calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import StoreError
from bikes_assets.core.record import Record, partition_address
from bikes_assets.core.secrets import shown
from bikes_assets.core.texts import shortened
from bikes_assets.events.reported import FIRST_MARK, MARKED, Reported, read
from bikes_assets.events.run_log import asking, unix_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bikes_assets.events.run_log import Ask

_RUNS = """
select id, run_id, pipeline_name, status, start_time, end_time from runs where start_time is not null
and (start_time > :start or start_time = :start and id > :last) {which} order by start_time, id limit :most
"""
_STEPS = """
select id, dagster_event_type, step_key, asset_key, partition, timestamp, event from event_logs where run_id = :run
and dagster_event_type in ('ASSET_MATERIALIZATION_PLANNED', 'STEP_START', 'STEP_RESTARTED', 'STEP_UP_FOR_RETRY',
'STEP_SUCCESS', 'STEP_FAILURE', 'ASSET_CHECK_EVALUATION', 'PIPELINE_FAILURE', 'PIPELINE_CANCELED') order by id
"""
_REPORTED = """
select id, run_id, asset_key, partition, event from event_logs where run_id = :run
and dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION') order by id
"""
_OUTSIDE = """
select id, run_id, asset_key, partition, event from event_logs e where id > :last and id <= :until
and dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
and not exists (select 1 from runs r where r.run_id = e.run_id and r.start_time is not null) order by id limit :most
"""
_BATCH = 100
_INTERRUPTED = "it was interrupted"


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A run of Dagster.

    Attributes:
        id: Dagster's id.
        job: Dagster's name of the job.
        status: Dagster's status.
        start: when it started, Unix seconds.
        end: when it ended, None while it has not.
        error: why it failed, as far as the log says.
    """

    id: str
    job: str
    status: str
    start: float
    end: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check of an asset.

    Attributes:
        name: the check.
        passed: whether what is expected holds.
        blocking: whether a failure keeps the asset from being published.
        values: what its event says beside: `expected` and `found` in words, and numbers.
    """

    name: str
    passed: bool
    blocking: bool
    values: Mapping[str, Any]


@dataclass(slots=True)
class StepAttempt:
    """An attempt to materialize one partition of an asset.

    Attributes:
        run: Dagster's run, None where the version was published outside of any that the log knows.
        asset: the asset.
        partition: its partition, None where it has none.
        number: 1 for the first attempt.
        start: when it began, Unix seconds, None where the log does not say.
        end: when it ended, Unix seconds, None where the log does not say.
        succeeded: whether it did, None where the log does not say.
        error: class and message of what stopped it.
        reported: the event that reports what it published, None where it published nothing.
        checks: the checks that were evaluated on it.
    """

    run: PipelineRun | None
    asset: str
    partition: str | None
    number: int = 1
    start: float | None = None
    end: float | None = None
    succeeded: bool | None = None
    error: str = ""
    reported: Reported | None = None
    checks: list[CheckResult] = field(default_factory=list[CheckResult])

    @property
    def record(self) -> Record | None:
        """The record of what it published."""
        return self.reported.record if self.reported else None

    @property
    def outcome(self) -> str | None:
        """How it ended, as OpenLineage calls it: COMPLETE, FAIL or ABORT; None while it has not, or nobody knows.

        What was published stays published, however the run ended.
        """
        if self.record or self.succeeded:
            return "COMPLETE"
        status = self.run.status if self.run else ""
        if self.error == _INTERRUPTED or (self.succeeded is None and status == "CANCELED"):
            return "ABORT"
        return "FAIL" if self.succeeded is False or status == "FAILURE" else None

    @property
    def ended(self) -> float | None:
        """When it ended, Unix seconds: by the log, else when it published, else when its run ended."""
        if self.end is not None or not self.reported:
            return self.end if self.end is not None else self.run.end if self.run else None
        return self.reported.time if self.run is None or not self.record else self.record.time


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log: some runs, each completely, and the events outside of any known run that have certain numbers.

    Attributes:
        runs: ids of the runs.
        since: number of the event after which those outside of runs are read.
        until: number of the last one of them.
    """

    runs: frozenset[str]
    since: int
    until: int


def history(storage: str, part: LogPart | None = None) -> Iterator[tuple[PipelineRun | None, list[StepAttempt]]]:
    """Yield each run with its attempts, by start; what was published outside of any known run comes alone, with None.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        part: what is read of the log, None for all of it.

    Raises:
        StoreError: an event is damaged: what is told of it would be incomplete without saying so.
    """
    with asking(storage) as ask:
        first_mark = next((number for (number,) in ask(FIRST_MARK, mark=MARKED)), None)
        outside = _outside(ask, storage, first_mark, part)
        alone = next(outside, None)
        for run in _runs(ask, part):
            while alone and (alone.ended or 0.0) < run.start:
                yield None, [alone]
                alone = next(outside, None)
            yield _with_attempts(ask, storage, run, first_mark)
        while alone:
            yield None, [alone]
            alone = next(outside, None)


def _runs(ask: Ask, part: LogPart | None) -> Iterator[PipelineRun]:
    start, last, names = -1.0, 0, dict[str, str]()
    if part is not None:
        names = {f"run_{number}": run for number, run in enumerate(sorted(part.runs))}
    which = "" if part is None else f"and run_id in ({', '.join(f':{name}' for name in names) or 'null'})"
    while rows := ask(_RUNS.format(which=which), start=start, last=last, most=_BATCH, **names):
        yield from (PipelineRun(run, job, status, begun, end) for _, run, job, status, begun, end in rows)
        last, start = rows[-1][0], rows[-1][4]


def _outside(ask: Ask, storage: str, first_mark: int | None, part: LogPart | None) -> Iterator[StepAttempt]:
    last, until = (part.since, part.until) if part else (0, 2**62)
    while rows := ask(_OUTSIDE, last=last, until=until, most=_BATCH):
        for found in _trusted(rows, storage, first_mark):
            yield StepAttempt(None, found.asset, found.partition, reported=found)
        last = rows[-1][0]


def _trusted(rows: Sequence[tuple[Any, ...]], storage: str, first_mark: int | None) -> Iterator[Reported]:
    """Yield the events with a record that is trusted."""
    for found in read(rows, first_mark):  # pyright: ignore[reportArgumentType] - as the query selects them
        if found.damage:
            name = partition_address(shortened(found.asset), found.partition and shortened(found.partition))
            raise StoreError(
                f"{shown(storage)}: found event {found.number} of {name} damaged ({found.damage}), expected it as it was "
                "written; restore Dagster's event log from a backup"
            )
        if found.record:
            yield found


def _with_attempts(
    ask: Ask, storage: str, run: PipelineRun, first_mark: int | None
) -> tuple[PipelineRun, list[StepAttempt]]:
    """Return a run with its attempts, in the order in which they started."""
    rows = ask(_STEPS, run=run.id)
    if why := [_why(event) for _, kind, *_, event in rows if kind in ("PIPELINE_FAILURE", "PIPELINE_CANCELED")]:
        run = PipelineRun(run.id, run.job, run.status, run.start, run.end, why[-1])
    attempts, assets = dict[tuple[str, int], StepAttempt](), dict[str, tuple[str, str | None]]()
    latest = dict[str, StepAttempt]()
    for _, kind, step, asset, partition, timestamp, event in rows:
        if kind == "ASSET_MATERIALIZATION_PLANNED":
            assets[step] = ("/".join(json.loads(asset)), partition)
        elif kind in ("STEP_START", "STEP_RESTARTED") and step in assets:
            number = latest[step].number + 1 if step in latest else 1
            begun = StepAttempt(run, *assets[step], number, unix_seconds(timestamp))
            attempts[step, number] = latest[step] = begun
        elif kind == "ASSET_CHECK_EVALUATION":
            _add_check(latest, json.loads(event))
        elif kind.startswith("STEP_") and step in latest:
            attempt = latest[step]
            attempt.end, attempt.succeeded = unix_seconds(timestamp), kind == "STEP_SUCCESS"
            attempt.error = "" if attempt.succeeded else _why(event)
    for found in _trusted(ask(_REPORTED, run=run.id), storage, first_mark):
        made: Mapping[str, str] = found.record.made_by if found.record else {}
        key = (made.get("step_key", found.asset), int(made.get("attempt", 1)))
        known = attempts.setdefault(key, StepAttempt(run, found.asset, found.partition, key[1]))
        known.reported = found
    return run, list(attempts.values())


def _add_check(latest: Mapping[str, StepAttempt], entry: Mapping[str, Any]) -> None:
    data = entry["dagster_event"]["event_specific_data"]
    asset = "/".join(data["asset_key"]["path"])
    for attempt in latest.values():
        if attempt.asset == asset:
            values = {
                name: next((value for key, value in told.items() if key != "__class__"), None)
                for name, told in data["metadata"].items()
            }
            attempt.checks.append(CheckResult(data["check_name"], data["success"], bool(data.get("blocking")), values))


def _why(event: str) -> str:
    """Return in one line why a step or a run failed."""
    told = json.loads(event)["dagster_event"]
    error = (told.get("event_specific_data") or {}).get("error")
    if not error:
        return (told.get("message") or "").strip().split("\n")[0][:500]
    from bikes_assets.events.attempts import innermost  # imports Dagster, which only a failure needs

    return innermost(_as_object(error)).split("\n")[0][:500]


def _as_object(error: Mapping[str, Any]) -> SimpleNamespace:
    """Return an error as Dagster stores it in the form of Dagster's own object."""
    cause = error.get("cause")
    return SimpleNamespace(
        cls_name=error.get("cls_name") or "", message=error["message"], cause=_as_object(cause) if cause else None
    )
