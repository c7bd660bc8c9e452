"""OpenLineage events of other producers, in one SQLite file: stored as they came, and what they say of lineage beside it.

What is computed from the events is a function of the set of them: in whatever order they come, and however often, the
same things, edges and facts are found. An edge holds from the first time that an event tells of it.

An event of a run says which datasets it reads and writes, maybe over several events. From these it follows what is
computed from what, unless an event says that itself, by the facet `lineage`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import EventError, StoreError
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB, RUN
from bikes_assets.lineage.openlineage.parsed import Entity, Parsed, kept, parse
from bikes_assets.storage.sqlite_files import file_at, named_errors

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
"""Number of what is read from events; where a file has another one, it is read from its events again."""
KINDS = (DATASET, COLUMN, JOB, RUN)
_EVENTS = """
create table if not exists event (
  id integer primary key, digest blob not null unique, received real not null, content blob not null
)
"""
_TABLES = {
    "entity": """
(id integer primary key, kind integer not null, label text not null, col text not null, since real not null,
  unique (label, kind, col))
""",
    "fact": "(entity integer, facet text, time real not null, value text not null, primary key (entity, facet)) without rowid",
    "edge": """
(source integer, target integer, kind text, since real not null, primary key (source, target, kind)) without rowid
""",
    "unit": "(id integer primary key, job integer not null, run integer not null, unique (job, run))",
    "used": """
(unit integer, is_output integer, dataset integer, since real not null, primary key (unit, is_output, dataset))
without rowid
""",
    "explicit": "(unit integer, dataset integer, primary key (unit, dataset)) without rowid",
    "symlink": "(dataset integer, other integer, primary key (dataset, other)) without rowid",
}
"""What is read from the events: a unit is a run of a job, or the job itself, with 0 for its run, where no run is told of."""
_INDICES = (
    "create index edge_target on edge (target)",
    "create index used_dataset on used (dataset, is_output)",
    "create index unit_run on unit (run)",
    "create index symlink_other on symlink (other)",
)
_BATCH = 1_000
"""Number of events that are stored in one transaction."""
_CACHE_KILOBYTES = 64_000
_MOST_REFUSED = 1_000
"""Number of invalid events whose reasons are told, so that a request of millions of them takes no memory."""
_MOST_KNOWN = 300_000
"""Number of things that are remembered while events are read."""
_AGAIN = "OpenLineage events; restore it from a backup, or move it away and have the producers send their events again"


@dataclass(slots=True)
class Added:
    """What became of some events.

    Attributes:
        stored: how many were new.
        known: how many were there already.
        refused: place of each invalid one among them, from 0, and what is wrong with it; of the first ones alone.
        invalid: how many were invalid.
    """

    stored: int = 0
    known: int = 0
    refused: dict[int, str] = field(default_factory=dict[int, str])
    invalid: int = 0

    def refuse(self, place: int, why: str) -> None:
        """Count an invalid event."""
        self.invalid += 1
        if len(self.refused) < _MOST_REFUSED:
            self.refused[place] = why


class Received:
    """Events of other producers in a file, which is created when the first ones are added; for one thread.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, int] | None = None

    def add(self, events: Iterable[object]) -> Added:
        """Store events, and what they say; those that are there already are not stored again.

        Args:
            events: JSON values. A `EventError` among them stands for something that could not even be read.

        Raises:
            StoreError: the file is damaged.
        """
        added, place, waiting = Added(), 0, iter(events)
        while batch := [*islice(waiting, _BATCH)]:
            with self._written() as store:
                reader = _Reader(store)
                for event in batch:
                    try:
                        self._add(reader, event, added)
                    except EventError as error:
                        added.refuse(place, str(error))
                    place += 1
        return added

    def _add(self, reader: _Reader, event: object, added: Added) -> None:
        if isinstance(event, EventError):
            raise event
        parsed, content = parse(event), _canonical(event)
        row = [hashlib.sha256(content).digest(), time.time(), zlib.compress(content, 1)]
        if reader.store.execute("insert or ignore into event values (null, ?, ?, ?)", row).rowcount:
            reader.read(parsed)
            added.stored += 1
        else:
            added.known += 1

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield all events in the order in which they came.

        Raises:
            StoreError: one is not as it was stored.
        """
        yield from (event for _, event in self._events())

    def _events(self, since: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        while rows := self.store.execute(
            "select id, digest, content from event where id > ? order by id limit ?", [since, _BATCH]
        ).fetchall():
            for number, digest, content in rows:
                try:
                    text = zlib.decompress(content)
                except zlib.error:
                    text = b""
                if hashlib.sha256(text).digest() != digest:
                    raise StoreError(f"{self.path}: found event {number} damaged, expected {_AGAIN}")
                yield number, json.loads(text)
            since = rows[-1][0]

    def counts(self) -> dict[str, int]:
        """Return how many events there are, and how many things of each kind they name."""
        (events,) = self.store.execute("select count(*) from event").fetchone()
        rows = self.store.execute("select kind, count(*) from entity group by kind order by kind")
        return {"event": events, **{KINDS[kind]: count for kind, count in rows}}

    def close(self) -> None:
        """Close the file."""
        if "store" in self.__dict__:
            self.store.close()
            del self.__dict__["store"]

    @cached_property
    def store(self) -> sqlite3.Connection:
        """The file, which is created where there is none, and read from its events again where it is of another version.

        Raises:
            StoreError: it is damaged.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with named_errors(self.path, _AGAIN):
            store = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            try:
                store.execute(f"pragma cache_size = -{_CACHE_KILOBYTES}")
                if store.execute("pragma user_version").fetchone()[0] != FORMAT:
                    self._create(store)
                self._open = file_at(self.path)
            except BaseException:
                store.close()
                raise
        return store

    def check(self) -> None:
        """Close the file where another one, or none, is at its path by now: what is written to it would be lost."""
        if "store" in self.__dict__ and file_at(self.path) != self._open:
            self.close()

    def _create(self, store: sqlite3.Connection) -> None:
        store.execute("begin immediate")
        # of two processes, the later one finds it done
        if store.execute("pragma user_version").fetchone()[0] != FORMAT:
            store.execute(_EVENTS)
            for table, columns in _TABLES.items():
                store.execute(f"drop table if exists {table}")
                store.execute(f"create table {table} {columns}")
            for index in _INDICES:
                store.execute(index)
            reader = _Reader(store)
            self.__dict__["store"] = store
            for _, event in self._events():
                with suppress(EventError):  # it was taken by an earlier version, and stays
                    reader.read(parse(event))
            store.execute(f"pragma user_version = {FORMAT}")
        store.execute("commit")

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        self.check()
        with named_errors(self.path, _AGAIN):
            self.store.execute("begin immediate")
            try:
                yield self.store
            except BaseException:
                self.store.execute("rollback")
                raise
            self.store.execute("commit")


