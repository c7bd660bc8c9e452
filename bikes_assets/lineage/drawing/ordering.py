"""In which order the boxes of each column stand: lines cross as seldom as possible.

The least number of crossings is not found by any fast method. Here barycenters are swept over the columns from several
starts; the best order is improved by lines that take the best way through all others, and by vertices that take the best
place in their column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bikes_assets.lineage.drawing.columns import Columns
from bikes_assets.lineage.drawing.rerouting import reroute
from bikes_assets.lineage.drawing.starts import begin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.lineage.drawing.columns import Segment


def order(
    layers: Sequence[int], segments: Sequence[Segment], prior: Mapping[int, float] | None = None
) -> tuple[list[list[int]], int]:
    """Return the vertices of each column from top to bottom, and the number of crossings.

    Args:
        layers: the column of each vertex.
        segments: the lines, each from a column to the next one.
        prior: how far down vertices were in an earlier picture; within a column these keep their order.
    """
    columns = Columns(layers, segments, prior or {})
    effort = max(len(segments), 1)
    best: tuple[int, list[list[int]]] | None = None
    is_sparse = len(segments) <= 1.25 * len(layers)  # other starts help most where few lines hold things together
    for start in range(min(max(600 // effort, 3 if is_sparse else 1), 6)):
        begin(columns, start)
        for _ in range(1 if start == 1 else 4):
            columns.sweep(downstream=True)
            columns.sweep(downstream=False)
        found = columns.settle(min(max(900 // effort, 2), 8))
        if best is None or found[0] < best[0]:
            best = found
        if not best[0]:
            return best[1], 0
    assert best is not None  # noqa: S101 - there is one start or more
    columns.place(best[1])
    columns.place(columns.settle(min(max(1800 // effort, 4), 24))[1])
    for _ in range(min(max(600 // effort, 1), 4)):
        if not reroute(columns) + columns.sift():
            break
    return columns.columns, columns.crossings()
