"""What `bikes columns` prints: the page of columns."""


def columns_page() -> str:
    """Return every table's columns as Markdown: what docs/columns.md holds."""
    from bikes_assets.demand import features, tables
    from bikes_assets.lineage.texts import markdown_table

    made_from = {tables.HOURLY_RENTALS.name: tables.HOURLY_FROM_RECORDS, "demand_features": features.COLUMN_LINEAGE}
    lines = ["# Columns", "", "Written by `bikes columns`."]
    for schema in (
        tables.RENTAL_RECORDS,
        tables.HOURLY_RENTALS,
        features.DEMAND_FEATURES,
        tables.DEMAND_PREDICTIONS,
        tables.PREDICTION_QUALITY,
    ):
        upstream = made_from.get(schema.name, {})
        rows: list[tuple[str, ...]] = []
        for column in schema.columns:
            lawful = ", ".join(filter(None, (column.constraint, "may be missing" if column.nullable else "")))
            cells = (
                column.name,
                column.type,
                column.unit,
                lawful,
                ", ".join(upstream.get(column.name, ())),
                column.meaning,
            )
            rows.append(cells)
        names = ("column", "type", "unit", "lawful", "made from", "meaning")
        lines += ["", f"## {schema.name}", "", *markdown_table(names, rows)]
    return "\n".join(lines) + "\n"
