"""`bikes setup`, `run`, `status`, `sync` and `ui`, and what they print."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

import click

from bikes_assets.app import answers, state
from bikes_assets.app.audit import upkeep
from bikes_assets.app.json_answers import items
from bikes_assets.app.json_answers.items import UP_TO_DATE
from bikes_assets.app.settings import settings
from bikes_assets.app.state import reason_text
from bikes_assets.app.store import is_own
from bikes_assets.cli import options, runner
from bikes_assets.cli.terminal import print_json, print_table, progress_bar, say
from bikes_assets.core import secrets
from bikes_assets.core.address import WHOLE
from bikes_assets.core.record import parse_address, partition_address
from bikes_assets.core.staleness import State, Status
from bikes_assets.core.texts import counted

if TYPE_CHECKING:
    from bikes_assets.app.versions import HistoryEntry
    from bikes_assets.orchestration.reconcile_marks import Reconciliation

STATES: tuple[State, ...] = ("fresh", "pending", "stale", "missing", "failed", "skipped")
_COLOURS = {"stale": "yellow", "missing": "yellow", "failed": "red"}
_MOST_REASONS = 3
_DAGSTER_PORT, _MLFLOW_PORT, _LINEAGE_PORT = 3000, 5000, 5050
_PORT = click.IntRange(1, 65_535)


@click.command()
def setup() -> None:
    """Prepare DAGSTER_HOME and write .env."""
    say(f"DAGSTER_HOME={runner.setup()}")


@click.command()
@click.option(
    "--month", "--partition", "months", multiple=True, help="Only this partition, such as 2012-08; may be repeated."
)
@click.option("--force", is_flag=True, help="Materialize it again even if nothing has changed.")
def run(months: tuple[str, ...], force: bool) -> bool:
    """Materialize what is stale, missing or failed. Months are materialized in order; bikes status says why each is."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it would log each table that it creates
    runner.ready()
    with progress_bar() as show:
        summary = runner.run_history(months or None, show, force=force)
    print_summary(summary)
    return not (summary.failed or summary.waiting)


@click.command()
@options.addresses
@options.as_json
def status(addresses: tuple[str, ...], as_json: bool) -> bool:
    """List what is fresh, stale, missing or failed, and why. Exit code 1 when not everything is fresh.

    ADDRESS, such as demand_features or demand_features[2012-08], restricts it to an asset or a partition. For a
    partition, it also lists when each version was materialized, why, and what changed in it.
    """
    if as_json:
        found = items.status(addresses)
        print_json(found)
        return all(item["state"] in UP_TO_DATE for item in found)
    statuses = state.statuses(addresses)
    versions = [answers.history(item.address) for item in statuses if item.address in addresses]
    print_status(statuses)
    for of_partition in versions:
        print_versions(of_partition)
    return all(item.state in UP_TO_DATE for item in statuses)


@click.command()
def sync() -> bool:
    """Reconcile run states, events and MLflow. It lists what was done; exit code 1 when something is left.

    The audit log gets what is missing there, too.
    """
    result = runner.agree()
    answers.refreshed()
    print_reconciliation(result)
    upkeep.bring_up_to_date()
    return not (result.left or result.refused)


