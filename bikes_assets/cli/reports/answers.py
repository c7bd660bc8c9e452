"""What the commands that query the lineage index print: plain lines, as answers may be long, and few imports."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import islice
from shlex import quote
from textwrap import wrap
from typing import TYPE_CHECKING

from bikes_assets.app import answers
from bikes_assets.cli.reports.terminal import displayed, say, say_json, say_wrapped, terminal
from bikes_assets.core.address import Address
from bikes_assets.core.texts import counted, plain
from bikes_assets.lineage.index import Answer
from bikes_assets.lineage.projection import CODE, COLUMN, COLUMN_VERSION, DATASET, PARTITION, RUN, VERSION
from bikes_assets.lineage.queries import address_of
from bikes_assets.lineage.tree import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bikes_assets.app.answers import Change
    from bikes_assets.lineage.index import Found
    from bikes_assets.lineage.packed import Direction
    from bikes_assets.lineage.tree import Branch
    from bikes_assets.lineage.waste import Waste

_PLACES = (DATASET, COLUMN, PARTITION, VERSION, COLUMN_VERSION)
"""Kinds of things whose address already names their kind."""
_CODE_CHARACTERS = 8
"""Number of characters that abbreviate a code version."""


def print_answer(
    answer: Answer, what: str, direction: Direction, *, as_of: str | None = None, runs: bool = False, as_json: bool
) -> None:
    """Print what is upstream or downstream of something: counts first, then a tree.

    Args:
        answer: the answer.
        what: what was asked, for people.
        direction: `upstream` or `downstream`.
        as_of: the time that was asked about.
        runs: whether to list runs if the question is about other things, too.
        as_json: print each thing as a JSON object instead, including runs.
    """
    if as_json:
        for item in answer.things:
            say_json(json.dumps({"kind": item.kind, "address": address_of(item), "depth": item.depth, **item.facts}))
        return
    listed = [item for item in answer.things if runs or item.kind != RUN or {*answer.counts} == {RUN}]
    hidden = "" if len(listed) == len(answer.things) else " (--runs lists the runs)"
    say_wrapped(f"{len(answer):,} {what}" + (f": {answer.counted}" if answer.things else "") + hidden)
    branches = answers.tree(Answer(listed), direction, as_of=as_of) if listed else []
    functions = answers.functions() if any(item.kind == CODE for item in listed) else {}
    sys.stdout.writelines(f"{lead}{plain(_line(branch, functions))}\n" for lead, branch in walk(branches))


def _line(branch: Branch, functions: Mapping[str, str]) -> str:
    """Return one line of the tree: address, number of things, and for a column the result of perturbation."""
    if branch.kind == CODE:
        function = functions.get(branch.asset, branch.asset).removeprefix("bikes_assets.")
        return f"code {function} {', '.join(item.name[:_CODE_CHARACTERS] for item in branch.things)}"
    is_range = len(branch.things) > 1
    kind = "" if is_range or branch.kind in _PLACES else f"{branch.kind} "
    count = f", {counted(len(branch.things), branch.kind)}" if is_range else ""
    return f"{kind}{branch.span}{count}{_evidence(branch.things[0])}"


def _evidence(item: Found) -> str:
    """Return the perturbation result of a column's inputs, for its latest code; "" if nothing was tried."""
    if "proof" not in item.facts:
        return ""
    states = {shown["state"] for shown in item.facts["proof"]["inputs"].values()}
    if states & {"proven", "missing only"}:
        return "  observed" if states == {"proven"} else "  partly observed"
    return "  unverified" if "unverified" in states else "  not observed"


def print_changes(changes: Sequence[Change], answer: Answer, *, as_json: bool) -> None:
    """Print which code differs from the last materialization, and what is downstream of it."""
    if as_json:
        for change in changes:
            say_json(json.dumps(asdict(change)))
    for change in () if as_json else changes:
        functions = ", ".join(f"{name} {became}" for name, became in change.functions.items())
        say(f"{change.asset}: {functions or 'its functions were not kept'}; columns: {', '.join(change.columns)}")
    print_answer(answer, "downstream of changed code", "downstream", as_json=as_json)


def print_paths(
    start: str, end: str, count: int, ways: Iterator[list[Found]], most: int, *, as_of: str | None, as_json: bool
) -> None:
    """Print paths from one thing to another, up to a limit, and their number; without any, those back."""
    shown = ([address_of(item) for item in way] for way in islice(ways, most))
    if as_json:
        sys.stdout.writelines(f"{json.dumps(way)}\n" for way in shown)
        return
    back = 0 if count else answers.paths(end, start, as_of=as_of)[0]
    hint = f"; {back:,} in the other direction: bikes path {quote(end)} {quote(start)}" if back else ""
    say((f"{count:,} ways" if count != 1 else "1 way") + hint)
    for way in shown:
        say_wrapped(" -> ".join(way), "  ")
    if count > most:
        say(f"and {count - most:,} more; --most {count} shows them")


def print_found(found: Sequence[Found], *, as_json: bool) -> None:
    """Print what a search found."""
    if as_json:
        for item in found:
            say_json(json.dumps({"kind": item.kind, "address": address_of(item), **item.facts}))
        return
    if not found:
        say("Found nothing; bikes columns lists every column.")
        return
    from rich.table import Table

    shown = Table("address", "kind", "meaning")
    for item in found:
        shown.add_row(address_of(item), item.kind, item.facts["text"].partition("\n")[0])
    terminal().print(shown)


def print_waste(found: Waste, *, as_json: bool) -> None:
    """Print waste: what nobody reads, unchanged rematerializations, and where the time goes."""
    if as_json:
        say_json(json.dumps(asdict(found) | {"overhead": found.overhead}))
        return
    from rich.table import Column, Table

    console = terminal()
    lists = {
        "Tables that no other is computed from": found.without_readers,
        "Columns that nothing is computed from": found.unread,
    }
    lists |= {f"Columns of its inputs that {model} does not use": names for model, names in found.unused.items()}
    lists |= {
        f"Columns that the newest {model} was fitted on and cannot use": names for model, names in found.inert.items()
    }
    for title, names in lists.items():
        console.print(f"{title}: {len(names)}")
        for line in _by_table(names):
            for part in wrap(displayed(line), console.width, initial_indent="  ", subsequent_indent="    "):
                console.print(part)
    numbers = (Column(name, justify="right") for name in ("times", "seconds", "unchanged", "seconds of these"))
    table = Table("asset", *numbers)
    for item in found.spent:
        table.add_row(
            item.asset, str(item.times), f"{item.seconds:.1f}", str(item.unchanged), f"{item.unchanged_seconds:.1f}"
        )
    console.print(table)
    console.print(
        f"Runs took {found.runs:.1f} s, their steps {found.steps:.1f} s: {found.overhead:.0%} is beyond the steps."
    )


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
