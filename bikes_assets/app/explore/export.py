"""A view of the lineage page as one file: a picture and tables, without scripts, which opens anywhere and offline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from bikes_assets.app.answers import moment
from bikes_assets.app.explore import panels
from bikes_assets.app.explore.picture import kind_of
from bikes_assets.app.store import columns
from bikes_assets.core.errors import LineageError
from bikes_assets.core.texts import counted, markup
from bikes_assets.lineage.drawing.boxes import BoxLink
from bikes_assets.lineage.drawing.svg import Card, picture
from bikes_assets.lineage.drawing.view import View, drawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bikes_assets.lineage.drawing.view import Drawn, DrawnBox

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 1100px; margin: 32px auto; padding: 0 20px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 17px; margin: 32px 0 4px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid #8885; vertical-align: top; }
.about { opacity: .75; } .picture { overflow-x: auto; margin: 20px 0; }
"""


def view_of(values: Mapping[str, Sequence[str]]) -> View:
    """Return the view that the parameters of the page's address describe; numbers and words of a box follow its name.

    Args:
        values: the parameters, each with all its values.

    Raises:
        LineageError: there is no focus, or a number is none.
    """

    def first(name: str) -> str:
        return next(iter(values.get(name, ())), "")

    def pairs(name: str) -> list[tuple[str, str]]:
        return [(box, text) for box, _, text in (item.rpartition(":") for item in values.get(name, ())) if box]

    if not first("focus").strip():
        raise LineageError("found no focus, expected the address of what the view is about")
    shown = [*filter(None, [first("select")]), *values.get("show", ())]
    return View(
        focus=first("focus"),
        shown=shown,
        opened=[*values.get("open", ())],
        column=first("column"),
        until=first("until"),
        only=first("only") == "1",
        rows={box: _count(text) for box, text in pairs("rows")},
        words=dict(pairs("find")),
    )


def view_at(address: str) -> tuple[View, str | None]:
    """Return the view that an address of the page leads to and its time, or the one that opens on an address of lineage.

    Raises:
        LineageError: the page's address has no focus.
    """
    if not address.startswith(("http://", "https://")):
        return View(address), None
    values = parse_qs(urlsplit(address).query, keep_blank_values=True)
    return view_of(values), next(iter(values.get("as_of", ())), None)


def as_html(view: View, *, as_of: str | None = None) -> str:
    """Return a view as a page: its picture, its boxes, and the columns of its focus.

    Raises:
        LineageError: there is nothing of a name that the view has, at that time.
    """
    index, event = moment(as_of)
    found = drawn(index, view, {asset: schema.names for asset, schema in columns().items()}, as_of=event)
    about = panels.overview(found.focus, as_of=as_of)
    title = f"Lineage of {found.column or found.focus}"
    time = as_of or f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    boxes = [
        (box.asset, kind_of(box.name, box.kind), box.upstream, box.downstream, box.columns or "") for box in found.boxes
    ]
    parts = [
        f"<h1>{markup(title)}</h1>",
        f'<p class="about">As of {markup(time)}. {markup(_summary(found))}</p>',
        f'<div class="picture">{picture_of(found, title)}</div>',
        f"<p>{markup(about['description'])}</p>" if about.get("description") else "",
        "<h2>In the picture</h2>",
        _table(("name", "kind", "upstream", "downstream", "columns"), boxes),
    ]
    if about["columns"]:
        items = about["columns"]["items"]
        rows = [(item["name"], item["type"], item["unit"], item["meaning"]) for item in items]
        parts += [
            f"<h2>Columns of {markup(about['title'])}</h2>",
            _table(("column", "type", "unit", "meaning"), rows) if rows else "<p>It has no columns.</p>",
        ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{markup(title)}</title><style>{_STYLE}</style></head>\n'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _summary(found: Drawn) -> str:
    told = f"{len(found.boxes)} of the lineage's datasets and jobs"
    if found.column:
        told = ", ".join(f"{counted(count, 'column')} {side}" for side, count in found.on_path.items())
    return told + (f"; {found.left_out:,} more are not drawn" if found.left_out else "")


def picture_of(found: Drawn, title: str) -> str:
    """Return the picture of what a view shows, as SVG."""
    cards = {box.name: _card(box, found) for box in found.boxes}
    links = [
        BoxLink(
            edge.source,
            edge.target,
            cards[edge.source].port(edge.source_column or None),
            cards[edge.target].port(edge.target_column or None),
        )
        for edge in found.edges
    ]
    return picture(cards.values(), links, title)


def _card(box: DrawnBox, found: Drawn) -> Card:
    rows = box.rows or ()
    marked = frozenset(row.name for row in rows if row.is_on_path)
    kind = kind_of(box.name, box.kind)
    subtitle = f"{kind}, {counted(box.columns, 'column')}" if box.columns else kind
    is_start = box.name == found.focus
    return Card(box.name, box.asset, subtitle, box.kind, [row.name for row in rows], is_start, marked)


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col">{markup(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{markup(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _count(text: str) -> int:
    if not (text.isdecimal() and text.isascii()) or len(text) > len(str(10**6)):
        raise LineageError(f"found number of rows {text!r}, expected one such as 20")
    return int(text)
