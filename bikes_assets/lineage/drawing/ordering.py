"""In which order the boxes of each column stand: lines cross as seldom as possible.

The least number of crossings is not found by any fast method. Here barycenters are swept over the columns from several
starts; the best order is improved by lines that take the best way through all others, and by vertices that take the best
place in their column.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import TypeAlias

Segment: TypeAlias = tuple[int, float, int, float]
"""A line from one column to the next: its source and where on its right side, from 0 to 1; its target and where there."""
Near: TypeAlias = Sequence[Sequence[tuple[int, float]]]
"""The other end of each line of each vertex on one side, and where it is on that."""

_FARTHEST = 12
"""How many places a vertex moves at most in one step of `sift`."""
_MOST_STALE = 2
"""After how many sweeps that have not helped no more are tried."""
_MOST_PLACES = 3_000
"""How many pairs of places a line may take between two columns; of larger ones its way is not searched for."""
_MOST_WORK = 400_000
"""How many pairs of vertices or places are compared in one pass over all columns; in larger graphs a part is improved."""
_FAR = 1 << 20
"""More than the number of places in a column: costs are multiples of it, so that they carry the place they come from."""


def order(
    layers: Sequence[int], segments: Sequence[Segment], prior: Mapping[int, float] | None = None
) -> tuple[list[list[int]], int]:
    """Return the vertices of each column from top to bottom, and the number of crossings.

    Args:
        layers: the column of each vertex.
        segments: the lines, each from a column to the next one.
        prior: how far down vertices were in an earlier picture; within a column these keep their order.
    """
    best: tuple[int, list[list[int]]] | None = None
    columns = Columns(layers, segments, prior or {})
    effort = max(len(segments), 1)
    for start in range(min(max(900 // effort, 2), 8)):
        columns.begin(start)
        for _ in range(4):
            columns.sweep(downstream=True)
            columns.sweep(downstream=False)
        found = columns.settle(min(max(3000 // effort, 4), 24))
        if best is None or found[0] < best[0]:
            best = found
        if best[0] == 0:
            return best[1], 0
    assert best is not None  # noqa: S101 - there are two starts or more
    columns.place(best[1])
    for _ in range(min(max(600 // effort, 1), 4)):
        if not columns.reroute() + columns.sift():
            break
    return columns.columns, columns.crossings()


class Columns:
    """Vertices in columns, and lines between neighbouring columns.

    Args:
        layers: the column of each vertex.
        segments: the lines.
        prior: how far down vertices were in an earlier picture; within a column these keep their order.
    """

    def __init__(self, layers: Sequence[int], segments: Sequence[Segment], prior: Mapping[int, float]) -> None:
        self.layers, self.prior = layers, prior
        self.columns: list[list[int]] = [[] for _ in range(max(layers) + 1)]
        self.at = [0] * len(layers)
        self.gaps: list[list[Segment]] = [[] for _ in self.columns]
        self.back: list[list[tuple[int, float]]] = [[] for _ in layers]
        self.ahead: list[list[tuple[int, float]]] = [[] for _ in layers]
        for segment in segments:
            source, leaves, target, enters = segment
            self.gaps[layers[source]].append(segment)
            self.back[target].append((source, leaves))
            self.ahead[source].append((target, enters))
        self.paths = self._paths()

    def begin(self, start: int) -> None:
        """Place all vertices: as they come when they are visited by lines from some vertex, or at random, by a number."""
        vertices = range(len(self.layers))
        if start == 0:  # in both directions, from the one with the most lines
            most = max(vertices, key=lambda vertex: (len(self.back[vertex]) + len(self.ahead[vertex]), -vertex))
            visited = self._visited([most, *vertices], chain_of=(self.back, self.ahead))
        elif start == 1:
            visited = self._visited([*(v for v in vertices if not self.ahead[v]), *vertices], chain_of=(self.back,))
        elif start == 2:
            visited = self._visited([*(v for v in vertices if not self.back[v]), *vertices], chain_of=(self.ahead,))
        else:
            visited = [*vertices]
            random.Random(start).shuffle(visited)
        columns: list[list[int]] = [[] for _ in self.columns]
        for vertex in visited:
            columns[self.layers[vertex]].append(vertex)
        self.place([self._kept(column) for column in columns])

    def place(self, columns: Sequence[Iterable[int]]) -> None:
        """Place all vertices in this order."""
        self.columns = [[*column] for column in columns]
        for column in self.columns:
            self._count_off(column)

    def crossings(self) -> int:
        """Return how often lines cross."""
        found, at = 0, self.at
        for gap in self.gaps:
            above: list[float] = []
            for _, end in sorted(
                [(at[source] + leaves, at[target] + enters) for source, leaves, target, enters in gap]
            ):
                found += len(above) - bisect_right(above, end)
                insort(above, end)
        return found

    def sweep(self, *, downstream: bool) -> None:
        """Sort each column by the barycenters of what its lines from the column before, or from the one after, lead to."""
        at, near = self.at, self.back if downstream else self.ahead
        for column in self.columns[1:] if downstream else self.columns[-2::-1]:
            centers = dict[int, float]()
            for vertex in column:
                others = near[vertex]
                if len(others) == 1:
                    centers[vertex] = at[others[0][0]] + others[0][1]
                elif others:
                    centers[vertex] = sum([at[other] + end for other, end in others]) / len(others)
            placed = sorted(centers, key=centers.__getitem__)
            if len(placed) < len(column):  # what has no lines on this side keeps its place
                following = iter(placed)
                placed = [next(following) if vertex in centers else vertex for vertex in column]
            column[:] = self._kept(placed)
            self._count_off(column)

    def settle(self, most: int) -> tuple[int, list[list[int]]]:
        """Sweep, and exchange neighbours, until that has not helped for a while, at most so often; return the best."""
        best, stale = (self.crossings(), [[*column] for column in self.columns]), 0
        for number in range(most):
            if not best[0] or stale > _MOST_STALE:
                break
            self.sweep(downstream=number % 2 == 0)
            self._exchange(self.columns if number % 2 == 0 else self.columns[::-1])
            found, stale = self.crossings(), stale + 1
            if found < best[0]:
                best, stale = (found, [[*column] for column in self.columns]), 0
        return best

    def sift(self) -> int:
        """Move each vertex to the place of its column where its lines cross least; return how many crossings that saves."""
        saved = work = 0
        for column in self.columns:
            work += len(column) * min(len(column), 2 * _FARTHEST)
            if len(column) < 2 or work > _MOST_WORK:
                continue
            ends = self._ends(column)
            for vertex in sorted(column, key=lambda vertex: -len(self.back[vertex]) - len(self.ahead[vertex])):
                place = column.index(vertex)
                best, to = 0, place
                for step in (1, -1):
                    cost, last = 0, min(place + _FARTHEST, len(column)) if step > 0 else max(place - _FARTHEST, -1)
                    for index in range(place + step, last, step):
                        other = column[index]
                        if vertex in self.prior and other in self.prior:
                            break
                        cost -= step * _saved(ends[vertex], ends[other])
                        if cost < best:
                            best, to = cost, index
                if to != place:
                    column.insert(to, column.pop(place))
                    saved -= best
            self._count_off(column)
        return saved

    def reroute(self) -> int:
        """Move each path without branches to its best way through all columns; return how many crossings that saves."""
        saved = work = 0
        for path in self.paths:
            sizes = [len(self.columns[self.layers[vertex]]) for vertex in path]
            places = [size * other for size, other in pairwise(sizes)]
            work += sum(places)
            if max(places, default=0) > _MOST_PLACES or work > _MOST_WORK:
                continue
            saved += self._reroute(path)
        return saved

    def _reroute(self, path: Sequence[int]) -> int:
        """Move a path to its best way, if that is better; return how many crossings that saves."""
        crossed = self._crossed(path)
        if not crossed:
            return 0
        at, gap = self.at, self.layers[path[0]] - 1
        costs: list[list[int]] = [[0] * len(self.columns[gap + 1])]
        if before := self.back[path[0]]:  # what begins above the path's beginning, and what begins below
            key = at[before[0][0]] + before[0][1]
            groups: list[list[int]] = [[], []]
            for source, leaves, target, _ in self.gaps[gap]:
                if target != path[0] and (begin := at[source] + leaves) != key:
                    groups[begin > key].append(at[target] - (at[target] > at[path[0]]))
            costs = [_cheapest([_NEVER, 0, _NEVER], groups, len(self.columns[gap + 1]))]
        for vertex, following in pairwise(path):
            place = at[following]
            groups = [
                [at[end] - (at[end] > place) for end, _ in self.ahead[other]]
                for other in self.columns[self.layers[vertex]]
                if other != vertex
            ]
            costs.append(_cheapest(costs[-1], groups, len(self.columns[self.layers[following]])))
        if after := self.ahead[path[-1]]:
            key = at[after[0][0]] + after[0][1]
            others = (other for other in self.columns[self.layers[path[-1]]] if other != path[-1])
            ends = ([at[end] + enters for end, enters in self.ahead[other]] for other in others)
            groups = [[int(end > key) for end in group if end != key] for group in ends]
            cost, place = divmod(_cheapest(costs[-1], groups, 3)[1], _FAR)
        else:
            cost, place = min((cost // _FAR, place) for place, cost in enumerate(costs[-1]))
        if cost >= crossed:
            return 0
        for vertex, known in zip(reversed(path), reversed(costs), strict=True):
            column = self.columns[self.layers[vertex]]
            column.remove(vertex)
            column.insert(place, vertex)
            self._count_off(column)
            place = known[place] % _FAR
        return crossed - cost

    def _crossed(self, path: Sequence[int]) -> int:
        """Return how many lines a path crosses."""
        at, found = self.at, 0
        first = self.layers[path[0]]
        whole = {*path}
        for gap in self.gaps[max(first - 1, 0) : first + len(path)]:
            ends = [(at[source] + leaves, at[target] + enters) for source, leaves, target, enters in gap]
            for (begin, end), segment in zip(ends, gap, strict=True):
                if segment[0] in whole or segment[2] in whole:
                    found += sum([(begin - other) * (end - to) < 0 for other, to in ends])
        return found

    def _exchange(self, columns: Iterable[list[int]]) -> None:
        """Exchange neighbours in columns as long as that saves crossings."""
        prior = self.prior
        for column in columns:
            ends, index, last = self._ends(column), 0, len(column) - 1
            while index < last:
                one, other = column[index], column[index + 1]
                if _saved(ends[one], ends[other]) > 0 and not (one in prior and other in prior):
                    column[index], column[index + 1] = other, one
                    index = max(index - 1, 0)
                else:
                    index += 1
            self._count_off(column)

    def _ends(self, column: Iterable[int]) -> dict[int, tuple[list[float], list[float]]]:
        """Return where the lines of each vertex end in the column before, and in the one after, in order."""
        at, found = self.at, dict[int, tuple[list[float], list[float]]]()
        for vertex in column:
            back = [at[other] + end for other, end in self.back[vertex]]
            ahead = [at[other] + end for other, end in self.ahead[vertex]]
            if len(back) > 1:
                back.sort()
            if len(ahead) > 1:
                ahead.sort()
            found[vertex] = back, ahead
        return found

    def _count_off(self, column: Iterable[int]) -> None:
        at = self.at
        for place, vertex in enumerate(column):
            at[vertex] = place

    def _kept(self, column: list[int]) -> list[int]:
        """Return a column in which those of an earlier picture have their places among themselves as they were in it."""
        if not self.prior:
            return column
        kept = iter(sorted((vertex for vertex in column if vertex in self.prior), key=lambda v: (self.prior[v], v)))
        return [next(kept) if vertex in self.prior else vertex for vertex in column]

    def _visited(self, starts: Iterable[int], chain_of: Sequence[Near]) -> list[int]:
        """Return all vertices, breadth first from each start."""
        seen, found = bytearray(len(self.layers)), list[int]()
        for start in starts:
            if seen[start]:
                continue
            seen[start], waiting = 1, [start]
            for vertex in waiting:
                for other, _ in chain.from_iterable(near[vertex] for near in chain_of):
                    if not seen[other]:
                        seen[other] = 1
                        waiting.append(other)
            found += waiting
        return found

    def _paths(self) -> list[list[int]]:
        """Return the longest paths of two vertices and more that have no branches and were in no earlier picture."""
        is_free = [
            len(back) <= 1 and len(ahead) <= 1 and vertex not in self.prior
            for vertex, (back, ahead) in enumerate(zip(self.back, self.ahead, strict=True))
        ]
        found: list[list[int]] = []
        for vertex, back in enumerate(self.back):
            if not is_free[vertex] or (back and is_free[back[0][0]]):
                continue
            path = [vertex]
            while (ahead := self.ahead[path[-1]]) and is_free[ahead[0][0]]:
                path.append(ahead[0][0])
            if len(path) > 1:
                found.append(path)
        return found


_NEVER = 1 << 60


def _cheapest(costs: Sequence[int], groups: Sequence[Sequence[int]], size: int) -> list[int]:
    """Return the least cost of each place in a column, and in it the place in the column before by which it is reached.

    Args:
        costs: the least cost of each place in the column before: above its first vertex, above its second, and so on.
        groups: the places in the column at which the lines of each vertex of the column before end.
        size: how many places the column has.
    """
    counts = [0] * (size + 1)
    for end in chain.from_iterable(groups):
        counts[end + 1] += _FAR
    crossed = [*accumulate(counts[:size])]
    found = [_NEVER] * size
    for place, group in enumerate([*groups, ()]):
        before = costs[place] // _FAR * _FAR + place
        found = [
            known if known <= (cost := before + more) else cost for known, more in zip(found, crossed, strict=True)
        ]
        for end in group:  # from here on this line is above the place that is left, no longer below
            crossed = [more + _FAR for more in crossed[: end + 1]] + [more - _FAR for more in crossed[end + 1 :]]
    return found


def _saved(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> int:
    """Return how many crossings fewer there are when the first of two neighbours stands below the other.

    Args:
        one: where its lines to the column before end, and those to the column after, each in order.
        other: the same of the other one.
    """
    found = 0
    for side in (0, 1):
        mine, theirs = one[side], other[side]
        if not mine or not theirs:
            continue
        if mine[-1] < theirs[0]:
            found -= len(mine) * len(theirs)
        elif mine[0] > theirs[-1]:
            found += len(mine) * len(theirs)
        elif len(theirs) == 1:
            found += len(mine) - bisect_left(mine, theirs[0]) - bisect_right(mine, theirs[0])
        else:
            for end in mine:
                found += bisect_left(theirs, end) + bisect_right(theirs, end) - len(theirs)
    return found