class _Reader:
    """Adds what events say, inside a transaction.

    Args:
        store: the file.
    """

    def __init__(self, store: sqlite3.Connection) -> None:
        self.store = store
        self._known: dict[Entity, tuple[int, float]] = {}

    def read(self, parsed: Parsed) -> None:
        """Add what an event says."""
        time = parsed.time
        ids = {entity: self._id(entity, time) for entity in parsed.facts}
        facts = (
            (ids[entity], facet, time, text)
            for entity, facets in parsed.facts.items()
            for facet, value in facets.items()
            if (text := kept(value))
        )
        self.store.executemany(
            "insert into fact values (?, ?, ?, ?) on conflict do update set time = excluded.time, value = excluded.value "
            "where (excluded.time, excluded.value) > (time, value)",
            facts,
        )
        self.store.executemany(
            "insert into edge values (?, ?, ?, ?) on conflict do update set since = min(since, excluded.since)",
            ((self._id(link.source, time), self._id(link.target, time), link.kind, time) for link in parsed.links),
        )
        links = ((self._id(one, time), self._id(other, time)) for one, other in parsed.symlinks)
        self.store.executemany("insert or ignore into symlink values (?, ?)", links)
        if parsed.job:
            self._use(parsed, ids)

    def _use(self, parsed: Parsed, ids: Mapping[Entity, int]) -> None:
        """Add what a run reads and writes; of an event without a run, what the job does."""
        assert parsed.job  # noqa: S101 - the caller has looked
        pair = [ids[parsed.job], ids[parsed.run] if parsed.run else 0]
        self.store.execute("insert or ignore into unit (job, run) values (?, ?)", pair)
        (unit,) = self.store.execute("select id from unit where job = ? and run = ?", pair).fetchone()
        self.store.executemany(
            "insert into used values (?, ?, ?, ?) on conflict do update set since = min(since, excluded.since)",
            ((unit, role == "wrote", ids[dataset], parsed.time) for dataset, role in parsed.uses),
        )
        told = ((unit, self._id(dataset, parsed.time)) for dataset in parsed.explicit)
        self.store.executemany("insert or ignore into explicit values (?, ?)", told)

    def _id(self, entity: Entity, time: float) -> int:
        found, since = self._known.get(entity, (0, 0.0))
        if not found or time < since:
            row = [KINDS.index(entity.kind), entity.label, entity.column, time]
            query = (
                "insert into entity values (null, ?, ?, ?, ?) on conflict do update set since = min(since, excluded.since) "
                "returning id, since"
            )
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            (found, since) = self.store.execute(query, row).fetchone()
            self._known[entity] = found, since
        return found


def _canonical(event: object) -> bytes:
    """Return an event as JSON, the same for the same content."""
    try:
        return json.dumps(event, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # 1e999 is JSON, but would be written as Infinity, which is none
        raise EventError("found a number that is too large, expected one that a double holds") from None


def one_by_one(values: Iterable[object]) -> Iterator[object]:
    """Yield the events of JSON values, each of which is one event or a list of them."""
    for value in values:
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            yield from value  # pyright: ignore[reportUnknownVariableType] - JSON
        else:
            yield value
