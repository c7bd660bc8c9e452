"""What the commands that ask the lineage index print: plain lines, for an answer may be long, and few imports."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

from bikes_assets.lineage.queries import address_of
from bikes_assets.lineage.texts import plain
from bikes_assets.reports.terminal import say, say_json, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bikes_assets.answers import Change
    from bikes_assets.lineage.index import Answer, Found
    from bikes_assets.lineage.waste import Waste


def print_answer(answer: Answer, what: str, *, as_json: bool) -> None:
    """Print what lies upstream or downstream of something: counts first, then all of it, nearest first."""
    if as_json:
        for item in answer.things:
            say_json(json.dumps({"kind": item.kind, "address": address_of(item), "depth": item.depth, **item.facts}))
        return
    counts = ", ".join(
        f"{count:,} {kind}{'s' if count > 1 and kind != 'code' else ''}" for kind, count in answer.counts.items()
    )
    say(f"{len(answer.things):,} {what}" + (f": {counts}" if counts else ""))
    width = max((len(item.kind) for item in answer.things), default=0)
    lines = [f"{item.depth:>4}  {item.kind:<{width}}  {address_of(item)}{_proof(item)}" for item in answer.things]
    sys.stdout.writelines(f"{plain(line)}\n" for line in lines)


def _proof(item: Found) -> str:
    """Return what experiments showed of what a column is made from, with the code that made it last; "" where there were none."""
    if "proof" not in item.facts:
        return ""
    states = {shown["state"] for shown in item.facts["proof"]["inputs"].values()}
    if states & {"proven", "missing only"}:
        return "  proven" if states == {"proven"} else "  partly proven"
    return "  unverified" if "unverified" in states else "  never seen"


def print_changes(changes: Sequence[Change], answer: Answer, *, as_json: bool) -> None:
    """Print which code differs from what was made last, and what it reaches."""
    if as_json:
        for change in changes:
            say_json(json.dumps(asdict(change)))
    for change in () if as_json else changes:
        functions = ", ".join(f"{name} {became}" for name, became in change.functions.items())
        say(f"{change.asset}: {functions or 'its functions were not kept'}; columns: {', '.join(change.columns)}")
    print_answer(answer, "downstream of changed code", as_json=as_json)


def print_paths(count: int, ways: Iterator[list[Found]], most: int, *, as_json: bool) -> None:
    """Print ways from one thing to another, as many as are wanted, and how many there are."""
    shown = ([address_of(item) for item in way] for way in islice(ways, most))
    if as_json:
        sys.stdout.writelines(f"{json.dumps(way)}\n" for way in shown)
        return
    say(f"{count:,} ways" if count != 1 else "1 way")
    sys.stdout.writelines(f"  {plain(' -> '.join(way))}\n" for way in shown)
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
    rows = [(address_of(item), item.kind, item.facts["text"].partition("\n")[0]) for item in found]
    wide, kind_wide = (max((len(row[place]) for row in rows), default=0) for place in (0, 1))
    for address, kind, text in rows:
        say(f"{address:<{wide}}  {kind:<{kind_wide}}  {text}".rstrip())


def print_waste(found: Waste, *, as_json: bool) -> None:
    """Print the waste in the flow."""
    if as_json:
        say_json(json.dumps(asdict(found) | {"overhead": found.overhead}))
        return
    from rich.table import Column, Table

    console = terminal(soft_wrap=True)
    lists = {
        "Tables that no other is made from": found.without_readers,
        "Columns that nothing is made from": found.unread,
    }
    lists |= {f"Columns of its inputs that {model} does not use": names for model, names in found.unused.items()}
    lists |= {
        f"Columns that the newest {model} was fitted on and cannot use": names for model, names in found.inert.items()
    }
    for title, names in lists.items():
        console.print(f"{title}: {len(names)}")
        console.print(f"  {', '.join(names)}" if names else "  none")
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
