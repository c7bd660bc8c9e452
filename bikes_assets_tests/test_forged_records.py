"""Records that this project has not written: in Dagster's event log they are set aside, in the lake and in MLflow they are named.

An event is forged as Dagster's webserver writes what anybody reports there: of no run, and without a tag.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bikes_assets.app import answers, snapshot, state
from bikes_assets.app.reconciliation import pipeline
from bikes_assets.app.store import lake, mlflow_client, table
from bikes_assets.cli import runner
from bikes_assets.events import reported
from bikes_assets.events.reported import latest_version, of_instance
from bikes_assets.orchestration.reconcile import sync
from bikes_assets.project import ASSETS
from bikes_assets.storage import commits
from bikes_assets.tracking.numbers import Numbers
from bikes_assets_tests.contents import content_of

MODEL = ("demand_model", "2011-05")
OTHERS = "found an event that no run and no command has written"


@pytest.fixture
def store(copied: Path) -> Path:
    """Return the folder of a copy of the history, a store of its own."""
    with runner.opened() as instance:
        sync(pipeline(instance))
    return copied


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def record_with(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda record: record | values


def output_with(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda record: record | {"output": record["output"] | values}


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a text": lambda _: "x",
    "a number": lambda _: 7,
    "a list": lambda _: [1, 2],
    "nothing": lambda _: {},
    "no output": lambda record: {key: value for key, value in record.items() if key != "output"},
    "a key more": record_with(sudo=True),
    "metrics of text": record_with(metrics={"rmse": "1"}),
    "inputs of numbers": record_with(inputs=[1, 2]),
    "another asset": output_with(asset="demand_features"),
    "another partition": output_with(partition="2011-06"),
    "no partition": output_with(partition=None),
    "a version that is not there": output_with(version=999),
    "a negative version": output_with(version=-1),
    "a huge version": output_with(version=10**18),
    "a version that is NaN": output_with(version=float("nan")),
    "a version in words": output_with(version="17"),
    "a foreign digest": output_with(digest="f" * 32),
    "a run of somebody else": record_with(made_by={"dagster_run_id": "0" * 32}),
    "of no run": record_with(made_by={}),
    "deep nesting": record_with(config={"deep": nested(150)}),
    "a huge text": record_with(code_version="x" * 1_000_000),
    "a class of Dagster's": lambda _: {"__class__": "DagsterRun"},
    "a class of nobody's": lambda _: {"__class__": "os.system"},
    "as it was": lambda record: record,
}


def forge(instance: dg.DagsterInstance, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Report every forged event, and return asset and partition of each, in order."""
    asset, partition = MODEL
    said: list[tuple[str, str]] = []

    def report(
        kind: type[dg.AssetMaterialization | dg.AssetObservation], metadata: dict[str, Any], of: str = asset
    ) -> None:
        instance.report_runless_asset_event(kind(of, partition=partition, metadata=metadata))
        said.append((of, partition))

    for change in FORGED.values():
        report(dg.AssetMaterialization, {"lineage": change(record)})
    report(dg.AssetObservation, {"lineage": record})
    report(dg.AssetMaterialization, {"lineage": record}, "rental_records")
    for number, address in (
        (99, "demand_features[2011-01]@1"),
        (10**9, "demand_model[2011-05]@5"),
        (-1, "x"),
        ("7", ""),
    ):
        report(dg.AssetObservation, {"mlflow_model_version": number, "address": address})
    reading = {"uri": "/evil.csv", "kind": "csv", "version": "0" * 64, "bytes": 1, "files": [], "dagster/row_count": 1}
    instance.report_runless_asset_event(
        dg.AssetObservation(
            "rental_records", partition=partition, metadata=reading, tags={"dagster/data_version": "0" * 32}
        )
    )
    said.append(("rental_records", partition))
    return said


def test_forged_events_are_named_once_and_change_nothing(store: Path) -> None:
    # Given
    lock = store / "lock.json"
    snapshot.write(runner.plan(), lock)
    before = content_of(answers.refreshed())
    statuses = state.statuses()
    with runner.opened() as instance:
        latest, number = latest_version(instance, "demand_model"), Numbers(instance).get("demand_model")
        event = next(
            event for event in of_instance(instance) if (event.asset, event.partition) == MODEL and event.record
        )
        assert event.record
        # When
        said = forge(instance, json.loads(json.dumps(event.record.to_dict())))
        # Then what is asked is answered as before, by the index and by a rebuilt one
        assert content_of(answers.refreshed()) == before
        assert content_of(answers.rebuild()) == before
        assert state.statuses() == statuses
        assert latest_version(instance, "demand_model") == latest
        assert Numbers(instance)._latest("demand_model") == number
        # And sync names each once, and does its work
        result = sync(pipeline(instance))
        assert (result.done, result.left, result.refused) == ([], [], [])
        named = [line.partition(": ")[0].split(" of ")[1] for line in result.set_aside]
        assert named == [f"{asset}[{partition}]" for asset, partition in said]
        assert all(OTHERS in line and len(line) < 500 for line in result.set_aside)
    # As does verify, for which the store is what it was
    found = snapshot.verify(runner.plan(), lock)
    assert (found.is_same, found.changes, found.notes) == (True, [], result.set_aside)