@click.command()
@click.option("--dagster-port", default=_DAGSTER_PORT, show_default=True, type=_PORT)
@click.option("--mlflow-port", default=_MLFLOW_PORT, show_default=True, type=_PORT)
@click.option("--lineage-port", default=_LINEAGE_PORT, show_default=True, type=_PORT)
@click.option("--read-only", is_flag=True, help="Dagster to look at: it changes nothing, and no daemon runs.")
def ui(dagster_port: int, mlflow_port: int, lineage_port: int, *, read_only: bool) -> None:
    """Open Dagster, MLflow and the lineage page on 127.0.0.1. Dagster's daemon runs too; Ctrl-C stops all.

    If MLflow is already a server, no other is started for it.
    """
    from bikes_assets.cli import servers

    mlflow = settings().tracking_uri
    is_served = mlflow.startswith("http")
    ports = [dagster_port, lineage_port, *(() if is_served else (mlflow_port,))]
    if twice := [port for port in ports if ports.count(port) > 1]:
        raise click.UsageError(f"found port {twice[0]} twice, expected another one for each server")
    dagster_url = f"http://127.0.0.1:{dagster_port}"
    mlflow_url = secrets.shown(mlflow).replace("***@", "") if is_served else f"http://127.0.0.1:{mlflow_port}"
    lineage_url = f"http://127.0.0.1:{lineage_port}"
    pages = {"BIKES_DAGSTER_URL": dagster_url, "BIKES_MLFLOW_URL": mlflow_url, "BIKES_LINEAGE_URL": lineage_url}
    for name, url in pages.items():
        os.environ.setdefault(name, url)  # links from one page to the other
    settings.cache_clear()

    with runner.opened():
        pass  # by now lake, event log and MLflow carry the same store id
    if (dagster_port, mlflow_port, lineage_port) != (_DAGSTER_PORT, _MLFLOW_PORT, _LINEAGE_PORT):
        say("Links in earlier materializations lead to the ports of that time: docs/mlflow.md says how to set them.")
    commands = {f"Dagster  {dagster_url}": servers.dagster_command(dagster_port, read_only=read_only)}
    if not is_served:
        commands[f"MLflow   {servers.mlflow_page(mlflow_url)}"] = servers.mlflow_command(mlflow_port)
    commands[f"Lineage  {lineage_url}"] = servers.lineage_command(lineage_port)
    servers.serve_until_interrupted(commands, ports)


def print_summary(summary: runner.Summary) -> None:
    """Print what a run materialized, how good it is, and where to look."""
    if summary.partitions:
        counts = {asset: f"{rows:,}" for asset, rows in summary.rows.items()}
        rows = [(asset, count, counts.get(asset, "")) for asset, count in summary.partitions.items()]
        print_table(["asset"], ["partitions", "rows"], rows)
    elif not summary.failed and not summary.skipped and not summary.waiting:
        say("Everything is fresh: nothing to do.")
    if summary.unchanged:
        say(f"Unchanged content: {counted(summary.unchanged, 'partition')}; nothing downstream is stale by this.")
    if summary.skipped:
        say(f"Skipped, for there was nothing to work on: {', '.join(summary.skipped)}")
    if summary.unlogged:
        say("MLflow did not take all of it; the data and its record are whole. Later: bikes sync", colour="yellow")
        say(*(f"  {what}" for what in summary.left), colour="yellow")
    if summary.unaudited:
        say(f"{summary.unaudited}; later: bikes sync", colour="red")
    say(*summary.restored, colour="yellow")
    say(*_failures(summary.failed), colour="red")
    say(*_waiting(summary), colour="yellow")
    if summary.champion and is_own():
        say(f"Champion of {summary.champion_month}: {summary.champion}", _accuracy())
    say(f"Took {summary.seconds:.0f} s." + (" Look around: make ui" if is_own() else ""))


def _accuracy() -> str:
    """Return how good the published predictions are; the source may hold no hour of the predicted months."""
    from bikes_assets.cli.models import published_scores
    from bikes_assets.core.errors import NothingToDo

    try:
        scores = published_scores()
    except NothingToDo:
        return "Nothing is predicted: the source has no hours in the months after those that a model is fitted on"
    return (
        f"Walk-forward R2 {scores['r2']:.4f}, RMSE {scores['rmse']:.1f} rentals/hour, over {scores['rows']:,.0f} hours"
    )


