"""`bikes upstream`, `downstream` and `path`, and what they print: plain lines, as answers may be long, and few imports."""

from __future__ import annotations

import sys
from itertools import islice
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from bikes_assets.app import answers
from bikes_assets.app.json_answers import items
from bikes_assets.app.json_answers.items import LEVELS
from bikes_assets.cli import options
from bikes_assets.cli.terminal import print_json, say, say_wrapped
from bikes_assets.core.texts import counted, plain
from bikes_assets.lineage.elements import (
    CODE,
    COLUMN,
    COLUMN_VERSION,
    DATASET,
    PARTITION,
    RUN,
    VERSION,
    Answer,
)
from bikes_assets.lineage.tree import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bikes_assets.lineage.elements import Direction, Result
    from bikes_assets.lineage.tree import Branch

_PLACES = (DATASET, COLUMN, PARTITION, VERSION, COLUMN_VERSION)
"""Kinds of things whose address already names their kind."""
_CODE_CHARACTERS = 8
"""Number of characters that abbreviate a code version."""


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of both directions."""
    for option in (
        options.as_json,
        click.option("--runs", is_flag=True, help="List the runs, too."),
        options.as_of,
        click.option("--depth", type=click.IntRange(1), help="How far to go; by default to the end."),
        click.option("--level", type=click.Choice([*LEVELS]), help="What to list; by default what ADDRESS names."),
    ):
        function = option(function)
    return function


@click.command()
@options.address()
@_options
def upstream(**asked: Any) -> None:
    """List what contributed to ADDRESS, as a tree. By default, it lists things of ADDRESS's own kind; see --level.

    Each is listed once, under the nearest thing that it contributed to; [2011-01..2011-05]@1..5 are five partitions and
    their versions.

    ADDRESS is demand_features, demand_features.temperature, demand_features[2012-08], demand_features[2012-08]@20,
    demand_features.temperature[2012-08], demand_model@3, demand_model@champion, or a tag, file, code version or run.
    """
    _ask("upstream", **asked)


@click.command()
@options.address(required=False)
@_options
@click.option("--change", is_flag=True, help="Of the working tree's code, if it was edited since.")
def downstream(address: str | None, *, change: bool, as_json: bool, **asked: Any) -> bool:
    """List what ADDRESS contributed to, as a tree. This is the impact of a change; for addresses, see bikes upstream.

    With --change and no ADDRESS, list what is downstream of the functions that were edited since everything was
    materialized; exit code 1 when there is any.
    """
    if change == bool(address):
        raise click.UsageError("expected an ADDRESS, or --change without one")
    if address:
        _ask("downstream", address=address, as_json=as_json, **asked)
        return True
    from bikes_assets.cli.runner import plan

    changes, answer = answers.changed(plan())
    if as_json:
        print_json(items.changes(changes, answer))
        return not changes
    for item in changes:
        functions = ", ".join(f"{name} {became}" for name, became in item.functions.items())
        say(f"{item.asset}: {functions or 'its functions were not kept'}; columns: {', '.join(item.columns)}")
    print_answer(answer, "downstream of changed code", "downstream")
    return not changes


def _ask(direction: Direction, address: str, *, level: str | None, runs: bool, as_json: bool, **asked: Any) -> None:
    """Print what is upstream or downstream of an address."""
    if as_json:
        print_json(items.related(direction, address, level=level, **asked))
        return
    follow = answers.upstream if direction == "upstream" else answers.downstream
    answer = follow(address, level=LEVELS.get(level or ""), **asked)
    what = f"{direction} of {answers.named(address, as_of=asked['as_of'])}"
    print_answer(answer, what, direction, as_of=asked["as_of"], runs=runs)


@click.command()
@options.address("start")
@options.address("end")
@options.as_of
@click.option("--most", default=20, show_default=True, type=options.COUNT, help="How many are shown; all are counted.")
@options.as_json
def path(start: str, end: str, as_of: str | None, most: int, as_json: bool) -> bool:
    """List the paths from START downstream to END. Exit code 1 when there is none.

    If one end is a column, a table, partition or version at the other end means any of its columns.
    """
    count, paths = items.paths(start, end, as_of=as_of)
    shown = islice(paths, most)
    if as_json:
        print_json(shown)
        return count > 0
    back = 0 if count else answers.paths(end, start, as_of=as_of)[0]
    hint = f"; {back:,} in the other direction: bikes path {quote(end)} {quote(start)}" if back else ""
    say((f"{count:,} ways" if count != 1 else "1 way") + hint)
    for path in shown:
        say_wrapped(" -> ".join(path["addresses"]), "  ")
    if count > most:
        say(f"and {count - most:,} more; --most {count} shows them")
    return count > 0


def print_answer(
    answer: Answer, what: str, direction: Direction, *, as_of: str | None = None, runs: bool = False
) -> None:
    """Print what is upstream or downstream of something: counts first, then a tree.

    Args:
        answer: the answer.
        what: what was asked, for people.
        direction: `upstream` or `downstream`.
        as_of: the time that was asked about.
        runs: whether to list runs if the question is about other things, too.
    """
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


def _evidence(item: Result) -> str:
    """Return the perturbation result of a column's inputs, for its latest code; "" if nothing was tried."""
    if "evidence" not in item.facts:
        return ""
    states = {shown["state"] for shown in item.facts["evidence"]["inputs"].values()}
    if states & {"observed", "missing only"}:
        return "  observed" if states == {"observed"} else "  partly observed"
    return "  unverified" if "unverified" in states else "  not observed"
