"""Reconciliation of the lake, Dagster's event log and MLflow: what is mended, and that mending twice does nothing."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from filelock import FileLock

from bikes_assets.app.reconciliation import pipeline
from bikes_assets.core.errors import TrackingError
from bikes_assets.core.record import Record, Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.events.workers import WORKER
from bikes_assets.orchestration.reconcile import Pipeline, sync
from bikes_assets.orchestration.reconcile_marks import Reconciliation
from bikes_assets.storage.lake import Lake, ModelFormat
from bikes_assets.storage.processes import Process
from bikes_assets.tracking.resource import BACKLOG, backlog, connect, mark_backlog

NOTHING = Reconciliation([], [])


@pytest.fixture
def reconciled(history):
    """Return the history once everything agrees; what a test does to it, it has mended in the end."""
    sync(pipeline(history.instance))
    yield history
    assert sync(pipeline(history.instance)) == NOTHING


def lost_commit(history, partition):
    """Commit a partition anew, as a process does that is killed before it reports it; return its table version."""
    table = history.lake.table("prediction_quality")
    record = table.published()[partition].record
    ((_, rows),) = table.read([partition]).values()
    return table.write(partition, rows, record, since=table.version())


def events_of(history, asset, partition, fetch):
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition])
    return fetch(wanted, limit=20).records


def test_a_history_agrees_as_it_was_made(history):
    assert sync(pipeline(history.instance)) == NOTHING


def test_an_alias_that_was_moved_by_hand_follows_the_champion_again(reconciled):
    right = reconciled.client.get_model_version_by_alias("demand_model", "champion").version
    reconciled.client.set_registered_model_alias("demand_model", "champion", "1")

    result = sync(pipeline(reconciled.instance))

    assert result == Reconciliation([f"MLflow: alias champion: 1 -> {right}"], [])


def test_champion_and_challenger_are_the_newest_months_choice_and_the_newest_model_that_lost(reconciled):
    record = reconciled.record("champion_model", "2011-07")
    versions = {
        alias: reconciled.client.get_model_version_by_alias("demand_model", alias).tags["address"].partition("@")[0]
        for alias in ("champion", "challenger")
    }

    assert record.models[0]["origin"].startswith("demand_model[2011-07]")
    assert versions == {"champion": "demand_model[2011-07]", "challenger": "demand_model[2011-06]"}


def test_a_commit_whose_event_was_lost_is_reported_as_the_materialization_that_it_is(reconciled):
    version = lost_commit(reconciled, "2011-05")

    result = sync(pipeline(reconciled.instance))

    event = reconciled.event("prediction_quality", "2011-05")
    assert result.done[0] == f"prediction_quality[2011-05]@{version}: was committed, and is now in the event log"
    assert event.metadata["lineage"].value["output"]["version"] == version
    assert event.tags["dagster/data_version"] == event.metadata["lineage"].value["output"]["digest"]
    assert event.metadata["dagster/row_count"].value == 744


def test_a_lost_commit_that_was_replaced_since_does_not_become_the_present_version(reconciled):
    lost = lost_commit(reconciled, "2011-03")
    newer = lost_commit(reconciled, "2011-03")

    sync(pipeline(reconciled.instance))

    observed = events_of(reconciled, "prediction_quality", "2011-03", reconciled.instance.fetch_observations)
    versions = [item.asset_observation.metadata["lineage"].value["output"]["version"] for item in observed]
    assert reconciled.event("prediction_quality", "2011-03").metadata["lineage"].value["output"]["version"] == newer
    assert lost in versions


def test_a_second_run_of_one_materialization_is_deleted(reconciled):
    made = reconciled.record("demand_features", "2011-05").made_by
    run = reconciled.client.get_run(made["mlflow_run_id"])
    double = reconciled.client.create_run(run.info.experiment_id, tags=run.data.tags).info.run_id

    result = sync(pipeline(reconciled.instance))

    assert len(result.done) == 1
    assert reconciled.client.get_run(double).info.lifecycle_stage == "deleted"
    assert reconciled.client.get_run(made["mlflow_run_id"]).info.lifecycle_stage == "active"


@pytest.mark.parametrize(
    ("asset", "tag"), [("demand_model", "parent_run_id"), ("demand_features", "mlflow.parentRunId")]
)
def test_a_run_names_its_parent_again_whatever_somebody_made_of_the_tag(reconciled, asset, tag):
    run_id = reconciled.record(asset, "2011-05").made_by["mlflow_run_id"]
    parent = reconciled.client.get_run(run_id).data.tags[tag]
    reconciled.client.set_tag(run_id, tag, "0" * 32)

    sync(pipeline(reconciled.instance))

    assert reconciled.client.get_run(run_id).data.tags[tag] == parent


@pytest.mark.parametrize(("asset", "plots"), [("demand_model", 1), ("prediction_quality", 4)])
def test_a_run_that_is_written_again_has_its_plots_and_name(reconciled, asset, plots):
    before = reconciled.client.get_run(reconciled.record(asset, "2011-06").made_by["mlflow_run_id"])
    reconciled.client.delete_run(before.info.run_id)

    sync(pipeline(reconciled.instance))

    experiments = [before.info.experiment_id]
    (again,) = reconciled.client.search_runs(
        experiments, f"tags.materialization = '{before.data.tags['materialization']}'"
    )
    assert (again.info.run_name, again.data.params) == (f"2011-06 {asset}", before.data.params)
    assert len(reconciled.client.list_artifacts(again.info.run_id)) == plots


def test_a_run_that_was_deleted_in_mlflow_is_written_again_and_found_from_dagster(reconciled):
    record = reconciled.record("demand_predictions", "2011-06")
    reconciled.client.delete_run(record.made_by["mlflow_run_id"])

    result = sync(pipeline(reconciled.instance))

    observed = events_of(reconciled, "demand_predictions", "2011-06", reconciled.instance.fetch_observations)
    url = observed[0].asset_observation.metadata["mlflow_run"].value
    run = reconciled.client.get_run(url.partition("?")[0].rpartition("/")[2])
    assert [line.split(" of run")[0] for line in result.done] == ["MLflow: demand_predictions[2011-06]"]
    assert run.data.tags["digest"] == record.output.digest
    assert run.inputs.model_inputs[0].model_id == record.models[0]["mlflow_model_id"]


def test_the_mark_of_something_unlogged_goes_when_everything_agrees(reconciled):
    mark_backlog(reconciled.instance)

    sync(pipeline(reconciled.instance))

    assert backlog(reconciled.instance) == ""


def test_while_mlflow_is_away_the_rest_is_mended_and_the_mark_stays(reconciled):
    from dataclasses import replace

    from bikes_assets.tracking.resource import connect

    version = lost_commit(reconciled, "2011-04")
    mark_backlog(reconciled.instance)

    away = replace(
        pipeline(reconciled.instance),
        connect=lambda _: connect("http://127.0.0.1:9", "one", "http://m", "http://d", {}),
    )
    result = sync(away)

    assert result.done == [f"prediction_quality[2011-04]@{version}: was committed, and is now in the event log"]
    assert result.left[0].startswith("MLflow: http://127.0.0.1:9 cannot be reached")
    assert backlog(reconciled.instance)
    sync(pipeline(reconciled.instance))


def test_a_run_whose_process_is_gone_has_failed(reconciled):
    gone, at_work = run_of(Process(4194303, "1", socket.gethostname())), run_of(Process.this())
    for run in (gone, at_work):
        reconciled.instance.add_run(run)

    result = sync(pipeline(reconciled.instance))

    assert result.done == [f"Dagster run {gone.run_id}: its process is gone (pid 4194303), so it has ended"]
    assert reconciled.instance.get_run_by_id(gone.run_id).status == dg.DagsterRunStatus.FAILURE
    assert reconciled.instance.get_run_by_id(at_work.run_id).status == dg.DagsterRunStatus.STARTED
    reconciled.instance.delete_run(at_work.run_id)


def run_of(process):
    """Return a run that a process of this machine executes."""
    return dg.DagsterRun(job_name="job", status=dg.DagsterRunStatus.STARTED, tags={WORKER: str(process)})


def test_a_commit_that_its_run_has_yet_to_report_does_not_have_those_before_it_reported_again(reconciled):
    # Given a commit without event, and after it one of a run that is at work
    lost = lost_commit(reconciled, "2011-04")
    table, run = reconciled.lake.table("prediction_quality"), reconciled.instance.add_run(run_of(Process.this()))
    record = table.published()["2011-05"].record
    record = record | {"made_by": record["made_by"] | {"dagster_run_id": run.run_id}}
    ((_, rows),) = table.read(["2011-05"]).values()
    late = table.write("2011-05", rows, record, since=table.version())
    # When
    told = [sync(pipeline(reconciled.instance)).done for _ in range(3)]
    # Then
    assert told == [[f"prediction_quality[2011-04]@{lost}: was committed, and is now in the event log"], [], []]
    reconciled.instance.delete_run(run.run_id)
    last = sync(pipeline(reconciled.instance)).done
    assert last == [f"prediction_quality[2011-05]@{late}: was committed, and is now in the event log"]


# --- a small store


NUMBERS = Schema("numbers", key=("x",), columns=(Column("x", "int64", "A number."),))


def no_mlflow(_):
    raise TrackingError("it is away")


@pytest.fixture
def small(tmp_path):
    """Yield an empty lake and an event log that are to agree; MLflow is away."""
    lake = Lake(str(tmp_path / "lake"), {"numbers": NUMBERS}, tmp_path)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Pipeline(instance, lake, ModelFormat.of_estimators(), ["numbers"], no_mlflow, "http://127.0.0.1:9")


def unreported(small, status, worker):
    """Commit a version of which no event tells, as a run of some state does."""
    run = small.instance.add_run(dg.DagsterRun(job_name="job", status=status, tags={WORKER: worker}))
    table = small.lake.table("numbers")
    record = Record(Version("numbers", None, -1, "0" * 32), {}, (), "", {}, {}, {"dagster_run_id": run.run_id})
    table.write(None, pa.table({"x": pa.array([1], pa.int64())}), record.to_dict(), since=table.version())


TOLD = ["numbers@1: was committed, and is now in the event log"]


def test_what_a_run_at_work_has_committed_is_reported_by_that_run(small):
    unreported(small, dg.DagsterRunStatus.STARTED, str(Process.this()))
    assert sync(small).done == []


def test_what_a_run_has_committed_is_reported_by_its_process_as_long_as_that_is_there(small):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        worker = replace(Process.this(), pid=process.pid, birth="")
        unreported(small, dg.DagsterRunStatus.SUCCESS, str(worker))
        assert sync(small).done == []
        process.kill()
    assert sync(small).done == TOLD
    assert sync(small).done == []


def test_nobody_else_reconciles_meanwhile(small):
    def look(_):
        with FileLock(Path(small.instance.root_directory) / ".bikes_sync.lock", timeout=0):
            raise AssertionError("somebody else could")

    assert sync(replace(small, connect=look)).left == [
        f"MLflow: The file lock '{small.instance.root_directory}/.bikes_sync.lock' could not be acquired."
    ]


def test_what_came_to_be_unlogged_meanwhile_keeps_its_mark(small, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def connected(_):
        small.instance.daemon_cursor_storage.set_cursor_values({BACKLOG: "later"})
        return connect(uri, "one", "http://m", "http://d", {})

    mark_backlog(small.instance)
    assert sync(replace(small, connect=connected, tracking_uri=uri)) == NOTHING
    assert backlog(small.instance) == "later"
