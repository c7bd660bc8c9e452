"""The lineage index together with what other tools tell: one graph, and the same questions to it.

A dataset that both know is one thing: where the index knows it, under the index's name. So a walk that comes to it by
the one's edges goes on by the other's.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bikes_assets.core.address import Address
from bikes_assets.lineage.elements import COLUMN, DATASET, Edge, Neighbours, Result
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.openlineage.graph import ReceivedGraph
from bikes_assets.lineage.openlineage.received import KINDS
from bikes_assets.lineage.openlineage.same import Names

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from bikes_assets.lineage.elements import Direction
    from bikes_assets.lineage.openlineage.graph import NumberedEntity
    from bikes_assets.lineage.openlineage.received import Received

_FIRST_KIND = 1_000
"""Number of the first kind of what other tools tell; the index has fewer kinds of its own."""

_MOST_NAMES = 1_000
"""Number of other tools' names that are listed."""
_PART = re.compile(r"\[[*?\[]\]|.", re.DOTALL)
"""A character of a pattern, or an escaped one."""
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class Moment(int):
    """The number of an event of the index, and the time that was asked about, Unix seconds."""

    time: float

    @classmethod
    def of(cls, event: int, time: float) -> Moment:
        """Return an event's number with a time."""
        found = cls(event)
        found.time = time
        return found


