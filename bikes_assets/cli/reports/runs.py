"""What the commands of runs print: progress, summary, status, reconciliation and deployments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from bikes_assets.cli.reports.terminal import terminal
from bikes_assets.core.address import Address
from bikes_assets.core.record import parse_address, partition_address
from bikes_assets.core.staleness import Reason, State, Status
from bikes_assets.core.texts import counted, plain
from bikes_assets.lineage.projection import WHOLE

if TYPE_CHECKING:
    from bikes_assets.app.versions import Making
    from bikes_assets.cli.runner import Summary
    from bikes_assets.governance.deployments import Deployment
    from bikes_assets.orchestration.agreed import Agreement

STATES: tuple[State, ...] = ("fresh", "pending", "stale", "missing", "failed", "skipped")
_COLOURS = {"stale": "yellow", "missing": "yellow", "failed": "red"}
_MOST_REASONS = 3


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a progress bar; the yielded function takes the current step, how much is done, and the total, if known.

    Without a terminal nothing is printed before the first step, so that an argument refused before it gives one line.
    """
    columns = (TextColumn("{task.description:8}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=terminal(stderr=True))
    task = bar.add_task("starting", total=None)
    with ExitStack() as shown:
        if bar.console.is_terminal:
            shown.enter_context(bar)

        def show(name: str, done: int, total: int | None) -> None:
            bar.update(task, description=plain(name), completed=done, total=total)
            if not bar.live.is_started:
                shown.enter_context(bar)

        yield show


def print_summary(summary: Summary) -> None:
    """Print what a run materialized, how good it is, and where to look."""
    console = terminal()
    table = Table("asset", Column("partitions", justify="right"), Column("rows", justify="right"))
    for asset, count in summary.partitions.items():
        table.add_row(asset, str(count), f"{summary.rows[asset]:,}" if asset in summary.rows else "")
    if summary.partitions:
        console.print(table)
    elif not summary.failed and not summary.skipped and not summary.waiting:
        console.print("Everything is fresh: nothing to do.")
    if summary.unchanged:
        console.print(
            f"Unchanged content: {counted(summary.unchanged, 'partition')}; nothing downstream is stale by this."
        )
    if summary.skipped:
        console.print(f"Skipped, for there was nothing to work on: {', '.join(summary.skipped)}")
    if summary.unlogged:
        message = "MLflow did not take all of it; the data and its record are whole. Later: bikes sync"
        console.print(message, style="yellow")
        for what in summary.left:
            console.print(f"  {what}", style="yellow")
    for line in summary.restored:
        console.print(line, style="yellow")
    for line in _failures(summary.failed):
        console.print(line, style="red")
    for line in _waiting(summary):
        console.print(line, style="yellow")
    if summary.champion:
        console.print(f"Champion of {summary.champion_month}: {summary.champion}")
        console.print(_accuracy())
    console.print(f"Took {summary.seconds:.0f} s. Look around: make ui")


def _accuracy() -> str:
    """Return how good the published predictions are; the source may hold no hour of the predicted months."""
    from bikes_assets.cli.reports.accuracy import published_scores
    from bikes_assets.core.errors import NothingToDo

    try:
        scores = published_scores()
    except NothingToDo:
        return "Nothing is predicted: the source has no hours in the months after those that a model is fitted on"
    return (
        f"Walk-forward R2 {scores['r2']:.4f}, RMSE {scores['rmse']:.1f} rentals/hour, over {scores['rows']:,.0f} hours"
    )


def print_status(found: Sequence[Status]) -> None:
    """Print the number of partitions in each state by asset, and each that is not fresh, with its reasons."""
    console = terminal()
    states = [state for state in STATES if any(item.state == state for item in found)]
    table = Table("asset", *(Column(state, justify="right") for state in states))
    for asset in dict.fromkeys(item.asset for item in found):
        of_asset = [item.state for item in found if item.asset == asset]
        table.add_row(asset, *(str(of_asset.count(state) or "") for state in states))
    console.print(table)
    told = ((item, _reasons(item)) for item in found)
    for (asset, state, _), alike in groupby(told, lambda pair: (pair[0].asset, pair[0].state, _kind(*pair))):
        items = [*alike]
        (first, why), texts = items[0], {text for _, text in items}
        keys = [item.partition for item, _ in items]
        address = partition_address(asset, first.partition if len(keys) == 1 else f"{keys[0]}..{keys[-1]}")
        if state != "fresh" or why:
            line = f"{address}  {state}: {why}{_more(len(keys)) if len(texts) > 1 else ''}"
            console.print(line, style=_COLOURS.get(state, ""))
    if states == ["fresh"]:
        console.print("Everything is fresh.")
    elif states == ["missing"]:
        console.print("None of this is materialized yet: run bikes run.")


def print_makings(found: Sequence[Making]) -> None:
    """Print every version of a partition: when it was materialized, why, and what changed in it."""
    console = terminal()
    for item in found:
        is_first = item.reasons[0].kind == "missing"
        why = "; ".join(_text(reason) for reason in item.reasons) + f"; {_new(item.changed)}"
        made = "made for the first time" if is_first else why
        console.print(f"{item.address}  {_moment(item.time)}, run {item.run[:8]}: {made}")


def _new(changed: Sequence[str]) -> str:
    if not changed:
        return "it came out as it was"
    return "it came out otherwise" if list(changed) == [WHOLE] else f"new in {', '.join(changed)}"


def _moment(time: float) -> str:
    return f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S}"


def status_line(item: Status, makings: Sequence[Making] | None = None) -> str:
    """Return a status as one JSON object, with its versions if given."""
    told: dict[str, Any] = {"address": item.address, "state": item.state, "reasons": _told(item.reasons)}
    if makings is not None:
        told["versions"] = [asdict(making) | {"reasons": _told(making.reasons)} for making in makings]
    return json.dumps(told)


def _told(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    return [asdict(reason) | {"text": _text(reason)} for reason in reasons]


def _waiting(summary: Summary) -> Iterator[str]:
    """Yield a line for each group of similar partitions of an asset that are not up to date, and what they wait for."""
    how = "bikes run makes it once that is mended" if summary.failed else "bikes run, without --month, makes that first"
    for (asset, state, why), alike in groupby(summary.waiting, lambda item: (item.asset, item.state, _reasons(item))):
        keys = [item.partition for item in alike]
        address = partition_address(asset, keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}")
        yield f"{address} is {state}: {why}; {how}"


def _failures(failed: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each kind of failure of an asset, with its partitions and the first message."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for address, message in failed.items():
        kinds.setdefault((parse_address(address)[0], _without_numbers(message)), []).append(address)
    for (asset, _), addresses in kinds.items():
        message, count = failed[addresses[0]], len(addresses)
        keys = sorted(str(parse_address(address)[1]) for address in addresses)
        address = addresses[0] if count == 1 else partition_address(asset, f"{keys[0]}..{keys[-1]}")
        yield f"{address} failed: {message}{_more(count) if count > 1 else ''}"


def _more(count: int) -> str:
    return f" ({count} partitions failed alike: this is what the first says)"


def _kind(item: Status, why: str) -> str:
    """Return the key by which statuses are grouped into one line."""
    return _without_numbers(why) if item.state == "failed" else why


def _without_numbers(message: str) -> str:
    """Return the part that similar messages share: all but months, versions, digests and counts."""
    return re.sub(r"\b[0-9a-f]{8,}\b|[0-9]+", "0", message)


def _reasons(item: Status) -> str:
    if item.state == "pending":
        return f"waits for {', '.join(sorted({parse_address(reason.what)[0] for reason in item.reasons}))}"
    texts = [_text(reason) for reason in item.reasons]
    more = len(texts) - _MOST_REASONS
    return "; ".join(texts[:_MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _text(reason: Reason) -> str:
    """Return a reason in words; a changed code version with the functions that differ."""
    from bikes_assets.app.state import changed_functions

    if reason.kind != "code":
        return str(reason)
    changes = [
        f"{name.removeprefix('bikes_assets.')} {change}"
        for name, change in changed_functions(reason.was, reason.now, reason.what).items()
    ]
    return f"{reason} ({', '.join(changes) or 'its functions were not kept'})"


def print_agreement(agreement: Agreement) -> None:
    """Print what reconciliation has done, and what is left."""
    console = terminal()
    for line in agreement.done:
        console.print(line)
    for line in (*agreement.left, *agreement.refused):
        console.print(line, style="red")
    for line in (*agreement.set_aside, *agreement.foreign):
        console.print(line, style="yellow")
    if not any((agreement.done, agreement.left, agreement.refused, agreement.foreign)):
        console.print("Everything agrees.")


def print_deployments(deployments: Sequence[Deployment], month: str | None = None) -> None:
    """Print which model was promoted for which month, with its RMSE, the next best model and why, in 80 columns.

    Args:
        deployments: deployments to print.
        month: only this month, None for all.
    """
    if not deployments:
        terminal().print(f"No model was promoted or pinned{f' for {month}' if month else ''} yet.")
        return
    places = [Address.parse(item.model) for item in deployments if item.model]
    assets = {place.asset if place and place.column is None and place.partition else "" for place in places}
    asset = assets.pop() if len(assets) == 1 else ""
    shown = Table(
        "month",
        "action",
        asset or "model",
        Column("RMSE", justify="right"),
        "next best",
        "why",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for item in deployments:
        rmse = item.figures.get(item.model)
        judged_on = Address.parse(item.judged_on)
        cells = (
            item.partition,
            item.action,
            item.model.removeprefix(asset),
            "" if rmse is None else f"{rmse:.1f}",
            _next_best(item, asset),
            item.reason.removesuffix(f" on {judged_on.partition}" if judged_on else ""),
        )
        shown.add_row(*cells)
    terminal().print(shown)


def _next_best(item: Deployment, asset: str) -> str:
    """Return the lowest RMSE of the models that were not promoted, and the model that has it."""
    others = {model: rmse for model, rmse in item.figures.items() if model != item.model}
    best = min(others, key=lambda model: others[model], default=None)
    if best is None:
        return ""
    name = "baseline" if best.endswith(" baseline") else best.removeprefix(asset)
    return f"{others[best]:.1f} {name}"
