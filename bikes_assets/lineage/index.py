"""The lineage index: a projection of an event log into one SQLite file, which answers what is upstream and downstream.

It holds things and edges between them; an edge from A to B says that A contributed to B. Whoever reads an event log
passes in `Fact`s in the log's order. The index holds nothing else, so it can be deleted and is rebuilt with equal
content. Nothing is forgotten: an edge that no longer holds keeps the time in which it held, so that every question can
be asked as of any event.

Walks use the packed neighbours of each thing, in the form of a compressed sparse row matrix, which is read in
milliseconds; newer edges are few and are walked in addition to it. SQLite's own recursive queries take six times as
long.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from bikes_assets.core.address import Address
from bikes_assets.core.errors import LineageError
from bikes_assets.core.texts import counted, markup, plain
from bikes_assets.lineage.packed import Direction, Neighbours, limit_of, packed
from bikes_assets.storage.checksums import SealedFile

FORMAT = 3
"""Number of this layout; a file with another one is rebuilt."""

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


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that has a place in the lineage.

    Attributes:
        kind: what it is, such as `dataset`, `column`, `version`, `code`.
        name: its address; unique among those of its kind.
        facts: what is known of it, JSON-ready.
        text: what it can be found by in addition to its name.
        address: the parts of its name, where it is an address: related things are found by these, never by the text.
    """

    kind: str
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    address: Address | None = None

    @classmethod
    def at(cls, kind: str, address: Address, facts: Mapping[str, Any] | None = None, text: str = "") -> Thing:
        """Return the thing of a kind at an address."""
        return cls(kind, str(address), facts or {}, text, address)


@dataclass(frozen=True, slots=True)
class Edge:
    """One thing contributes to another; things are given by kind and name."""

    source: tuple[str, str]
    target: tuple[str, str]
    kind: str


