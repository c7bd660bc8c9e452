"""Which column each box of a picture is in: as few columns as possible are between the ends of links.

The exact least sum of the links' lengths is found by the network simplex method (Gansner, Koutsofios, North, Vo:
A Technique for Drawing Directed Graphs, 1993, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TypeAlias

Weights: TypeAlias = Mapping[tuple[int, int], int]
"""How many links lead from one vertex to another, by both; they form no circle."""

_MOST_WORK = 3_000_000
"""How many vertices all steps of the method look at; what has been found by then is used, for thousands of boxes."""


def layers_of(order: Sequence[int], weights: Weights) -> list[int]:
    """Return the layer of each vertex, from 0 on, so that each link leads to a later layer.

    Args:
        order: all vertices, each after those that lead to it; they are the numbers from 0 on, and connected.
        weights: the links.
    """
    ahead, back = [list[int]() for _ in order], [list[int]() for _ in order]
    for source, target in weights:
        ahead[source].append(target)
        back[target].append(source)
    layers = [0] * len(order)
    for vertex in order:
        layers[vertex] = max([layers[other] + 1 for other in back[vertex]], default=0)
    for vertex in reversed(order):
        if ahead[vertex] and len(ahead[vertex]) >= len(back[vertex]):
            layers[vertex] = min(layers[other] for other in ahead[vertex]) - 1
    if len(order) > 1:
        _Tree(layers, weights, ahead, back).improve()
    least = min(layers)
    layers = [layer - least for layer in layers]
    _balance(order, layers, weights, ahead, back)
    return layers


class _Tree:
    """A spanning tree of links that are as short as possible, which is exchanged link by link until all are the best.

    Args:
        layers: the layer of each vertex, which is changed.
        weights: the links.
        ahead: the vertices that each one leads to.
        back: the vertices that lead to each one.
    """

    def __init__(
        self,
        layers: list[int],
        weights: Weights,
        ahead: Sequence[Sequence[int]],
        back: Sequence[Sequence[int]],
    ) -> None:
        self.layers, self.ahead, self.back = layers, ahead, back
        self.near = [set[int]() for _ in layers]
        self._span(weights)
        surplus = [0] * len(layers)
        for (source, target), weight in weights.items():
            surplus[source] += weight
            surplus[target] -= weight
        self.parent, self.surplus = [-1] * len(layers), surplus
        order = [0]
        for vertex in order:
            for other in self.near[vertex]:
                if other != self.parent[vertex]:
                    self.parent[other] = vertex
                    order.append(other)
        for vertex in reversed(order[1:]):
            surplus[self.parent[vertex]] += surplus[vertex]

    def improve(self) -> None:
        """Exchange links of the tree until the sum of lengths is the least."""
        layers, parent, surplus = self.layers, self.parent, self.surplus
        work = seen = vertex = 0
        while seen < len(layers) and work < _MOST_WORK:
            # the cut value of a link of the tree: what its removal would save for each layer that one side moves
            above = parent[vertex]
            if above >= 0 and (surplus[vertex] if layers[vertex] < layers[above] else -surplus[vertex]) < 0:
                work += len(layers) + self._exchange(vertex)
                seen = 0
            else:
                seen += 1
            vertex = (vertex + 1) % len(layers)

    def _exchange(self, top: int) -> int:
        """Replace the link between a vertex and its parent by the shortest one in the other direction, and move."""
        layers, above, near = self.layers, self.parent[top], self.near
        below = self._below(top)
        forward = layers[top] > layers[above]  # whether the part below moves to the right
        beyond = self.ahead if forward else self.back
        least, end, other = min(
            (abs(layers[other] - layers[vertex]), vertex, other)
            for vertex in below
            for other in beyond[vertex]
            if other not in below
        )
        shift = least - 1 if forward else 1 - least
        if shift:
            for vertex in below:
                layers[vertex] += shift
        near[top].discard(above)
        near[above].discard(top)
        near[end].add(other)
        near[other].add(end)
        self._turn(top, above, end, other)
        return len(below)

    def _turn(self, top: int, above: int, end: int, other: int) -> None:
        """Hang the part of the tree below a vertex on another one, by one of its own."""
        parent, surplus = self.parent, self.surplus
        whole = surplus[top]
        while above >= 0:
            surplus[above] -= whole
            above = parent[above]
        vertex, on, less = end, other, 0
        while True:  # on the way from the new end up to the earlier top, parents become children
            following, own = parent[vertex], surplus[vertex]
            parent[vertex], surplus[vertex] = on, whole - less
            if vertex == top:
                break
            vertex, on, less = following, vertex, own
        while other >= 0:
            surplus[other] += whole
            other = parent[other]

    def _below(self, top: int) -> set[int]:
        parent, near = self.parent, self.near
        waiting, found = [top], {top}
        for vertex in waiting:
            for other in near[vertex]:
                if parent[other] == vertex:
                    found.add(other)
                    waiting.append(other)
        return found

    def _span(self, weights: Weights) -> None:
        """Move vertices until links of length 1 connect all, and keep a tree of these."""
        layers, near = self.layers, self.near
        inside, waiting = {0}, [0]
        while True:
            for vertex in waiting:
                for other in (*self.ahead[vertex], *self.back[vertex]):
                    if other not in inside and abs(layers[other] - layers[vertex]) == 1:
                        inside.add(other)
                        waiting.append(other)
                        near[vertex].add(other)
                        near[other].add(vertex)
            if len(inside) == len(layers):
                return
            length, source, target = min(
                (layers[target] - layers[source], source, target)
                for source, target in weights
                if (source in inside) != (target in inside)
            )
            shift = length - 1 if source in inside else 1 - length
            for vertex in inside:
                layers[vertex] += shift
            vertex, other = (source, target) if source in inside else (target, source)
            inside.add(other)
            waiting = [other]
            near[vertex].add(other)
            near[other].add(vertex)


def _balance(
    order: Sequence[int],
    layers: list[int],
    weights: Weights,
    ahead: Sequence[Sequence[int]],
    back: Sequence[Sequence[int]],
) -> None:
    """Move vertices whose links are equally long in any of several layers to the emptiest of these."""
    counts = [0] * (max(layers) + 1)
    for layer in layers:
        counts[layer] += 1
    for vertex in order:
        if not ahead[vertex] or not back[vertex]:
            continue
        first = max(layers[other] for other in back[vertex]) + 1
        last = min(layers[other] for other in ahead[vertex]) - 1
        if first == last or sum(weights[other, vertex] for other in back[vertex]) != sum(
            weights[vertex, other] for other in ahead[vertex]
        ):
            continue
        own = layers[vertex]
        counts[own] -= 1
        best = min(
            ((counts[layer], abs(layer - own), layer) for layer in range(first, last + 1)), key=itemgetter(0, 1, 2)
        )
        layers[vertex] = best[2]
        counts[best[2]] += 1
