"""What the lineage index holds and answers with: things, the edges between them, and what events say of both."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bikes_assets.core.address import WHOLE, Address
from bikes_assets.core.texts import counted, markup, plain

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

DATASET, COLUMN, PARTITION, VERSION, COLUMN_VERSION = "dataset", "column", "partition", "version", "column version"
CODE, RUN, FILE, MODEL, ALIAS, TAG, JOB = "code", "run", "file", "model version", "alias", "tag", "job"


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
class Result:
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
    """Everything upstream or downstream of something: iterating gives its things, a notebook shows a picture and a table.

    Attributes:
        things: what was found, nearest first, then by kind and name.
        drawn: returns the picture as SVG, "" where there is none; it is called when a notebook shows the answer.
    """

    things: Sequence[Result]
    drawn: Callable[[], str] | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.things)

    def __len__(self) -> int:
        return len(self.things)

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._shown()]
        wide = max(len(kind) for _, kind, _ in rows)
        lines = [f"{depth:>5}  {kind:<{wide}}  {plain(address)}" for depth, kind, address in rows]
        return "\n".join([self.summary, *(lines if self.things else ()), *self._rest()])

    def _repr_html_(self) -> str:
        """Return the picture and the table that a notebook shows, with their texts escaped."""
        picture = self.drawn() if self.drawn else ""
        above = f'<div style="overflow:auto;max-height:40em">{picture}</div>' if picture else ""
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = "".join(f"<tr>{''.join(f'<td>{markup(cell)}</td>' for cell in row)}</tr>" for row in self._shown())
        rest = "".join(f"<p>{line}</p>" for line in self._rest())
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        return f"<p>{markup(self.summary)}</p>{above}{table}{rest}"

    def to_pandas(self) -> Any:
        """Return a pandas frame with a row for each thing: its depth, kind and address, and what is known of it."""
        import narwhals as nw

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
        return [(str(item.depth), item.kind, address_of(item)) for item in self.things[:_MOST_SHOWN]]

    def _rest(self) -> list[str]:
        more = len(self.things) - _MOST_SHOWN
        return [f"and {more:,} more: iterate, or to_pandas()"] if more > 0 else []

    @property
    def counts(self) -> dict[str, int]:
        """How many things of each kind there are."""
        return dict(Counter(item.kind for item in self.things))


def address_of(found: Result) -> str:
    """Return the address by which a thing is shown; something without columns is shown without one."""
    parts = Address.parse(found.name) if found.kind in (COLUMN, COLUMN_VERSION) else None
    return str(replace(parts, column=None)) if parts and parts.column == WHOLE else found.name


Direction: TypeAlias = Literal["upstream", "downstream"]


_LARGE, _MANY = 200_000, 48
"""Number of edges from which numpy is worth importing, and number of things whose neighbours it finds faster."""


class Neighbours:
    """What is one edge away from each thing, by packed and by unpacked edges.

    Args:
        store: the index.
        direction: upstream or downstream.
        as_of: number of the last event that counts, None for the current state.
    """

    def __init__(self, store: sqlite3.Connection, direction: Direction, as_of: int | None) -> None:
        self.limit = as_of
        query = "select ends, neighbours, events from packed where direction = ?"
        packed = store.execute(query, [direction]).fetchone() or (bytes(8), b"", b"")
        self.ends, self.packed, self.events = (_numbers(part) for part in packed)
        here, there = ("target", "source") if direction == "upstream" else ("source", "target")
        self.beside: dict[int, list[int]] = {}
        beside = [("recent", "event <= :limit")]
        beside += [("past", "event <= :limit and until > :limit")] if as_of is not None else []
        for table, holds in beside:
            for thing, other in store.execute(
                f"select {here}, {there} from {table} where {holds}",  # noqa: S608 - names of ours
                {"limit": limit_of(as_of)},
            ):
                self.beside.setdefault(thing, []).append(other)

    def __getitem__(self, thing: int) -> list[int]:
        """Return the things that are one edge away."""
        found: list[int] = []
        if thing + 1 < len(self.ends):
            begin, end = self.ends[thing], self.ends[thing + 1]
            if self.limit is None:
                found.extend(self.packed[begin:end])
            else:
                found += [self.packed[at] for at in range(begin, end) if self.events[at] <= self.limit]
        return list(dict.fromkeys(found + self.beside.get(thing, [])))

    def of(self, things: Sequence[int], seen: bytearray) -> list[int]:
        """Return what is one edge away from some things and not marked as seen, and mark it."""
        if self.limit is None and len(things) >= _MANY and len(self.packed) >= _LARGE:
            return self._of_many(things, seen)
        found: list[int] = []
        ends, packed, last, beside = self.ends, self.packed, len(self.ends) - 1, self.beside
        for thing in things:
            if self.limit is not None:
                others = self[thing]
            else:  # written out, for large walks
                others = packed[ends[thing] : ends[thing + 1]] if thing < last else ()
                if thing in beside:
                    others = [*others, *beside[thing]]
            for other in others:
                if not seen[other]:
                    seen[other] = 1
                    found.append(other)
        return found

    def _of_many(self, things: Sequence[int], seen: bytearray) -> list[int]:
        """Return the same, at once for all: in a large index this takes a fifth of the time."""
        import numpy as np

        marks = np.frombuffer(seen, np.uint8)
        ends, packed = (np.frombuffer(part, np.uint32) for part in (self.ends, self.packed))
        here = np.array(things, np.int64)
        here = here[here < len(ends) - 1]
        begin = ends[here].astype(np.int64)
        lengths = ends[here + 1] - begin
        places = np.repeat(begin - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        others = packed[places]
        if self.beside:
            more = [other for thing in self.beside.keys() & things for other in self.beside[thing]]
            others = np.concatenate([others, np.array(more, np.uint32)])
        marks[others[marks[others] == 0]] = 2
        found = np.flatnonzero(marks == 2)  # faster than sorting them
        marks[found] = 1
        return found.tolist()


def packed(rows: Iterable[tuple[int, int, int]], last: int) -> tuple[bytes, bytes, bytes]:
    """Return edges as a compressed sparse row matrix: where each thing's end, their other ends, and their events."""
    counts, neighbours, events = array("I", bytes(4 * (last + 2))), array("I"), array("I")
    for here, there, event in rows:
        counts[here + 1] += 1
        neighbours.append(there)
        events.append(event)
    return array("I", accumulate(counts)).tobytes(), neighbours.tobytes(), events.tobytes()


def _numbers(content: bytes) -> array[int]:
    found = array("I")
    found.frombytes(content)
    return found


def limit_of(as_of: int | None) -> int:
    """Return the number of the last event that counts; for the current state, one above all."""
    return 2**62 if as_of is None else as_of
