"""What a receiver has not had yet: the event log is the outbox, and each receiver has a position in it.

A receiver gets every event at least once: its position moves on when it has taken everything before. It may get one again,
after an interruption, or where the log tells more of it later; ids are computed, so that is no second run. Events go in
windows of the log, so that the work is as large as what is new, however long the history is.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from openlineage.client.serde import Serde

from bikes_assets.events.run_log import OVER, asking
from bikes_assets.lineage.event_log import newest_event
from bikes_assets.lineage.openlineage.events import Selection, line, run_events
from bikes_assets.lineage.openlineage.history import LogPart, history
from bikes_assets.lineage.openlineage.names import parent_id, run_id
from bikes_assets.lineage.openlineage.sending.receivers import DeliveryError
from bikes_assets.lineage.openlineage.sending.sent_file import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from openlineage.client.event_v2 import RunEvent

    from bikes_assets.events.run_log import Ask
    from bikes_assets.lineage.openlineage.catalog import Catalog
    from bikes_assets.lineage.openlineage.history import PipelineRun, StepAttempt
    from bikes_assets.lineage.openlineage.sending.receivers import Receiver
    from bikes_assets.lineage.openlineage.sending.sent_file import SentFile

    History = Iterable[tuple[PipelineRun | None, Sequence[StepAttempt]]]

_TELLING = """dagster_event_type in ('PIPELINE_START', 'PIPELINE_SUCCESS', 'PIPELINE_FAILURE', 'PIPELINE_CANCELED',
'STEP_START', 'STEP_RESTARTED', 'STEP_UP_FOR_RETRY', 'STEP_SUCCESS', 'STEP_FAILURE', 'ASSET_CHECK_EVALUATION',
'ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')"""
"""Which events of the log say something that is sent."""
_NEW = f"select id, run_id from event_logs where id > :since and id <= :until and {_TELLING} order by id"  # noqa: S608
_UNTIL = """
select max(id) from (select id from event_logs where id > :since and id <= :newest order by id limit :most) numbers
"""
_AT = "select run_id, timestamp, event from event_logs where id = :number"
_MOST = 2000
"""Events of the log in a window, of any kind."""
_AT_ONCE, _SECONDS = 25, 1.0
"""After how many events, or seconds, it is stored that a receiver has had them."""


@dataclass(slots=True)
class LogWindow:
    """A part of the log that a receiver has not had, or not all of.

    Attributes:
        part: what is read of the log.
        last: number of the last event of each of these runs that was there before the run was read.
        ended: those of the runs that were over before they were read, or were deleted.
        over: those of the runs that were over when they were read; complete when all events were read.
        owner: the Dagster run of each run of OpenLineage, "" for what was published outside of any.
    """

    part: LogPart
    last: dict[str, int]
    ended: frozenset[str]
    over: set[str] = field(default_factory=set[str])
    owner: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Unsent:
    """An event that a receiver has not had, or not with this content.

    Attributes:
        event: the event.
        key: Dagster's run, and the run and the type of the event.
        digest: of its content.
    """

    event: RunEvent
    key: tuple[str, str]
    digest: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of sending to a receiver.

    Attributes:
        receiver: its name.
        sent: how many events it took.
        is_complete: whether it has had everything.
        error: why it did not take the next one, "" where it did, or was not asked.
        is_restarted: whether it gets everything again, since the log is another one than before.
    """

    receiver: str
    sent: int = 0
    is_complete: bool = False
    error: str = ""
    is_restarted: bool = False


def deliver(storage: str, receiver: Receiver, file: SentFile, catalog: Callable[[], Catalog], until: float) -> Delivery:
    """Send a receiver what it has not had, one event at least, until all is sent, it fails, or the time is over.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        receiver: the receiver.
        file: what receivers have had.
        catalog: returns the project; called only where there is something new.
        until: when to stop, in seconds of `time.monotonic`.

    Raises:
        StoreError: an event of the log is damaged.
    """
    position, sent, taken = file.position(receiver.name), 0, _Taken(file, receiver.name)
    is_restarted = _restart_where_other(storage, position)
    if is_restarted:
        file.moved(receiver.name, position)
    before = replace(position)
    try:
        for window in _windows(storage, position):
            for item in _unsent(storage, position, window, catalog()):
                if sent and time.monotonic() > until:
                    return Delivery(receiver.name, sent, is_restarted=is_restarted)
                receiver.send(item.event)
                taken.add(position, item)
                sent += 1
            taken.store()
            _move(storage, position, window)
            file.moved(receiver.name, position)
        if (before.cursor, before.log) != (position.cursor, position.log):
            file.moved(receiver.name, position)
    except DeliveryError as error:
        taken.store()
        file.failed(receiver.name, str(error))
        return Delivery(receiver.name, sent, error=str(error), is_restarted=is_restarted)
    finally:
        taken.store()
    return Delivery(receiver.name, sent, is_complete=True, is_restarted=is_restarted)


def behind(storage: str, position: Position, catalog: Callable[[], Catalog]) -> tuple[int, str]:
    """Return how many events a receiver has not had, and the time of the oldest, "" where there is none."""
    _restart_where_other(storage, position)
    count, oldest = 0, ""
    for window in _windows(storage, position):
        for item in _unsent(storage, position, window, catalog()):
            count += 1
            oldest = min(oldest or item.event.eventTime, item.event.eventTime)
            run, key = item.key
            position.events.setdefault(run, {})[key] = item.digest
        _move(storage, position, window)
    return count, oldest