def test_a_month_is_made_again_over_forged_events(store: Path) -> None:
    with runner.opened() as instance:
        event = next(
            event for event in of_instance(instance) if (event.asset, event.partition) == MODEL and event.record
        )
        assert event.record
        forge(instance, event.record.to_dict())

    summary = runner.run_history(["2011-05"], lambda *_: None, force=True)

    assert (summary.failed, summary.unlogged, summary.partitions["demand_model"]) == ({}, False, 1)
    assert store.exists()


def test_before_the_first_mark_the_form_alone_tells(history: Any) -> None:
    """Events of a store from before there was a mark are believed where what they say is of the right form, and of no run."""
    record = history.record(*MODEL).to_dict()
    rows = [row_of(number, change(json.loads(json.dumps(record)))) for number, change in enumerate(FORGED.values())]

    read = list(reported.read(rows, None))

    assert [name for name, event in zip(FORGED, read, strict=True) if event.record] == ["of no run"]
    assert all(
        event.set_aside.startswith(f"event {event.number} of demand_model[2011-05]: found ")
        for event in read
        if not event.record
    )
    assert all(len(event.set_aside) < 500 for event in read)
    # And with a mark before them not even that one
    assert not any(event.record for event in reported.read(rows, 0))


def row_of(number: int, record: Any) -> Any:
    """Return a row of Dagster's table of events, of a materialization of no run."""
    entries = [{"label": "lineage", "entry_data": {"__class__": "JsonMetadataEntryData", "data": record}}]
    data = {"materialization": {"metadata_entries": entries, "tags": {}}}
    text = json.dumps({"timestamp": 1.0, "dagster_event": {"event_specific_data": data}})
    return number, "", '["demand_model"]', MODEL[1], text


# The lake's copy, the event log's, and MLflow's


def info_of(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return next(entry["commitInfo"] for entry in entries if "commitInfo" in entry)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "models": lambda record: record["models"].append({"origin": "", "digest": "0" * 32, "sha256": "0" * 64}),
    "metrics": lambda record: record["metrics"].update(rmse=1.0),
    "metrics, NaN": lambda record: record["metrics"].update(rmse=float("nan")),
    "environment": lambda record: record["environment"].update(git_commit="f" * 40),
    "inputs": lambda record: record["inputs"].pop(),
    "code_version": lambda record: record.update(code_version="e" * 32),
    "config": lambda record: record["config"].update(forged=1),
    "made_by": lambda record: record["made_by"].update(user="mallory"),
    "datasets": lambda record: record["datasets"].pop(),
    "params": lambda record: record["params"].update(model="other"),
    "used": lambda record: record["used"].update(nothing=["x"]),
    "used_digests": lambda record: record["used_digests"].update(nothing="0" * 32),
    "time": lambda record: record.update(time=1.0),
    "checks": lambda record: record["checks"].update(forged=True),
    "evidence": lambda record: record["evidence"].update(time=1.0),
    "inert": lambda record: record["inert"].update(demand_features=["temp"]),
    "a key more": lambda record: record.update(sudo=True),
    "inputs in words": lambda record: record.update(inputs="none"),
    "an output of nothing": lambda record: record.update(output=7),
    "nothing": lambda record: record.clear(),
}


