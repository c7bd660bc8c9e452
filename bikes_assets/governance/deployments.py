"""The history of which model serves: promotions, pins and lifts, read from the lake's commits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bikes_assets.core.record import Record
from bikes_assets.storage.lake import MODEL_ROWS

if TYPE_CHECKING:
    from bikes_assets.storage.commits import Commit
    from bikes_assets.storage.lake import Lake


@dataclass(frozen=True, slots=True)
class Deployment:
    """One decision about which model serves a partition.

    Attributes:
        time: when it was published.
        partition: partition that the model serves.
        action: `promoted` (another model than before), `kept`, `pinned` (by a decision), `pin` or `lift` (the decision
            itself).
        model: address of the model, empty for a lift.
        version: address of the decision.
        reason: why.
        validated_on: rows on which the candidates were evaluated, empty for a pin or lift.
        validated_digest: content digest of those rows.
        rmse: root mean squared error of each candidate on those rows, by address.
        metrics: the model's scores on those rows.
        who: user who decided.
        deployment: name of the deployment in which it was decided, such as production.
        git_commit: commit of the code.
        dagster_run_id: Dagster run that materialized it, empty for a pin or lift.
    """

    time: datetime
    partition: str
    action: str
    model: str
    version: str
    reason: str
    validated_on: str = ""
    validated_digest: str = ""
    rmse: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    who: str = ""
    deployment: str = ""
    git_commit: str = ""
    dagster_run_id: str = ""

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self) | {"time": self.time.isoformat()})


def deployments(lake: Lake, pins: str = "") -> list[Deployment]:
    """Return every decision about which model serves, oldest first; none where no asset says so.

    Args:
        lake: lake with the decisions; its `serving` asset holds them.
        pins: asset that holds pins, "" for none.
    """
    tables = [lake.table(asset, MODEL_ROWS) for asset in (lake.serving, pins) if asset]
    commits = [(commit, table.name) for table in tables for commit in table.commits()]
    made = [Record.from_dict(commit.record).at(commit.version) for commit, asset in commits if asset == pins]
    pinned = {record.output.address for record in made if record.config.get("pinned")}
    serving: dict[str, str] = {}
    found: list[Deployment] = []
    for commit, asset in sorted(commits, key=lambda item: (item[0].time, item[0].version)):
        record = Record.from_dict(commit.record).at(commit.version)
        common = _common(commit, record)
        if asset == pins:
            model = str(record.config.get("pinned", ""))
            action, reason = "pin" if model else "lift", str(record.config["reason"])
            found.append(Deployment(**common, action=action, model=model, reason=reason))
            continue
        model, reason = record.models[0]["origin"], record.params.get("reason", "")
        partition = str(commit.partition)
        earlier = [key for key in serving if key <= partition]
        before = serving[max(earlier)] if earlier else ""
        is_pinned = any(item.address in pinned for item in record.inputs)
        action = "pinned" if is_pinned else "kept" if model == before else "promoted"
        serving[partition] = model
        judged = next((use for use in record.datasets if use.context == "validation"), None)
        found.append(
            Deployment(
                **common,
                action=action,
                model=model,
                reason=reason,
                validated_on=judged.name if judged else "",
                validated_digest=judged.digest if judged else "",
                rmse=_metrics_of(record.params.get("candidates", "")),
                metrics=record.metrics,
            )
        )
    return found


def _metrics_of(candidates: str) -> dict[str, float]:
    """Return RMSE by address of a text such as `demand_model[2012-02]@12: 47.64, ...`."""
    pairs = (item.rpartition(": ") for item in candidates.split(", ") if item)
    return {address: float(value) for address, _, value in pairs}


def _common(commit: Commit, record: Record) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(commit.time, UTC),
        "partition": str(commit.partition),
        "version": record.output.address,
        "who": record.made_by.get("user", ""),
        "deployment": record.made_by.get("deployment", ""),
        "git_commit": record.environment["git_commit"],
        "dagster_run_id": record.made_by.get("dagster_run_id", ""),
    }
