"""The picture of a view: boxes, lines and where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bikes_assets.app.answers import moment
from bikes_assets.app.store import assets, columns, current, is_table
from bikes_assets.core.address import Address
from bikes_assets.lineage.drawing.boxes import Box, BoxLink
from bikes_assets.lineage.drawing.layout import layout
from bikes_assets.lineage.drawing.view import drawn
from bikes_assets.lineage.elements import ALIAS, JOB, MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.lineage.drawing.boxes import Layout
    from bikes_assets.lineage.drawing.view import Drawn, DrawnBox, DrawnColumn, View
    from bikes_assets.lineage.elements import Result
    from bikes_assets.lineage.index import Index

WIDTH, HEADER, ROW, FOOTER = 248.0, 58.0, 22.0, 30.0
"""Sizes of a box in pixels: its width, the height of its head, of a column, and of what is below the columns."""


def picture(view: View, *, as_of: str | None = None, prior: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Return the picture of a view.

    Args:
        view: what is wanted.
        as_of: the time that counts, None for now.
        prior: how far down each box was in the picture before, so that the boxes keep their order.

    Raises:
        LineageError: there is nothing of a name that the view has, at that time.
    """
    index, event = moment(as_of)
    declared = {asset: schema.names for asset, schema in columns().items()}
    found = drawn(index, view, declared, as_of=event)
    links = _links(found)
    placed = layout([Box(box.name, WIDTH, _height(box)) for box in found.boxes], links, prior=prior)
    return {
        "focus": found.focus,
        "column": found.column,
        "until": found.until,
        "on_path": dict(found.on_path),
        "left_out": found.left_out,
        "boxes": [
            _box(box, index, event) | dict(zip("xy", placed.places[box.name], strict=True)) for box in found.boxes
        ],
        "edges": _edges(found, links, placed),
        "width": placed.width,
        "height": placed.height,
        "sizes": {"width": WIDTH, "header": HEADER, "row": ROW, "footer": FOOTER},
    }


def kind_of(name: str, kind: str) -> str:
    """Return what a dataset is to this project: `source`, `table`, `model`, `dataset` of another tool; or `job`."""
    place = Address.parse(name)
    asset = place.asset if place else name
    if kind == JOB:
        return JOB
    if asset in current().sources:
        return "source"
    if asset in assets():
        return "table" if is_table(asset) else "model"
    return "dataset"


def kind_of_thing(thing: Result) -> str:
    """Return what the dataset is to this project that something is, or is of; its own kind where it is of none."""
    place = Address.parse(thing.name)
    return kind_of(str(Address(place.asset)), thing.kind) if place else thing.kind


def _links(found: Drawn) -> list[BoxLink]:
    """Return the line of each edge; those of columns begin and end at their rows."""
    ports = {
        (box.name, column.name): HEADER + (row + 0.5) * ROW
        for box in found.boxes
        for row, column in enumerate(box.rows or ())
    }
    return [
        BoxLink(
            edge.source,
            edge.target,
            ports.get((edge.source, edge.source_column), HEADER / 2),
            ports.get((edge.target, edge.target_column), HEADER / 2),
        )
        for edge in found.edges
    ]


def _height(box: DrawnBox) -> float:
    return HEADER if box.rows is None else HEADER + len(box.rows) * ROW + FOOTER


def _box(box: DrawnBox, index: Index, event: int | None) -> dict[str, Any]:
    names = [str(place) for place in index.within(ALIAS, box.asset, as_of=event)]
    return {
        "name": box.name,
        "title": box.asset,
        "kind": kind_of(box.name, box.kind),
        "upstream": {"direct": box.upstream, "drawn": box.upstream_drawn},
        "downstream": {"direct": box.downstream, "drawn": box.downstream_drawn},
        "columns": {"total": box.columns, "matching": box.matching, "on_path": box.on_path},
        "is_on_path": box.on_path > 0,
        "rows": None if box.rows is None else [_column(column) for column in box.rows],
        "aliases": [name.rpartition("@")[2] for name in names],
        "models": len(index.within(MODEL, box.asset, as_of=event)),
        "height": _height(box),
    }


def _column(column: DrawnColumn) -> dict[str, Any]:
    return {
        "name": column.name,
        "address": column.address,
        "type": column.facts.get("type", ""),
        "unit": column.facts.get("unit", ""),
        "meaning": column.facts.get("meaning", ""),
        "is_on_path": column.is_on_path,
        "upstream": column.upstream,
        "downstream": column.downstream,
    }


def _edges(found: Drawn, links: Sequence[BoxLink], placed: Layout) -> list[dict[str, Any]]:
    """Return each edge with the path of its line; lines that are equal in the layout share one."""
    paths = {route.link: route.path for route in placed.routes}
    return [
        {
            "source": edge.source,
            "target": edge.target,
            "source_column": edge.source_column,
            "target_column": edge.target_column,
            "is_on_path": edge.is_on_path,
            "path": paths[link],
        }
        for edge, link in zip(found.edges, links, strict=True)
    ]
