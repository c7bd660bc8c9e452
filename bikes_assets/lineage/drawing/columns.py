"""Vertices in columns, their lines, and what exchanges neighbours so that these cross less often."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Segment: TypeAlias = tuple[int, float, int, float]
"""A line from one column to the next: its source and where on its right side, from 0 to 1; its target and where there."""

MOST_WORK = 400_000
"""How many pairs of vertices or places are compared in one pass over all columns; in larger graphs a part is improved."""
_FARTHEST = 12
"""How many places a vertex moves at most in one step of `sift`."""
_MOST_STALE = 2
"""After how many sweeps that have not helped no more are tried."""


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

    def place(self, columns: Sequence[Iterable[int]]) -> None:
        """Place all vertices in this order."""
        self.columns = [[*column] for column in columns]
        for column in self.columns:
            self.count_off(column)

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
            column[:] = self.kept(placed)
            self.count_off(column)

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
            if len(column) < 2 or work > MOST_WORK:
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
            self.count_off(column)
        return saved

    def _exchange(self, columns: Iterable[list[int]]) -> None:
        """Exchange neighbours in columns as long as that saves crossings."""
        prior = self.prior
        for column in columns:
            ends, index, last = self._ends(column), 0, len(column) - 1
            while index < last:
                one, other = column[index], column[index + 1]
                (back, ahead), (other_back, other_ahead) = ends[one], ends[other]
                # most neighbours have no lines that cross: that is seen at once
                if (
                    (back and other_back and back[-1] > other_back[0])
                    or (ahead and other_ahead and ahead[-1] > other_ahead[0])
                ) and (_saved(ends[one], ends[other]) > 0 and not (one in prior and other in prior)):
                    column[index], column[index + 1] = other, one
                    index = max(index - 1, 0)
                else:
                    index += 1
            self.count_off(column)

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

    def count_off(self, column: Iterable[int]) -> None:
        """Note the places of the vertices of a column, which has been changed."""
        at = self.at
        for place, vertex in enumerate(column):
            at[vertex] = place

    def kept(self, column: list[int]) -> list[int]:
        """Return a column in which those of an earlier picture have their places among themselves as they were in it."""
        if not self.prior:
            return column
        kept = iter(sorted((vertex for vertex in column if vertex in self.prior), key=lambda v: (self.prior[v], v)))
        return [next(kept) if vertex in self.prior else vertex for vertex in column]


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
