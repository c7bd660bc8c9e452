"""What is reconciled is not examined again; whatever is done to any of the stores is noticed and repaired."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from mlflow import MlflowClient

from bikes_assets.app import state
from bikes_assets.app.reconciliation import pipeline
from bikes_assets.app.store import mlflow_client, table
from bikes_assets.cli import runner
from bikes_assets.core.record import Record
from bikes_assets.events.attempts import attempt_of
from bikes_assets.events.workers import WORKER
from bikes_assets.orchestration.reconcile import sync
from bikes_assets.orchestration.reconcile_marks import Reconciliation, differing, evident, kept, look
from bikes_assets.project import ASSETS, PINS
from bikes_assets.storage.processes import Process
from bikes_assets.tracking.names import key_name
from bikes_assets.tracking.params import as_one_value_each
from bikes_assets.tracking.version_source import model_id_in
from bikes_assets.verification.integrity import of_runs

Act = Callable[[Path], Any]
MONTH = "2011-05"
MADE = [name for name in ASSETS if name != PINS]


def run_of(asset: str, month: str = MONTH) -> str:
    """Return MLflow's run of what is there of a partition."""
    return table(asset).published()[month].record["made_by"]["mlflow_run_id"]


def in_mlflow(act: Callable[[MlflowClient], Any]) -> Act:
    return lambda _: act(mlflow_client())


def in_log(*statements: str) -> Act:
    def act(store: Path) -> None:
        with closing(sqlite3.connect(store / "dagster" / "event_log.db")) as log, log:
            log.execute("attach ? as history", [str(store / "dagster" / "history" / "runs.db")])
            for statement in statements:
                log.execute(statement)

    return act


def commit_of(store: Path, asset: str = "prediction_quality") -> Path:
    return sorted((store / "lake" / asset / "_delta_log").glob("*.json"))[2]


def forge(store: Path) -> None:
    file = commit_of(store)
    file.write_text(file.read_text().replace("rmse", "RMSE"))


def lose_commit(store: Path) -> None:
    newest = sorted((store / "lake" / "prediction_quality" / "_delta_log").glob("*.json"))[-1]
    newest.unlink()


def commit_without_event(_: Path) -> None:
    """Commit a partition anew, as a process does that is killed before it reports it."""
    quality = table("prediction_quality")
    record = quality.published()[MONTH].record
    ((_, rows),) = quality.read([MONTH]).values()
    quality.write(MONTH, rows, record, since=quality.version())


def wipe(store: Path) -> None:
    shutil.rmtree(store / "lake" / "prediction_quality")


def abandon(_: Path) -> None:
    gone = Process(4194303, "1", socket.gethostname())
    with runner.opened() as instance:
        run = dg.DagsterRun(
            job_name="job", status=dg.DagsterRunStatus.STARTED, tags={WORKER: str(gone)}, run_id="0" * 32
        )
        instance.add_run(run)


def report(_: Path) -> None:
    with runner.opened() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization("demand_model", partition=MONTH, metadata={"lineage": {"output": 7}})
        )


def double(client: MlflowClient) -> None:
    run = client.get_run(run_of("demand_features"))
    client.create_run(run.info.experiment_id, tags=run.data.tags)


def register(client: MlflowClient) -> None:
    source = client.get_model_version("demand_model", "2")
    client.create_model_version("demand_model", source.source, source.run_id, tags={"owner": "alice"})


ACTS: dict[str, Act] = {
    "a run deleted": in_mlflow(lambda client: client.delete_run(run_of("demand_features"))),
    "a parent deleted": in_mlflow(
        lambda client: client.delete_run(client.get_run(run_of("demand_features")).data.tags["mlflow.parentRunId"])
    ),
    "a run that did not end": in_mlflow(lambda client: client.update_run(run_of("demand_features"), "RUNNING")),
    "a run's tag deleted": in_mlflow(lambda client: client.delete_tag(run_of("demand_features"), "materialization")),
    "a second run": in_mlflow(double),
    "a version deleted": in_mlflow(lambda client: client.delete_model_version("demand_model", "2")),
    "a version's tag": in_mlflow(lambda client: client.set_model_version_tag("demand_model", "2", "digest", "0" * 32)),
    "a version of others": in_mlflow(register),
    "an alias": in_mlflow(lambda client: client.set_registered_model_alias("demand_model", "champion", "1")),
    "a registered model renamed": in_mlflow(lambda client: client.rename_registered_model("demand_model", "theirs")),
    "a registered model deleted": in_mlflow(lambda client: client.delete_registered_model("demand_model")),
    "a logged model deleted": in_mlflow(
        lambda client: client.delete_logged_model(model_id_in(client.get_model_version("demand_model", "2")))
    ),
    **{
        f"an experiment {what}": in_mlflow(act)
        for key in ("1", "2")
        for what, act in (
            (f"deleted, {key}", lambda client, key=key: client.delete_experiment(key)),
            (f"renamed, {key}", lambda client, key=key: client.rename_experiment(key, "theirs")),
        )
    },
    "a fit's run deleted": in_mlflow(lambda client: client.delete_run(run_of("demand_model"))),
    "a fit's parent changed": in_mlflow(
        lambda client: client.set_tag(run_of("demand_model"), "parent_run_id", "0" * 32)
    ),
    "a forged commit": forge,
    "a commit without an event": commit_without_event,
    "a table wiped": wipe,
    "a table restored from a backup": lose_commit,
    "events deleted": in_log(f"delete from event_logs where asset_key like '%quality%' and partition = '{MONTH}'"),
    "all events deleted": in_log("delete from event_logs"),
    "runs deleted": in_log(f"delete from history.runs where partition = '{MONTH}'"),
    "a run that has failed after all": in_log(
        f"update history.runs set status = 'FAILURE' where partition = '{MONTH}'"
    ),
    "a process that is gone": abandon,
    "an event of somebody": report,
    "a mark of what was not logged": in_log(
        "insert into history.kvs (key, value) values ('bikes_assets/mlflow_backlog', '1')"
    ),
}


