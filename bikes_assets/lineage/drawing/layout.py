"""Layered layout of a graph: columns of boxes from left to right, and lines that cross seldom and pass through no box.

The method is the usual one for layered graphs (Sugiyama, Tagawa, Toda: Methods for Visual Understanding of Hierarchical
System Structures, 1981): links that close a circle are turned, each box gets a column, the boxes of each column are
ordered, and then placed. A link that passes columns takes a place of its own in each of them, so that no box is there.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil, sqrt
from typing import TYPE_CHECKING

from bikes_assets.lineage.drawing.boxes import LOOP, Layout, Route
from bikes_assets.lineage.drawing.parts import GAPS, Component, Graph

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bikes_assets.lineage.drawing.boxes import Box, BoxLink, Point

_BETWEEN_PARTS = 40.0
"""Space between parts of the picture that no line connects."""
_BETWEEN_COLUMNS = (56.0, 160.0, 0.15)
"""Least and most space between two columns, and how much of it each unit of height takes that a line overcomes there."""


def layout(boxes: Iterable[Box], links: Iterable[BoxLink], *, prior: Mapping[str, float] | None = None) -> Layout:
    """Return where boxes and the lines between them go.

    The same boxes and links give the same layout, in whatever order they come.

    Args:
        boxes: the boxes.
        links: the links between them, which may form circles. Equal ones are one line.
        prior: how far down each box was in an earlier picture, so that it is recognized: boxes of one column that were
            in it keep their order. None for a first picture.

    Raises:
        LineageError: two boxes have one name, or a link names a box that there is not.
    """
    graph = Graph(boxes, links, prior or {})
    parts = graph.parts()
    components = {part[0]: Component(graph, part) for part in parts if len(part) > 1 or graph.near[part[0]]}
    lone = len(parts) - len(components)
    widest = max([len(component.columns) for component in components.values()], default=0)
    picture = _Picture(graph, max(widest, ceil(sqrt(lone))))
    waiting = list[int]()
    for first, *_ in parts:
        if first in components:
            picture.add_rows(waiting)
            waiting = []
            picture.add(components[first])
        else:
            waiting.append(first)
    picture.add_rows(waiting)
    return picture.drawn()


class _Picture:
    """Parts one below another, with common columns.

    Args:
        graph: the graph.
        across: how many columns there are.
    """

    def __init__(self, graph: Graph, across: int) -> None:
        self.graph, self.bottom = graph, 0.0
        self.parts: list[tuple[Component, float]] = []
        self.tops = [0.0] * len(graph.boxes)
        self.columns: list[list[int]] = [[] for _ in range(across)]

    def add(self, part: Component) -> None:
        """Add a part below the others."""
        if self.bottom:
            self.bottom += _BETWEEN_PARTS
        self.parts.append((part, self.bottom))
        for number, column in enumerate(part.columns):
            for vertex in column:
                if vertex < len(part.members):
                    box = part.members[vertex]
                    self.tops[box] = self.bottom + part.middles[vertex] - self.graph.boxes[box].height / 2
                    self.columns[number].append(box)
        self.bottom += part.height

    def add_rows(self, boxes: Sequence[int]) -> None:
        """Add boxes without links below the others, in rows."""
        for begin in range(0, len(boxes), len(self.columns) or 1):
            row = boxes[begin : begin + len(self.columns)]
            if self.bottom:
                self.bottom += GAPS[0] if begin else _BETWEEN_PARTS
            for column, box in zip(self.columns, row, strict=False):
                self.tops[box] = self.bottom
                column.append(box)
            self.bottom += max(self.graph.boxes[box].height for box in row)

    def drawn(self) -> Layout:
        """Return where everything is."""
        graph, (lefts, rights) = self.graph, self._sides()
        column_of = {box: number for number, column in enumerate(self.columns) for box in column}
        corners = [(lefts[column_of[box]], top) for box, top in enumerate(self.tops)]
        lines: list[list[Point]] = [[] for _ in graph.links]
        for part, top in self.parts:
            for number in part.ways:
                lines[number] = self._line(part, top, number, lefts, rights)
        left = up = 0.0
        right = max(rights, default=0.0)
        for number, (source, target, leaves, enters, _) in enumerate(graph.links):
            if source == target:
                (x, y), width = corners[source], graph.boxes[source].width
                left, up, right = max(left, LOOP - x), max(up, LOOP - y), max(right, x + width + LOOP)
                lines[number] = [(x + width, y + leaves), (x + width, y - LOOP), (x, y - LOOP), (x, y + enters)]
        return Layout(
            places={box.name: (x + left, y + up) for box, (x, y) in zip(graph.boxes, corners, strict=True)},
            routes=[
                Route(link, [(x + left, y + up) for x, y in line], (source, target) in graph.turned or source == target)
                for line, (source, target, _, _, link) in zip(lines, graph.links, strict=True)
            ],
            layers=[[graph.boxes[box].name for box in column] for column in self.columns],
            width=right + left,
            height=self.bottom + up,
            crossings=sum(part.crossings for part, _ in self.parts),
        )

    def _line(
        self, part: Component, top: float, number: int, lefts: Sequence[float], rights: Sequence[float]
    ) -> list[Point]:
        """Return the points of the line of a link: it is straight within columns, and a curve between them."""
        way, (begin, *passed, end) = part.ways[number], part.lines[number]
        column, box = part.layers[way[0]], self.graph.boxes[part.members[way[0]]]
        points = [(lefts[column] + box.width, top + begin)]
        if points[0][0] < rights[column]:
            points.append((rights[column], top + begin))
        for vertex, y in zip(way[1:-1], passed, strict=True):
            column = part.layers[vertex]
            points += [(lefts[column], top + y), (rights[column], top + y)]
        points.append((lefts[part.layers[way[-1]]], top + end))
        return points[::-1] if self.graph.links[number][:2] in self.graph.turned else points

    def _sides(self) -> tuple[list[float], list[float]]:
        """Return where each column begins and ends; steep lines have more space between columns."""
        least, most, share = _BETWEEN_COLUMNS
        steepest = [0.0] * len(self.columns)
        for part, _ in self.parts:
            for number, way in part.ways.items():
                for vertex, (y, to) in zip(way, pairwise(part.lines[number]), strict=False):
                    steepest[part.layers[vertex]] = max(steepest[part.layers[vertex]], abs(y - to))
        lefts, rights, x = list[float](), list[float](), 0.0
        for column, steep in zip(self.columns, steepest, strict=True):
            lefts.append(x)
            rights.append(x + max((self.graph.boxes[box].width for box in column), default=0.0))
            x = rights[-1] + min(max(least, share * steep), most)
        return lefts, rights
