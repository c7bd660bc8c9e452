"""How far down each box stands, once the order of each column is known: near what it is linked with, lines straight.

The sum of the squares of what lines overcome is minimized column by column, with all others where they are: boxes that
would overlap are moved together, by the exact method for that, pooling of adjacent violators (Barlow and others:
Statistical Inference under Order Restrictions, 1972). Then lines that are nearly straight are straightened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

Line: TypeAlias = tuple[int, float, int, float]
"""A line from one column to the next: its source and how far below the source's middle it begins; the same of its target."""
Near: TypeAlias = Sequence[Sequence[tuple[int, float, int]]]
"""Of each vertex, what its lines lead to: the vertex, how much further down this one is if the line is straight, and
what it is worth that it is."""

_WORK, _SWEEPS, _ONE_SIDED = 2_400, (8, 40), 2
"""How many vertices are placed; how often all are at least and at most, and how often by the lines on one side alone."""
_WORTH = (1, 2, 8)
"""What it is worth that a line between two boxes is straight, one between a box and a long line, and a long line."""
_LITTLE = 0.01
"""What it is worth that a vertex without lines stays where it is."""
_MOST_MOVED = 32.0
"""How far something is moved at most to straighten its lines."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much space vertices need.

    Attributes:
        halves: half of the height of each vertex, 0 for a line that passes through a column.
        gaps: the least space between two boxes, between a box and a line, and between two lines.
    """

    halves: Sequence[float]
    gaps: tuple[float, float, float]

    def between(self, one: int, other: int) -> float:
        """Return how far apart the middles of two neighbours have to be."""
        halves = self.halves
        return halves[one] + halves[other] + self.gaps[(not halves[one]) + (not halves[other])]


