"""When Dagster's daemon looks at backfills and at its queue: as soon as there is something to do.

Its own loops look every so many seconds: at backfills every 30, without a setting, which for a backfill of short runs
is most of its time. Here both loops stay Dagster's, and only what they wait for between two looks is replaced. That is
not public; tests pin it.
"""

from __future__ import annotations

import threading
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.dagster_run import CANCELABLE_RUN_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._daemon.controller import DEFAULT_DAEMON_INTERVAL_SECONDS
from dagster._daemon.daemon import BackfillDaemon, IntervalDaemon, SpanMarker
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_QUERY_SECONDS = 1
"""How often it is queried whether a backfill can go on; while there is none, it is one query."""
_QUEUED_SECONDS = 300
"""How often a backfill is looked at whose runs still wait in the queue."""
_END_SECONDS = 0.05
"""How often it is looked whether a run's process has ended, which needs no query."""
_ENDING = [BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
_AT_WORK = [BulkActionStatus.REQUESTED, *_ENDING]
_State: TypeAlias = tuple[BulkActionStatus, int | None]


def look_in_time() -> None:
    """Have the daemon of this process look when there is something to do; once is enough."""
    if not hasattr(BackfillDaemon.core_loop, "__wrapped__"):
        _look_at_backfills()
        _look_at_the_queue()


def _look_at_backfills() -> None:
    loop = BackfillDaemon.core_loop

    @wraps(loop)
    def core_loop(self: BackfillDaemon, workspace_process_context: Any, shutdown_event: threading.Event) -> Any:
        backfills = _Backfills(workspace_process_context.instance)
        over = threading.Event()
        over.set()  # for which the loop need not wait
        for reached in loop(self, workspace_process_context, over):
            yield reached
            if reached is SpanMarker.END_SPAN:
                yield from backfills.pause(shutdown_event)

    BackfillDaemon.core_loop = core_loop


def _look_at_the_queue() -> None:
    loop = IntervalDaemon.core_loop

    @wraps(loop)
    def core_loop(
        self: QueuedRunCoordinatorDaemon, workspace_process_context: Any, shutdown_event: threading.Event
    ) -> Any:
        launcher = workspace_process_context.instance.run_launcher
        ended: Callable[[], int] = getattr(launcher, "ended", int)  # another launcher does not say it
        seconds, self.interval_seconds, seen = self.interval_seconds, 0, 0
        try:
            for reached in loop(self, workspace_process_context, shutdown_event):
                if reached is SpanMarker.START_SPAN:
                    seen = ended()
                yield reached
                if reached is SpanMarker.END_SPAN:  # a place is free as soon as a run has ended
                    end = time.monotonic() + seconds
                    while time.monotonic() < end and ended() == seen and not shutdown_event.wait(_END_SECONDS):
                        pass
        finally:
            self.interval_seconds = seconds

    QueuedRunCoordinatorDaemon.core_loop = core_loop


class _Backfills:
    """The backfills of an instance, and whether one of them can go on.

    It can when it was launched or canceled, and when all runs that it has begun have ended. Not with each of them: then
    it would have fewer partitions at a time, and assets that a single run could have materialized get a run each. One
    that was canceled can, too, as soon as a run has begun its steps: Dagster does not terminate it before that.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._seen: dict[str, _State] = {}

    def pause(self, shutdown: threading.Event) -> Iterator[None]:
        """Wait until a backfill can go on, or as long as Dagster does; yield meanwhile, so that heartbeats are sent.

        While each of them has runs in the queue, a look would not have anything begin earlier: that time does not count.
        """
        began = since = time.monotonic()
        while not shutdown.wait(_QUERY_SECONDS):
            states, now = self._states(), time.monotonic()
            if self._are_queued(states):
                since = now
            if (
                any(self._can_go_on(name, state) for name, state in states.items())
                or now - since >= DEFAULT_DAEMON_INTERVAL_SECONDS
                or now - began >= _QUEUED_SECONDS
            ):
                self._seen = states  # the look that follows may miss what changes from now on
                return
            yield

    def _states(self) -> dict[str, _State]:
        """Return each backfill at work, with the number of its runs, or None while one of these has not ended."""
        found = self._instance.get_backfills(filters=BulkActionsFilter(statuses=_AT_WORK))
        return {item.backfill_id: (item.status, self._runs_if_ended(item.backfill_id)) for item in found}

    def _is_to_terminate(self, backfill: str, status: BulkActionStatus) -> bool:
        """Return whether a backfill is to end, and one of its runs can be terminated."""
        runs = _runs_of(backfill, CANCELABLE_RUN_STATUSES)
        return status in _ENDING and bool(self._instance.get_run_ids(runs, limit=1))

    def _runs_if_ended(self, backfill: str) -> int | None:
        if self._instance.get_run_ids(_runs_of(backfill, NOT_FINISHED_STATUSES), limit=1):
            return None
        return self._instance.get_runs_count(_runs_of(backfill))

    def _are_queued(self, backfills: Collection[str]) -> bool:
        """Return whether each of some backfills has a run in the queue."""
        queued = [dg.DagsterRunStatus.QUEUED]
        return bool(backfills) and all(
            self._instance.get_run_ids(_runs_of(name, queued), limit=1) for name in backfills
        )

    def _can_go_on(self, backfill: str, state: _State) -> bool:
        status, runs = state
        seen_status, seen_runs = self._seen.get(backfill, (None, None))
        return (
            status != seen_status or (runs is not None and runs != seen_runs) or self._is_to_terminate(backfill, status)
        )


def _runs_of(backfill: str, statuses: list[dg.DagsterRunStatus] | None = None) -> dg.RunsFilter:
    return dg.RunsFilter(statuses=statuses, tags={BACKFILL_ID_TAG: backfill})