def print_status(statuses: Sequence[Status]) -> None:
    """Print the number of partitions in each state by asset, and each that is not fresh, with its reasons."""
    states = [known for known in STATES if any(item.state == known for item in statuses)]
    counts = {asset: Counter[str]() for asset in dict.fromkeys(item.asset for item in statuses)}
    for item in statuses:
        counts[item.asset][item.state] += 1
    print_table(["asset"], states, ((asset, *(of[known] or "" for known in states)) for asset, of in counts.items()))
    told = ((item, _reasons(item)) for item in statuses)
    for (asset, name, _), alike in groupby(told, lambda pair: (pair[0].asset, pair[0].state, _alike(*pair))):
        group = [*alike]
        why, texts = group[0][1], {text for _, text in group}
        if name != "fresh" or why:
            address = _range(asset, [item.partition for item, _ in group])
            line = f"{address}  {name}: {why}{_more(len(group)) if len(texts) > 1 else ''}"
            say(line, colour=_COLOURS.get(name))
    if states == ["fresh"]:
        say("Everything is fresh.")
    elif states == ["missing"]:
        say("None of this is materialized yet: run bikes run.")


def print_versions(versions: Sequence[HistoryEntry]) -> None:
    """Print every version of a partition: when it was materialized, why, and what changed in it."""
    for item in versions:
        is_first = item.reasons[0].kind == "missing"
        why = "; ".join((*map(reason_text, item.reasons), _new(item.changed)))
        time = f"{datetime.fromtimestamp(item.time).astimezone():%Y-%m-%d %H:%M:%S}"
        say(f"{item.address}  {time}, run {item.run[:8]}: {'materialized for the first time' if is_first else why}")


def _new(changed: Sequence[str]) -> str:
    if not changed:
        return "unchanged"
    return "its content changed" if list(changed) == [WHOLE] else f"new in {', '.join(changed)}"


def _waiting(summary: runner.Summary) -> Iterator[str]:
    """Yield a line for each group of similar partitions of an asset that are not up to date, and what they wait for."""
    fixed, first = "bikes run materializes it once that is fixed", "bikes run, without --month, materializes that first"
    for (asset, name, why), alike in groupby(summary.waiting, lambda item: (item.asset, item.state, _reasons(item))):
        yield f"{_range(asset, [item.partition for item in alike])} is {name}: {why}; {fixed if summary.failed else first}"


def _failures(failed: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each kind of failure of an asset, with its partitions and the first message."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for address, message in failed.items():
        kinds.setdefault((parse_address(address)[0], _without_numbers(message)), []).append(address)
    for (asset, _), addresses in kinds.items():
        message, count = failed[addresses[0]], len(addresses)
        address = _range(asset, sorted(str(parse_address(address)[1]) for address in addresses))
        yield f"{addresses[0] if count == 1 else address} failed: {message}{_more(count) if count > 1 else ''}"


def _range(asset: str, partitions: Sequence[str | None]) -> str:
    """Return the address of one partition, or of several in a row."""
    first, last = partitions[0], partitions[-1]
    return partition_address(asset, first if len(partitions) == 1 else f"{first}..{last}")


def _more(count: int) -> str:
    return f" ({count} partitions failed alike: this is what the first says)"


def _alike(item: Status, why: str) -> str:
    """Return the key by which statuses are grouped into one line."""
    return _without_numbers(why) if item.state == "failed" else why


def _without_numbers(message: str) -> str:
    """Return the part that similar messages share: all but months, versions, digests and counts."""
    return re.sub(r"\b[0-9a-f]{8,}\b|[0-9]+", "0", message)


def _reasons(item: Status) -> str:
    if item.state == "pending":
        return f"waits for {', '.join(sorted({parse_address(reason.what)[0] for reason in item.reasons}))}"
    texts = [reason_text(reason) for reason in item.reasons]
    more = len(texts) - _MOST_REASONS
    return "; ".join(texts[:_MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def print_reconciliation(result: Reconciliation) -> None:
    """Print what reconciliation has done, and what is left."""
    say(*result.done)
    say(*result.left, *result.refused, colour="red")
    say(*result.set_aside, *result.foreign, colour="yellow")
    if not any((result.done, result.left, result.refused, result.foreign)):
        say("Everything agrees.")
