"""Which events of Dagster's log are believed: those of runs and of our commands, where they are of the form that these have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from bikes_assets.core.record import Record, Version
from bikes_assets.events import metadata
from bikes_assets.events.reported import of_instance

RUN = "11111111-2222-3333-4444-555555555555"
READING = {"uri": "file:///x.csv", "kind": "csv", "version": "a" * 64, "bytes": 1, "files": [], "dagster/row_count": 1}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def materialization(
    version: Any = 1, *, asset: str = "numbers", run: str = RUN, **more: Any
) -> dg.AssetMaterialization:
    """Return an event of the asset `numbers` that bears a record."""
    record = Record(Version(asset, None, version, "0" * 32), {}, (), "", {}, {}, {"dagster_run_id": run} if run else {})
    return dg.AssetMaterialization("numbers", metadata={"lineage": dg.MetadataValue.json(record.to_dict()), **more})


def observation(values: dict[str, Any], digest: str = "b" * 32, partition: str | None = "2011-01") -> Any:
    """Return the report of what a source holds."""
    told = {key: dg.MetadataValue.json(value) if isinstance(value, list) else value for key, value in values.items()}
    tags = {"dagster/data_version": digest}
    return dg.AssetObservation("source", partition=partition, metadata=told, tags=tags)


def test_what_a_run_and_a_command_report_is_believed(instance: dg.DagsterInstance) -> None:
    metadata.report(instance, materialization(), run_id=RUN, step_key="numbers")
    metadata.report(instance, materialization(2, run=""))
    metadata.report(instance, observation(READING))
    made, by_command, reading = of_instance(instance)
    assert (made.record.output.version, by_command.record.output.version, reading.is_reading) == (1, 2, True)
    assert [event.set_aside for event in (made, by_command, reading)] == [""] * 3


def test_what_anybody_reports_is_set_aside_once_there_is_a_mark(instance: dg.DagsterInstance) -> None:
    # Given one from before there was a mark, and one after
    instance.report_runless_asset_event(materialization(1, run=""))
    metadata.report(instance, materialization(2, run=""))
    instance.report_runless_asset_event(materialization(3, run=""))
    instance.report_runless_asset_event(observation(READING))
    # Then
    old, ours, theirs, read = of_instance(instance)
    assert [event.record and event.record.output.version for event in (old, ours, theirs)] == [1, 2, None]
    assert all("found an event that no run and no command has written" in event.set_aside for event in (theirs, read))


@pytest.mark.parametrize(
    ("event", "found"),
    [
        (materialization(asset="others"), "found the record of others@1"),
        (materialization(run="another"), "found a record that run another published"),
        (materialization(0), "found table version 0"),
        (materialization(2**63), f"found table version {2**63}"),
        (materialization(mlflow_model_version=0), "found registered model version 0"),
        (materialization(mlflow_model_version=2**31), f"found registered model version {2**31}"),
    ],
)
def test_a_record_of_something_else_is_set_aside(instance: dg.DagsterInstance, event: Any, found: str) -> None:
    metadata.report(instance, event, run_id=RUN, step_key="numbers")
    (told,) = of_instance(instance)
    assert (told.record, found in told.set_aside) == (None, True)


@pytest.mark.parametrize(
    ("event", "wrong"),
    [
        (observation(READING | {"version": "a" * 63}), "version"),
        (observation(READING | {"version": "a" * 65}), "version"),
        (observation(READING | {"bytes": "1"}), "bytes"),
        (observation(READING | {"files": [["x.csv", "a", "1"]]}), "files"),
        (observation(READING, digest="b" * 33), "data version"),
        (observation(READING, partition=None), "partition"),
    ],
)
def test_a_reading_of_another_form_is_set_aside(instance: dg.DagsterInstance, event: Any, wrong: str) -> None:
    metadata.report(instance, event)
    (told,) = of_instance(instance)
    assert f"found the reading of a source with another {wrong} than sources have" in told.set_aside