def told(found: Reconciliation) -> dict[str, list[str]]:
    """Return what was done and is left, without the ids that MLflow has drawn meanwhile, and in no order."""
    texts = {
        name: [
            re.sub("run [0-9a-f]{32}|run [0-9a-f]{8}|[0-9a-f]{32}|/what is new/|/everything/", "ID", text)
            for text in items
        ]
        for name, items in asdict(found).items()
    }
    return {name: sorted(items) for name, items in texts.items()}


@pytest.mark.parametrize("name", ACTS)
def test_whatever_is_done_is_noticed_and_mended_as_if_all_were_looked_at(
    copies: Callable[[Path], None], tmp_path: Path, name: str
) -> None:
    found: dict[str, Any] = {}
    for how in ("what is new", "everything"):
        # Given a store in which everything agrees
        copies(tmp_path / how)
        assert runner.agree() == Reconciliation()
        assert state.reconciliation() == Reconciliation()
        # When
        ACTS[name](tmp_path / how)
        # Then
        if how == "everything":
            state.stores().memory.unlink()
        assert state.reconciliation() is None
        first = runner.agree()
        second = runner.agree()
        assert (second.done, second.left) == ([], first.left)
        assert (state.reconciliation() is None) == bool(second.left or second.refused)
        assert state.reconciliation() in (None, second)
        found[how] = told(first), told(second)
    assert found["what is new"] == found["everything"]


def test_only_what_was_changed_is_looked_at(copied: Path) -> None:
    runner.agree()
    stores = state.stores()
    known = kept(stores)
    of = table("demand_features").published()[MONTH].record["made_by"]["dagster_run_id"]

    mlflow_client().set_tag(run_of("demand_features"), "mlflow.parentRunId", "0" * 32)
    mlflow_client().set_model_version_tag("demand_model", "2", "note", "mine")
    version = table("prediction_quality").version()
    commit_without_event(copied)

    scope = differing(stores, known, look(stores, known))
    assert known
    assert (scope.runs, scope.registered) == ({of}, {"demand_model/2"})
    assert (scope.tables, scope.after) == ({"prediction_quality": version + 1}, known.event)


def test_what_is_evident_needs_nothing_and_what_was_changed_is_not_evident(copied: Path) -> None:
    stores, of = state.stores(), table("demand_features").published()[MONTH].record["made_by"]["dagster_run_id"]
    with runner.opened() as instance:
        pipeline(instance).connect([])  # a copy's artifacts lie elsewhere
        known = {run.run_id for run in instance.get_runs()}
    assert evident(stores, ["1", "2"]) == known
    mlflow = copied / "mlflow" / "mlflow.db"
    log = copied / "dagster" / "event_log.db"
    sound = {file: file.read_bytes() for file in (mlflow, log, copied / "dagster" / "history" / "runs.db")}
    for name in ("a run deleted", "a parent deleted", "a run that did not end", "a run's tag deleted", "a second run"):
        ACTS[name](copied)
        assert evident(stores, ["1", "2"]) == known - {of}, name
        for file, content in sound.items():
            file.write_bytes(content)
    for statement in (
        f"delete from event_logs where run_id = '{of}' and dagster_event_type = 'STEP_SUCCESS' and step_key = 'demand_features'",
        f"update event_logs set dagster_event_type = 'STEP_FAILURE' where run_id = '{of}' and event like '%STEP_SUCCESS%'",
        f"delete from event_logs where run_id = '{of}' and dagster_event_type = 'ASSET_MATERIALIZATION'",
        f"update event_logs set asset_key = '[\"others\"]' where run_id = '{of}'",
        f"delete from history.run_tags where run_id = '{of}' and key = 'mlflow_run_id'",
        f"update history.runs set status = 'FAILURE' where run_id = '{of}'",
    ):
        in_log(statement)(copied)
        assert evident(stores, ["1", "2"]) == known - {of}, statement
        for file, content in sound.items():
            file.write_bytes(content)
    # a run that is in neither experiment is not evident
    assert evident(stores, ["3"]) == set()
    fit = table("demand_model").published()[MONTH].record["made_by"]["dagster_run_id"]
    assert fit in known - evident(stores, ["2"])


