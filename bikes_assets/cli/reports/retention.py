"""What the commands of retention print: counts first, then sizes, then reasons."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bikes_assets.cli.reports.terminal import say, say_json, terminal
from bikes_assets.core.texts import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bikes_assets.app.retention import Retention
    from bikes_assets.governance.holds import Hold
    from bikes_assets.governance.retention import Plan, Verdict

_REASONS = {
    "present": "are the present ones of their partitions",
    "held": "are held",
    "alias": "are what an alias of a registered model leads to",
    "young": "are younger than {days}",
    "replaced today": "were replaced less than a day ago",
    "needed": "are what these were made from",
}


def print_retention(found: Retention, *, applied: bool, as_json: bool) -> None:
    """Print what may be removed or was, and why the rest stays; as JSON, one object for each version, file and hold."""
    plan = found.plan
    if as_json:
        _print_json(found, applied=applied)
        return
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
        say(f"Runs in MLflow that were deleted: {found.in_mlflow or 0:,}")
    elif plan.in_mlflow:
        say(f"Runs in MLflow that may go with them: {len(plan.in_mlflow):,}")
    if plan.verdicts:
        _print_assets(plan, went)
    reasons = Counter(item.stays.why for item in stay if item.stays)
    for why, told in _REASONS.items():
        if reasons[why]:
            say(f"{reasons[why]:>7,} {told.format(days=counted(int(plan.days), 'day'))}")
    for item in plan.verdicts:
        if item.state == "lost" or (item.state != "removed" and not (item.stays and item.stays.why == "present")):
            say(f"{item.address:<40}  {_bytes(item.size):>10}  {_told(item, went)}")
    say(f"Holds: {len(found.holds)}")
    for hold in found.holds:
        say(f"  {_held(hold)}")
    if not applied and (plan.going or plan.models or plan.in_mlflow):
        say("Nothing was changed; bikes retain --apply removes what may go.")


def print_holds(holds: Sequence[Hold], what: str) -> None:
    """Print holds that were put or lifted."""
    for hold in holds:
        say(f"{what}: {_held(hold)}")


def _print_json(found: Retention, *, applied: bool) -> None:
    plan, went = found.plan, "went" if applied else "goes"
    for item in plan.verdicts:
        told = {"why": item.stays.why, "live": item.stays.live, "steps": item.stays.steps} if item.stays else {}
        removed = {"removed": item.removal.time} if item.removal else {}
        values = {
            "address": item.address,
            "state": went if item.state == "goes" else item.state,
            "bytes": item.size,
            "time": item.time,
            **told,
            **removed,
        }
        say_json(json.dumps({"kind": "version", **values}))
    for sha256, size in plan.models.items():
        values = {"sha256": sha256, "state": went, "bytes": size, "fitted": plan.fitted[sha256]}
        say_json(json.dumps({"kind": "model file", **values}))
    for hold in found.holds:
        values = {"address": hold.address, "version": hold.version, "reason": hold.reason}
        say_json(json.dumps({"kind": "hold", **values, "user": hold.user, "time": hold.time}))


def _print_assets(plan: Plan, went: str) -> None:
    from rich.table import Column, Table

    numbers = (Column(name, justify="right") for name in ("stay", "bytes", went, "bytes "))
    table = Table("asset", *numbers)
    for asset in dict.fromkeys(item.asset for item in plan.verdicts):
        of = {
            state: [item for item in plan.verdicts if (item.asset, item.state) == (asset, state)] for state in _STATES
        }
        cells = [
            text for items in of.values() for text in (f"{len(items):,}", _bytes(sum(item.size for item in items)))
        ]
        table.add_row(asset, *cells)
    terminal().print(table)


_STATES = ("stays", "goes")


def _told(item: Verdict, went: str) -> str:
    if item.state == "lost":
        return "lost: it was to stay, and another program has removed its rows, such as by VACUUM"
    if item.stays is None:
        return f"{went}: published {_day(item.time)}, and nothing live needs it"
    if item.stays.why == "needed":
        return f"stays: {item.stays.live} was made from it" + (
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
