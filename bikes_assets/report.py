"""What commands print: progress, summary and accuracy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from bikes_assets.lineage.errors import NothingToDo
from bikes_assets.lineage.graph import parse_address, partition_address
from bikes_assets.lineage.projection import WHOLE
from bikes_assets.lineage.staleness import Reason, State, Status

if TYPE_CHECKING:
    import pandas as pd

    from bikes_assets.adapters.deployments import Deployment
    from bikes_assets.adapters.sync import Agreement
    from bikes_assets.runs import Summary
    from bikes_assets.tune import Trial
    from bikes_assets.versions import Making

STATES: tuple[State, ...] = ("fresh", "pending", "stale", "missing", "failed", "skipped")
_COLOURS = {"stale": "yellow", "missing": "yellow", "failed": "red"}
_MOST_REASONS = 3


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar; the function that it gives takes what is being made, how much is done, and of how much."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)


def print_summary(summary: Summary) -> None:
    """Print what a run of the history made, how good it is, and where to look."""
    console = Console(soft_wrap=True, highlight=False)
    table = Table("asset", Column("partitions", justify="right"), Column("rows", justify="right"))
    for asset, count in summary.partitions.items():
        table.add_row(asset, str(count), f"{summary.rows[asset]:,}")
    if summary.partitions:
        console.print(table)
    elif not summary.failed and not summary.skipped:
        console.print("Everything is fresh: nothing to do.")
    if summary.unchanged:
        console.print(f"{summary.unchanged} of them came out as they were; what is downstream of these stays as it is.")
    if summary.skipped:
        console.print(f"Skipped, for there was nothing to work on: {', '.join(summary.skipped)}", markup=False)
    if summary.unlogged:
        console.print("[yellow]MLflow did not take all of it; the data and its record are whole. Later: bikes sync[/]")
    for address, message in summary.failed.items():
        console.print(f"{address} failed: {message}", style="red", markup=False)
    if summary.champion:
        scores = published_scores()
        console.print(f"Champion of the newest month: {summary.champion}", markup=False)
        console.print(
            f"Walk-forward R2 {scores['r2']:.4f}, RMSE {scores['rmse']:.1f} rentals/hour, over {scores['rows']:,.0f} hours"
        )
    console.print(f"Took {summary.seconds:.0f} s. Look around: make ui")


def print_status(found: Sequence[Status]) -> None:
    """Print how many partitions of each asset are in which state, and each that is not fresh with its reasons."""
    console = Console(soft_wrap=True, highlight=False)
    states = [state for state in STATES if any(item.state == state for item in found)]
    table = Table("asset", *(Column(state, justify="right") for state in states))
    for asset in dict.fromkeys(item.asset for item in found):
        of_asset = [item.state for item in found if item.asset == asset]
        table.add_row(asset, *(str(of_asset.count(state) or "") for state in states))
    console.print(table)
    for (asset, state, why), alike in groupby(found, lambda item: (item.asset, item.state, _reasons(item))):
        keys = [item.partition for item in alike]
        address = partition_address(asset, keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}")
        if state != "fresh" or why:
            console.print(f"{address}  {state}: {why}", markup=False, style=_COLOURS.get(state, ""))
    if states == ["fresh"]:
        console.print("Everything is fresh.")


def print_makings(found: Sequence[Making]) -> None:
    """Print every version of a partition: when it was made, why, and what of it was new."""
    console = Console(soft_wrap=True, highlight=False)
    for item in found:
        new = "" if item.reasons[0].kind == "missing" else f"; {_new(item.changed)}"
        why = "; ".join(_text(reason) for reason in item.reasons)
        console.print(f"{item.address}  {_moment(item.time)}, run {item.run[:8]}: {why}{new}", markup=False)


def _new(changed: Sequence[str]) -> str:
    if not changed:
        return "it came out as it was"
    return "it came out otherwise" if list(changed) == [WHOLE] else f"new in {', '.join(changed)}"


def _moment(time: float) -> str:
    return f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S}"


def status_line(item: Status, makings: Sequence[Making] | None = None) -> str:
    """Return a status as one JSON object, with its versions where they are given."""
    told: dict[str, Any] = {"address": item.address, "state": item.state, "reasons": _told(item.reasons)}
    if makings is not None:
        told["versions"] = [asdict(making) | {"reasons": _told(making.reasons)} for making in makings]
    return json.dumps(told)


def _told(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    return [asdict(reason) | {"text": _text(reason)} for reason in reasons]


def _reasons(item: Status) -> str:
    if item.state == "pending":
        return f"waits for {', '.join(sorted({parse_address(reason.what)[0] for reason in item.reasons}))}"
    texts = [_text(reason) for reason in item.reasons]
    more = len(texts) - _MOST_REASONS
    return "; ".join(texts[:_MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _text(reason: Reason) -> str:
    """Return a reason in words; a changed code version with the functions that make the difference."""
    from bikes_assets.present import changed_functions

    if reason.kind != "code":
        return str(reason)
    changes = [
        f"{name.removeprefix('bikes_assets.')} {change}"
        for name, change in changed_functions(reason.was, reason.now, reason.what).items()
    ]
    return f"{reason} ({', '.join(changes) or 'its functions were not kept'})"


def print_agreement(agreement: Agreement) -> None:
    """Print what was done to bring everything into agreement, and what is left."""
    console = Console(soft_wrap=True, highlight=False)
    for line in agreement.done:
        console.print(line, markup=False)
    for line in agreement.left:
        console.print(line, style="red", markup=False)
    if not agreement.done and not agreement.left:
        console.print("Everything agrees.")


def print_deployments(deployments: Sequence[Deployment]) -> None:
    """Print which model was put in charge of which month, when, why, by whom and by which figures."""
    shown = Table(*("when", "month", "what", "model", "why", "RMSE on", "by", "in"))
    for item in deployments:
        figures = "\n".join(f"{value:.2f} {name}" for name, value in item.figures.items())
        judged = f"{item.judged_on}\n{figures}" if item.judged_on else ""
        when = f"{item.time:%Y-%m-%d %H:%M:%S}"
        place = f"{item.deployment} {item.git_commit[:8]}".strip()
        shown.add_row(when, item.partition, item.action, item.model, item.reason, judged, item.who, place)
    Console().print(shown)


def print_evaluation(since: str) -> None:
    """Print the accuracy of the published predictions and of one fit, on the rows from `since` on."""
    from bikes_assets.demand import champion, features
    from bikes_assets.demand.model import Recipe

    fixed = champion.fixed_cut(lake_table("demand_features"), since, features.FEATURE_NAMES, Recipe())
    shown = Table(title=f"Accuracy on the rows from {since} on")
    for name in ("", "rows", "R2", "RMSE", "MAE", "bias"):
        shown.add_column(name, justify="left" if not name else "right")
    for name, scores in {
        "walk-forward: each month by its champion": published_scores(since),
        "one fit on the rows before": fixed,
    }.items():
        cells = (f"{scores[key]:.{digits}f}" for key, digits in (("r2", 4), ("rmse", 2), ("mae", 2), ("bias", 2)))
        shown.add_row(name, f"{scores['rows']:,.0f}", *cells)
    Console().print(shown)


def print_quality(since: str, by: str) -> None:
    """Print the errors of the published predictions on the rows from `since` on, by group, beside their baseline's."""
    from bikes_assets.demand.evaluation import scores_by

    columns = {"rows": 0, "r2": 3, "rmse": 1, "baseline_rmse": 1, "skill": 3, "bias": 1}
    names = ("rows", "R2", "RMSE", "baseline", "skill", "bias")
    shown = Table(by, *(Column(name, justify="right") for name in names))
    for group, scores in scores_by(_judged(since), by).items():
        shown.add_row(group, *(f"{scores[key]:,.{digits}f}" for key, digits in columns.items()))
    Console().print(shown)


