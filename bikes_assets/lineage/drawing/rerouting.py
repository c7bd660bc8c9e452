"""Paths without branches, long lines above all, take the best way through all columns while everything else stays.

The costs of a path's places in one column follow from those in the column before, so that its best way is found without
trying all of them. Moving its vertices one by one would not find it: each alone would cross more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING

from bikes_assets.lineage.drawing.columns import MOST_WORK

if TYPE_CHECKING:
    from bikes_assets.lineage.drawing.columns import Columns

_MOST_PLACES = 3_000
"""How many pairs of places a path may take between two columns; of larger ones its way is not searched for."""
_FAR = 1 << 20
"""More than the number of places in a column: costs are multiples of it, so that they carry the place they come from."""
_NEVER = 1 << 60


def reroute(columns: Columns) -> int:
    """Move each path without branches to its best way through all columns; return how many crossings that saves."""
    saved = work = 0
    for path in _paths(columns):
        sizes = [len(columns.columns[columns.layers[vertex]]) for vertex in path]
        places = [size * other for size, other in pairwise(sizes)]
        work += sum(places)
        if max(places, default=0) > _MOST_PLACES or work > MOST_WORK:
            continue
        saved += _reroute(columns, path)
    return saved


def _reroute(columns: Columns, path: Sequence[int]) -> int:
    """Move a path to its best way, if that is better; return how many crossings that saves."""
    crossed = _crossed(columns, path)
    if not crossed:
        return 0
    at, gap = columns.at, columns.layers[path[0]] - 1
    costs: list[list[int]] = [[0] * len(columns.columns[gap + 1])]
    if before := columns.back[path[0]]:  # what begins above the path's beginning, and what begins below
        key = at[before[0][0]] + before[0][1]
        groups: list[list[int]] = [[], []]
        for source, leaves, target, _ in columns.gaps[gap]:
            if target != path[0] and (begin := at[source] + leaves) != key:
                groups[begin > key].append(at[target] - (at[target] > at[path[0]]))
        costs = [_cheapest([_NEVER, 0, _NEVER], groups, len(columns.columns[gap + 1]))]
    for vertex, following in pairwise(path):
        place = at[following]
        groups = [
            [at[end] - (at[end] > place) for end, _ in columns.ahead[other]]
            for other in columns.columns[columns.layers[vertex]]
            if other != vertex
        ]
        costs.append(_cheapest(costs[-1], groups, len(columns.columns[columns.layers[following]])))
    if after := columns.ahead[path[-1]]:
        key = at[after[0][0]] + after[0][1]
        others = (other for other in columns.columns[columns.layers[path[-1]]] if other != path[-1])
        ends = ([at[end] + enters for end, enters in columns.ahead[other]] for other in others)
        groups = [[int(end > key) for end in group if end != key] for group in ends]
        cost, place = divmod(_cheapest(costs[-1], groups, 3)[1], _FAR)
    else:
        cost, place = min((cost // _FAR, place) for place, cost in enumerate(costs[-1]))
    if cost >= crossed:
        return 0
    for vertex, known in zip(reversed(path), reversed(costs), strict=True):
        column = columns.columns[columns.layers[vertex]]
        column.remove(vertex)
        column.insert(place, vertex)
        columns.count_off(column)
        place = known[place] % _FAR
    return crossed - cost


def _crossed(columns: Columns, path: Sequence[int]) -> int:
    """Return how many lines a path crosses."""
    at, found = columns.at, 0
    first = columns.layers[path[0]]
    whole = {*path}
    for gap in columns.gaps[max(first - 1, 0) : first + len(path)]:
        ends = [(at[source] + leaves, at[target] + enters) for source, leaves, target, enters in gap]
        for (begin, end), segment in zip(ends, gap, strict=True):
            if segment[0] in whole or segment[2] in whole:
                found += sum([(begin - other) * (end - to) < 0 for other, to in ends])
    return found


def _paths(columns: Columns) -> list[list[int]]:
    """Return the longest paths of two vertices and more that have no branches and were in no earlier picture."""
    is_free = [
        len(back) <= 1 and len(ahead) <= 1 and vertex not in columns.prior
        for vertex, (back, ahead) in enumerate(zip(columns.back, columns.ahead, strict=True))
    ]
    found: list[list[int]] = []
    for vertex, back in enumerate(columns.back):
        if not is_free[vertex] or (back and is_free[back[0][0]]):
            continue
        path = [vertex]
        while (ahead := columns.ahead[path[-1]]) and is_free[ahead[0][0]]:
            path.append(ahead[0][0])
        if len(path) > 1:
            found.append(path)
    return found


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
