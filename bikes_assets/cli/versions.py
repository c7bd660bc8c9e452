"""`bikes trace` and `diff`, and what they print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from bikes_assets.app import answers
from bikes_assets.app.json_answers import items
from bikes_assets.cli import options
from bikes_assets.cli.terminal import print_json, say
from bikes_assets.core.address import Address, parse_address, partition_address
from bikes_assets.core.texts import counted
from bikes_assets.lineage.diff import Change, FunctionChange, InputChange
from bikes_assets.lineage.tree import span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bikes_assets.lineage.diff import Cause, Difference, RowChange
    from bikes_assets.lineage.trace_result import RawRows, Trace, Value

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_MOST_KEYS = 6


@click.command()
@options.address("a")
@options.address("b")
@options.as_json
def diff(a: str, b: str, as_json: bool) -> bool:
    """Explain why two versions of one asset differ. Root causes (rows, code, settings) come first.

    A and B are addresses of versions, such as demand_model@3, demand_model@champion, demand_features[2012-08]@20, or
    demand_features[2012-08] for the current one. Differences that cannot have contributed are listed apart.

    Exit code 0 when their content is equal, 1 when it differs, 2 when they cannot be compared.
    """
    if as_json:
        (item,) = items.diff(a, b)
        print_json([item])
        return item["equal"]
    difference = answers.diff(a, b)
    print_difference(difference)
    return difference.equal


@click.command()
@options.address()
@options.as_json
def trace(address: str, as_json: bool) -> None:
    """Show where one row's values came from. Model, features, raw rows and file are as recorded, with verified digests.

    ADDRESS is demand_predictions[2012-08]#2012-08-14T17:00, demand_predictions.prediction[2012-08]#2012-08-14T17:00 for
    one column, or demand_predictions[2012-08]@18#2012-08-14T17:00 as of a table version.
    """
    if as_json:
        print_json(items.trace(address))
        return
    result = answers.trace(address)
    say(result.address)
    for depth, text, colour in _lines_of(result):
        say(f"{'  ' * depth}{text}", colour=colour or None)


def print_difference(difference: Difference) -> None:
    """Print why two versions differ: the number of causes, each at its root, then what lies between, and the effect."""
    content, causes = "equal content" if difference.equal else "different content", difference.causes
    say(f"{difference.a.address} and {difference.b.address}: {content}, {counted(len(causes), 'cause')}")
    if difference.equal and causes:
        say("What differs in how they were materialized did not change the content.")
    _section("Causes", [line for cause in causes for line in cause_lines(cause)])
    roots = {cause.what for cause in causes}
    between = [item for item in difference.inputs if item.part != "none" and item.address not in roots]
    _section("Inputs that differ by them", [_input_line(item) for item in between])
    _section("Differ and did not contribute", [_idle_line(item) for item in difference.idle])
    code = {item.change.name: item.change for item in causes if isinstance(item.change, FunctionChange)}
    _section("Code", [line for function in code.values() for line in _text_of(function)], _COLOURS)
    _section("Environment (it may contribute)", [change_line(change) for change in difference.surroundings])
    outcome = [f"digest: {difference.a.digest} -> {difference.b.digest}"] if not difference.equal else []
    outcome += [f"rows: {_rows_text(difference.rows)}"] if difference.rows else []
    outcome += [f"model file: {difference.file.a[:16]} -> {difference.file.b[:16]}"] if difference.file else []
    outcome += [change_line(change) for change in (*difference.metrics, *difference.checks, *difference.params)]
    _section("Result", outcome)


def _section(title: str, lines: Sequence[str], colours: Mapping[str, str] = {}) -> None:
    """Print lines under a title, coloured by their first characters."""
    if lines:
        say("")
        say(title, bold=True)
        for line in lines:
            say(f"  {line}", colour=colours.get(line[:1]))


def cause_lines(cause: Cause) -> Iterator[str]:
    """Yield a cause in words, and the first values of rows that differ."""
    change, to = (
        cause.change,
        f"to {', '.join(cause.of)}" + (", to its metrics alone" if cause.part == "metrics" else ""),
    )
    match change:
        case InputChange():
            yield f"{'input':<9} {_input_line(change)}, {to}"
            if cause.rows:
                yield f"{'':<9} rows of it: {_rows_text(cause.rows)}"
                for cell in cause.rows.cells:
                    yield f"{'':<9}   {' '.join(map(str, cell.key))} {cell.column}: {cell.a} -> {cell.b}"
        case FunctionChange():
            yield f"{'code':<9} {change.name.removeprefix('bikes_assets.')} {change.change}, {to}"
        case Change():
            kind = "setting" if cause.kind == "config" else cause.kind
            yield f"{kind:<9} {change_line(replace(change, name=cause.what))}, {to}"


def _input_line(item: InputChange) -> str:
    was, now = (_version_text(version.version) if version else "none" for version in (item.a, item.b))
    roles = " -> ".join(dict.fromkeys(role or "none" for role in item.roles)) if any(item.roles) else ""
    told = [f"{item.address}@{was} -> @{now}" if not item.only else f"{item.address}@{now if item.a is None else was}"]
    told += [f"only in {item.only.upper()}"] if item.only else []
    told += [f"for {roles}"] if roles else []
    return ", ".join(told) + (f": {_rows_text(item.rows)}" if item.rows else "")


def _idle_line(item: InputChange) -> str:
    was, now = (_version_text(version.version) if version else "none" for version in (item.a, item.b))
    return f"{item.address}@{was} -> @{now}: only in {', '.join(item.columns)}, which went into nothing that differs"


def _rows_text(rows: RowChange) -> str:
    counts = ((rows.added, "added"), (rows.removed, "removed"), (rows.changed, "changed"))
    told = ", ".join(f"{counted(count, 'row')} {what}" for count, what in counts if count)
    columns = ", ".join(f"{name} ({count:,})" for name, count in rows.columns.items())
    return told + (f" in {columns}" if columns else "")


def change_line(change: Change) -> str:
    """Return a change on one line, with the significant digits of numbers."""
    both = [change.a, change.b]
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in both]
    if len({*texts}) == 1:
        texts = [*map(str, both)]
    was, now = ("none" if change.only == other else text for text, other in zip(texts, "ba", strict=True))
    return f"{change.name}: {was} -> {now}"


def _text_of(function: FunctionChange) -> Iterator[str]:
    """Yield a function's change as a unified diff."""
    if not function.text:
        yield f"{function.name} {function.change}; its text was not kept"
    for line in function.text.splitlines():
        yield line.expandtabs()


