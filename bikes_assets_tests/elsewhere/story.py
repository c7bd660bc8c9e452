"""Three months of all assets where the environment says, then what befalls them; told as one JSON object on the last line.

Settings are read once a process, so this is a process of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import dagster as dg

from bikes_assets.app import answers
from bikes_assets.app.reconciliation import pipeline
from bikes_assets.app.store import lake
from bikes_assets.cli import runner
from bikes_assets.core.errors import ConflictError
from bikes_assets.core.record import Record
from bikes_assets.governance.deployments import deployments
from bikes_assets.orchestration.reconcile import sync
from bikes_assets.project import ASSETS, PINS, SERVING
from bikes_assets_tests.contents import content_of

QUALITY, MONTH = "prediction_quality", "2011-03"
ASKED = (QUALITY, f"{QUALITY}[{MONTH}]", "demand_features.demand_trend_7d")


def events(instance: dg.DagsterInstance) -> list[tuple[Record, str]]:
    """Return the record and the data version of every materialization."""
    found = []
    for asset in ASSETS:
        for item in instance.fetch_materializations(dg.AssetKey(asset), limit=100).records:
            event = item.asset_materialization
            assert event
            assert event.tags
            record = Record.from_dict(event.metadata["lineage"].value)  # type: ignore[arg-type]
            found.append((record, event.tags["dagster/data_version"]))
    return found


def inexact(instance: dg.DagsterInstance) -> list[str]:
    """Return what differs between an event, the commit it stands for, and the versions that it says it read."""
    wrong = []
    for record, data_version in events(instance):
        output, table = record.output, lake().table(record.output.asset)
        commit = next(item for item in table.commits() if item.version == output.version)
        if Record.from_dict(commit.record | {"output": asdict(output)}).inputs != record.inputs:
            wrong.append(f"{output.address}: commit and event name other inputs")
        if not data_version == output.digest == commit.digest:
            wrong.append(f"{output.address}: {data_version}, {output.digest}, {commit.digest}")
        for item in record.inputs:
            if item.asset == "rental_records":
                continue
            ((read, _),) = lake().table(item.asset).read([item.partition], int(item.version)).values()
            if read != item:
                wrong.append(f"{output.address}: read {item}, stored is {read}")
    return wrong


def conflict() -> str:
    """Return what a writer is told that began before the present version was published."""
    table = lake().table(QUALITY)
    ((version, rows),) = table.read([MONTH]).values()
    try:
        table.write(MONTH, rows, table.published()[MONTH].record, since=int(version.version) - 1)
    except ConflictError as refusal:
        return str(refusal)
    return "nothing"


def lost_event() -> int:
    """Commit a partition and report nothing, as a process does that is killed between the two."""
    table = lake().table(QUALITY)
    ((_, rows),) = table.read([MONTH]).values()
    return table.write(MONTH, rows, table.published()[MONTH].record, since=table.version())


def models() -> dict[str, int]:
    """Return the size of each model file, which is checked when it is loaded."""
    ((_, rows),) = lake().table(SERVING).read([MONTH]).values()
    return {row["sha256"]: len(lake().load_file(row["sha256"])) for row in rows.to_pylist()}


def main() -> None:
    runner.setup()
    summary = runner.run_history(None, lambda *_: None)
    told: dict[str, Any] = {"failed": summary.failed, "partitions": dict(summary.partitions)}
    published = {asset: lake().table(asset).published() for asset in ASSETS}
    told["digests"] = {
        asset: {month: commit.digest for month, commit in commits.items()} for asset, commits in published.items()
    }
    with dg.DagsterInstance.get() as instance:
        told["storage"] = type(instance.event_log_storage).__name__, instance.info_str()
        told["inexact"], told["events"] = inexact(instance), len(events(instance))
        told["first sync"] = asdict(sync(pipeline(instance)))
        told["conflict"] = conflict()
        told["lost"] = lost_event()
        told["second sync"], told["third sync"] = asdict(sync(pipeline(instance))), asdict(sync(pipeline(instance)))
    told["upstream"] = {address: [item.name for item in answers.upstream(address).things] for address in ASKED}
    content = content_of(answers.refreshed())
    told["rebuilt"] = content_of(answers.rebuild()) == content
    table = lake().table(QUALITY)
    told["pinned"] = [table.read([MONTH], version)[MONTH][0].version for version in (told["lost"] - 1, told["lost"])]
    told["models"] = models()
    told["deployments"] = [(item.action, item.model, item.partition) for item in deployments(lake(), PINS)]
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
