"""The SQLite file that remembers what each receiver has had. Without it everything is sent again, which is no second run."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bikes_assets.storage.sqlite_files import named_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FORMAT = 1
"""Number of this layout; a file with another one is started over."""
_SCHEMA = """
create table receiver (name text primary key, cursor integer not null, log text not null, succeeded real, failed real,
  error text not null, failures integer not null) without rowid;
create table run (receiver text, run text, last integer, primary key (receiver, run)) without rowid;
create table event (receiver text, run text, event text, digest text not null, primary key (receiver, run, event))
  without rowid;
"""
_TABLES = ("receiver", "run", "event")
_LONGEST, _FIRST = 900.0, 15.0
"""Most and least seconds until a receiver that failed is asked again."""


@dataclass(slots=True)
class Position:
    """What a receiver has had.

    Attributes:
        cursor: number of the last event of the log before which it has had everything that is known.
        log: what tells that event from another of its number, "" where there is none.
        runs: runs that are looked at again, by id: those that are going on with None, those that are over with the
            number of the last event of theirs that was read.
        events: of these runs, the digest of each event that it has had, by run and event.
    """

    cursor: int = 0
    log: str = ""
    runs: dict[str, int | None] = field(default_factory=dict[str, "int | None"])
    events: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])


@dataclass(frozen=True, slots=True)
class Contact:
    """How a receiver has answered.

    Attributes:
        succeeded: when it last took an event, Unix seconds, None where it never did.
        failed: when it last failed, Unix seconds, None where it has not since it last took one.
        error: why.
        failures: how many times in a row it has failed.
    """

    succeeded: float | None = None
    failed: float | None = None
    error: str = ""
    failures: int = 0

    @property
    def again(self) -> float:
        """When a sender that goes on by itself asks it again, Unix seconds: later each time that it fails."""
        if self.failed is None:
            return 0.0
        return self.failed + min(_LONGEST, _FIRST * 2 ** min(self.failures - 1, 10))

    def is_due(self, now: float) -> bool:
        """Return whether to ask it by now; also where the clock was set back since it failed."""
        return self.failed is None or not self.failed <= now < self.again


class SentFile:
    """The file; one process at a time may write to it.

    Args:
        path: the SQLite file.
        store: a connection to it.
    """

    def __init__(self, path: Path, store: sqlite3.Connection) -> None:
        self.path, self._store = path, store

    def position(self, receiver: str) -> Position:
        """Return what a receiver has had."""
        found = self._store.execute("select cursor, log from receiver where name = ?", [receiver]).fetchone()
        position = Position(*(found or ()))
        position.runs.update(self._store.execute("select run, last from run where receiver = ?", [receiver]))
        rows = self._store.execute("select run, event, digest from event where receiver = ?", [receiver])
        for run, event, digest in rows:
            position.events.setdefault(run, {})[event] = digest
        return position

    def contact(self, receiver: str) -> Contact:
        """Return how a receiver has answered."""
        query = "select succeeded, failed, error, failures from receiver where name = ?"
        return Contact(*(self._store.execute(query, [receiver]).fetchone() or ()))

    def took(self, receiver: str, events: Mapping[tuple[str, str], str]) -> None:
        """Store that a receiver has had events: the digest of each by run and event."""
        with self._written(receiver):
            self._store.executemany(
                "insert or replace into event values (?, ?, ?, ?)",
                [(receiver, run, event, digest) for (run, event), digest in events.items()],
            )
            values = [time.time(), receiver]
            self._store.execute(
                "update receiver set succeeded = ?, failed = null, error = '', failures = 0 where name = ?", values
            )

    def failed(self, receiver: str, error: str) -> None:
        """Store that a receiver has not taken an event, and why."""
        with self._written(receiver):
            self._store.execute(
                "update receiver set failed = ?, error = ?, failures = failures + 1 where name = ?",
                [time.time(), error, receiver],
            )

    def moved(self, receiver: str, position: Position) -> None:
        """Store how far a receiver is, and forget the events of runs that are not looked at again."""
        with self._written(receiver):
            self._store.execute(
                "update receiver set cursor = ?, log = ? where name = ?", [position.cursor, position.log, receiver]
            )
            known = dict(self._store.execute("select run, last from run where receiver = ?", [receiver]))
            kept = {
                run for (run,) in self._store.execute("select distinct run from event where receiver = ?", [receiver])
            }
            for table, runs in (("run", known.keys() - position.runs), ("event", kept - position.runs.keys())):
                self._store.executemany(
                    f"delete from {table} where receiver = ? and run = ?",  # noqa: S608 - names of ours
                    [(receiver, run) for run in runs],
                )
            self._store.executemany(
                "insert or replace into run values (?, ?, ?)",
                [(receiver, *item) for item in position.runs.items() if item not in known.items()],
            )

    @contextmanager
    def _written(self, receiver: str) -> Iterator[None]:
        with self._store:  # commits, or rolls back after an error
            self._store.execute("begin immediate")
            self._store.execute("insert or ignore into receiver values (?, 0, '', null, null, '', 0)", [receiver])
            yield


@contextmanager
def opened(path: Path, *, create: bool) -> Iterator[SentFile]:
    """Yield the file.

    Args:
        path: the SQLite file.
        create: whether to create it where there is none, or one of another layout; else it is read as empty.

    Raises:
        StoreError: it is no such file, or a damaged one.
    """
    expected = "what each OpenLineage receiver has had; remove it: everything is sent again, which is no second run"
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    place = path if create or path.exists() else ":memory:"
    with named_errors(path, expected), closing(sqlite3.connect(place, timeout=30, isolation_level=None)) as store:
        (layout,) = store.execute("pragma user_version").fetchone()
        if layout != FORMAT and not create and place is path:
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
                _create(empty)
                yield SentFile(path, empty)
            return
        if layout != FORMAT:
            _create(store)
        store.execute("pragma synchronous = normal")
        yield SentFile(path, store)


def _create(store: sqlite3.Connection) -> None:
    with store:
        store.execute("begin immediate")
        for table in _TABLES:
            store.execute(f"drop table if exists {table}")
        for statement in filter(str.strip, _SCHEMA.split(";\n")):
            store.execute(statement)
        store.execute(f"pragma user_version = {FORMAT}")
