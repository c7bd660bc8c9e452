"""Small plots of lines and bars, as SVG text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import floor, isfinite, log10
from typing import TYPE_CHECKING

from bikes_assets.core.texts import markup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WIDTH = 650
_RIGHT, _TOP, _BOTTOM = 15, 22, 36
_INK, _RULE = "#444", "#b8bec6"
_SMALL = (400, 110)
"""Width and height of a small drawing, in pixels."""
_AXIS, _NAMED = 32, 160
"""Pixels left of a small drawing's lines, and of the bars of a small ranking."""
_LONGEST = 24


@dataclass(frozen=True, slots=True)
class Line:
    """Values at ascending positions, joined by a line; a value that is not finite leaves a gap."""

    at: Sequence[float]
    values: Sequence[float]
    color: str
    label: str = ""
    width: float = 1.0
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar from 0 to each value, each with its color; `thick` is in units of position."""

    at: Sequence[float]
    values: Sequence[float]
    colors: Sequence[str]
    label: str = ""
    thick: float = 0.8


@dataclass(frozen=True)
class Plot:
    """Lines and bars over one axis of positions and one of values, which begins at 0 or at the lowest negative value.

    Attributes:
        ticks: positions with their names.
        scale: axis labels by value; by default round numbers.
        rules: labels of values at which a line is drawn.
        under: label of the horizontal axis.
        beside: label of the vertical axis.
        flat: whether the axes are swapped: positions go upwards from the bottom, and values to the right.
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

    def small(self, fits: Callable[[str], bool]) -> str:
        """Return the most detailed drawing whose text is short enough, "" if none is.

        The candidates show the same values, averaged over neighbours, with fewer labels. Attributes have single quotes.

        Args:
            fits: whether a drawing is short enough.
        """
        details = ((93, 8), (62, 8), (62, 5), (45, 5), (31, 5), (31, 3), (20, 3))
        return next(filter(fits, (_Small(self, points, names).svg() for points, names in details)), "")

    @cached_property
    def _values(self) -> tuple[float, float]:
        drawn = [value for item in (*self.lines, *self.bars) for value in item.values if isfinite(value)]
        shown = [0.0, *drawn, *(value for value, _ in (*self.scale, *self.rules))]
        return min(shown), max(shown) or 1.0

    @cached_property
    def positions(self) -> tuple[float, float]:
        """The first and the last position of all lines and bars."""
        at = [*(place for place, _ in self.ticks), *(place for line in self.lines for place in line.at)]
        at += [place + side * bars.thick for bars in self.bars for place in bars.at for side in (-0.5, 0.5)]
        return (min(at), max(at)) if at else (0.0, 1.0)

    def _place(self, at: float | None, value: float | None) -> tuple[float, float]:
        """Return the pixels of a position and a value."""
        (first, last), (low, high) = self.positions, self._values
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


