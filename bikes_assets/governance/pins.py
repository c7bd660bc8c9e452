"""Recorded decisions that override the rule for which model serves a partition; each has a reason and an author."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from bikes_assets.core.digest import table_digest
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record, Version, partition_address
from bikes_assets.core.secrets import scrubbed
from bikes_assets.events import metadata
from bikes_assets.events.reported import latest_version
from bikes_assets.storage.code.environment import environment, user
from bikes_assets.storage.lake import MODEL_ROWS
from bikes_assets.storage.processes import Process

if TYPE_CHECKING:
    import dagster as dg
    import pyarrow as pa

    from bikes_assets.storage.lake import Lake


def pin(
    lake: Lake,
    instance: dg.DagsterInstance,
    *,
    pins: str,
    partition: str,
    model: str,
    fitted_for: str,
    reason: str,
    version: str | None = None,
) -> Version:
    """Promote a stored model for a partition, and return the version of the decision.

    Args:
        lake: where models and decisions lie.
        instance: Dagster's instance, to which it is reported.
        pins: asset that holds decisions.
        partition: partition that the model is to serve.
        model: asset of the model.
        fitted_for: partition of that asset; not later than `partition`, as a model has been fitted on all rows before
            its own.
        reason: why; secrets in it are removed.
        version: table version that its current model must have, None for any.

    Raises:
        LineageError: there is no such model, it has another version, or it is later than the partition that it is to
            serve.
    """
    parts = lake.table(model, MODEL_ROWS).read([fitted_for])
    if fitted_for not in parts:
        raise LineageError(f"{model}[{fitted_for}]: there is no such model; materialize it, or name another month")
    if fitted_for > partition:
        raise LineageError(
            f"{model}[{fitted_for}] has seen months that {partition} may not know; pin one not later than it"
        )
    found, rows = parts[fitted_for]
    if version not in (None, str(found.version)):
        raise LineageError(
            f"found version {version} of {model}[{fitted_for}], expected its current one, the only one that can be pinned: "
            f"{found.address}"
        )
    (row,) = rows.to_pylist()
    reason = scrubbed(reason)
    card = json.loads(row["card"]) | {"decision": f"{reason} ({user()})"}
    decided = row | {"origin": found.address, "card": json.dumps(card, sort_keys=True)}
    return _publish(lake, instance, pins, partition, [decided], (found,), {"pinned": found.address, "reason": reason})


def unpin(lake: Lake, instance: dg.DagsterInstance, *, pins: str, partition: str, reason: str) -> Version:
    """Lift the pin of a partition, so that the rule decides again, and return the version of that decision.

    Raises:
        LineageError: the partition has no pin.
    """
    parts = lake.table(pins, MODEL_ROWS).read([partition])
    if not parts or not len(parts[partition][1]):
        raise LineageError(f"{partition_address(pins, partition)}: nothing is pinned there")
    return _publish(
        lake, instance, pins, partition, [], (parts[partition][0],), {"lifted": True, "reason": scrubbed(reason)}
    )


def _publish(
    lake: Lake,
    instance: dg.DagsterInstance,
    asset: str,
    partition: str,
    models: list[dict[str, str]],
    inputs: tuple[Version, ...],
    decision: dict[str, str | bool],
) -> Version:
    """Commit a decision to the lake and report it to Dagster as a materialization."""
    import pyarrow as pa

    table = lake.table(asset, MODEL_ROWS)
    rows: pa.Table = MODEL_ROWS.conform(pa.Table.from_pylist(models, schema=MODEL_ROWS.arrow()))
    made = Version(asset, partition, -1, table_digest(rows, MODEL_ROWS).table)
    author = {"user": user(), **lake.made_by}
    made_by = {
        **author,
        "process": str(Process.this()),
    }  # no run tells whether it is still about to report the decision
    record = Record(made, {}, inputs, "", {**decision}, environment(lake.root), made_by, time=time.time())
    table.begin_beyond(latest_version(instance, asset))
    made = replace(made, version=table.write(partition, rows, record.to_dict(), since=table.version()))
    values = record.at(int(made.version)).to_dict()
    metadata.report_decision(instance, made, {**decision, **author}, values)
    return made