@dataclass(frozen=True)
class Copy:
    """A version whose record is forged: where its commit lies, and its event."""

    address: str
    commit: Path
    event: int

    def forge_commit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        entries = [json.loads(line) for line in self.commit.read_text().splitlines()]
        record = json.loads(info_of(entries)["record"])
        change(record)
        info_of(entries)["record"] = json.dumps(record)
        self.commit.write_text("\n".join(map(json.dumps, entries)) + "\n")

    def forge_event(self, change: Callable[[dict[str, Any]], Any], log: sqlite3.Connection) -> None:
        ((text,),) = log.execute("select event from event_logs where id = ?", [self.event])
        entry = json.loads(text)
        told = entry["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
        change(next(item["entry_data"]["data"] for item in told if item["label"] == "lineage"))
        log.execute("update event_logs set event = ? where id = ?", [json.dumps(entry), self.event])


def test_records_that_were_changed_in_one_place_or_everywhere_are_named(store: Path) -> None:
    # Given twenty versions, a snapshot, and an older one without digests of records
    lock, older = store / "lock.json", store / "older.json"
    was = snapshot.write(runner.plan(), lock)
    older.write_text(re.sub(', "record": "[0-9a-f]{32}"', "", was.dumps()))
    assert snapshot.verify(runner.plan(), older).changes == []
    copies = some_copies(len(CHANGES))
    addresses = sorted(copy.address for copy in copies)
    log = store / "dagster" / "event_log.db"
    sound = {copy.commit: copy.commit.read_bytes() for copy in copies}
    sound_log = log.read_bytes()
    # When the commits alone say something else
    for copy, change in zip(copies, CHANGES.values(), strict=True):
        copy.forge_commit(change)
    found = verified(lock)
    # Then verify names each with what differs, the snapshot does so too, and sync as well
    assert sorted(found.damage) == addresses
    for copy, name in zip(copies, list(CHANGES)[:16], strict=False):
        assert f"differ in {name.partition(',')[0]}: one was changed" in found.damage[copy.address]
    assert {str(change.name) for change in found.changes} >= {address.partition("@")[0] for address in addresses}
    assert synced_and_left() >= set(addresses)
    broken = {copy.address.partition("@")[0] for copy in copies[-2:]}  # of which nothing is known, nor their digest
    assert {change.name for change in verified(older).changes if change.kind == "partitions"} == broken
    # When it is the events alone
    for file, content in sound.items():
        file.write_bytes(content)
    with closing(sqlite3.connect(log)) as connection, connection:
        for copy, change in zip(copies, CHANGES.values(), strict=True):
            copy.forge_event(change, connection)
    found = verified(lock)
    assert {*found.damage} == {copy.address for copy in copies[:16]}
    named = [note.partition(": ")[0].split(" of ")[1] for note in found.notes]  # what is no record any more
    assert sorted(named) == sorted(copy.address.partition("@")[0] for copy in copies[16:])
    assert found.changes == []
    # When both say the same
    for copy, change in zip(copies, CHANGES.values(), strict=True):
        copy.forge_commit(change)
    found = verified(lock)
    assert len(found.changes) >= 20
    assert not found.is_same
    log.write_bytes(sound_log)


def verified(lock: Path) -> snapshot.Verification:
    commits.forget()
    return snapshot.verify(runner.plan(), lock)


def synced_and_left() -> set[str]:
    """Return the addresses of what sync leaves because records differ."""
    with runner.opened() as instance:
        left = sync(pipeline(instance)).left
    return {line.partition(": its commit")[0] for line in left}


def some_copies(count: int) -> list[Copy]:
    """Return present versions of features, models and predictions."""
    with runner.opened() as instance:
        events = [(event.record, event.number) for event in of_instance(instance) if event.record]
    made = [(record, number) for record, number in events if record.datasets and record.output.asset in ASSETS]
    present = {(record.output.asset, record.output.partition): (record, number) for record, number in made}
    return [
        Copy(
            record.output.address,
            Path(f"{table(record.output.asset).uri}/_delta_log/{record.output.version:020}.json"),
            number,
        )
        for record, number in [*present.values()][:count]
    ]


def test_what_mlflow_says_otherwise_than_the_record_is_named(store: Path) -> None:
    # Given
    lock = store / "lock.json"
    snapshot.write(runner.plan(), lock)
    client = mlflow_client()
    made = {
        asset: lake().record(asset, MODEL[1]) for asset in ("demand_model", "demand_features", "prediction_quality")
    }
    ids = {asset: record.made_by["mlflow_run_id"] for asset, record in made.items()}
    before = snapshot.verify(runner.plan(), lock, deep=True).damage  # of what other tests left in this store
    # When
    client.set_tag(ids["demand_features"], "git_commit", "f" * 40)
    client.log_metric(ids["prediction_quality"], "rmse", 1.0, timestamp=2**42)
    client.set_tag(ids["demand_model"], "digest", "0" * 32)
    # Then
    found = snapshot.verify(runner.plan(), lock, deep=True)
    assert {
        name.partition("[")[0]: text.partition(": ")[2].partition(" is")[0]
        for name, text in found.damage.items()
        if name not in before
    } == {
        "MLflow run of demand_features": "tag git_commit",
        "MLflow run of prediction_quality": "metric rmse",
        "MLflow run of demand_model": "tag digest",
    }
