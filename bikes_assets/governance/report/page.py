"""A report as one HTML page, which loads nothing, runs nothing and prints well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bikes_assets.core.texts import markup, plain, shortened
from bikes_assets.governance.report.structure import ADDRESS, decimals, shown_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bikes_assets.governance.report.structure import (
        ModelReport,
        ReportPicture,
        ReportSection,
        ReportTable,
        TableField,
        Value,
    )

_STYLE = """
:root { color-scheme: light;
font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1c232b; overflow-wrap: anywhere; }
main, header, footer { max-width: 1040px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 36px; }
h1 { font-size: 29px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 20px; margin: 44px 0 6px; padding-top: 14px; border-top: 2px solid #1f5f99; }
h3 { font-size: 15px; margin: 24px 0 6px; }
p { margin: 4px 0 8px; max-width: 52em; } .quiet { font-size: 14px; }
.quiet, footer { color: #55606b; }
footer { padding-top: 20px; padding-bottom: 40px; font-size: 13px; }
a { color: #1f5f99; }
nav ul { display: flex; flex-wrap: wrap; gap: 2px 18px; list-style: none; padding: 0; margin: 18px 0 0;
font-size: 14px; }
code span { white-space: nowrap; }
code { font: 12.5px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0; border-bottom: 1px solid #dfe4e9; }
th { font-weight: 600; color: #44505c; border-bottom-color: #aeb8c2; }
tbody th { color: inherit; border-bottom-color: #dfe4e9; font-weight: 500; }
td:last-child, th:last-child { padding-right: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.single { table-layout: fixed; } .single tbody th { width: 13em; font-weight: 500; color: #44505c; }
.address { min-width: 11em; } .words { min-width: 8em; } .short { white-space: nowrap; }
.below { color: #55606b; font-size: 12.5px; margin-top: 3px; }
.good { color: #1a6b3c; } .bad { color: #b3261e; font-weight: 600; } .some { color: #8a5300; }
.none { color: #55606b; }
.from { font-size: 13px; color: #55606b; margin: 6px 0 0; max-width: none; }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid #1f5f99; }
.picture { margin: 14px 0 4px; } .caption { font-size: 13.5px; color: #55606b; margin-bottom: 6px; }
.picture svg { display: block; max-width: 100%; height: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 12px; margin: 16px 0 0; }
.tiles > div { border: 1px solid #d5dbe1; border-radius: 8px; padding: 10px 14px; }
.tiles dt { font-size: 13px; color: #55606b; } .tiles dd { margin: 0; }
.tiles .value { font-size: 19px; font-weight: 600; line-height: 1.35; }
@media (max-width: 640px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  h1 { font-size: 24px; } .tiles { grid-template-columns: 1fr 1fr; gap: 8px; } .tiles > div { padding: 8px 10px; }
  .tiles .value { font-size: 16px; } .scroll svg { min-width: 560px; max-width: none; }
  .texts, .texts tbody, .texts tr, .texts th, .texts td { display: block; width: auto; padding: 0; border: 0; }
  .texts thead { display: none; } .texts tr { padding: 8px 0; border-bottom: 1px solid #dfe4e9; }
  .texts .address, .texts .words { min-width: 0; } .texts .short { white-space: normal; }
  .texts .number { text-align: left; white-space: normal; }
  .texts [data-title]::before { content: attr(data-title) ": "; color: #55606b; font-size: 12.5px; }
}
@media print {
  @page { size: A4; margin: 15mm 14mm 16mm; @bottom-right { content: counter(page) " / " counter(pages);
  font: 9px sans-serif; } }
  :root { font-size: 12px; } main, header, footer { max-width: none; padding: 0; } nav { display: none; }
  header { padding: 0; }
  h1 { font-size: 24px; } h2 { font-size: 16px; margin-top: 26px; } h3 { font-size: 12.5px; margin-top: 16px; }
  table { font-size: 10.5px; } .below { font-size: 10px; } .address, .words { min-width: 7em; } code { font-size: 9.5px; }
  .from { font-size: 10px; } td, th { padding: 3px 9px 3px 0; }
  h2, h3, .caption, thead, .note { break-after: avoid; }
  p, tr, .picture, .tiles > div { break-inside: avoid; }
  thead { display: table-header-group; } .scroll { overflow: visible; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: 8px; }
  .quiet, .from, .caption, .tiles dt, .tiles .quiet { font-size: 10.5px; }
  .picture svg { min-width: 0 !important; max-height: 200mm; } .tiles .value { font-size: 14px; }
  .tiles > div { padding: 6px 9px; }
  a { color: inherit; text-decoration: none; }
}
"""
_CLASSES: Mapping[object, str] = {
    True: "good",
    False: "bad",
    "covered": "good",
    "partly": "some",
    "not covered": "none",
    "identical": "good",
    "equal": "good",
    "different": "bad",
}
"""How words for a state, and results of checks, are coloured."""
_LONGEST = 1_000
"""Characters of the longest value on the page; the JSON has all of it."""
_SHORT = 18
"""Characters of a text that is not broken into lines."""
_MOST_ADDRESSES, _FEW_ADDRESSES = 100, 2
"""Number of addresses that the page names of one value, and of one of the summary; the JSON has all."""
_PARTS = re.compile(r"(?<=\w)(?=[.\[])|(?=@\w{12})")
"""Where an address may be broken into lines: before a column, a partition, and a version that is long."""
_WHOLE = 44
"""Characters of a part of an address that is not broken into lines itself."""
_NOTHING = "\N{EN DASH}"
"""What stands for a missing value."""


def as_html(report: ModelReport) -> str:
    """Return a report as a page."""
    title = f"Model report: {report.name}"
    summary, *sections = report.sections
    entries = "".join(f'<li><a href="#{markup(item.name)}">{markup(item.title)}</a></li>' for item in sections)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    stands_for = "" if report.name == report.address else f"version <code>{markup(report.address)}</code> "
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{markup(title)}</title><style>{_STYLE}</style></head>\n'
        f"<body><header><h1>{markup(title)}</h1>"
        f'<p class="quiet">{markup(report.kind)}, {stands_for}of the project {markup(report.project)}. '
        f"Report written {markup(report.time)}.</p>{_tiles(summary)}"
        f'<nav aria-label="Sections"><ul>{entries}</ul></nav></header>\n<main>'
        f"{''.join(map(_section, sections))}</main>\n"
        f"<footer><p>Addresses are those that the commands take: <code>bikes upstream ADDRESS</code>, "
        f"<code>bikes trace</code>, <code>bikes diff</code>. The same content as JSON: <code>bikes report --json</code>."
        f"</p></footer></body></html>\n"
    )


def _tiles(section: ReportSection) -> str:
    """Return the summary: each value large, and below it where it comes from."""
    tiles = [
        f'<div><dt>{markup(row["name"])}</dt><dd class="value {_state(row.get("value"))}">{_cell(row.get("value"))}</dd>'
        f'<dd class="quiet">{_origin(row.get(ADDRESS))}</dd></div>'
        for table in section.tables
        for row in table.rows
    ]
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _origin(value: Value) -> str:
    """Return where a value of the summary comes from; few of many addresses, since a table below names them all."""
    return _addresses(value if isinstance(value, list) else [str(value)], _FEW_ADDRESSES) if value else ""


def _section(section: ReportSection) -> str:
    about = f'<p class="quiet note">{markup(section.about)}</p>' if section.about else ""
    name, known = markup(section.name), {table.name for table in section.tables}
    alone = "".join(_picture(item) for item in section.pictures if item.table not in known)
    tables = [
        _table(table, [item for item in section.pictures if item.table == table.name]) for table in section.tables
    ]
    return (
        f'\n<section id="{name}" aria-labelledby="title-{name}"><h2 id="title-{name}">{markup(section.title)}</h2>{about}'
        f"{alone}{''.join(tables)}</section>"
    )


def _picture(item: ReportPicture) -> str:
    label = markup(item.title)
    inner = f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">{item.svg}</div>'
    return f'<div class="picture"><p class="caption">{label}</p>{inner}</div>'


def _table(table: ReportTable, pictures: Sequence[ReportPicture]) -> str:
    head = f"<h3>{markup(table.title)}</h3>" if table.title else ""
    head += f'<p class="quiet note">{markup(table.note)}</p>' if table.note else ""
    head += "".join(map(_picture, pictures))
    if not table.rows:
        return f'{head}<p class="none">{markup(table.empty)}</p>'
    addresses = f'<p class="from">From {_addresses(table.addresses)}</p>' if table.addresses else ""
    if [item.name for item in table.fields[:2]] == ["name", "value"]:
        rows = "".join(_single(row, table.fields[1]) for row in table.rows)
        return f'{head}<table class="single texts"><tbody>{rows}</tbody></table>{addresses}'
    shown = [item for item in table.fields if not item.below]
    names = "".join(f'<th scope="col"{_class(item, item.title)}>{markup(item.title)}</th>' for item in shown)
    # a table of numbers stays one on a narrow page, and scrolls; one of texts is read row by row there
    kind = "numbers" if sum(item.kind == "number" for item in shown) > 2 else "texts"
    places = {
        item.name: decimals([row.get(item.name) for row in table.rows]) for item in shown if item.kind == "number"
    }
    rows = "".join(f"<tr>{''.join(_cells(row, table.fields, places))}</tr>" for row in table.rows)
    inner = f'<table class="{kind}"><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>'
    if kind == "numbers":
        label = markup(table.title or table.name)
        return f'{head}<div class="scroll" tabindex="0" role="group" aria-label="{label}">{inner}</div>{addresses}'
    return f'{head}<div class="scroll">{inner}</div>{addresses}'


def _single(row: Mapping[str, Value], value: TableField) -> str:
    """Return a row of a table of single values."""
    found = _cell(row.get("value"), value.kind)
    if state := _state(row.get("value")):
        found = f'<span class="{state.strip()}">{found}</span>'
    return f'<tr><th scope="row">{markup(row["name"])}</th><td>{found}</td></tr>'


def _cells(row: Mapping[str, Value], fields: Sequence[TableField], places: Mapping[str, int]) -> Iterator[str]:
    for place, item in enumerate(item for item in fields if not item.below):
        value = row.get(item.name)
        below = "".join(_below(row, other) for other in fields if other.below == item.name)
        tag, scope = ("td", "") if place else ("th", ' scope="row"')
        title = f' data-title="{markup(item.title)}"' if place else ""
        yield f"<{tag}{scope}{_class(item, value)}{title}>{_cell(value, item.kind, places.get(item.name))}{below}</{tag}>"


def _below(row: Mapping[str, Value], item: TableField) -> str:
    """Return a value that stands under another one in its cell; nothing where there is none."""
    value = row.get(item.name)
    if value in (None, "", []):
        return ""
    return f'<div class="below">{markup(item.title)} {_cell(value, item.kind)}</div>'


def _class(item: TableField, value: Value = None) -> str:
    """Return the classes of a cell: what its kind is, how a state is coloured, and whether it is too short to be broken."""
    names = [item.kind] if item.kind in ("number", "address", "code") else []
    names += [_state(value)] if item.kind in ("check", "state") else []
    is_short = (
        isinstance(value, str) and len(plain(value)) <= _SHORT and (item.kind != "address" or value == item.title)
    )
    names += ["short"] if is_short else ["words"] if item.kind == "text" and value else []
    return f' class="{" ".join(filter(None, names))}"' if any(names) else ""


def _state(value: Value) -> str:
    return _CLASSES[value] if isinstance(value, str | bool) and value in _CLASSES else ""


def _cell(value: Value, kind: str = "text", places: int | None = None) -> str:
    """Return a value as markup: numbers shortened, results of checks in words, a missing one as a dash."""
    if value is None or value in ("", []):
        return _NOTHING
    if kind == "address":
        return _addresses(value if isinstance(value, list) else [str(value)])
    if isinstance(value, bool):
        return {"check": ("failed", "passed")}.get(kind, ("no", "yes"))[value]
    if isinstance(value, int | float):
        return markup(shown_number(value, places))
    text = markup(shortened(", ".join(value) if isinstance(value, list) else value, _LONGEST))
    return f"<code>{text}</code>" if kind == "code" else text


def _addresses(addresses: Sequence[str], most: int = _MOST_ADDRESSES) -> str:
    """Return addresses as markup, in which lines are broken between their parts; of too many, how many more there are."""
    shown = [f"<code>{_address(shortened(item, _LONGEST))}</code>" for item in addresses[:most]]
    more = len(addresses) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _address(text: str) -> str:
    parts = (part for part in _PARTS.split(text) if part)
    return "<wbr>".join(f"<span>{markup(part)}</span>" if len(part) <= _WHOLE else markup(part) for part in parts)