def _version_text(version: int | str) -> str:
    return str(version)[:16]


def _lines_of(trace: Trace) -> Iterator[tuple[int, str, str]]:
    """Yield the lines of a trace: depth, text and colour."""
    shown: set[str] = set()
    for value in trace.values:
        yield from _lines_of_value(value, 1, shown)
    for model in trace.models:
        yield 1, f"model {model.address}: {model.name}", ""
        if model.served_by != model.address:
            yield 2, f"promoted by {model.served_by}", ""
        yield 2, f"fitted on {_span(model.training)}", ""
        if model.validation:
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
    """Yield the line of a value and of what it was computed from; what is already shown is not repeated."""
    text = f"{value.address.partition('#')[0]} = {_cell(value.value)}"
    if value.address in shown and (value.computed_from or value.rows):
        yield depth, f"{text}, as above", ""
        return
    shown.add(value.address)
    changed = ", which the current code does not compute from these rows" if value.repeats is False else ""
    yield depth, text + changed, "yellow" if changed else ""
    if value.model:
        yield depth + 1, f"predicted by {value.model}", ""
    for computed_from in value.computed_from:
        yield from _lines_of_value(computed_from, depth + 1, shown)
    for rows in value.rows:
        yield depth + 1, _raw_rows_text(rows), ""


def _cell(value: object) -> str:
    """Return a value for people; --json prints every digit."""
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _raw_rows_text(rows: RawRows) -> str:
    """Return raw rows on one line: hours as ranges, other keys one by one, and their number."""
    name = f"{rows.asset}.{rows.column}"
    if len(rows.keys) == 1:
        text = f"{name} {rows.keys[0]} = {_cell(rows.values[0])}"
    else:
        text = f"{name} {_ranges(rows.keys)}, {len(rows.keys)} rows" if rows.keys else f"{name}: no row"
    return text + (f"; absent {_ranges(rows.absent)}, {counted(len(rows.absent), 'row')}" if rows.absent else "")


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