class _Small:
    """A drawing of a plot as short text: one path for all bars of a color, whole pixels, relative steps.

    Args:
        plot: plot to draw.
        points: most points of a line; more are averaged.
        names: most labels along an axis of positions, and most bars of a ranking: its highest.
    """

    def __init__(self, plot: Plot, points: int, names: int) -> None:
        self.plot, self.names = plot, names
        self.lines = [(line, list(_averaged(line, points))) for line in plot.lines]
        drawn = [point[1] for _, points in self.lines for point in points if point]
        drawn += [value for bars in plot.bars for value in bars.values if isfinite(value)]
        self.low, self.high = min([0.0, *drawn]), max([0.0, *drawn]) or 1.0

    def svg(self) -> str:
        """Return the drawing."""
        rows = self._ranked() if self.plot.flat else []
        parts = (
            self._ranking(rows) if self.plot.flat else [*self._axes(), *self._bars(), *self._lines(), *self._legend()]
        )
        width, height = _SMALL[0], 13 * len(rows) + 5 if self.plot.flat else _SMALL[1]
        head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-size='10' fill='#555'>"
        return f"{head}{''.join(parts)}</svg>"

    def _ranked(self) -> list[tuple[str, float, str]]:
        """Return name, value and color of the highest bars of a ranking, from top to bottom."""
        (bars,), names = self.plot.bars, dict(self.plot.ticks)
        rows = [(names[at], v, color) for at, v, color in zip(bars.at, bars.values, bars.colors, strict=True)][::-1]
        least = sorted((value for _, value, _ in rows), reverse=True)[: self.names][-1:] or [0.0]
        return [row for row in rows if row[1] >= least[0]][: self.names]

    def _ranking(self, rows: Sequence[tuple[str, float, str]]) -> list[str]:
        paths: dict[str, str] = {}
        texts: list[str] = []
        for row, (name, value, color) in enumerate(rows):
            y, length = 9 + 13 * row, round(max(value, 0) / self.high * (_SMALL[0] - _NAMED - 40))
            paths[color] = paths.get(color, "") + f"M{_NAMED} {y}h{length}"
            texts.append(f"<text y='{y + 3}'>{markup(_ended(name))}</text>")
            if not self.plot.scale:  # otherwise these are not the values that the scale names
                texts.append(f"<text x='{_NAMED + 4 + length}' y='{y + 3}'>{value:.3g}</text>")
        return [f"<path d='{steps}' stroke='{color}' stroke-width='9'/>" for color, steps in paths.items()] + texts

    def _axes(self) -> list[str]:
        every = max(1, -(-len(self.plot.ticks) // self.names))
        shown = [(self._x(at), name.partition("\n")[0]) for at, name in self.plot.ticks[::every]]
        texts = [f"<text x='{x}' y='{_SMALL[1] - 2}'>{markup(name)}</text>" for x, name in shown]
        top = [(value, name) for value, name in _round(self.low, self.high) if value][-1:]
        rules = "".join(f"M{_AXIS} {self._y(value)}H{_SMALL[0]}" for value in (0, *(value for value, _ in top)))
        marks = [f"<text y='{self._y(value) + 4}'>{name}</text>" for value, name in top]
        return [f"<path d='{rules}' stroke='#ddd'/>", *marks, f"<g text-anchor='middle'>{''.join(texts)}</g>"]

    def _legend(self) -> list[str]:
        items = [*((line.label, line.color) for line in self.plot.lines)]
        items += [(bars.label, bars.colors[0]) for bars in self.plot.bars if len(bars.colors)]
        return [
            f"<text x='{_AXIS + 4 + 70 * place}' y='9' fill='{color}'>{markup(label)}</text>"
            for place, (label, color) in enumerate(item for item in items if item[0])
        ]

    def _bars(self) -> list[str]:
        return [
            f"<path d='{steps}' stroke='{bars.colors[0]}' stroke-width='{(self._x(bars.thick) - self._x(0)) * 0.9:.0f}'/>"
            for bars in self.plot.bars
            if (
                steps := "".join(
                    f"M{self._x(at)} {self._y(0)}V{self._y(value)}"
                    for at, value in zip(bars.at, bars.values, strict=True)
                    if isfinite(value)
                )
            )
        ]

    def _lines(self) -> list[str]:
        found: list[str] = []
        for line, points in self.lines:
            steps, before = "", None
            for point in points:
                here = (self._x(point[0]), self._y(point[1])) if point else None
                if here and before:
                    x, y = here[0] - before[0], here[1] - before[1]
                    steps += f"{'' if steps.endswith('l') else ' '}{x}{' ' if y >= 0 else ''}{y}"
                elif here:
                    steps = f"{steps.removesuffix('l')}M{here[0]} {here[1]}l"
                before = here
            found.append(f"<path d='{steps.removesuffix('l')}' fill='none' stroke='{line.color}'/>")
        return found

    def _x(self, at: float) -> int:
        first, last = self.plot.positions
        return round(_AXIS + (at - first) / ((last - first) or 1) * (_SMALL[0] - _AXIS - 12))

    def _y(self, value: float) -> int:
        return round(_SMALL[1] - 14 - (value - self.low) / ((self.high - self.low) or 1) * (_SMALL[1] - 28))


def _averaged(line: Line, most: int) -> Iterator[tuple[float, float] | None]:
    """Yield at most this many points of a line, each the mean of neighbours; None for a gap."""
    size = max(1, -(-len(line.at) // most))
    for first in range(0, len(line.at), size):
        at, values = line.at[first : first + size], [v for v in line.values[first : first + size] if isfinite(v)]
        yield (sum(at) / len(at), sum(values) / len(values)) if values else None


def _ended(name: str) -> str:
    """Return the end of a long name, which identifies it."""
    return name if len(name) <= _LONGEST else f"..{name[-_LONGEST:]}"


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
