"""A run in Dagster's event log: each attempt at a step, how it ended, and the record of what it published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

from bikes_assets.core.errors import LineageError, RecordError
from bikes_assets.core.record import partition_address
from bikes_assets.events.metadata import plots_of
from bikes_assets.events.reported import RECORD, REGISTERED, record_of, registered_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dagster._core.events.log import EventLogEntry

    from bikes_assets.core.record import Record

_EVENTS = {
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_RESTARTED,
    DagsterEventType.STEP_UP_FOR_RETRY,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
}
_INTERRUPTIONS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
"""Exceptions that are no errors: somebody, or the machine, has ended the process."""
_ENDED = {
    DagsterRunStatus.SUCCESS: "FINISHED",
    DagsterRunStatus.FAILURE: "FAILED",
    DagsterRunStatus.CANCELED: "KILLED",
    DagsterRunStatus.CANCELING: "KILLED",
}


@dataclass
class Attempt:
    """One attempt at a step of a Dagster run.

    Attributes:
        run_id: Dagster's run.
        step_key: the step.
        number: 1 for the first attempt.
        start: when it began, Unix seconds.
        asset: the asset that it materializes; the step's key where it materializes none.
        end: when it ended, None where Dagster does not know.
        succeeded: whether it did, None where Dagster does not know.
        error: class and message of what stopped it.
        record: record of what it published.
        published: when it published, Unix seconds.
        registered: number of the registered model version that its event names, 0 where it names none.
        plots: the plots that its event holds, SVG by title.
    """

    run_id: str
    step_key: str
    number: int
    start: float
    asset: str
    end: float | None = None
    succeeded: bool | None = None
    error: str = ""
    record: Record | None = None
    published: float = 0.0
    registered: int = 0
    plots: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """A unique key of this attempt."""
        return attempt_key(self.run_id, self.step_key, self.number)

    def status(self, run_status: str) -> str | None:
        """Return MLflow's status of it, None where MLflow has no run for it: it skipped a partition.

        Args:
            run_status: MLflow's status of the Dagster run. What was published stays published, however the run ended.
        """
        if self.record:
            return "FINISHED"
        if self.succeeded:
            return None
        return "KILLED" if run_status == "KILLED" else "FAILED"


def attempt_key(run_id: str, step_key: str, number: int) -> str:
    """Return a unique key of an attempt, such as `<run id>/demand_features/1`."""
    return f"{run_id}/{step_key}/{number}"


def attempt_of(record: Record) -> str:
    """Return the key of the attempt that materialized a record's version (see `attempt_key`); "" where no step of a run did."""
    made = record.made_by
    if not {"dagster_run_id", "step_key"} <= made.keys():
        return ""
    return attempt_key(made["dagster_run_id"], made["step_key"], int(made.get("attempt", 1)))


def attempts_of(instance: dg.DagsterInstance, run_id: str) -> list[Attempt]:
    """Return every attempt at every step of a Dagster run, in the order in which they started."""
    records = instance.get_records_for_run(run_id, of_type=_EVENTS).records
    return _attempts(run_id, (record.event_log_entry for record in records))


def ended(run: dg.DagsterRun) -> str | None:
    """Return MLflow's status of a Dagster run that has ended or is being cancelled; None while it is running."""
    return _ENDED.get(run.status)


def what_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return in one line what failed in a run, why, and what to do: `demand_features[2012-08]: SchemaError: ...`."""
    last = {attempt.step_key: attempt for attempt in attempts_of(instance, run.run_id)}
    failed = next((attempt for attempt in last.values() if attempt.succeeded is False), None)
    if not failed:
        stopped = next((_address(attempt, run) for attempt in last.values() if attempt.succeeded is None), "")
        return f"{stopped or 'before its first step'}: {_ending(instance, run.run_id)}"
    is_ours = failed.error.partition(":")[0] in _names_of_errors(LineageError)
    return f"{_address(failed, run)}: {failed.error}" + (
        "" if is_ours else "; see the run's events, mend it, then run it again"
    )


def innermost(error: Any) -> str:
    """Return class and message of a step's error: the first of ours, because it says what to do, else the innermost."""
    ours = _names_of_errors(LineageError)
    while error.cause and error.cls_name not in ours:
        error = error.cause
    if error.cls_name in _INTERRUPTIONS:
        return "it was interrupted"
    where, found, text = error.message.strip().partition(f"{error.cls_name}: ")
    # Python names the module of a class before it, which tells its user nothing
    return f"{error.cls_name}: {text}" if found and " " not in where else error.message.strip()