def heights(columns: Sequence[Sequence[int]], lines: Sequence[Line], sizes: Sizes) -> list[float]:
    """Return how far down the middle of each vertex is; it may be above 0.

    Args:
        columns: the vertices of each column, from top to bottom.
        lines: the lines, each from a column to the next one.
        sizes: how much space the vertices need.
    """
    back, ahead = ([list[tuple[int, float, int]]() for _ in sizes.halves] for _ in range(2))
    for source, begin, target, end in lines:
        worth = _WORTH[(not sizes.halves[source]) + (not sizes.halves[target])]
        back[target].append((source, begin - end, worth))
        ahead[source].append((target, end - begin, worth))
    found, apart = [0.0] * len(sizes.halves), list[list[float]]()
    for column in columns:
        below = [0.0]
        for one, other in pairwise(column):
            below.append(below[-1] + sizes.between(one, other))
        apart.append(below)
        for vertex, y in zip(column, below, strict=False):
            found[vertex] = y - below[-1] / 2
    both = _Pulls([[*one, *other] for one, other in zip(back, ahead, strict=True)])
    one_sided = _Pulls(back), _Pulls(ahead)
    placed = [*zip(columns, apart, strict=True)]
    for number in range(min(max(_WORK // max(len(found), 1), _SWEEPS[0]), _SWEEPS[1])):
        pulls = both if number >= _ONE_SIDED else one_sided[number % 2]
        for column, below in placed[::-1] if number % 2 else placed:
            _place(column, below, pulls, found)
    _straighten(columns, (back, ahead), sizes, found)
    return found


class _Pulls:
    """What vertices are pulled to by their lines: a sum for each, and what it is divided by.

    Args:
        near: what the lines of each vertex lead to.
    """

    def __init__(self, near: Near) -> None:
        self.ends = [[(other, worth) for other, _, worth in ends] for ends in near]
        self.sums = [sum([worth * lower for _, lower, worth in ends]) for ends in near]
        self.worths = [sum([worth for _, _, worth in ends]) for ends in near]


def _place(column: Sequence[int], apart: Sequence[float], pulls: _Pulls, found: list[float]) -> None:
    """Place a column where the squares of what its lines overcome are least.

    Args:
        column: its vertices.
        apart: how far each is below the first one at least.
        pulls: what they are pulled to.
        found: how far down all vertices are, which is changed.
    """
    ends, sums, worths = pulls.ends, pulls.sums, pulls.worths
    blocks: list[tuple[float, float, int]] = []  # where the first vertex would be, the worth, and how many they are
    for vertex, below in zip(column, apart, strict=False):
        worth: float = worths[vertex]
        if worth:
            place = (sums[vertex] + sum([value * found[other] for other, value in ends[vertex]])) / worth - below
        else:
            place, worth = found[vertex] - below, _LITTLE
        count = 1
        while blocks and blocks[-1][0] >= place:
            above, value, number = blocks.pop()
            place = (place * worth + above * value) / (worth + value)
            worth, count = worth + value, count + number
        blocks.append((place, worth, count))
    index = 0
    for place, _, count in blocks:
        for number in range(index, index + count):
            found[column[number]] = place + apart[number]
        index += count


def _straighten(columns: Sequence[Sequence[int]], near: tuple[Near, Near], sizes: Sizes, found: list[float]) -> None:
    """Move vertices, and long lines as wholes, a little where that makes lines straight."""
    count, (back, ahead) = len(found), near
    found += [float("-inf"), float("inf")]  # above the first vertex of each column, and under the last
    above, under = [count] * count, [count + 1] * count
    room_above, room_under = [0.0] * count, [0.0] * count
    for column in columns:
        for one, other in pairwise(column):
            under[one], above[other] = other, one
            room_under[one] = room_above[other] = sizes.between(one, other)
    runs = [[vertex] for column in columns for vertex in column if sizes.halves[vertex]]
    for line in _long_lines(columns, back, ahead, sizes):
        run: list[int] = []
        first, last = found[count], found[count + 1]
        for vertex in line:
            high = found[above[vertex]] + room_above[vertex]
            low = max(found[under[vertex]] - room_under[vertex], high)
            if run and max(first, high) > min(last, low):  # it cannot be straight in all columns
                _level(run, found, first, last)
                runs.append(run)
                run, first, last = [], high, low
            run.append(vertex)
            first, last = max(first, high), min(last, low)
        _level(run, found, first, last)
        runs.append(run)
    for number in range(2):
        has_moved = False
        for run in runs[::-1] if number % 2 else runs:
            first = max([found[above[vertex]] + room_above[vertex] for vertex in run])
            last = min([found[under[vertex]] - room_under[vertex] for vertex in run])
            left = [(found[other] + lower, worth) for other, lower, worth in back[run[0]]]
            right = [(found[other] + lower, worth) for other, lower, worth in ahead[run[-1]]]
            now = found[run[0]]
            y = _straight(left, right, now, (first, last))
            if y != now and first <= y <= last:
                has_moved = True
                for vertex in run:
                    found[vertex] = y
        if not has_moved:
            break
    del found[count:]


def _level(run: Sequence[int], found: list[float], first: float, last: float) -> None:
    """Place all vertices of a run equally high, between two bounds."""
    middle = min(max(sum([found[vertex] for vertex in run]) / len(run), first), last)
    for vertex in run:
        found[vertex] = middle


def _long_lines(columns: Sequence[Sequence[int]], back: Near, ahead: Near, sizes: Sizes) -> Iterator[list[int]]:
    """Yield the places of each line in the columns that it passes."""
    for column in columns:
        for vertex in column:
            if sizes.halves[vertex] or not sizes.halves[back[vertex][0][0]]:
                continue
            run = [vertex]
            while not sizes.halves[following := ahead[run[-1]][0][0]]:
                run.append(following)
            yield run


def _straight(
    left: Sequence[tuple[float, int]], right: Sequence[tuple[float, int]], now: float, free: tuple[float, float]
) -> float:
    """Return the place near the current one from which the distances to others sum up to the least.

    Args:
        left: the places to which lines on the left lead straight, and what it is worth that they are straight.
        right: the same of the lines on the right.
        now: the current place.
        free: the highest and the lowest possible place.
    """
    ordered = sorted([*left, *right])
    if len(left) == len(right) == 1:  # any place between the two is as good: one line straight, one bend
        reached = [place for place, _ in ordered if free[0] <= place <= free[1]]
        return min(reached, key=lambda place: abs(place - now), default=now)
    whole, so_far = sum([worth for _, worth in ordered]), 0
    for index, (place, worth) in enumerate(ordered):
        so_far += worth
        if 2 * so_far >= whole:
            last = ordered[index + 1][0] if 2 * so_far == whole else place
            y = min(max(now, place), last)
            return min(max(y, free[0]), free[1]) if abs(y - now) <= _MOST_MOVED else now
    return now
