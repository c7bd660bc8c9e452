"""`bikes retain`, `hold` and `release`, and what they print: counts first, then sizes, then reasons."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from bikes_assets.app import retention
from bikes_assets.cli import options, runner
from bikes_assets.cli.terminal import complain, print_json, print_table, say
from bikes_assets.core.texts import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bikes_assets.app.retention import Retention
    from bikes_assets.governance.holds import Hold
    from bikes_assets.governance.retention import RetentionDecision, RetentionPlan

_REASONS = {
    "current": "are the current ones of their partitions",
    "held": "are held",
    "alias": "are what an alias of a registered model leads to",
    "young": "are younger than {days}",
    "replaced today": "were replaced less than a day ago",
    "needed": "are what these were materialized from",
}
_STATES = ("stays", "goes")


@click.command()
@click.option(
    "--days", default=90, show_default=True, type=click.IntRange(1), help="For how many days a version stays."
)
@click.option("--apply", "applied", is_flag=True, help="Remove what may go; without it nothing is changed.")
@options.as_json
def retain(days: int, applied: bool, as_json: bool) -> bool:
    """Show which versions nothing live needs. It also says why the others stay; --apply removes rows and model files.

    Live versions are the current version of each partition, those with a hold or an alias, and recent ones; everything
    that they were materialized from stays too. Records, events and the index are never removed. Exit code 1 when MLflow was
    unreachable.
    """
    result = retention.apply(days) if applied else retention.look(days)
    if applied:
        runner.audited()
    if as_json:
        print_json(_items(result, "went" if applied else "goes"))
    else:
        print_retention(result, applied=applied)
    if result.left:
        complain(f"left for the next bikes retain --apply: {result.left}")
    return not result.left


@click.command()
@options.address()
@options.reason
def hold(address: str, reason: str) -> None:
    """Keep a version and all that it was materialized from. The version that ADDRESS currently names is kept until released.

    ADDRESS is demand_features[2012-08]@20, demand_features[2012-08], demand_model@3 or demand_model@champion.
    """
    made = retention.hold(address, reason)
    runner.audited()
    say(f"held: {_held(made)}")


@click.command()
@options.address()
@options.reason
def release(address: str, reason: str) -> None:
    """Lift holds. Those that were put under ADDRESS, or on the version that it names, are lifted."""
    lifted = retention.release(address, reason)
    runner.audited()
    say(*(f"released: {_held(hold)}" for hold in lifted))


def print_retention(result: Retention, *, applied: bool) -> None:
    """Print what may be removed or was, and why the rest stays."""
    plan = result.plan
    went = "were removed" if applied else "may go"
    stay = [item for item in plan.verdicts if item.state == "stays"]
    before, lost = (sum(item.state == state for item in plan.verdicts) for state in ("removed", "lost"))
    say(
        f"{len(plan.verdicts):,} versions: {len(plan.going):,} {went}, {len(stay):,} stay, {before:,} were removed before"
        + (f", {lost:,} are lost" if lost else "")
    )
    say(f"{_bytes(plan.size)} {went}, of it {_bytes(sum(plan.models.values()))} in {len(plan.models):,} model files")
    say(
        f"{_bytes(sum(item.size for item in stay) + plan.models_staying[1])} stay, of it {_bytes(plan.models_staying[1])} in "
        f"{plan.models_staying[0]:,} model files"
    )
    if applied:
        say(f"Runs in MLflow that were deleted: {result.in_mlflow or 0:,}")
    elif plan.in_mlflow:
        say(f"Runs in MLflow that may go with them: {len(plan.in_mlflow):,}")
    if plan.verdicts:
        _print_assets(plan, went)
    reasons = Counter(item.stays.why for item in stay if item.stays)
    for why, told in _REASONS.items():
        if reasons[why]:
            say(f"{reasons[why]:>7,} {told.format(days=counted(int(plan.days), 'day'))}")
    for item in plan.verdicts:
        if item.state == "lost" or (item.state != "removed" and not (item.stays and item.stays.why == "current")):
            say(f"{item.address:<40}  {_bytes(item.size):>10}  {_told(item, went)}")
    say(f"Holds: {len(result.holds)}")
    say(*(f"  {_held(hold)}" for hold in result.holds))
    if not applied and (plan.going or plan.models or plan.in_mlflow):
        say("Nothing was changed; bikes retain --apply removes what may go.")


def _items(result: Retention, went: str) -> Iterator[dict[str, Any]]:
    """Yield each version, model file and hold for JSON."""
    plan = result.plan
    for item in plan.verdicts:
        stays = {"why": item.stays.why, "live": item.stays.live, "steps": item.stays.steps} if item.stays else {}
        removed = {"removed": item.removal.time} if item.removal else {}
        yield {
            "kind": "version",
            "address": item.address,
            "state": went if item.state == "goes" else item.state,
            "bytes": item.size,
            "time": item.time,
            **stays,
            **removed,
        }
    for sha256, size in plan.models.items():
        yield {"kind": "model file", "sha256": sha256, "state": went, "bytes": size, "fitted": plan.fitted[sha256]}
    for hold in result.holds:
        values = {"address": hold.address, "version": hold.version, "reason": hold.reason}
        yield {"kind": "hold", **values, "user": hold.user, "time": hold.time}


def _print_assets(plan: RetentionPlan, went: str) -> None:
    rows: list[list[str]] = []
    for asset in dict.fromkeys(item.asset for item in plan.verdicts):
        rows.append([asset])
        for state in _STATES:
            sizes = [item.size for item in plan.verdicts if (item.asset, item.state) == (asset, state)]
            rows[-1] += [f"{len(sizes):,}", _bytes(sum(sizes))]
    print_table(["asset"], ["stay", "bytes", went, "bytes "], rows)


def _told(item: RetentionDecision, went: str) -> str:
    if item.state == "lost":
        return "lost: it was to stay, and another program has removed its rows, such as by VACUUM"
    if item.stays is None:
        return f"{went}: published {_day(item.time)}, and nothing live needs it"
    if item.stays.why == "needed":
        return f"stays: {item.stays.live} was materialized from it" + (
            f", {item.stays.steps} steps on" if item.stays.steps > 1 else ""
        )
    return f"stays: {item.stays.why}"


def _held(hold: Hold) -> str:
    version = "" if hold.version == hold.address else f" ({hold.version})"
    return f"{hold.address}{version}: {hold.reason}; {hold.user}, {_day(hold.time)}"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _bytes(size: int) -> str:
    return f"{size:,} B" if size < 10_000 else f"{size / 1e3:,.0f} kB" if size < 10_000_000 else f"{size / 1e6:,.1f} MB"
