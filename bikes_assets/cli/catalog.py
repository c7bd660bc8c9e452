"""`bikes search`, `columns`, `waste`, `index` and `export`, and what they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bikes_assets.app import answers
from bikes_assets.app.json_answers import items
from bikes_assets.cli import options
from bikes_assets.cli.terminal import print_json, print_table, say, say_wrapped
from bikes_assets.core.address import Address
from bikes_assets.core.texts import markdown_table
from bikes_assets.lineage.elements import address_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bikes_assets.core.schema import Column, Schema
    from bikes_assets.lineage.waste import Waste

_MOST_MATCHES = 50
"""Number of matches of a search that are printed."""
_MOST_OF_ADDRESS = 40
"""Longest address that fits into a table of 80 columns beside the meaning; those of other tools are longer."""


@click.command()
@click.argument("words", nargs=-1, required=True)
@options.as_json
def search(words: tuple[str, ...], as_json: bool) -> bool:
    """Find tables, columns, models and tags. Names, meanings and units are searched; exit code 1 without a match."""
    if as_json:
        found = items.search(" ".join(words))
        print_json(found)
        return len(found) > 0
    matches = answers.search(" ".join(words), most=items.MOST_MATCHES)
    if matches:
        shown = matches[:_MOST_MATCHES]
        _print_matches([(address_of(item), item.kind, item.facts["text"].partition("\n")[0]) for item in shown])
        if len(shown) < len(matches):
            say(f"and {len(matches) - len(shown):,} more; another word narrows them down, --json lists them")
    else:
        say("Found nothing; bikes columns lists every declared column.")
    return len(matches) > 0


def _print_matches(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print addresses with kind and meaning: as a table, or, where it would break an address, one below the other."""
    if max(len(address) for address, _, _ in rows) <= _MOST_OF_ADDRESS:
        print_table(["address", "kind", "meaning"], [], rows)
        return
    for address, kind, meaning in rows:
        say(f"{kind} {address}")
        if meaning:
            say_wrapped(meaning, "  ")


@click.command()
@click.option("--markdown", is_flag=True, help="As a page of Markdown: docs/columns.md.")
def columns(markdown: bool) -> None:
    """Print every table's columns. For each: type, unit, allowed values, what it is computed from and what it means."""
    if markdown:
        click.echo(_columns_page(), nl=False)
        return
    for number, (asset, schema, inputs) in enumerate(_schemas()):
        if number:
            say("")
        names = ("column", "type, unit and values", *(("computed from",) if inputs else ()), "meaning")
        rows = (
            (
                column.name,
                ", ".join(filter(None, (column.type, column.unit, _allowed(column)))),
                *((", ".join(inputs.get(column.name, ())),) if inputs else ()),
                column.meaning,
            )
            for column in schema.columns
        )
        print_table(names, [], rows, title=asset)


@click.command()
@options.as_json
def waste(as_json: bool) -> None:
    """Show what nobody reads and where the time goes. It also lists unchanged rematerializations."""
    if as_json:
        print_json(items.waste())
    else:
        print_waste(answers.waste())


@click.command()
@click.option("--rebuild", is_flag=True, help="Build it again from nothing.")
def index(rebuild: bool) -> None:
    """Update the lineage index. It follows Dagster's event log; every query updates it by itself."""
    current = answers.rebuild() if rebuild else answers.refreshed()
    say(f"{current.path}: up to date with event {current.cursor:,}")


def _columns_page() -> str:
    """Return every table's columns as Markdown: the content of docs/columns.md."""
    lines = ["# Columns", "", "Written by `bikes columns --markdown`."]
    names = ("column", "type", "unit", "allowed", "computed from", "meaning")
    for asset, schema, inputs in _schemas():
        rows = [
            (
                column.name,
                column.type,
                column.unit,
                _allowed(column),
                ", ".join(inputs.get(column.name, ())),
                column.meaning,
            )
            for column in schema.columns
        ]
        lines += ["", f"## {asset}", "", *markdown_table(names, rows)]
    return "\n".join(lines) + "\n"


def _schemas() -> Iterator[tuple[str, Schema, dict[str, tuple[str, ...]]]]:
    """Yield each dataset's declared columns, with what they are computed from as far as the bikes declare it."""
    from bikes_assets.app.store import columns
    from bikes_assets.demand import features, tables

    lineage = {tables.HOURLY_RENTALS.name: tables.HOURLY_FROM_RECORDS, "demand_features": features.COLUMN_LINEAGE}
    for asset, schema in columns().items():
        yield asset, schema, {name: tuple(inputs) for name, inputs in lineage.get(asset, {}).items()}


def _allowed(column: Column) -> str:
    return ", ".join(filter(None, (column.constraint, "may be missing" if column.nullable else "")))


def print_waste(result: Waste) -> None:
    """Print waste: what nobody reads, unchanged rematerializations, and where the time goes."""
    lists = {
        "Tables that no other is computed from": result.without_readers,
        "Columns that nothing is computed from": result.unread,
    }
    lists |= {f"Columns of its inputs that {model} does not use": names for model, names in result.unused.items()}
    lists |= {
        f"Columns that the newest {model} was fitted on and cannot use": names
        for model, names in result.unused_by_model.items()
    }
    for title, names in lists.items():
        say(f"{title}: {len(names)}")
        for line in _by_table(names):
            say_wrapped(line, "  ")
    rows = (
        (item.asset, item.times, f"{item.seconds:.1f}", item.unchanged, f"{item.unchanged_seconds:.1f}")
        for item in result.spent
    )
    print_table(["asset"], ["times", "seconds", "unchanged", "seconds of these"], rows)
    say(f"Runs took {result.runs:.1f} s, their steps {result.steps:.1f} s: {result.overhead:.0%} is beyond the steps.")


def _by_table(names: Sequence[str]) -> Iterator[str]:
    """Yield columns, those of one table on one line, and tables as they are."""
    tables: dict[str, list[str]] = {}
    for name in names:
        parts = Address.parse(name)
        columns = tables.setdefault(parts.asset if parts else name, [])
        columns += [parts.column] if parts and parts.column else []
    yield from (f"{table}: {', '.join(columns)}" if columns else table for table, columns in tables.items())
    if not names:
        yield "none"


@click.group()
def export() -> None:
    """Write a view of the lineage to a file."""


@export.command()
@click.argument("view")
@click.option(
    "--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="The file; by default lineage.html."
)
@options.as_of
def html(view: str, file: Path | None, as_of: str | None) -> None:
    """Write a view of the lineage page as one HTML file. It opens in any browser, without a server.

    VIEW is an address, such as demand_features or demand_model@champion, or a link that was copied from the page.
    """
    from bikes_assets.app.explore.export import as_html, view_at
    from bikes_assets.storage import disk

    found, time = view_at(view)
    target = file or Path("lineage.html")
    with disk.named(target, "page") as write:
        write(as_html(found, as_of=as_of or time).encode())
    say(f"Wrote {target}")
