"""A graph as numbers, and its parts: boxes that are laid out together, since links connect them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from bikes_assets.core.errors import LineageError
from bikes_assets.core.texts import plain, shortened
from bikes_assets.lineage.drawing.layering import layers_of
from bikes_assets.lineage.drawing.ordering import order
from bikes_assets.lineage.drawing.placing import Sizes, heights
from bikes_assets.lineage.index import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bikes_assets.lineage.drawing.boxes import Box, BoxLink

GAPS = (24.0, 18.0, 12.0)
"""Least space between two boxes of a column, between a box and a line, and between two lines."""


class Graph:
    """Boxes as numbers in order of their names, and links between them that form no circle.

    Args:
        boxes: the boxes.
        links: the links.
        prior: how far down boxes were in an earlier picture, by their names.

    Attributes:
        links: source and target of each link, its ports there, and the link; in order.
        turned: source and target of the links that are drawn from right to left.
        rank: a number of each box that is larger than those of the boxes that lead to it.
        near: the boxes that each one is linked with.
        leaving: the numbers of the links of each box to others.
    """

    def __init__(self, boxes: Iterable[Box], links: Iterable[BoxLink], prior: Mapping[str, float]) -> None:
        self.boxes = sorted(boxes)
        for one, other in pairwise(self.boxes):
            if one.name == other.name:
                raise LineageError(f"found two boxes {_told(one.name)}, expected one: leave one out")
        self.numbers = {box.name: number for number, box in enumerate(self.boxes)}
        self.prior = {number: prior[name] for name, number in self.numbers.items() if name in prior}
        keyed: dict[tuple[int, int, float, float], BoxLink] = {}
        for link in links:
            source, target = (self._number(name) for name in (link.source, link.target))
            ports = self.port(source, link.source_port), self.port(target, link.target_port)
            key = (source, target, *ports)
            keyed[key] = min(keyed[key], link, key=repr) if key in keyed else link
        self.links = [(*key, keyed[key]) for key in sorted(keyed)]
        self._turn()

    def _number(self, name: str) -> int:
        try:
            return self.numbers[name]
        except KeyError:
            raise LineageError(f"found a link of {_told(name)}, expected one of a box: add that box") from None

    def port(self, number: int, port: float | None) -> float:
        """Return how far below a box's top a port is, which is on the box in any case."""
        height = self.boxes[number].height
        return height / 2 if port is None else min(max(port, 0.0), height)

    def _turn(self) -> None:
        """Decide which links are drawn from right to left, so that the others form no circle."""
        ahead: dict[int, list[int]] = {number: [] for number in range(len(self.boxes))}
        entered = set[int]()
        for source, target in dict.fromkeys(key[:2] for key in self.links):
            if source != target:
                ahead[source].append(target)
                entered.add(target)
        order = in_order(ahead, [number for number in ahead if number not in entered])
        kept = {(source, target) for source, targets in ahead.items() for target in targets}
        self.rank = {number: -place for place, number in enumerate(order)}
        self.turned = {key[:2] for key in self.links if key[:2] not in kept and key[0] != key[1]}
        self.near: list[set[int]] = [set() for _ in self.boxes]
        self.leaving: list[list[int]] = [[] for _ in self.boxes]
        for number, (source, target, *_) in enumerate(self.links):
            if source != target:
                self.near[source].add(target)
                self.near[target].add(source)
                self.leaving[source].append(number)

    def ends(self, number: int) -> tuple[int, int, float, float]:
        """Return the boxes on the left and on the right of a link, and its ports there."""
        source, target, leaves, enters, _ = self.links[number]
        turned = (source, target) in self.turned
        return (target, source, enters, leaves) if turned else (source, target, leaves, enters)

    def parts(self) -> list[list[int]]:
        """Return the boxes of each part of the picture from top to bottom: the largest first, or as they were before.

        Boxes that links connect are one part; so are those whose places in an earlier picture were side by side.
        """
        group_of = connected(self.near)
        found: list[list[int]] = [[] for _ in range(max(group_of, default=-1) + 1)]
        for number, group in enumerate(group_of):
            found[group].append(number)
        known = sorted(
            (min(places), max(places), part)
            for part in found
            if (places := [self.prior[number] for number in part if number in self.prior])
        )
        joined: list[tuple[float, float, list[int]]] = []
        for first, last, part in known:
            if joined and first < joined[-1][1]:
                above = joined.pop()
                joined.append((above[0], max(above[1], last), sorted(above[2] + part)))
            else:
                joined.append((first, last, part))
        others = [part for part in found if not any(number in self.prior for number in part)]
        others.sort(key=lambda part: (-len(part), part))
        return [*(part for *_, part in joined), *others]


