"""Layered layout of a graph: columns of boxes from left to right, and lines that cross seldom and pass through no box."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bikes_assets.lineage.drawing.boxes import Box, BoxLink, Layout


def layout(boxes: Iterable[Box], links: Iterable[BoxLink], *, prior: Mapping[str, float] | None = None) -> Layout:
    """Return where boxes and the lines between them go.

    Args:
        boxes: the boxes, in any order.
        links: the links between them, in any order. They may form circles.
        prior: how far down each box was in an earlier picture, so that it is recognized: boxes of one column that were
            in it keep their order. None for a first picture.

    Raises:
        LineageError: two boxes have one name, or a link names a box that there is not.
    """
    raise NotImplementedError
