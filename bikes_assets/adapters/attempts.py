"""What Dagster's event log says of a run: each attempt at a step, how it ended, and the record of what it published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

from bikes_assets.adapters.metadata import RECORD
from bikes_assets.lineage.graph import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dagster._core.events.log import EventLogEntry

_EVENTS = {
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_RESTARTED,
    DagsterEventType.STEP_UP_FOR_RETRY,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
}
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
        step_key: the step, which for an asset bears its name.
        number: 1 for the first attempt.
        start: when it began, Unix seconds.
        end: when it ended, None where Dagster does not know.
        succeeded: whether it did, None where Dagster does not know.
        error: class and message of what stopped it.
        record: what it published.
        published: when, Unix seconds.
    """

    run_id: str
    step_key: str
    number: int
    start: float
    end: float | None = None
    succeeded: bool | None = None
    error: str = ""
    record: Record | None = None
    published: float = 0.0

    @property
    def key(self) -> str:
        """What tells this attempt from every other one."""
        return attempt_key(self.run_id, self.step_key, self.number)

    def status(self, run_status: str) -> str | None:
        """Return MLflow's status of it, None where MLflow has no run for it: it skipped a partition.

        Args:
            run_status: MLflow's status of the Dagster run. Something published stands whatever became of the run.
        """
        if self.record:
            return "FINISHED"
        if self.succeeded:
            return None
        return "KILLED" if run_status == "KILLED" else "FAILED"


def attempt_key(run_id: str, step_key: str, number: int) -> str:
    """Return what tells an attempt from every other one, such as `<run id>/demand_features/1`."""
    return f"{run_id}/{step_key}/{number}"


def attempts_of(instance: dg.DagsterInstance, run_id: str) -> list[Attempt]:
    """Return every attempt at every step of a Dagster run, in the order in which they began."""
    records = instance.get_records_for_run(run_id, of_type=_EVENTS).records
    return _attempts(run_id, (record.event_log_entry for record in records))


def ended(run: dg.DagsterRun) -> str | None:
    """Return MLflow's status of a Dagster run that has ended or is being cancelled; None while it is at work."""
    return _ENDED.get(run.status)


def innermost(error: Any) -> str:
    """Return class and message of the error at the bottom of one that Dagster recorded."""
    while error.cause:
        error = error.cause
    return error.message.strip()


def _attempts(run_id: str, entries: Iterable[EventLogEntry]) -> list[Attempt]:
    found: dict[tuple[str, int], Attempt] = {}
    latest: dict[str, Attempt] = {}
    for entry in entries:
        event = entry.get_dagster_event()
        step, kind = str(event.step_key), event.event_type
        if kind in (DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED):
            number = latest[step].number + 1 if step in latest else 1
            latest[step] = found[step, number] = Attempt(run_id, step, number, entry.timestamp)
        elif step not in latest:
            continue
        elif kind in (DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_OBSERVATION):
            record = _record(event)
            made = found.get((step, int(record.made_by.get("attempt", 1)))) if record else None
            if made:
                made.record, made.published = record, entry.timestamp
        else:
            attempt = latest[step]
            attempt.end, attempt.succeeded = entry.timestamp, kind == DagsterEventType.STEP_SUCCESS
            attempt.error = _error(event)
    return list(found.values())


def _record(event: Any) -> Record | None:
    data = event.event_specific_data
    made = (
        data.materialization if event.event_type == DagsterEventType.ASSET_MATERIALIZATION else data.asset_observation
    )
    return Record.from_dict(made.metadata[RECORD].value) if RECORD in made.metadata else None


def _error(event: Any) -> str:
    """Return class and first line of the innermost error of a failed step."""
    error = getattr(event.event_specific_data, "error", None)
    return innermost(error).split("\n")[0][:500] if error else ""
