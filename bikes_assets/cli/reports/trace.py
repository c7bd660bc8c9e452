"""What `bikes trace` prints: lines that lead from the value down to the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bikes_assets.cli.reports.terminal import say, say_json
from bikes_assets.core.address import Address, parse_address, partition_address
from bikes_assets.lineage.tree import span

if TYPE_CHECKING:
    from bikes_assets.lineage.trace_result import RawRows, Trace, Value


_MOST_KEYS = 6


def print_trace(trace: Trace, *, as_json: bool) -> None:
    """Print where a row's values came from, top down: value, model, features, raw rows, versions and files."""
    if as_json:
        say_json(json.dumps(trace.to_dict()))
        return
    say(trace.address)
    for depth, text, colour in _lines_of(trace):
        say(f"{'  ' * depth}{text}", colour=colour or None)


def _lines_of(trace: Trace) -> Iterator[tuple[int, str, str]]:
    """Yield the lines of a trace: depth, text and colour."""
    shown: set[str] = set()
    for value in trace.values:
        yield from _lines_of_value(value, 1, shown)
    for model in trace.models:
        yield 1, f"model {model.address}: {model.name}", ""
        yield 2, f"promoted by {model.served_by}", ""
        yield 2, f"fitted on {_span(model.training)}", ""
        yield 2, f"validated on {_span(model.validation)}", ""
        yield 2, "file verified", ""
        yield 3, f"SHA-256 {model.sha256}", ""
    yield 1, "versions that were read, digests verified", ""
    for version in trace.versions:
        yield 2, f"{version.address}  {version.digest}", ""
    for source in trace.sources:
        asset, partition, _ = parse_address(source.address)
        yield 1, f"source {partition_address(asset, partition)}, digest {source.digest}", ""
        for file in source.files:
            colours = {"changed": "red", "gone": "red", "not checked": "yellow"}
            colour = "yellow" if file.at and file.state != "as recorded" else colours.get(file.state, "")
            now = f"now {file.state}" + (f": {file.found}" if file.state == "changed" else "")
            now += f"; the recorded file is at {file.at}" if file.at and file.state != "as recorded" else ""
            yield 2, f"{file.uri}, {file.size:,} bytes, {now}", colour
            yield 3, f"SHA-256 {file.sha256}", colour


def _lines_of_value(value: Value, depth: int, shown: set[str]) -> Iterator[tuple[int, str, str]]:
    """Yield the line of a value and of what it was made from; what is already shown is not repeated."""
    text = f"{value.address.partition('#')[0]} = {_cell(value.value)}"
    if value.address in shown and (value.made_from or value.rows):
        yield depth, f"{text}, as above", ""
        return
    shown.add(value.address)
    changed = ", which the present code does not make of these rows" if value.repeats is False else ""
    yield depth, text + changed, "yellow" if changed else ""
    if value.model:
        yield depth + 1, f"predicted by {value.model}", ""
    for made_from in value.made_from:
        yield from _lines_of_value(made_from, depth + 1, shown)
    for rows in value.rows:
        yield depth + 1, _rows_text(rows), ""


def _cell(value: object) -> str:
    """Return a value for people; --json prints every digit."""
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _rows_text(rows: RawRows) -> str:
    """Return raw rows on one line: hours as ranges, other keys one by one, and their number."""
    name = f"{rows.asset}.{rows.column}"
    if len(rows.keys) == 1:
        text = f"{name} {rows.keys[0]} = {_cell(rows.values[0])}"
    else:
        text = f"{name} {_ranges(rows.keys)}, {len(rows.keys)} rows" if rows.keys else f"{name}: no row"
    return text + (f"; absent {_ranges(rows.absent)}, {len(rows.absent)} hours" if rows.absent else "")


def _ranges(keys: Sequence[str]) -> str:
    """Return consecutive hours as first and last, other keys one by one if they are not too many."""
    try:
        hours = [datetime.fromisoformat(key) for key in keys]
    except ValueError:
        shown = keys if len(keys) <= _MOST_KEYS else (*keys[: _MOST_KEYS - 1], "...", keys[-1])
        return ", ".join(shown)
    runs: list[list[str]] = []
    for before, hour, key in zip([None, *hours], hours, keys, strict=False):
        if before and hour - before == timedelta(hours=1):
            runs[-1].append(key)
        else:
            runs.append([key])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _span(addresses: Sequence[str]) -> str:
    """Return versions of one table's partitions on one line."""
    places = [parts for address in addresses if (parts := Address.parse(address))]
    if len(places) < max(1, len(addresses)):
        return ", ".join(addresses) or "nothing"
    count = f", {len(places)} versions" if len(places) > 1 else ""
    return span(places, sorted({str(item.partition) for item in places})) + count