class JoinedIndex(Index):
    """The index and the events of other tools, for one question.

    Args:
        local: the index.
        received: the events.
        names: what the index calls each dataset of other labels: see `names.label`.
    """

    def __init__(self, local: Index, received: Received, names: Mapping[str, str]) -> None:
        super().__init__(local.path)
        self._local, self._graph, self._names = local, ReceivedGraph(received), Names(ReceivedGraph(received), names)
        self._starts, self._same = set[int](), dict[int, int]()
        self._of_units: dict[tuple[int, Direction, int | None], list[tuple[str, str]]] = {}

    def close(self) -> None:
        """Close nothing: the index and the events belong to who has opened them."""

    def event_at(self, time: float) -> Moment:
        """Return the number of the last event up to a time, with that time, which counts for other tools' events."""
        return Moment.of(super().event_at(time), time)

    def last_time(self) -> float | None:
        """Return when the last event happened, of the index or of other tools; None where there is none."""
        return max(filter(None, (super().last_time(), self._graph.last_time())), default=None)

    def find(self, name: str, kind: str | None = None, *, as_of: int | None = None) -> list[Result]:
        """Return the things of a name; those of other tools also by the last parts of their names.

        Raises:
            LineageError: other tools have several whose names end so.
        """
        found = super().find(name, kind, as_of=as_of)
        known = {item.kind for item in found}
        things = self._names.called(name, _time(as_of)) or (
            [] if found else self._names.called_shortly(name, _time(as_of))
        )
        for number in dict.fromkeys(self._here(item) for item in things if kind in (None, item.kind)):
            for of, called, facts in self._rows([number], as_of):
                if self._kinds[of] not in known:
                    found.append(Result(self._kinds[of], called, 0, facts))
        return found

    def names(self, kind: str, *, like: str = "*", as_of: int | None = None) -> list[str]:
        """Return the names of all things of a kind that match a pattern, in order.

        Of other tools' things these are the first ones that begin as the pattern does, and the columns of a dataset
        once it is named completely: they may be millions.
        """
        more = self._begun(kind, _prefix(like), as_of) if kind in KINDS else ()
        return sorted(
            {*super().names(kind, like=like, as_of=as_of), *(name for name in more if fnmatchcase(name, like))}
        )

    def _begun(self, kind: str, text: str, as_of: int | None) -> Iterator[str]:
        """Yield the first names of other tools' things that begin with a text, or nearly so."""
        dataset = text
        if kind == COLUMN:
            quoted = _QUOTED.match(text)
            dataset = quoted[0] if quoted else text.partition(".")[0]
            labels = self._names.labels(parts.asset if (parts := Address.parse(dataset)) else dataset)
        else:
            labels = [text.removeprefix('"')]
        for label in labels:
            yield from map(self._names.of, self._graph.beginning(kind, label, _time(as_of), _MOST_NAMES))

    def within(
        self,
        kind: str,
        asset: str,
        *,
        column: str | None = None,
        partition: str | None = None,
        as_of: int | None = None,
    ) -> list[Address]:
        """Return the addresses of all things of a kind within an asset, column or partition, in order of their names."""
        found = super().within(kind, asset, column=column, partition=partition, as_of=as_of)
        if kind != COLUMN or partition is not None:
            return found
        labels = self._names.labels(asset)
        told = (item for label in labels for item in self._graph.labelled(label, _time(as_of)) if item.kind == COLUMN)
        more = (Address(asset, item.column) for item in told if column in (None, item.column))
        return sorted({*found, *more}, key=str)

    def search(self, words: str, *, most: int = 50) -> list[Result]:
        """Return the things whose name or text has all words; those of the index first."""
        found = super().search(words, most=most)
        known = {(item.kind, item.name) for item in found}
        terms = words.replace("\0", " ").split()
        for item in self._graph.search(terms, most) if terms else ():
            if (thing := (item.kind, self._names.of(item))) not in known:
                known.add(thing)
                found.append(Result(*thing, 0, {"text": self._graph.text(item.number)}))
        return found[:most]

    def neighbours(
        self, kind: str, name: str, direction: Direction, *, to: str | None = None, as_of: int | None = None
    ) -> list[Edge]:
        """Return the edges to a thing, or from it."""
        edges = {
            (item.source, item.target): item for item in self._local.neighbours(kind, name, direction, as_of=as_of)
        }
        if (thing := self.number(kind, name)) is not None:
            here = (kind, name)
            self._starts.add(thing)
            for of, called, _ in self._rows(self._both(direction, as_of).told(thing), as_of):
                there = (self._kinds[of], called)
                ends = (there, here) if direction == "upstream" else (here, there)
                edges.setdefault(ends, Edge(*ends, "told"))
        end = 0 if direction == "upstream" else 1
        return sorted(
            (edge for ends, edge in edges.items() if to in (None, ends[end][0])),
            key=lambda edge: (edge.source, edge.target, edge.kind),
        )

    def ends(
        self, kind: str, name: str, direction: Direction, *, as_of: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """Yield what is one edge away from a thing, by kind and name; the first come at once, also of a large run."""
        yield from self._local.ends(kind, name, direction, as_of=as_of)
        if (thing := self.number(kind, name)) is not None:
            neighbours = self._both(direction, as_of)
            yield from self._names_of(neighbours.direct(thing), as_of)
            for unit in neighbours.units(thing):
                key = unit, direction, as_of
                if key not in self._of_units:
                    self._of_units[key] = self._names_of(neighbours.of_unit(unit), as_of)
                yield from (end for end in self._of_units[key] if end != (kind, name))

    def _names_of(self, things: Iterable[int], as_of: int | None) -> list[tuple[str, str]]:
        kinds = self._kinds
        return sorted((kinds[kind], name) for kind, name, _ in self._rows([*things], as_of))

    def beyond(self, things: Sequence[Result], direction: Direction, *, as_of: int | None = None) -> list[Result]:
        """Return what only other tools tell to be upstream or downstream of things, as far as they alone tell it."""
        neighbours, names, found = self._both(direction, as_of), self._kinds, list[Result]()
        starts = {number: item.depth for item in things if (number := self.number(item.kind, item.name)) is not None}
        seen = {*starts}
        for start, depth in starts.items():
            level, further = [start], depth
            while level:
                others = dict.fromkeys(other for at in level for other in neighbours.told(at))
                level, further = [other for other in others if other >= self._base and other not in seen], further + 1
                seen.update(level)
                found += [Result(names[of], called, further, facts) for of, called, facts in self._rows(level, as_of)]
        return found

    @cached_property
    def _store(self) -> sqlite3.Connection:
        return self._local._store

    @property
    def _kinds(self) -> dict[int, str]:
        return super()._kinds | {_FIRST_KIND + number: name for number, name in enumerate(KINDS)}

    @cached_property
    def _base(self) -> int:
        """Number here of the first thing that only other tools know."""
        return super()._end

    @property
    def _end(self) -> int:
        return self._base + self._graph.last + 1

    def number(self, kind: str, name: str) -> int | None:
        """Return the number of a thing, None where neither the index nor other tools know it."""
        found = super().number(kind, name)
        if found is not None or kind not in KINDS:
            return found
        return next((self._here(item) for item in self._names.called(name, _time(None)) if item.kind == kind), None)

    def _here(self, item: NumberedEntity) -> int:
        """Return the number here of what events tell of: the index's own, else that of the first of its labels."""
        if item.number not in self._same:
            self._same[item.number] = self._first(item)
        return self._same[item.number]

    def _first(self, item: NumberedEntity) -> int:
        same = self._names.same(item.label) if item.kind in (DATASET, COLUMN) else None
        own = super().number(item.kind, self._names.of(item)) if same and same.asset else None
        if own is not None:
            return own
        if same is None or len(same.labels) == 1:
            return self._base + item.number
        things = (self._graph.named(item.kind, label, item.column) for label in same.labels)
        return self._base + next(thing.number for thing in things if thing)

    @cached_property
    def _own(self) -> dict[int, list[int]]:
        """Numbers in the events' file of each thing that the index knows."""
        found = dict[int, list[int]]()
        for label in (label for same in self._names.own for label in same.labels):
            for item in self._graph.labelled(label, _time(None)):
                if item.kind in (DATASET, COLUMN) and (here := self._here(item)) < self._base:
                    found.setdefault(here, []).append(item.number)
        return found

    def _told_of(self, thing: int) -> list[int]:
        """Return the numbers that a thing has in the events' file, none where they do not tell of it."""
        if thing < self._base:
            return self._own.get(thing, [])
        item = self._graph.thing(thing - self._base)
        if item.kind not in (DATASET, COLUMN):
            return [item.number]
        labels = self._names.same(item.label).labels
        if len(labels) == 1:
            return [item.number]
        found = (self._graph.named(item.kind, label, item.column) for label in labels)
        return [other.number for other in found if other]

    def _rows(self, things: Sequence[int], as_of: int | None) -> Iterator[tuple[int, str, dict[str, Any]]]:
        yield from super()._rows([thing for thing in things if thing < self._base], as_of)
        for thing in (thing for thing in things if thing >= self._base):
            told = self._graph.thing(thing - self._base)
            facts = {name: fact for at in self._told_of(thing) for name, fact in self._graph.facts(at).items()}
            yield _FIRST_KIND + KINDS.index(told.kind), self._names.of(told), facts

    def edges_among(self, things: Collection[int], *, as_of: int | None = None) -> list[tuple[int, int]]:
        """Return the edges from some things to others of them, those of jobs too."""
        self._starts.update(things)
        return super().edges_among(things, as_of=as_of)

    def levels(
        self, starts: Sequence[int], direction: Direction, depth: int | None, as_of: int | None
    ) -> Iterator[list[int]]:
        """Yield what is one edge away from some things, what is two away, and so on; jobs go on where they are starts."""
        self._starts.update(starts)
        return super().levels(starts, direction, depth, as_of)

    def _neighbours(self, direction: Direction, as_of: int | None) -> Neighbours:
        return self._both(direction, as_of)

    def _both(self, direction: Direction, as_of: int | None) -> _JoinedNeighbours:
        graph, time = self._graph, _time(as_of)

        def numbers(thing: int) -> Iterator[int]:
            return (number for number in self._told_of(thing) if thing in self._starts or not graph.is_end(number))

        def direct(thing: int) -> Iterator[int]:
            return (self._here(item) for at in numbers(thing) for item in graph.direct(at, direction, time))

        def units(thing: int) -> Iterator[int]:
            return (unit for at in numbers(thing) for unit in graph.units(at, direction, time))

        def of_unit(unit: int) -> Iterator[int]:
            return map(self._here, graph.of_unit(unit, direction, time))

        return _JoinedNeighbours(self._local._neighbours(direction, as_of), self._base, direct, units, of_unit)


class _JoinedNeighbours(Neighbours):
    """What is one edge away from each thing, by the index and by other tools' events.

    A walk comes to a job, but only one that starts there goes on: what one run of a job wrote is not computed from what
    another one read.

    Runs are walked through once each: of one that read and wrote thousands of datasets there are millions of edges.

    Args:
        local: the neighbours by the index.
        base: number of the first thing that the index does not know.
        direct: returns what is one edge away from a thing by itself.
        units: returns the runs through which something is one edge away.
        of_unit: returns what is one edge away from each thing that has a run among its `units`.
    """

    def __init__(
        self,
        local: Neighbours,
        base: int,
        direct: Callable[[int], Iterable[int]],
        units: Callable[[int], Iterable[int]],
        of_unit: Callable[[int], Iterable[int]],
    ) -> None:
        self._local, self._base = local, base
        self.direct, self.units, self.of_unit = direct, units, of_unit
        self._seen, self._left = bytearray(), dict[int, set[int]]()

    def __getitem__(self, thing: int) -> list[int]:
        """Return the things that are one edge away."""
        return list(dict.fromkeys([*(self._local[thing] if thing < self._base else ()), *self.told(thing)]))

    def told(self, thing: int) -> list[int]:
        """Return the things that are one edge away by other tools' events."""
        through = (other for unit in self.units(thing) for other in self.of_unit(unit))
        return [other for other in dict.fromkeys((*self.direct(thing), *through)) if other != thing]

    def of(self, things: Sequence[int], seen: bytearray) -> list[int]:
        """Return what is one edge away from some things and not marked as seen, and mark it."""
        found = self._local.of([thing for thing in things if thing < self._base], seen)
        for thing in things:
            others = [other for other in self.direct(thing) if other != thing]
            for unit in self.units(thing):
                others += self._through(unit, thing, seen)
            for other in others:
                if not seen[other]:
                    seen[other] = 1
                    found.append(other)
        return found

    def _through(self, unit: int, thing: int, seen: bytearray) -> list[int]:
        """Return what a thing leads to through a run; of one that was walked through, what was left then: its start."""
        if seen is not self._seen:
            self._seen, self._left = seen, {}
        if unit not in self._left:
            others = {*self.of_unit(unit)}
            self._left[unit] = {thing} & others
            return sorted(others - {thing})
        left = self._left[unit] - {thing}
        self._left[unit] -= left
        return sorted(left)


def _time(as_of: int | None) -> float:
    return as_of.time if isinstance(as_of, Moment) else float("inf")


def _prefix(pattern: str) -> str:
    """Return the text that everything begins with which matches a pattern of SQLite's GLOB."""
    parts = list[str]()
    for part in _PART.findall(pattern):
        if part in ("*", "?", "["):
            break
        parts.append(part[1] if len(part) > 1 else part)
    return "".join(parts)
