"""Pictures of graphs as SVG: cards with a title, what they are, and their columns, and the lines between them.

A picture stands in a page as it is: it holds no scripts and no styles that reach beyond it, all texts are escaped, and
texts and lines take the color of the page's own text, so that it can be read on light and on dark ground.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.core.texts import markup, plain
from bikes_assets.lineage.drawing.boxes import Box, number
from bikes_assets.lineage.drawing.layout import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bikes_assets.lineage.drawing.boxes import BoxLink, Route

COLORS = {"dataset": "#3d7edb", "column": "#3d7edb", "job": "#c27a12", "tag": "#2f9e68"}
"""Color of each kind of things; others are grey."""
_GREY = "#8a8f98"
_TITLE, _ROW, _EDGE = 44.0, 22.0, 8.0
"""Height of a card's title and of each of its columns, and the space under them."""
_LETTER, _SMALL_LETTER, _ASIDE = 8.6, 7.0, 26.0
"""Width of a letter of titles and of other texts, and the space beside them, in pixels."""
_LEAST, _MOST = 110.0, 300.0
"""Width of the narrowest and of the widest card."""
_MARGIN = 12.0
_SHRUNK = 0.65
"""How small a picture gets where a page is narrow; a smaller page scrolls."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a box of the picture shows.

    Attributes:
        name: its name, which no other card has.
        title: what it is called; longer titles are cut, and shown completely when pointed at.
        subtitle: a second line.
        kind: what it is, which decides its color.
        columns: the names of columns that are listed.
        is_start: whether it is what was asked about; a start's columns in `marked` are what was.
        marked: names of columns that were asked about.
    """

    name: str
    title: str
    subtitle: str = ""
    kind: str = "dataset"
    columns: Sequence[str] = ()
    is_start: bool = False
    marked: frozenset[str] = frozenset()

    @property
    def box(self) -> Box:
        """The space that it takes."""
        widest = max(_LETTER * len(self.title), *(_SMALL_LETTER * len(text) for text in (self.subtitle, *self.columns)))
        height = _TITLE + len(self.columns) * _ROW + (_EDGE if self.columns else 0)
        return Box(self.name, min(max(widest + _ASIDE, _LEAST), _MOST), height)

    def port(self, column: str | None) -> float:
        """Return how far below its top the lines of a column begin and end; None for those of the whole."""
        return _TITLE + self.columns.index(column) * _ROW + _ROW / 2 if column in self.columns else _TITLE / 2


def picture(cards: Iterable[Card], links: Iterable[BoxLink], title: str) -> str:
    """Return a picture of cards and of the links between them.

    Args:
        cards: the cards.
        links: the links between them, by their names.
        title: what the picture shows, for those who do not see it.
    """
    known = {card.name: card for card in cards}
    found = layout([card.box for card in known.values()], links)
    width, height = found.width + 2 * _MARGIN, found.height + 2 * _MARGIN
    lines = [_line(route, known) for route in found.routes]
    boxes = [_card(known[name], *place) for name, place in found.places.items()]
    size = f'width="{number(width)}" height="{number(height)}"'
    view = f'viewBox="{number(-_MARGIN)} {number(-_MARGIN)} {number(width)} {number(height)}"'
    style = f"width:100%;height:auto;min-width:{number(_SHRUNK * width)}px;max-width:{number(width)}px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {view} style="{style}" '
        f'font-family="system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif" fill="currentColor">'
        f"<title>{markup(title)}</title>"
        f'<g opacity="0.55">{"".join(lines)}</g>{"".join(boxes)}</svg>'
    )


def _line(route: Route, cards: Mapping[str, Card]) -> str:
    """Return a line and the arrow at its end; dashed where it leads back."""
    x, y = route.points[-1]
    before = -1 if route.is_reversed and route.link.source != route.link.target else 1
    arrow = (
        f"M{number(x - 7 * before)},{number(y - 4)}L{number(x)},{number(y)}L{number(x - 7 * before)},{number(y + 4)}Z"
    )
    dashes = ' stroke-dasharray="5 4"' if route.is_reversed else ""
    tip = f"{cards[route.link.source].title} → {cards[route.link.target].title}"
    return (
        f"<g><title>{markup(tip)}</title>"
        f'<path d="{route.path}" fill="none" stroke="currentColor" stroke-width="1.4"{dashes}/>'
        f'<path d="{arrow}"/></g>'
    )


def _card(card: Card, x: float, y: float) -> str:
    """Return a card at a place."""
    box, color = card.box, COLORS.get(card.kind, _GREY)
    right = number(box.width)
    frame = f'width="{right}" height="{number(box.height)}" rx="7" fill="{color}" stroke="{color}"'
    strength = ('fill-opacity="0.24" stroke-width="2.5"', 'fill-opacity="0.1" stroke-width="1.2"')[not card.is_start]
    parts = [
        f'<g transform="translate({number(x)} {number(y)})"><title>{markup(card.title)}</title><rect {frame} {strength}/>',
        _text(12, 19 if card.subtitle else 26, _cut(card.title, box, _LETTER), 'font-size="13" font-weight="600"'),
    ]
    if card.subtitle:
        parts.append(_text(12, 35, _cut(card.subtitle, box, _SMALL_LETTER), 'font-size="11" opacity="0.7"'))
    for index, column in enumerate(card.columns):
        top = _TITLE + index * _ROW
        if not index:
            parts.append(f'<path d="M0,{number(top)}H{right}" stroke="{color}" stroke-opacity="0.45"/>')
        if column in card.marked:
            spot = f'x="4" y="{number(top + 2)}" width="{number(box.width - 8)}" height="{number(_ROW - 4)}" rx="4"'
            parts.append(f'<rect {spot} fill="{color}" fill-opacity="0.3"/>')
        parts.append(_text(12, top + 15, _cut(column, box, _SMALL_LETTER), 'font-size="12"'))
    return "".join([*parts, "</g>"])


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{number(x)}" y="{number(y)}" {style}>{markup(text)}</text>'


def _cut(text: str, box: Box, letter: float) -> str:
    """Return as much of a text as fits on a card, with what is left out marked: its beginning and its end tell most."""
    most, shown = int((box.width - _ASIDE + 6) / letter), plain(text)
    if len(shown) <= most:
        return shown
    end = most // 3
    return f"{shown[: most - end - 1]}…{shown[-end:]}"