class _Taken:
    """Stores which events a receiver has had, several at a time."""

    def __init__(self, file: SentFile, receiver: str) -> None:
        self._file, self._receiver = file, receiver
        self._events, self._since = dict[tuple[str, str], str](), time.monotonic()

    def add(self, position: Position, item: Unsent) -> None:
        run, event = item.key
        position.events.setdefault(run, {})[event] = item.digest
        self._events[item.key] = item.digest
        if len(self._events) >= _AT_ONCE or time.monotonic() - self._since > _SECONDS:
            self.store()

    def store(self) -> None:
        if self._events:
            self._file.took(self._receiver, self._events)
        self._events, self._since = {}, time.monotonic()


def _restart_where_other(storage: str, position: Position) -> bool:
    """Start again, and return True, where the log is not the one in which a position is.

    A restored backup goes on from where it was, and gives the numbers after it a second time.
    """
    if not position.cursor or position.log == _identity(storage, position.cursor):
        return False
    position.cursor, position.log = 0, ""
    position.runs.clear()
    position.events.clear()
    return True


def _identity(storage: str, number: int) -> str:
    """Return what tells an event of the log from another one of its number, "" where there is none.

    As long as it is there, no number up to it was given again.
    """
    with asking(storage) as ask:
        rows = [(str(run), str(at), event) for run, at, event in ask(_AT, number=number)]
    return hashlib.sha256(repr(rows).encode()).hexdigest() if rows else ""


def _windows(storage: str, position: Position) -> Iterator[LogWindow]:
    """Yield what a receiver has not had, in windows; the caller moves the position after each, see `_move`."""
    newest = newest_event(storage)
    with asking(storage) as ask:
        going_on = [run for run, last in position.runs.items() if last is None]
        states = _states(ask, going_on) if going_on else {}
    ended = {run for run in going_on if run not in states or states[run][0] in OVER}
    begun = {run for run, (_, is_begun) in states.items() if is_begun and run not in position.events}
    while position.cursor < newest or ended or begun:
        since = position.cursor
        with asking(storage) as ask:
            # the number of an event that is there, by which the log is known again
            until = ask(_UNTIL, since=since, newest=newest, most=_MOST)[0][0] if newest > since else since
            rows = ask(_NEW, since=since, until=until) if until > since else []
            last = {run: number for number, run in rows if run}
            touched = {run for run, number in last.items() if (position.runs.get(run) or 0) < number}
            touched |= ended | begun
            last_of = _last_of(ask, sorted(touched))
        if rows or touched:
            yield LogWindow(LogPart(frozenset(touched), since, until), last_of, frozenset(ended))
            ended, begun = set[str](), set[str]()
        else:  # nothing that is sent
            position.cursor, position.log = until, _identity(storage, until)


def _unsent(storage: str, position: Position, window: LogWindow, catalog: Catalog) -> Iterator[Unsent]:
    """Yield the events of a window that a receiver has not had, or not with the content that they have by now."""
    for event in run_events(_watched(history(storage, window.part), window), catalog, Selection()):
        run, state = event.run.runId, event.eventType.value if event.eventType else ""
        key = (window.owner[run], f"{run} {state}")
        digest = hashlib.sha256(line(Serde.to_dict(event)).encode()).hexdigest()[:32]
        if position.events.get(key[0], {}).get(key[1]) != digest:
            yield Unsent(event, key, digest)


def _watched(found: History, window: LogWindow) -> History:
    """Yield runs with what is known for good, and note which are over and which runs of OpenLineage are theirs.

    Of a run that is going on, an attempt that has published ends only with its step: the log has more to say of it.
    """
    for run, attempts in found:
        if run is not None:
            window.owner[parent_id(run.id)] = run.id
            if run.status in OVER:
                window.over.add(run.id)
            else:
                attempts = [replace(item, reported=item.reported if item.end else None) for item in attempts]
        window.owner.update({run_id(item): run.id if run else "" for item in attempts})
        yield run, attempts


def _move(storage: str, position: Position, window: LogWindow) -> None:
    """Move a position behind a window all of whose events were delivered."""
    position.cursor = window.part.until
    position.log = _identity(storage, position.cursor)
    begun = {*window.owner.values()}
    for run in window.part.runs:
        if run in window.over:
            position.runs[run] = window.last.get(run, 0)
        elif run in begun or run not in window.ended:
            position.runs[run] = None  # where it has ended meanwhile, it is read the next time
        else:
            position.runs.pop(run, None)  # it never began, or was deleted
    for run in [run for run, last in position.runs.items() if last is not None and last <= position.cursor]:
        del position.runs[run]
    for run in position.events.keys() - position.runs.keys():
        del position.events[run]


def _states(ask: Ask, runs: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Return the status of each run that is there, and whether it has begun.

    Dagster stores an event of a run before it changes the run's status and times, which may be read in between.
    """
    query, names = _of("select run_id, status, start_time is not null from runs where run_id in ({})", runs)
    return {run: (status, bool(is_begun)) for run, status, is_begun in ask(query, **names)}


def _last_of(ask: Ask, runs: Sequence[str]) -> dict[str, int]:
    """Return the number of the last event of each run that says something that is sent."""
    query = f"select run_id, max(id) from event_logs where run_id in ({{}}) and {_TELLING} group by run_id"  # noqa: S608
    query, names = _of(query, runs)
    return dict(ask(query, **names)) if runs else {}


def _of(query: str, runs: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return a query of some runs, and its parameters."""
    names = {f"run_{number}": run for number, run in enumerate(runs)}
    return query.format(", ".join(f":{name}" for name in names)), names
