"""What a picture of a graph is computed from, boxes and links between them, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Point: TypeAlias = tuple[float, float]
"""A place in the picture: x to the right, y downwards."""


LOOP = 10.0
"""How far beyond a box the line of a link of it to itself goes."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A box of a picture.

    Attributes:
        name: its name, which no other box has.
        width: its width, in the unit of all lengths here, such as pixels.
        height: its height.
    """

    name: str
    width: float = 160.0
    height: float = 40.0


@dataclass(frozen=True, slots=True)
class BoxLink:
    """A line from one box to another.

    Attributes:
        source: name of the box that it leaves on its right side.
        target: name of the box that it enters on its left side.
        source_port: how far below the source's top it begins, None for its middle.
        target_port: how far below the target's top it ends, None for its middle.
    """

    source: str
    target: str
    source_port: float | None = None
    target_port: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Where the line of a link goes.

    Attributes:
        link: the link.
        points: from source to target: between two of them that are equally high the line is straight, between others it
            is a curve that begins and ends horizontally, as `path` draws it.
        is_reversed: whether it leads back to the left, because links form a circle: it leaves the source on its left
            side and enters the target on its right one. The link of a box to itself is one.
    """

    link: BoxLink
    points: Sequence[Point]
    is_reversed: bool = False

    @property
    def path(self) -> str:
        """The line as path data of SVG."""
        if self.link.source == self.link.target:  # around the box: out on the right, over its top, in on the left
            (right, begin), (_, top), (left, _), (_, end) = ((number(x), number(y)) for x, y in self.points)
            out, into = number(self.points[0][0] + LOOP), number(self.points[2][0] - LOOP)
            there, back = f"C{out},{begin} {out},{top} {right},{top}", f"C{into},{top} {into},{end} {left},{end}"
            return f"M{right},{begin}{there}L{left},{top}{back}"
        parts = [f"M{number(self.points[0][0])},{number(self.points[0][1])}"]
        for (x, y), (to_x, to_y) in pairwise(self.points):
            end = f"{number(to_x)},{number(to_y)}"
            middle = number((x + to_x) / 2)
            parts.append(f"L{end}" if y == to_y else f"C{middle},{number(y)} {middle},{number(to_y)} {end}")
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture of a graph: where its boxes and lines are.

    Attributes:
        places: the top left corner of each box, by its name.
        routes: the line of each link, one for links that are equal, in order of source, target and ports.
        layers: the names of the boxes of each column of the picture, columns from left to right, boxes from top to bottom.
        width: width of the picture.
        height: height of the picture.
        crossings: how often two lines cross.
    """

    places: Mapping[str, Point]
    routes: Sequence[Route]
    layers: Sequence[Sequence[str]]
    width: float
    height: float
    crossings: int


def number(value: float) -> str:
    """Return a length as SVG has it: at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