def _address(attempt: Attempt, run: dg.DagsterRun) -> str:
    return partition_address(attempt.asset, run.tags.get("dagster/partition"))


def _ending(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return how a run ended without a failed step: its error, or the last message about it in the event log."""
    kinds = {DagsterEventType.RUN_FAILURE, DagsterEventType.ENGINE_EVENT}
    records = instance.get_records_for_run(run_id, of_type=kinds, limit=2, ascending=False).records
    events = [record.event_log_entry.get_dagster_event() for record in records]
    errors = [getattr(event.event_specific_data, "error", None) for event in events]
    if error := next(filter(None, errors), None):
        return innermost(error).split("\n")[0]
    told = [event.message or "" for event in events]
    # Dagster's own words where a run's process died: "marked as failed from outside", and the reason before
    return (
        (told[-1] if told and "from outside" in told[0] else told[0] if told else "it ended").split("\n")[0].rstrip(".")
    )


def _names_of_errors(kind: type[LineageError]) -> set[str]:
    return {kind.__name__}.union(*(_names_of_errors(item) for item in kind.__subclasses__()))


def _attempts(run_id: str, entries: Iterable[EventLogEntry]) -> list[Attempt]:
    found: dict[tuple[str, int], Attempt] = {}
    latest: dict[str, Attempt] = {}
    assets: dict[str, str] = {}
    for entry in entries:
        event = entry.get_dagster_event()
        step, kind = str(event.step_key), event.event_type
        if kind == DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            assets[step] = event.asset_key.to_user_string() if event.asset_key else step
        elif kind in (DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED):
            number = latest[step].number + 1 if step in latest else 1
            begun = Attempt(run_id, step, number, entry.timestamp, assets.get(step, step))
            latest[step] = found[step, number] = begun
        elif kind in (DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION):
            record, registered, plots = _published(event, run_id)
            if record is None:
                continue
            number = int(record.made_by.get("attempt", 1))
            if (step, number) not in found and record.made_by.get("step_key") == step:
                # an event log that was restored from a copy lacks earlier events: what was published is still known
                found[step, number] = Attempt(run_id, step, number, record.time or entry.timestamp, record.output.asset)
            if made := found.get((step, number)):
                made.record, made.published, made.registered, made.plots = record, entry.timestamp, registered, plots
        elif step in latest:
            attempt = latest[step]
            attempt.end, attempt.succeeded = entry.timestamp, kind == DagsterEventType.STEP_SUCCESS
            attempt.error = _error(event)
    return list(found.values())


def _published(event: Any, run_id: str) -> tuple[Record | None, int, dict[str, str]]:
    """Return the record in an event of a run, the number of the registered model version that it names, and its plots.

    Untrusted contents count as none; `sync` names them.
    """
    data = event.event_specific_data
    made = (
        data.materialization if event.event_type == DagsterEventType.ASSET_MATERIALIZATION else data.asset_observation
    )
    if RECORD not in made.metadata:
        return None, 0, {}
    try:
        number = registered_number(made.metadata[REGISTERED].value) if REGISTERED in made.metadata else 0
        asset, value = made.asset_key.to_user_string(), made.metadata[RECORD].value
        record = record_of(value, asset=asset, partition=made.partition, run_id=run_id)
        return record, number, plots_of(made.metadata)
    except RecordError:
        return None, 0, {}


def _error(event: Any) -> str:
    """Return class and first line of the innermost error of a failed step."""
    error = getattr(event.event_specific_data, "error", None)
    return innermost(error).split("\n")[0][:500] if error else ""