def print_trials(trials: Sequence[Trial], before: str, of: int) -> None:
    """Print recipes that were judged, in the order given, each against the present default: the first 15, and the default.

    R2 is the mean of that of walk-forward and of fixed cuts, `by month` is that of walk-forward, `better in` counts the
    months whose error is lower, and RMSE, in rentals/hour, is of walk-forward.
    """
    from bikes_assets.demand import tuning

    console = Console(soft_wrap=True, highlight=False)
    usual = next((trial.judgement for trial in trials if trial.name == "default"), None)
    shown = Table(
        Column("recipe", no_wrap=True), title=f"{len(trials)} of {of} recipes, judged on months before {before}"
    )
    for name in ("R2", "gain", "better in", "by month", "RMSE"):
        shown.add_column(name, justify="right")
    judged = [(trial, trial.judgement) for trial in trials if trial.judgement]
    judged = [item for rank, item in enumerate(judged) if rank < 15 or item[1] is usual]
    for trial, found in judged:
        gain = better = ""
        if usual and found is not usual:
            gain, better = f"{found.r2 - usual.r2:+.4f}", f"{tuning.better_months(found, usual)} of {len(found.months)}"
        shown.add_row(
            "[bold]present default[/]" if found is usual else trial.name,
            f"{found.r2:.4f}",
            gain,
            better,
            f"{found.walk_forward['r2']:.4f}",
            f"{found.walk_forward['rmse']:.2f}",
        )
    console.print(shown)
    for trial in trials:
        if trial.error:
            console.print(f"{trial.name} cannot be fitted: {trial.error}", style="yellow", markup=False)
    best = judged[0][0] if judged else None
    if best and best.name.startswith("trial"):
        console.print(f"The best, against the present default: {tuning.described(best.recipe)}", markup=False)


def columns_page() -> str:
    """Return every table's columns as Markdown: what docs/columns.md holds."""
    from bikes_assets.demand import features, tables

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
        lines += [
            "",
            f"## {schema.name}",
            "",
            "| column | type | unit | lawful | made from | meaning |",
            "|" + "---|" * 6,
        ]
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
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def published_scores(since: str | None = None) -> dict[str, float]:
    """Return the scores of all published predictions, or of those from an hour on."""
    from bikes_assets.demand.evaluation import scores

    judged = _judged(since)
    return scores(judged["actual"], judged["prediction"])


def _judged(since: str | None) -> pd.DataFrame:
    errors = lake_table("prediction_quality")
    judged = errors if since is None else errors[errors["ts"] >= since]
    if judged.empty:
        raise NothingToDo("there are no predictions to judge; run bikes run first")
    return judged


def lake_table(asset: str) -> pd.DataFrame:
    """Return all partitions of a table of the lake, in key order."""
    from bikes_assets.adapters.lake import DeltaReader
    from bikes_assets.store import lake

    table = lake().table(asset)
    version = table.version()
    return DeltaReader(table, version, sorted(map(str, table.published(version)))).read().frame