@dataclass(frozen=True, slots=True)
class Fact:
    """The content of one event of a log.

    Attributes:
        event: its number; events are passed in in ascending order.
        time: when it happened, Unix seconds.
        things: things that it names. Facts of one that is known already replace those from then on.
        edges: edges between things that are known or named here.
        settled: things to which it names every edge; earlier edges to them end.
    """

    event: int
    time: float
    things: Sequence[Thing] = ()
    edges: Sequence[Edge] = ()
    settled: Collection[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """A thing in an answer.

    Attributes:
        kind: what it is.
        name: its address.
        depth: number of edges on the shortest path to it.
        facts: what is known of it.
    """

    kind: str
    name: str
    depth: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{self.kind} {plain(self.name)}>"


_COLUMNS = ("depth", "kind", "address")
_MOST_SHOWN = 20
"""Number of things of an answer that a notebook shows."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Everything upstream or downstream of something: iterating gives its things, a notebook shows a table.

    Attributes:
        things: what was found, nearest first, then by kind and name.
    """

    things: Sequence[Found]

    def __iter__(self) -> Iterator[Found]:
        return iter(self.things)

    def __len__(self) -> int:
        return len(self.things)

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._shown()]
        wide = max(len(kind) for _, kind, _ in rows)
        lines = [f"{depth:>5}  {kind:<{wide}}  {plain(address)}" for depth, kind, address in rows]
        return "\n".join([self.summary, *(lines if self.things else ()), *self._rest()])

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows, with its texts escaped."""
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = "".join(f"<tr>{''.join(f'<td>{markup(cell)}</td>' for cell in row)}</tr>" for row in self._shown())
        rest = "".join(f"<p>{line}</p>" for line in self._rest())
        return f"<p>{markup(self.summary)}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"

    def to_pandas(self) -> Any:
        """Return a pandas frame with a row for each thing: its depth, kind and address, and what is known of it."""
        import narwhals as nw

        from bikes_assets.lineage.queries import address_of

        facts = dict.fromkeys(name for item in self.things for name in item.facts)
        known = {
            f"fact_{name}" if name in _COLUMNS else name: [item.facts.get(name) for item in self] for name in facts
        }
        own = {
            "depth": [item.depth for item in self],
            "kind": [item.kind for item in self],
            "address": [address_of(item) for item in self],
        }
        return nw.from_dict({**own, **known}, backend="pandas").to_native()

    @property
    def counted(self) -> str:
        """How many things of each kind there are, in words."""
        return ", ".join(counted(count, kind) for kind, count in self.counts.items())

    @property
    def summary(self) -> str:
        """How many things there are, in all and of each kind, in words."""
        return counted(len(self), "thing") + (f": {self.counted}" if self.things else "")

    def _shown(self) -> list[tuple[str, str, str]]:
        from bikes_assets.lineage.queries import address_of

        return [(str(item.depth), item.kind, address_of(item)) for item in self.things[:_MOST_SHOWN]]

    def _rest(self) -> list[str]:
        more = len(self.things) - _MOST_SHOWN
        return [f"and {more:,} more: iterate, or to_pandas()"] if more > 0 else []

    @property
    def counts(self) -> dict[str, int]:
        """How many things of each kind there are."""
        return dict(Counter(item.kind for item in self.things))


class Index:
    """The index in a file, which is opened at the first question, and created where there is none.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SealedFile(path)

    @cached_property
    def _store(self) -> sqlite3.Connection:
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

    def check(self) -> None:
        """Compare the file with its checksum, where it may have changed since.

        Raises:
            DamagedError: it is not what was written.
            sqlite3.DatabaseError: it is no such file at all.
        """
        if "_store" in self.__dict__ and not self.path.exists():  # somebody has deleted it under this process
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

    # Writing

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

    def clear(self) -> None:
        """Forget everything, so that it can be rebuilt."""
        with self._written(self._store):
            self._forget()

    def _forget(self) -> None:
        for table in ("about", "event", "kind", "thing", "edge", "past", "recent", "packed", "history", "words"):
            self._store.execute(f"delete from {table}")  # noqa: S608 - names of ours

    # Asking

    def event_at(self, time: float) -> int:
        """Return the number of the last event up to a time, 0 where there is none; event times never decrease."""
        (found,) = self._store.execute("select max(id) from event where time <= ?", [time]).fetchone()
        return found or 0

    def find(self, name: str, kind: str | None = None, *, as_of: int | None = None) -> list[Found]:
        """Return the things of a name, of one kind or of all; none where there was none as of that event."""
        query = "select thing.id, kind.name from thing join kind on kind.id = thing.kind where thing.name = ? and event <= ?"
        rows = self._store.execute(query, [name, limit_of(as_of)]).fetchall()
        return [
            Found(of, name, 0, facts)
            for thing, of in rows
            if kind in (None, of)
            for _, _, facts in self._rows([thing], as_of)
        ]

    def names(self, kind: str, *, like: str = "*", as_of: int | None = None) -> list[str]:
        """Return the names of all things of a kind that match a pattern, such as `demand_features[[]*`, in order."""
        query = (
            "select thing.name from thing join kind on kind.id = thing.kind "
            "where kind.name = ? and thing.name glob ? and event <= ? order by thing.name"
        )
        return [name for (name,) in self._store.execute(query, [kind, like, limit_of(as_of)])]

    def within(
        self,
        kind: str,
        asset: str,
        *,
        column: str | None = None,
        partition: str | None = None,
        as_of: int | None = None,
    ) -> list[Address]:
        """Return the addresses of all things of a kind within an asset, column or partition, in order of their names.

        Args:
            kind: what they are.
            asset: the asset.
            column: only those of this column, None for any.
            partition: only those of this partition, None for any.
            as_of: number of the last event that counts.
        """
        known = next((number for number, name in self._kinds.items() if name == kind), None)
        query = (
            "select asset, col, part, version from thing where asset = :asset and kind = :kind and event <= :limit "
            "and (:col is null or col = :col) and (:part is null or part = :part) order by name"
        )
        values = {"asset": asset, "kind": known, "limit": limit_of(as_of), "col": column, "part": partition}
        return [Address(*parts) for parts in self._store.execute(query, values)]

    def neighbours(self, kind: str, name: str, direction: Direction, *, as_of: int | None = None) -> list[Edge]:
        """Return the edges to a thing, or from it, in order of the names at their other ends."""
        thing = self._thing(kind, name)
        if thing is None:
            return []
        here, there = ("target", "source") if direction == "upstream" else ("source", "target")
        limit, names = limit_of(as_of), self._kinds
        found: list[Edge] = []
        for table, holds in (("edge", "event <= :limit"), ("past", "event <= :limit and until > :limit")):
            query = f"select {there}, kind from {table} where {here} = :thing and {holds}"  # noqa: S608 - names of ours
            for other, edge_kind in self._store.execute(query, {"thing": thing, "limit": limit}):
                ((other_kind, other_name, _),) = self._rows([other], None)
                ends = ((names[other_kind], other_name), (kind, name))
                source, target = ends if direction == "upstream" else ends[::-1]
                found.append(Edge(source, target, names[edge_kind]))
        return sorted(found, key=lambda edge: (edge.source, edge.target, edge.kind))

    def walk(
        self,
        starts: Sequence[tuple[str, str]],
        direction: Direction,
        *,
        depth: int | None = None,
        kinds: Collection[str] = (),
        as_of: int | None = None,
    ) -> Answer:
        """Return everything upstream or downstream of some things; a start only where another reaches it.

        Args:
            starts: things, by kind and name.
            direction: upstream or downstream.
            depth: how many edges to follow at most, None for all.
            kinds: kinds that are returned, all by default; the walk goes through any.
            as_of: number of the last event that counts.
        """
        ids = [thing for thing in (self._thing(*start) for start in starts) if thing is not None]
        names, found = self._kinds, []
        for number, level in enumerate(self._levels(ids, direction, depth, as_of), 1):
            for kind_id, name, facts in self._rows(level, as_of):
                if not kinds or names[kind_id] in kinds:
                    found.append(Found(names[kind_id], name, number, facts))
        found.sort(key=lambda item: (item.depth, item.kind, item.name))
        return Answer(found)

    def count(self, starts: Sequence[tuple[str, str]], direction: Direction, *, as_of: int | None = None) -> int:
        """Return how many things are upstream or downstream of some things."""
        ids = [thing for thing in (self._thing(*start) for start in starts) if thing is not None]
        return sum(len(level) for level in self._levels(ids, direction, None, as_of))

    def paths(
        self,
        starts: Collection[tuple[str, str]],
        ends: Collection[tuple[str, str]],
        *,
        as_of: int | None = None,
        from_goals: bool = False,
    ) -> tuple[int, Iterator[list[Found]]]:
        """Return how many paths of at least one edge lead downstream from some things to others, and each path.

        Args:
            starts: where they begin, by kind and name.
            ends: where they end.
            as_of: number of the last event that counts.
            from_goals: whether something that is both a start and an end counts as a path of no edges.
        """
        first, last = ([thing for thing in (self._thing(*name) for name in names) if thing] for names in (starts, ends))
        below = {*first, *(thing for level in self._levels(first, "downstream", None, as_of) for thing in level)}
        above = {*last, *(thing for level in self._levels(last, "upstream", None, as_of) for thing in level)}
        neighbours = Neighbours(self._store, "downstream", as_of)
        ahead = {thing: sorted(other for other in neighbours[thing] if other in above) for thing in below & above}
        goals, ways = {*last}, dict[int, int]()
        for thing in TopologicalSorter(ahead).static_order():
            ways[thing] = sum(ways[other] + (other in goals) for other in ahead[thing])
        at_once = goals & {*first} if from_goals else set[int]()
        begins = sorted(thing for thing in {*first} if ways.get(thing) or thing in at_once)
        found = (way for thing in begins for way in _ways(ahead, thing, goals, 1 if thing in at_once else 2))
        return sum(ways[thing] for thing in begins) + len(at_once), (self._shown(way, as_of) for way in found)

    def search(self, words: str, *, most: int = 50) -> list[Found]:
        """Return the things whose name or text has all words, or words that begin so; the best first."""
        terms = " ".join(f'"{word}"*' for word in words.replace('"', " ").split())
        if not terms:
            return []
        query = "select kind, name, text from words where words match ? order by rank, name limit ?"
        return [Found(kind, name, 0, {"text": text}) for kind, name, text in self._store.execute(query, [terms, most])]

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the whole content, without ids that may differ in a rebuilt index."""
        ask, kinds = self._store.execute, self._kinds
        things = {number: (kinds[kind], name) for number, kind, name in ask("select id, kind, name from thing")}
        edges = ask(
            "select source, target, kind, event, 0 from edge union all select source, target, kind, event, until from past"
        )
        return {
            "events": sorted(ask("select id, time from event")),
            "things": sorted(
                (*things[number], event, facts) for number, event, facts in ask("select id, event, facts from thing")
            ),
            "edges": sorted((things[one], things[other], kinds[kind], *times) for one, other, kind, *times in edges),
            "history": sorted((*things[one], until, facts) for one, until, facts in ask("select * from history")),
            "words": sorted(ask("select kind, name, text from words")),
        }

    # Inside

    def _about(self, key: str) -> str | None:
        row = self._store.execute("select value from about where key = ?", [key]).fetchone()
        return row[0] if row else None

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

    @property
    def _kinds(self) -> dict[int, str]:
        return dict(self._store.execute("select id, name from kind"))

    def _thing(self, kind: str, name: str) -> int | None:
        query = "select thing.id from thing join kind on kind.id = thing.kind where thing.name = ? and kind.name = ?"
        row = self._store.execute(query, [name, kind]).fetchone()
        return row[0] if row else None

    def _levels(
        self, starts: Sequence[int], direction: Direction, depth: int | None, as_of: int | None
    ) -> Iterator[list[int]]:
        """Yield what is one edge away from some things, what is two away, and so on; each thing once."""
        neighbours = Neighbours(self._store, direction, as_of)
        seen = bytearray(self._store.execute("select coalesce(max(id), 0) + 1 from thing").fetchone()[0])
        level, number = list(starts), 0
        while level and number != depth:
            level, number = neighbours.of(level, seen), number + 1
            if level:
                yield level

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

    def _shown(self, way: Sequence[int], as_of: int | None) -> list[Found]:
        names = self._kinds
        rows = [next(self._rows([thing], as_of)) for thing in way]
        return [Found(names[kind], name, depth, facts) for depth, (kind, name, facts) in enumerate(rows)]


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


def _ways(ahead: Mapping[int, Sequence[int]], first: int, goals: Collection[int], least: int) -> Iterator[list[int]]:
    """Yield the paths from something to any goal that have at least so many things."""
    waiting = [[first]]
    while waiting:
        way = waiting.pop()
        if len(way) >= least and way[-1] in goals:
            yield way
        waiting.extend([*way, other] for other in reversed(ahead[way[-1]]))


def _drop_all(store: sqlite3.Connection) -> None:
    for (name,) in store.execute(
        "select name from sqlite_master where type = 'table' and name not like 'words_%'"
    ).fetchall():
        store.execute(f"drop table {name}")
