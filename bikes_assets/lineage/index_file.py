"""The SQLite file of the lineage index: its layout, whether it is as it was written, and the adding of facts.

The file holds nothing but what events say, so it can be deleted and is rebuilt with equal content. Nothing is forgotten:
an edge that no longer holds keeps the time in which it held, so that every question can be asked as of any event.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from dataclasses import astuple
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import LineageError
from bikes_assets.lineage.elements import packed
from bikes_assets.storage.checksums import ChecksummedFile
from bikes_assets.storage.sqlite_files import file_at, naming

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from bikes_assets.lineage.elements import Fact, Thing

FORMAT = 4
"""Number of this layout, and of what is read from events; a file with another one is rebuilt."""

_SCHEMA = """
create table about (key text primary key, value text not null) without rowid;
create table event (id integer primary key, time real not null);
create table kind (id integer primary key, name text not null unique);
create table thing (id integer primary key, kind integer not null, name text not null, event integer not null, facts text,
  asset text, col text, part text, version text, unique (name, kind));
create index thing_of on thing (asset, kind, part, col) where asset is not null;
create table edge (target integer, source integer, kind integer, event integer not null, primary key (target, source, kind))
  without rowid;
create table past (target integer, source integer, kind integer, event integer not null, until integer not null);
create index past_edge on past (target);
create table recent (target integer, source integer, kind integer, event integer not null);
create index recent_edge on recent (target);
create table packed (direction text primary key, ends blob not null, neighbours blob not null, events blob not null)
  without rowid;
