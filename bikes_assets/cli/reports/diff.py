"""What `bikes diff` prints: root causes first, then what lies between, the code's text, and the effect."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from bikes_assets.cli.reports.terminal import say, say_json
from bikes_assets.core.texts import counted
from bikes_assets.lineage.diff import Change, FunctionChange, InputChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bikes_assets.lineage.diff import Cause, Difference, RowChange


_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def print_difference(found: Difference, *, as_json: bool) -> None:
    """Print why two versions differ: the number of causes, each at its root, then what lies between, and the effect."""
    if as_json:
        say_json(json.dumps(found.to_dict()))
        return
    content, causes = "equal content" if found.equal else "different content", found.causes
    say(f"{found.a.address} and {found.b.address}: {content}, {counted(len(causes), 'cause')}")
    if found.equal and causes:
        say("What differs in their making made no difference to the content.")
    _section("Causes", [line for cause in causes for line in cause_lines(cause)])
    roots = {cause.what for cause in causes}
    between = [item for item in found.inputs if item.part != "none" and item.address not in roots]
    _section("Inputs that differ by them", [_input_line(item) for item in between])
    _section("Differ and did not contribute", [_idle_line(item) for item in found.idle])
    code = {item.change.name: item.change for item in causes if isinstance(item.change, FunctionChange)}
    _section("Code", [line for function in code.values() for line in _text_of(function)], _COLOURS)
    _section("Environment (it may contribute)", [change_line(change) for change in found.surroundings])
    outcome = [f"digest: {found.a.digest} -> {found.b.digest}"] if not found.equal else []
    outcome += [f"rows: {_rows_text(found.rows)}"] if found.rows else []
    outcome += [f"model file: {found.file.a[:16]} -> {found.file.b[:16]}"] if found.file else []
    outcome += [change_line(change) for change in (*found.metrics, *found.checks, *found.params)]
    _section("Result", outcome)


def _section(title: str, lines: Sequence[str], colours: Mapping[str, str] = {}) -> None:
    """Print lines under a title, coloured by their first characters."""
    if lines:
        say()
        say(title, bold=True)
        for line in lines:
            say(f"  {line}", colour=colours.get(line[:1]))


def cause_lines(cause: Cause) -> Iterator[str]:
    """Yield a cause in words, and the first values of rows that differ."""
    change, to = (
        cause.change,
        f"to {', '.join(cause.of)}" + (", to its metrics alone" if cause.part == "figures" else ""),
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
