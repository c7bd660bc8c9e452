"""Where vertices stand before crossings are reduced: several ways, since each leads to another result."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from bikes_assets.lineage.drawing.columns import Columns

Near: TypeAlias = Sequence[Sequence[tuple[int, float]]]
"""The other end of each line of each vertex on one side, and where it is on that."""

_AVERAGED = 10
"""How often heights are averaged."""


def begin(columns: Columns, start: int) -> None:
    """Place all vertices in one of several ways, by a number.

    In the first, they come as they are visited by lines from the one with the most; in the second, they are then
    moved several times to where those at the other ends of their lines are on average. In others they are visited
    from the last vertices or from the first ones, or come at random.
    """
    vertices, back, ahead = range(len(columns.layers)), columns.back, columns.ahead
    if start <= 1:
        most = max(vertices, key=lambda vertex: (len(back[vertex]) + len(ahead[vertex]), -vertex))
        visited = _visited([most, *vertices], (back, ahead))
    elif start == 2:
        visited = _visited([*(vertex for vertex in vertices if not ahead[vertex]), *vertices], (back,))
    elif start == 3:
        visited = _visited([*(vertex for vertex in vertices if not back[vertex]), *vertices], (ahead,))
    else:
        visited = [*vertices]
        random.Random(start).shuffle(visited)
    found: list[list[int]] = [[] for _ in columns.columns]
    for vertex in visited:
        found[columns.layers[vertex]].append(vertex)
    if start == 1:
        _average(columns, found)
    columns.place([columns.kept(column) for column in found])


def _average(graph: Columns, columns: Iterable[list[int]]) -> None:
    """Sort columns by heights that are averaged over what lines lead to."""
    heights = [0.0] * len(graph.layers)
    for column in columns:
        for place, vertex in enumerate(column):
            heights[vertex] = (place + 0.5) / len(column) - 0.5
    near = [
        (vertex, [other for other, _ in (*back, *ahead)], len(back) + len(ahead))
        for vertex, (back, ahead) in enumerate(zip(graph.back, graph.ahead, strict=True))
        if back or ahead
    ]
    for _ in range(_AVERAGED):
        for vertex, others, count in near:
            heights[vertex] = sum([heights[other] for other in others]) / count
    for column in columns:
        column.sort(key=heights.__getitem__)


def _visited(starts: Iterable[int], sides: Sequence[Near]) -> list[int]:
    """Return all vertices, breadth first from each start."""
    seen, found = bytearray(len(sides[0])), list[int]()
    for start in starts:
        if seen[start]:
            continue
        seen[start], waiting = 1, [start]
        for vertex in waiting:
            for other, _ in chain.from_iterable(near[vertex] for near in sides):
                if not seen[other]:
                    seen[other] = 1
                    waiting.append(other)
        found += waiting
    return found
