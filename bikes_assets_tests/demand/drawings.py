"""What a drawing of a plot shows, read from its marks by the scale that is written beside its axis."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from bikes_assets.demand.svg import Plot

_SVG = "{http://www.w3.org/2000/svg}"
PRECISION = 0.3
"""Pixels by which two places may differ: each is written with one decimal, and the scale is read from two of them."""


@dataclass(frozen=True)
class Text:
    """A text, where it stands, and which part of it stands there: `start`, `middle` or `end`."""

    text: str
    x: float
    y: float
    anchor: str


class Drawing:
    """A plot's drawing: the area between its axes in pixels, its texts and its scale."""

    def __init__(self, plot: Plot) -> None:
        self.plot, self.root = plot, ElementTree.fromstring(plot.svg())
        axes = re.fullmatch(r"M([\d.]+),([\d.]+)V([\d.]+)H([\d.]+)", self.elements("path")[0]["d"])
        assert axes
        self.left, self.top, self.bottom, self.right = map(float, axes.groups())
        self.texts = [
            Text(str(item.text), float(item.attrib["x"]), float(item.attrib["y"]), item.attrib["text-anchor"])
            for item in self.root.iter(_SVG + "text")
            if item.text
        ]

    def elements(self, kind: str) -> list[dict[str, str]]:
        """Return the attributes of the elements of a kind."""
        return [element.attrib for element in self.root.iter(_SVG + kind)]

    def text(self, text: str) -> Text:
        """Return the only such text."""
        (found,) = [item for item in self.texts if item.text == text]
        return found

    def scale(self) -> dict[float, float]:
        """Return the place of each value that is named beside the axis of values."""
        if self.plot.flat:
            shown = {
                item.text: item.x for item in self.texts if item.anchor == "middle" and 0 < item.y - self.bottom < 20
            }
        else:
            shown = {item.text: item.y for item in self.texts if item.anchor == "end"}
        values = {name: value for value, name in self.plot.scale}
        return {values[text] if values else float(text.replace(",", "")): place for text, place in shown.items()}

    def unit(self) -> float:
        """Return the pixels of one unit of value."""
        places = self.scale()
        low, high = min(places), max(places)
        return abs(places[high] - places[low]) / (high - low)

    def place(self, value: float) -> float:
        """Return where a value is on its axis, which begins at 0 or at the lowest value below it."""
        values = [
            value for item in (*self.plot.lines, *self.plot.bars) for value in item.values if math.isfinite(value)
        ]
        along = (value - min([0.0, *values])) * self.unit()
        return self.left + along if self.plot.flat else self.bottom - along

    def bars(self) -> list[dict[str, float]]:
        """Return place and size of each bar, in the order of their values."""
        _ground, *bars = self.elements("rect")
        return [{key: float(bar[key]) for key in ("x", "y", "width", "height")} for bar in bars]

    def parts(self, number: int = 0) -> list[list[tuple[float, float]]]:
        """Return the points of a line, in parts that a gap separates."""
        line = self.elements("path")[1 + len(self.plot.rules) + number]
        parts = [re.findall(r"[\d.-]+,[\d.-]+", part) for part in line["d"].split("M")[1:]]
        return [[(float(x), float(y)) for x, y in (point.split(",") for point in part)] for part in parts]


def check_drawn(plot: Plot) -> None:
    """Fail unless a bar is as long as each value, a line passes through each of its values, and every name is written."""
    drawing = Drawing(plot)
    values = [value for bars in plot.bars for value in bars.values]
    lengths = [bar["width" if plot.flat else "height"] for bar in drawing.bars()]
    assert lengths == pytest.approx([abs(value) * drawing.unit() for value in values], abs=PRECISION)
    colors = [color for bars in plot.bars for color in bars.colors]
    assert [bar["fill"] for bar in drawing.elements("rect")[1:]] == colors
    for number, line in enumerate(plot.lines):
        heights = [y for part in drawing.parts(number) for _, y in part]
        expected = [drawing.place(value) for value in line.values if math.isfinite(value)]
        assert heights == pytest.approx(expected, abs=PRECISION)
    names = [name for _, name in (*plot.ticks, *plot.scale, *plot.rules)]
    shown = names if plot.flat else [line for name in names for line in name.split("\n")]
    assert {*shown, *filter(None, (plot.under, plot.beside))} <= {item.text for item in drawing.texts}