def test_what_was_logged_before_there_were_two_experiments_stays_as_it_is(copied: Path) -> None:
    """Then all runs were in the first one, nested, and each value of a config was one parameter."""
    # Given
    runner.agree()
    database = copied / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(database)) as store, store:
        store.execute("update runs set experiment_id = 1")
        store.execute("update tags set key = 'mlflow.parentRunId' where key = 'parent_run_id'")
        store.execute("delete from params where run_uuid in (select run_uuid from tags where key = 'materialization')")
        for record in (Record.from_dict(commit.record) for name in MADE for commit in table(name).commits()):
            (uuid,) = store.execute("select run_uuid from tags where value = ?", (attempt_of(record),)).fetchone()
            store.executemany(
                "insert into params (run_uuid, key, value) values (?, ?, ?)",
                [(uuid, key_name(name), text) for name, text in as_one_value_each(record).items()],
            )
        store.execute("delete from experiment_tags where experiment_id = 2")
        store.execute("delete from experiments where experiment_id = 2")
        before = rows_of_runs(store)
    state.stores().memory.unlink()
    # When
    with runner.opened() as instance:
        known = pipeline(instance)
        assert known.stores
        connected = known.connect([])
        # Then all is evident, and nothing is logged again
        assert evident(known.stores, connected.experiment_ids) == {run.run_id for run in instance.get_runs()}
        assert sync(known) == Reconciliation()
        records = [
            Record.from_dict(commit.record).at(commit.version) for name in MADE for commit in table(name).commits()
        ]
        assert list(of_runs(connected.client, records)) == []
        with closing(sqlite3.connect(database)) as store:
            assert rows_of_runs(store) == before
    # And a run that goes is logged again where its like are now, under the parent that there is
    lost = run_of("demand_model")
    parent = mlflow_client().get_run(lost).data.tags["mlflow.parentRunId"]
    mlflow_client().delete_run(lost)
    assert len(runner.agree().done) == 1
    (again,) = mlflow_client().search_runs(["1"], f"attributes.run_name = '{MONTH} demand_model'")
    assert again.data.tags["parent_run_id"] == parent
    assert runner.agree() == Reconciliation()


def rows_of_runs(store: sqlite3.Connection) -> list[Any]:
    return [
        sorted(store.execute(f"select * from {name}").fetchall(), key=repr)
        for name in ("runs", "tags", "params", "metrics")
    ]


def test_a_memory_of_it_that_is_damaged_or_gone_costs_time_alone(copied: Path) -> None:
    runner.agree()
    memory = state.stores().memory
    for content in (b"", b"{}", b"\xff", json.dumps({"crc32": "0", "values": {}}).encode()):
        memory.write_bytes(content)
        assert state.reconciliation() is None
        assert runner.agree() == Reconciliation()
        assert state.reconciliation() == Reconciliation()
    assert copied.exists()


def test_the_command_that_has_nothing_to_do_imports_neither_dagster_nor_mlflow(copied: Path) -> None:
    runner.agree()
    script = (
        "import sys\nfrom bikes_assets.cli import main\ntry:\n    main(['sync'])\nexcept SystemExit as end:\n"
        "    print(end.code, sorted({'dagster', 'mlflow', 'sklearn', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Everything agrees.", "0 []"]
    assert copied.exists()


def test_without_mlflow_nothing_is_looked_at_twice_and_all_of_it_once_there_is_one(copied: Path) -> None:
    stores = replace(state.stores(), tracking_uri="")
    with runner.opened() as instance:
        without = replace(pipeline(instance), tracking_uri="", stores=stores)
        assert sync(without) == Reconciliation()
        assert without.is_reconciled()
        # When something is missing, then it is noticed and mended
        commit_without_event(copied)
        assert not without.is_reconciled()
        assert [text for text in sync(without).done if "prediction_quality" in text]
        assert without.is_reconciled()
    # And what was done meanwhile is logged in MLflow once there is one
    assert state.reconciliation() is None
    known = kept(state.stores())
    scope = differing(state.stores(), known, look(state.stores(), known), whole=False)
    assert (scope.runs, scope.registered, scope.after) == (None, None, 0)
    assert runner.agree().left == []
    assert state.reconciliation() == Reconciliation()
