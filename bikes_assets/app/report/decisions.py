"""Who decided that the model serves, when and why; and what keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bikes_assets.app.report.identity import moment
from bikes_assets.app.store import current, lake
from bikes_assets.governance.deployments import deployments
from bikes_assets.governance.holds import holds
from bikes_assets.governance.report.structure import ADDRESS, ReportSection, ReportTable, TableField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.app.report.subject import FittedModel
    from bikes_assets.governance.deployments import Deployment
    from bikes_assets.governance.report.structure import Value

NOT_PROMOTED = "not promoted"
"""Of a partition for which the model was compared with others, and another one was promoted."""


def decisions(model: FittedModel, decided: Sequence[Deployment]) -> ReportSection:
    """Return the decisions about the model: promotions, pins and lifts, holds, and the aliases that lead to it."""
    rows = [_row(item, model) for item in decided]
    fields = (
        TableField("partition", "for"),
        TableField("action", "decision"),
        TableField("validated_on", "by its errors on", below="action"),
        TableField("why", "why"),
        TableField("who", "who"),
        TableField("time", "on", below="who"),
        TableField("rmse", "its RMSE", "number"),
        TableField("best_other", "best other", "number", below="rmse"),
        TableField(ADDRESS, "from", "address"),
    )
    kept = [
        {ADDRESS: item.version, "why": item.reason, "who": item.user, "time": moment(item.time), "id": item.id}
        for item in holds(current().lake.location)
        if item.version == model.address
    ]
    held = (
        TableField(ADDRESS, "version", "address"),
        TableField("why", "why"),
        TableField("who", "who"),
        TableField("time", "when"),
        TableField("id", "hold", "code"),
    )
    nobody = (
        "no asset of this project says which model serves" if not current().lake.serving else "nobody decided about it"
    )
    aliases = [{ADDRESS: name} for name in model.aliases]
    tables = [
        ReportTable("promotions", "Promotions and pins", fields, rows, empty=nobody),
        ReportTable(
            "aliases", "Aliases that lead to it now", (TableField(ADDRESS, "alias", "address"),), aliases, empty="none"
        ),
        ReportTable("holds", "Holds", held, kept, empty="none: retention may remove it once nothing needs it"),
    ]
    return ReportSection("decisions", "Decisions", tables)


def about(model: FittedModel) -> list[Deployment]:
    """Return the decisions about a model, oldest first: where it was chosen or pinned, compared, or its pin lifted."""
    found: list[Deployment] = []
    pinned: set[str] = set()
    for item in deployments(lake(), current().pins):
        if item.action in ("pin", "lift"):
            is_about = item.model == model.address or (item.action == "lift" and item.partition in pinned)
            pinned = pinned | {item.partition} if item.model == model.address else pinned - {item.partition}
        else:
            is_about = item.model == model.address or model.address in item.rmse
        found += [item] if is_about else []
    return found


def served(decided: Sequence[Deployment], address: str) -> list[str]:
    """Return the partitions that a model serves by the latest decision about each, in order."""
    latest = {item.partition: item.model for item in decided if item.action not in ("pin", "lift")}
    return sorted(partition for partition, model in latest.items() if model == address)


def _row(item: Deployment, model: FittedModel) -> Mapping[str, Value]:
    others = [rmse for name, rmse in item.rmse.items() if name != model.address]
    is_other = item.action not in ("pin", "lift") and item.model != model.address
    return {
        "partition": item.partition,
        "action": f"{NOT_PROMOTED}, but {item.model}" if is_other else item.action,
        "why": item.reason,
        "who": ", ".join(filter(None, (item.who, item.deployment))),
        "time": moment(item.time.timestamp()),
        "rmse": item.rmse.get(model.address),
        "best_other": min(others, default=None),
        "validated_on": item.validated_on,
        ADDRESS: item.version,
    }
