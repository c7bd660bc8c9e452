"""Small plots of lines and bars, as SVG text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import floor, isfinite, log10
from typing import TYPE_CHECKING

from bikes_assets.lineage.texts import markup

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 650
_RIGHT, _TOP, _BOTTOM = 15, 22, 36
_INK, _RULE = "#444", "#b8bec6"


@dataclass(frozen=True, slots=True)
class Line:
    """Values at ascending positions, joined; where a value is not finite there is a gap."""

    at: Sequence[float]
    values: Sequence[float]
    color: str
    label: str = ""
    width: float = 1.0
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar from 0 to each value, in a color each; `thick` is in units of position."""

    at: Sequence[float]
    values: Sequence[float]
    colors: Sequence[str]
    label: str = ""
    thick: float = 0.8


@dataclass(frozen=True)
class Plot:
    """Lines and bars over one axis of positions and one of values, which begins at 0 or at the lowest value below it.

    Attributes:
        ticks: positions with their names.
        scale: values with their names; by default round numbers.
        rules: values at which a line is drawn, with its name.
        under: what the horizontal axis shows.
        beside: what the vertical axis shows.
        flat: whether positions stand one above the other, the first at the bottom, and values go to the right.
        height: of the whole, in pixels.
        left: pixels to the left of the axes.
    """

    lines: Sequence[Line] = ()
    bars: Sequence[Bars] = ()
    ticks: Sequence[tuple[float, str]] = ()
    scale: Sequence[tuple[float, str]] = ()
    rules: Sequence[tuple[float, str]] = ()
    under: str = ""
    beside: str = ""
    flat: bool = False
    height: int = 190
    left: int = 55

    def svg(self) -> str:
        """Return the drawing."""
        right, bottom = WIDTH - _RIGHT, self.height - _BOTTOM
        parts = [_path(f"M{self.left},{_TOP}V{bottom}H{right}", _INK)]
        for value, name in self.scale or _round(*self._values):
            x, y = self._place(None, value)
            parts.append(_text(x, bottom + 13, name) if self.flat else _text(self.left - 5, y + 3, name, "end"))
        for at, name in self.ticks:
            x, y = self._place(at, None)
            lines = name.split("\n")
            shown = [_text(x, bottom + 13 + 11 * row, line) for row, line in enumerate(lines)]
            parts += [_text(self.left - 5, y + 3, name, "end")] if self.flat else shown
        for bars in self.bars:
            parts += [self._bar(bars, *bar) for bar in zip(bars.at, bars.values, bars.colors, strict=True)]
        for value, name in self.rules:
            x, _ = self._place(None, value)
            parts += [_path(f"M{x:.1f},{_TOP}V{bottom}", _RULE), _text(x + 3, _TOP - 4, name, "start")]
        parts += [self._line(line) for line in self.lines]
        legend = [*((item.label, item.color) for item in self.lines)]
        legend += [(item.label, item.colors[0]) for item in self.bars if len(item.colors)]
        for place, (label, color) in enumerate(item for item in legend if item[0]):
            parts.append(_text(self.left + 10 + 90 * place, _TOP - 8, f"\u25a0 {label}", "start", color))
        parts.append(_text((self.left + right) / 2, self.height - 6, self.under))
        middle = (_TOP + bottom) / 2
        parts.append(
            f'<g transform="rotate(-90 12 {middle:.0f})">{_text(12, middle, self.beside)}</g>' if self.beside else ""
        )
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height}"'
        ground = '<rect width="100%" height="100%" fill="#fff"/>'
        return f'{head} font-family="sans-serif" font-size="10">{ground}{"".join(parts)}</svg>'

    @cached_property
    def _values(self) -> tuple[float, float]:
        drawn = [value for item in (*self.lines, *self.bars) for value in item.values if isfinite(value)]
        shown = [0.0, *drawn, *(value for value, _ in (*self.scale, *self.rules))]
        return min(shown), max(shown) or 1.0

    @cached_property
    def _positions(self) -> tuple[float, float]:
        at = [*(place for place, _ in self.ticks), *(place for line in self.lines for place in line.at)]
        at += [place + side * bars.thick for bars in self.bars for place in bars.at for side in (-0.5, 0.5)]
        return (min(at), max(at)) if at else (0.0, 1.0)

    def _place(self, at: float | None, value: float | None) -> tuple[float, float]:
        """Return the pixels of a position and a value."""
        (first, last), (low, high) = self._positions, self._values
        along = 0.0 if at is None else (at - first) / ((last - first) or 1)
        up = 0.0 if value is None else (value - low) / ((high - low) or 1)
        x, y = (up, along) if self.flat else (along, up)
        right, bottom = WIDTH - _RIGHT, self.height - _BOTTOM
        return self.left + x * (right - self.left), bottom - y * (bottom - _TOP)

    def _bar(self, bars: Bars, at: float, value: float, color: str) -> str:
        (x0, y0), (x1, y1) = self._place(at - bars.thick / 2, 0), self._place(at + bars.thick / 2, value)
        x, y, width, height = min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)
        return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>'

    def _line(self, line: Line) -> str:
        (x0, y0), (x1, y1) = self._place(0, 0), self._place(1, 1)
        points = [
            (x0 + at * (x1 - x0), y0 + value * (y1 - y0)) if isfinite(value) else None
            for at, value in zip(line.at, line.values, strict=True)
        ]
        steps = [
            f"{'L' if before else 'M'}{point[0]:.1f},{point[1]:.1f}"
            for before, point in zip([None, *points], points, strict=False)
            if point
        ]
        dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{line.color}"/>' for x, y in filter(None, points)]
        return _path("".join(steps), line.color, line.width) + "".join(dots if line.dots else ())


def _round(low: float, high: float) -> list[tuple[float, str]]:
    """Return three to seven round numbers between two, with their names."""
    rough = (high - low) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    values = [step * number for number in range(floor(low / step), floor(high / step) + 1)]
    return [(value, f"{value:,.10g}") for value in values if value >= low]


def _path(steps: str, color: str, width: float = 1.0) -> str:
    return f'<path d="{steps}" fill="none" stroke="{color}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", color: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{markup(text)}</text>'
