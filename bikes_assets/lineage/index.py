"""The lineage index: a projection of an event log into one SQLite file, which answers what is upstream and downstream.

It holds things and edges between them; an edge from A to B says that A contributed to B. Whoever reads an event log
passes in `Fact`s in the log's order.

Walks use the packed neighbours of each thing, in the form of a compressed sparse row matrix, which is read in
milliseconds; newer edges are few and are walked in addition to it. SQLite's own recursive queries take six times as
long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from bikes_assets.core.address import Address
from bikes_assets.lineage.elements import Answer, Direction, Edge, Neighbours, Result, limit_of
from bikes_assets.lineage.index_file import IndexFile

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T", bound=Hashable)

_MATCHES = """
select kind, name, text from words where words match :terms
order by lower(name) <> :called and substr(lower(name), -length(:called) - 1) <> '.' || :called, rank, name limit :most
"""


class Index(IndexFile):
    """The index in a file: what is asked of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._read = dict[str, tuple[tuple[Any, ...], Neighbours]]()

    def close(self) -> None:
        """Close the file."""
        self._read.clear()
        super().close()

    def event_at(self, time: float) -> int:
        """Return the number of the last event up to a time, 0 where there is none; event times never decrease."""
        (found,) = self._store.execute("select max(id) from event where time <= ?", [time]).fetchone()
        return found or 0

    def times(self, most: int) -> list[float]:
        """Return times of events, Unix seconds, ascending: evenly spaced by number, with the first and the last."""
        first, last = self._store.execute("select min(id), max(id) from event").fetchone()
        if first is None:
            return []
        steps = {first + (last - first) * step // max(most - 1, 1) for step in range(most)}
        query = "select time from event where id >= ? order by id limit 1"
        return sorted({self._store.execute(query, [step]).fetchone()[0] for step in steps})

    def last_time(self) -> float | None:
        """Return when the last event happened, Unix seconds; None where there is none."""
        (found,) = self._store.execute("select max(time) from event").fetchone()
        return found

    def find(self, name: str, kind: str | None = None, *, as_of: int | None = None) -> list[Result]:
        """Return the things of a name, of one kind or of all; none where there was none as of that event."""
        query = "select thing.id, kind.name from thing join kind on kind.id = thing.kind where thing.name = ? and event <= ?"
        rows = self._store.execute(query, [name, limit_of(as_of)]).fetchall()
        return [
            Result(of, name, 0, facts)
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

    def neighbours(
        self, kind: str, name: str, direction: Direction, *, to: str | None = None, as_of: int | None = None
    ) -> list[Edge]:
        """Return the edges to a thing, or from it, in order of the names at their other ends.

        Args:
            kind: kind of the thing.
            name: its name.
            direction: upstream for the edges to it, downstream for those from it.
            to: only those whose other end is of this kind, None for any.
            as_of: number of the last event that counts.
        """
        thing = self.number(kind, name)
        if thing is None:
            return []
        names, limit, found = self._kinds, limit_of(as_of), list[Edge]()
        for other in self._neighbours(direction, as_of)[thing]:
            ((of, called),) = self._store.execute("select kind, name from thing where id = ?", [other])
            if to not in (None, names[of]):
                continue
            ends = ((other, (names[of], called)), (thing, (kind, name)))
            (source, above), (target, below) = ends if direction == "upstream" else ends[::-1]
            for table, holds in (("edge", "event <= ?3"), ("past", "event <= ?3 and until > ?3")):
                query = f"select kind from {table} where target = ?1 and source = ?2 and {holds}"  # noqa: S608 - names of ours
                known = self._store.execute(query, [target, source, limit])
                found += (Edge(above, below, names[number]) for (number,) in known)
        return sorted(found, key=lambda edge: (edge.source, edge.target, edge.kind))

    def _neighbours(self, direction: Direction, as_of: int | None) -> Neighbours:
        """Return the neighbours of each thing, which are read again only after something was written."""
        (other,) = self._store.execute("pragma data_version").fetchone()
        key = as_of, other, self._store.total_changes
        if direction not in self._read or self._read[direction][0] != key:
            self._read[direction] = key, Neighbours(self._store, direction, as_of)
        return self._read[direction][1]

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
        ids = [thing for thing in (self.number(*start) for start in starts) if thing is not None]
        names, found = self._kinds, []
        for number, level in enumerate(self.levels(ids, direction, depth, as_of), 1):
            for kind_id, name, facts in self._rows(level, as_of):
                if not kinds or names[kind_id] in kinds:
                    found.append(Result(names[kind_id], name, number, facts))
        found.sort(key=lambda item: (item.depth, item.kind, item.name))
        return Answer(found)

    def beyond(
        self,
        things: Sequence[Result],  # noqa: ARG002 - as asked of an index that knows more
        direction: Direction,  # noqa: ARG002
        *,
        as_of: int | None = None,  # noqa: ARG002
    ) -> list[Result]:
        """Return what only other tools tell to be upstream or downstream of things: here nothing."""
        return []

    def count(self, starts: Sequence[tuple[str, str]], direction: Direction, *, as_of: int | None = None) -> int:
        """Return how many things are upstream or downstream of some things."""
        ids = [thing for thing in (self.number(*start) for start in starts) if thing is not None]
        return sum(len(level) for level in self.levels(ids, direction, None, as_of))

    def numbers(self, kind: str, asset: str, *, as_of: int | None = None) -> dict[int, Address]:
        """Return the things of a kind within an asset by their numbers, in the order in which they were first named."""
        places = self.within(kind, asset, as_of=as_of)
        found = {self.number(kind, str(place)): place for place in places}
        return {number: found[number] for number in sorted(number for number in found if number is not None)}

    def edges_among(self, things: Collection[int], *, as_of: int | None = None) -> list[tuple[int, int]]:
        """Return the edges from some things to others of them, by their numbers, source first."""
        within, neighbours = {*things}, self._neighbours("upstream", as_of)
        return [(other, thing) for thing in sorted(within) for other in neighbours[thing] if other in within]

    def paths(
        self,
        starts: Collection[tuple[str, str]],
        ends: Collection[tuple[str, str]],
        *,
        as_of: int | None = None,
        from_goals: bool = False,
    ) -> tuple[int, Iterator[list[Result]]]:
        """Return how many paths of at least one edge lead downstream from some things to others, and each path.

        Where edges lead in a circle, as those of other tools may, those that lead back are on no path.

        Args:
            starts: where they begin, by kind and name.
            ends: where they end.
            as_of: number of the last event that counts.
            from_goals: whether something that is both a start and an end counts as a path of no edges.
        """
        first, last = ([thing for thing in (self.number(*name) for name in names) if thing] for names in (starts, ends))
        neighbours = self._neighbours("downstream", as_of)
        between = _between(
            first,
            last,
            lambda starts, direction: self.levels(starts, direction, None, as_of),
            lambda direction: self._neighbours(direction, as_of),
        )
        ahead = {thing: sorted(other for other in neighbours[thing] if other in between) for thing in between}
        goals, ways = {*last}, dict[int, int]()
        for thing in in_order(ahead, first):
            ways[thing] = sum(ways[other] + (other in goals) for other in ahead[thing])
        at_once = goals & {*first} if from_goals else set[int]()
        begins = sorted(thing for thing in {*first} if ways.get(thing) or thing in at_once)
        found = (way for thing in begins for way in _ways(ahead, thing, goals, 1 if thing in at_once else 2))
        return sum(ways[thing] for thing in begins) + len(at_once), (self.things(way, as_of) for way in found)

    def ends(
        self, kind: str, name: str, direction: Direction, *, as_of: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """Yield what is one edge away from a thing, by kind and name; the first come at once."""
        edges = self.neighbours(kind, name, direction, as_of=as_of)
        return (edge.source if direction == "upstream" else edge.target for edge in edges)

    def search(self, words: str, *, most: int = 50) -> list[Result]:
        """Return the things whose name or text has all words, or words that begin so.

        Those that are called so come first, such as `demand_features.temperature` of `temperature`; then the best matches.
        """
        terms = " ".join(f'"{word}"*' for word in re.sub(r'["\0]', " ", words).split())
        if not terms:
            return []
        rows = self._store.execute(_MATCHES, {"terms": terms, "called": words.strip().lower(), "most": most})
        return [Result(kind, name, 0, {"text": text}) for kind, name, text in rows]

    @property
    def _end(self) -> int:
        """A number that is larger than any thing's."""
        return self._store.execute("select coalesce(max(id), 0) + 1 from thing").fetchone()[0]

    @property
    def _kinds(self) -> dict[int, str]:
        return dict(self._store.execute("select id, name from kind"))

    def number(self, kind: str, name: str) -> int | None:
        """Return the number of a thing, None where there is none; it is the same until the index is rebuilt."""
        query = "select thing.id from thing join kind on kind.id = thing.kind where thing.name = ? and kind.name = ?"
        row = self._store.execute(query, [name, kind]).fetchone()
        return row[0] if row else None

    def levels(
        self, starts: Sequence[int], direction: Direction, depth: int | None, as_of: int | None
    ) -> Iterator[list[int]]:
        """Yield what is one edge away from some things, what is two away, and so on; each thing once."""
        neighbours = self._neighbours(direction, as_of)
        seen = bytearray(self._end)
        level, number = list(starts), 0
        while level and number != depth:
            level, number = neighbours.of(level, seen), number + 1
            if level:
                yield level

    def things(self, numbers: Sequence[int], as_of: int | None) -> list[Result]:
        """Return the things of some numbers, in their order; the depth of each is its place in it."""
        names = self._kinds
        rows = [next(self._rows([thing], as_of)) for thing in numbers]
        return [Result(names[kind], name, depth, facts) for depth, (kind, name, facts) in enumerate(rows)]


def _between(
    first: Sequence[int],
    last: Sequence[int],
    levels: Callable[[Sequence[int], Direction], Iterator[Sequence[int]]],
    neighbours: Callable[[Direction], Neighbours],
) -> set[int]:
    """Return the things on paths from some to others, with those that are both.

    Both sides are walked in turn until one has no more, and the other one within that: of a dataset that much is
    downstream of, often little is upstream.

    Args:
        first: where paths begin.
        last: where they end.
        levels: returns what is one edge away from some things in a direction, what is two away, and so on.
        neighbours: returns what is one edge away from each thing in a direction.
    """
    sides: tuple[tuple[Sequence[int], Direction], ...] = ((first, "downstream"), (last, "upstream"))
    walks = [(levels(*side), {*side[0]}) for side in sides]
    done = -1
    while done < 0:
        for number, (ahead, reached) in enumerate(walks):
            if (level := next(ahead, None)) is None:
                done = number
                break
            reached.update(level)
    starts, direction = sides[1 - done]
    within, others = walks[done][1], neighbours(direction)
    found = waiting = {thing for thing in starts if thing in within}
    while waiting:
        waiting = {other for thing in waiting for other in others[thing] if other in within} - found
        found = found | waiting
    return found


def in_order(ahead: dict[T, list[T]], starts: Sequence[T]) -> Sequence[T]:
    """Return things so that each comes after those that it leads to; edges that lead back in a circle are removed."""
    order, way, entered = list[T](), dict[T, Iterator[T]](), set[T]()
    for start in (*starts, *ahead):
        if start in entered or start not in ahead:
            continue
        way[start] = iter([*ahead[start]])
        while way:
            thing, others = next(reversed(way.items()))
            entered.add(thing)
            other = next(others, None)
            if other is None:
                order.append(thing)
                del way[thing]
            elif other in way:
                ahead[thing].remove(other)
            elif other not in entered:
                way[other] = iter([*ahead[other]])
    return order


def _ways(ahead: Mapping[int, Sequence[int]], first: int, goals: Collection[int], least: int) -> Iterator[list[int]]:
    """Yield the paths from something to any goal that have at least so many things."""
    waiting = [[first]]
    while waiting:
        way = waiting.pop()
        if len(way) >= least and way[-1] in goals:
            yield way
        waiting.extend([*way, other] for other in reversed(ahead[way[-1]]))