class Component:
    """Boxes that are laid out together.

    Args:
        graph: the graph.
        members: the numbers of the boxes, in ascending order.

    Attributes:
        columns: the vertices of each column from top to bottom: boxes, as places in `members`, and long lines.
        ways: the vertices of each link, by its number, from left to right.
        layers: the column of each vertex.
        lines: how far below the part's top the line of each link is at each vertex of its way, by its number.
        middles: how far below the part's top the middle of each vertex is.
        height: the part's height.
        crossings: how often its lines cross.
    """

    def __init__(self, graph: Graph, members: Sequence[int]) -> None:
        self.graph, self.members = graph, members
        within = {number: place for place, number in enumerate(members)}
        ends = {number: graph.ends(number) for member in members for number in graph.leaving[member]}
        layers = self._layers([(within[one], within[other]) for one, other, _, _ in ends.values()])
        halves = [graph.boxes[number].height / 2 for number in members]
        segments, lines = list[tuple[int, float, int, float]](), list[tuple[int, float, int, float]]()
        self.ways: dict[int, list[int]] = {}
        for number, (one, other, leaves, enters) in ends.items():
            source, target = within[one], within[other]
            passed = range(layers[source] + 1, layers[target])
            way = self.ways[number] = [source, *range(len(layers), len(layers) + len(passed)), target]
            layers += passed
            halves += [0.0] * len(passed)
            ports = [leaves, *(0.0 for _ in passed), enters]
            for begin, end, port, to in zip(way, way[1:], ports, ports[1:], strict=False):
                segments.append((begin, _share(port, halves[begin]), end, _share(to, halves[end])))
                lines.append((begin, port - halves[begin], end, to - halves[end]))
        prior = {place: graph.prior[number] for number, place in within.items() if number in graph.prior}
        self.columns, self.crossings = order(layers, segments, prior)
        middles = heights(self.columns, lines, Sizes(halves, GAPS))
        top = min(middle - half for middle, half in zip(middles, halves, strict=True))
        self.middles = [middle - top for middle in middles]
        self.height = max(middle + half for middle, half in zip(self.middles, halves, strict=True))
        self.layers = layers
        self.lines = {number: self._line(number) for number in self.ways}

    def _line(self, number: int) -> list[float]:
        _, _, leaves, enters = self.graph.ends(number)
        first, *passed, last = self.ways[number]
        middles, boxes, members = self.middles, self.graph.boxes, self.members
        begin = middles[first] - boxes[members[first]].height / 2 + leaves
        end = middles[last] - boxes[members[last]].height / 2 + enters
        return [begin, *[middles[vertex] for vertex in passed], end]

    def _layers(self, links: Sequence[tuple[int, int]]) -> list[int]:
        """Return the column of each box; of boxes that no links connect, each group begins on the left."""
        weights: dict[tuple[int, int], int] = {}
        for link in links:
            weights[link] = weights.get(link, 0) + 1
        near: list[list[int]] = [[] for _ in self.members]
        for source, target in weights:
            near[source].append(target)
            near[target].append(source)
        groups: dict[int, list[int]] = {}
        for box, group in enumerate(connected(near)):
            groups.setdefault(group, []).append(box)
        group_of = {box: group for group, boxes in groups.items() for box in boxes}
        among: dict[int, dict[tuple[int, int], int]] = {group: {} for group in groups}
        places = {box: place for boxes in groups.values() for place, box in enumerate(boxes)}
        for (source, target), weight in weights.items():
            among[group_of[source]][places[source], places[target]] = weight
        layers = [0] * len(self.members)
        for group, boxes in groups.items():
            ordered = sorted(boxes, key=lambda box: self.graph.rank[self.members[box]])
            found = layers_of([places[box] for box in ordered], among[group])
            for box in boxes:
                layers[box] = found[places[box]]
        return layers


def connected(near: Sequence[Iterable[int]]) -> list[int]:
    """Return of each vertex the number of the group that links connect it with; groups are counted from 0 on."""
    group_of, groups = [-1] * len(near), 0
    for start in range(len(near)):
        if group_of[start] >= 0:
            continue
        group_of[start], waiting = groups, [start]
        for vertex in waiting:
            for other in near[vertex]:
                if group_of[other] < 0:
                    group_of[other] = groups
                    waiting.append(other)
        groups += 1
    return group_of


def _share(port: float, half: float) -> float:
    """Return where a port is on its side, from 0 to 1; it is nearer to its own box than to any other."""
    return 0.5 if not half else 0.01 + 0.98 * port / (2 * half)


def _told(name: str) -> str:
    return repr(shortened(plain(name), 100))