create table history (thing integer, until integer, facts text not null, primary key (thing, until)) without rowid;
create virtual table words using fts5 (name, text, kind unindexed);
"""
_RECENT = 2_000
"""Number of unpacked edges above which all are packed again; a tenth of the packed ones where that is more."""


class IndexFile:
    """The file, which is opened when it is used first, and created where there is none.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = ChecksummedFile(path)
        self._open: tuple[int, int] | None = None

    @cached_property
    def _store(self) -> sqlite3.Connection:
        with naming(self.path):
            store = self._opened()
        self._open = file_at(self.path)
        return store

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        existed = self.path.exists()
        store = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            store.execute("pragma synchronous = normal")
            store.execute("pragma schema_version")  # what a killed writer has written is rolled back here
            if existed and self.path.stat().st_size:
                self._file.check()
            if store.execute("pragma user_version").fetchone()[0] != FORMAT:
                with self._written(store):
                    # of two processes, the later one finds it created
                    if store.execute("pragma user_version").fetchone()[0] != FORMAT:
                        _drop_all(store)
                        for statement in _SCHEMA.split(";\n"):
                            store.execute(statement)
                        store.execute(f"pragma user_version = {FORMAT}")
        except BaseException:
            store.close()
            raise
        return store

    def _rows(self, things: Sequence[int], as_of: int | None) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield kind, name and facts of things."""
        for begin in range(0, len(things), 30_000):
            part = things[begin : begin + 30_000]
            marks = ",".join("?" * len(part))
            query = f"select id, kind, name, facts from thing where id in ({marks})"  # noqa: S608 - question marks alone
            rows = self._store.execute(query, part).fetchall()
            if as_of is None:
                yield from ((kind, name, json.loads(facts)) for _, kind, name, facts in rows)
            else:
                yield from ((kind, name, self._facts(thing, facts, as_of)) for thing, kind, name, facts in rows)

    def _facts(self, thing: int, present: str, as_of: int) -> dict[str, Any]:
        query = "select facts from history where thing = ? and until > ? order by until limit 1"
        row = self._store.execute(query, [thing, as_of]).fetchone()
        return json.loads(row[0] if row else present)

    def check(self) -> None:
        """Compare the file with its checksum, where it may have changed since.

        Raises:
            DamagedError: it is not what was written. sqlite3.DatabaseError: it is no such file at all.
        """
        if "_store" in self.__dict__ and file_at(self.path) != self._open:  # somebody has deleted or replaced it
            self.close()
        assert self._store  # noqa: S101 - opened, and checked in that
        self._file.check()

    def remove(self) -> None:
        """Remove the file, so that it can be rebuilt."""
        self.close()
        self._file.remove()

    def close(self) -> None:
        """Close the file."""
        if "_store" in self.__dict__:
            self._store.close()
            del self.__dict__["_store"]

    @property
    def cursor(self) -> int:
        """Number of the last event that was added, 0 where none was."""
        return int(self._about("cursor") or 0)

    @property
    def log(self) -> str:
        """Identity of the log whose events were added, as its reader has given it; "" where it gave none."""
        return self._about("log") or ""

    def append(self, facts: Iterable[Fact], cursor: int | None = None, log: str = "", *, again: bool = False) -> int:
        """Add events atomically, and return how many; those that were added already are skipped.

        Args:
            facts: what events say, in the log's order.
            cursor: number of the last event that was read, where the last ones contain no facts.
            log: identity of the log up to there.
            again: forget everything first: readers see the old content until the new one is complete.
        """
        store, count = self._store, 0
        with self._written(store):
            if again:
                self._forget()
            writer = _Writer(store, self.cursor)
            for fact in facts:
                count += writer.take(fact)
            last = max(writer.last, cursor or 0)
            if last > self.cursor:
                store.execute("insert or replace into about values ('cursor', ?)", [last])
                store.execute("insert or replace into about values ('log', ?)", [log])
            writer.pack_where_due()
        return count

    def _forget(self) -> None:
        for table in ("about", "event", "kind", "thing", "edge", "past", "recent", "packed", "history", "words"):
            self._store.execute(f"delete from {table}")  # noqa: S608 - names of ours

    @contextmanager
    def _written(self, store: sqlite3.Connection) -> Iterator[None]:
        with self._file.writing():
            store.execute("begin immediate")
            try:
                yield
            except BaseException:
                store.execute("rollback")
                raise
            store.execute("commit")

    def _about(self, key: str) -> str | None:
        row = self._store.execute("select value from about where key = ?", [key]).fetchone()
        return row[0] if row else None


class _Writer:
    """Adds facts, inside a transaction.

    Args:
        store: the index.
        cursor: number of the last event that was added before.
    """

    def __init__(self, store: sqlite3.Connection, cursor: int) -> None:
        self.store, self.cursor, self.last = store, cursor, cursor
        self.kinds: dict[str, int] = {name: number for number, name in store.execute("select id, name from kind")}
        self.known: dict[tuple[str, str], int] = {}
        self.texts: dict[int, str] = {}
        (self.time,) = store.execute("select coalesce(max(time), 0) from event").fetchone()
        self.is_torn = False

    def take(self, fact: Fact) -> int:
        """Add one event; return 1, or 0 where it was added before."""
        if fact.event <= self.cursor:
            return 0
        if fact.event < self.last:
            raise LineageError(f"found event {fact.event} after {self.last}, expected events in ascending order")
        self.last = fact.event
        # a clock that was set back must not have later events count as earlier ones
        self.time = max(self.time, fact.time)
        self.store.execute("insert or replace into event values (?, ?)", [fact.event, self.time])
        for thing in fact.things:
            self._know(thing, fact.event)
        edges = [(self._id(edge.target), self._id(edge.source), self._kind(edge.kind)) for edge in fact.edges]
        for name in fact.settled:
            self._settle(self._id(name), edges, fact.event)
        for edge in edges:
            if self.store.execute("insert or ignore into edge values (?, ?, ?, ?)", [*edge, fact.event]).rowcount:
                self.store.execute("insert into recent values (?, ?, ?, ?)", [*edge, fact.event])
        return 1

    def pack_where_due(self) -> None:
        """Pack the edges where too many are unpacked, or a packed one has ended."""
        (recent,) = self.store.execute("select count(*) from recent").fetchone()
        if not self.is_torn and recent <= _RECENT:
            return
        (whole,) = self.store.execute("select count(*) from edge").fetchone()
        if self.is_torn or recent > whole / 10:
            (last,) = self.store.execute("select coalesce(max(id), 0) from thing").fetchone()
            orders = {"upstream": "target, source", "downstream": "source, target"}
            for direction, order in orders.items():
                rows = self.store.execute(f"select {order}, event from edge order by {order}")  # noqa: S608 - names of ours
                self.store.execute(
                    "insert or replace into packed values (?, ?, ?, ?)", [direction, *packed(rows, last)]
                )
            self.store.execute("delete from recent")

    def _kind(self, name: str) -> int:
        if name not in self.kinds:
            self.kinds[name] = int(self.store.execute("insert into kind (name) values (?)", [name]).lastrowid or 0)
        return self.kinds[name]

    def _id(self, thing: tuple[str, str]) -> int:
        kind, name = thing
        if thing not in self.known:
            row = self.store.execute(
                "select id from thing where name = ? and kind = ?", [name, self._kind(kind)]
            ).fetchone()
            if row is None:
                raise LineageError(f"found an edge of {kind} {name!r}, expected the thing in the same event or before")
            self.known[thing] = row[0]
        return self.known[thing]

    def _know(self, thing: Thing, event: int) -> None:
        kind, facts = self._kind(thing.kind), json.dumps(dict(thing.facts), sort_keys=True)
        row = self.store.execute(
            "select id, facts from thing where name = ? and kind = ?", [thing.name, kind]
        ).fetchone()
        if row is None:
            parts = (None,) * 4 if thing.address is None else astuple(thing.address)
            made = self.store.execute(
                "insert into thing (kind, name, event, facts, asset, col, part, version) values (?, ?, ?, ?, ?, ?, ?, ?)",
                [kind, thing.name, event, facts, *parts],
            )
            number, told = int(made.lastrowid or 0), None
        else:
            number, told = row
        self.known[thing.kind, thing.name] = number
        if told not in (None, facts):
            self.store.execute("insert or ignore into history values (?, ?, ?)", [number, event, told])
            self.store.execute("update thing set facts = ? where id = ?", [facts, number])
        if thing.text and self._text(number) != thing.text:
            self.texts[number] = thing.text
            self.store.execute("delete from words where rowid = ?", [number])
            self.store.execute(
                "insert into words (rowid, name, text, kind) values (?, ?, ?, ?)",
                [number, thing.name, thing.text, thing.kind],
            )

    def _text(self, thing: int) -> str:
        """Return the text that a thing is found by, "" where it has none: most are named again unchanged."""
        if thing not in self.texts:
            row = self.store.execute("select text from words where rowid = ?", [thing]).fetchone()
            self.texts[thing] = row[0] if row else ""
        return self.texts[thing]

    def _settle(self, target: int, edges: Collection[tuple[int, int, int]], event: int) -> None:
        """End the edges to a thing that are not among its edges from now on."""
        for source, kind, since in self.store.execute(
            "select source, kind, event from edge where target = ?", [target]
        ).fetchall():
            if (target, source, kind) not in edges:
                key = [target, source, kind]
                self.store.execute("delete from edge where target = ? and source = ? and kind = ?", key)
                self.store.execute("insert into past values (?, ?, ?, ?, ?)", [*key, since, event])
                gone = self.store.execute(
                    "delete from recent where target = ? and source = ? and kind = ?", key
                ).rowcount
                self.is_torn |= not gone


def _drop_all(store: sqlite3.Connection) -> None:
    for (name,) in store.execute(
        "select name from sqlite_master where type = 'table' and name not like 'words_%'"
    ).fetchall():
        store.execute(f"drop table {name}")
