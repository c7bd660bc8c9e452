"""What `bikes columns` prints: the columns of every table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bikes_assets.cli.reports.terminal import terminal

if TYPE_CHECKING:
    from bikes_assets.core.schema import Column, Schema


def print_columns() -> None:
    """Print a table of columns for each table."""
    from rich.table import Table

    console = terminal()
    for number, (schema, inputs) in enumerate(_schemas()):
        if number:
            console.print("")
        names = ("column", "type, unit and values", *(("computed from",) if inputs else ()), "meaning")
        shown = Table(*names, title=schema.name, title_justify="left")
        for column in schema.columns:
            values = ", ".join(filter(None, (column.type, column.unit, _allowed(column))))
            computed_from = (", ".join(inputs.get(column.name, ())),) if inputs else ()
            shown.add_row(column.name, values, *computed_from, column.meaning)
        console.print(shown)


def columns_page() -> str:
    """Return every table's columns as Markdown: the content of docs/columns.md."""
    from bikes_assets.core.texts import markdown_table

    lines = ["# Columns", "", "Written by `bikes columns --markdown`."]
    names = ("column", "type", "unit", "allowed", "computed from", "meaning")
    for schema, inputs in _schemas():
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
        lines += ["", f"## {schema.name}", "", *markdown_table(names, rows)]
    return "\n".join(lines) + "\n"


def _schemas() -> Iterator[tuple[Schema, dict[str, tuple[str, ...]]]]:
    """Yield each table's columns, with what they are computed from if that is declared."""
    from bikes_assets.demand import features, tables

    lineage = {tables.HOURLY_RENTALS.name: tables.HOURLY_FROM_RECORDS, "demand_features": features.COLUMN_LINEAGE}
    for schema in (
        tables.RENTAL_RECORDS,
        tables.HOURLY_RENTALS,
        features.DEMAND_FEATURES,
        tables.DEMAND_PREDICTIONS,
        tables.PREDICTION_QUALITY,
    ):
        yield schema, {name: tuple(inputs) for name, inputs in lineage.get(schema.name, {}).items()}


def _allowed(column: Column) -> str:
    return ", ".join(filter(None, (column.constraint, "may be missing" if column.nullable else "")))
