"""The picture of an answer of lineage: its datasets, or its columns within their tables, and the edges between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bikes_assets.core.address import WHOLE, Address
from bikes_assets.core.texts import counted
from bikes_assets.lineage.drawing.boxes import BoxLink
from bikes_assets.lineage.drawing.svg import Card, picture
from bikes_assets.lineage.elements import ALIAS, COLUMN, DATASET, JOB, MODEL, TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bikes_assets.lineage.elements import Result
    from bikes_assets.lineage.index import Index

MOST = 200
"""Number of things of the largest answer that is drawn."""
_SHOWN = (DATASET, COLUMN, JOB, TAG)
_NAMES = (ALIAS, MODEL)
"""Kinds of things that the table alone lists: they are names of versions."""


def drawing(index: Index, start: Result, things: Sequence[Result], title: str, *, as_of: int | None = None) -> str:
    """Return the picture of an answer as SVG, "" for one that is too large, or of versions, code, runs or files.

    Args:
        index: the index that was asked.
        start: what was asked about.
        things: the answer.
        title: what the picture shows, for those who do not see it.
        as_of: number of the last event that counts.
    """
    others = [item for item in things if item.kind not in _NAMES]
    if not 0 < len(others) <= MOST or any(item.kind not in _SHOWN for item in others):
        return ""
    shown = {(item.kind, item.name): item for item in (start, *others) if item.kind in _SHOWN}
    links = [
        (_place(edge.source), _place(edge.target))
        for kind, name in shown
        for edge in index.neighbours(kind, name, "upstream", as_of=as_of)
        if edge.source in shown
    ]
    columns: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for kind, name in sorted(shown):
        box, column = _place((kind, name))
        kinds[box] = DATASET if kind == COLUMN else kind
        columns.setdefault(box, []).extend([column] if column is not None else [])
    at, column = _place((start.kind, start.name))
    marked = frozenset({column} if column is not None else ())
    if len(kinds) > 1 and not columns.get(at) and not any(at in (box, other) for (box, _), (other, _) in links):
        kinds.pop(at, None)  # it is on another level than the answer
    cards = {
        box: Card(
            box,
            box,
            _subtitle(kind, len(columns[box])),
            kind,
            columns[box],
            box == at,
            marked if box == at else frozenset(),
        )
        for box, kind in kinds.items()
    }
    lines = [
        BoxLink(box, other, cards[box].port(source), cards[other].port(target))
        for (box, source), (other, target) in links
    ]
    return picture(cards.values(), lines, title)


def _place(thing: tuple[str, str]) -> tuple[str, str | None]:
    """Return the box that shows a thing, and the column of it, None for the whole."""
    kind, name = thing
    parts = Address.parse(name) if kind == COLUMN else None
    if parts is None:
        return name, None
    return str(Address(parts.asset)), None if parts.column == WHOLE else parts.column


def _subtitle(kind: str, columns: int) -> str:
    return counted(columns, COLUMN) if columns else kind
