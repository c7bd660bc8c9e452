"""What is read of Dagster's tables without Dagster is what Dagster's own calls say."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType
from dagster import DagsterRunStatus as Status
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.types import DaemonHeartbeat

import bikes_assets
from bikes_assets.core.staleness import Ended, Key
from bikes_assets.events.run_log import BACKLOG, remembered, runs_of

MONTHS = dg.MonthlyPartitionsDefinition("2016-01", end_date="2016-04", fmt="%Y-%m")
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all"), "both")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
OVER = {Status.SUCCESS: "skipped", Status.FAILURE: "failed", Status.CANCELED: "failed"}


def _told(context: Any):
    order = context.run.tags.get(context.asset_key.to_user_string(), "make")
    if order == "raise":
        try:
            raise OSError("the disk is full\nof rows")
        except OSError as error:
            raise ValueError("nothing was written") from error
    if order == "make":
        yield dg.Output(1)


@dg.asset(partitions_def=MONTHS, output_required=False)
def first(context):
    """As told."""
    yield from _told(context)


@dg.asset(partitions_def=MONTHS, output_required=False, deps=[first])
def second(context):
    """As told, after the first."""
    yield from _told(context)


JOB = dg.Definitions([first, second], jobs=[dg.define_asset_job("both", "*")]).resolve_job_def("both")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), tmp_path)
    return tmp_path


@pytest.fixture
def instance(home):
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


def execute(instance, month, **orders):
    return JOB.execute_in_process(
        instance=instance, partition_key=month, tags=orders, run_config=QUIET, raise_on_error=False
    ).run_id


def create(instance, month, status, assets=("first", "second")):
    return instance.create_run_for_job(
        JOB,
        status=status,
        remote_job_origin=ORIGIN,
        tags={"dagster/partition": month},
        asset_selection=frozenset(map(dg.AssetKey, assets)),
    )


def by_dagster(instance: dg.DagsterInstance) -> tuple[dict[Key, tuple[str, float, str]], set[Key]]:
    """Return what `runs_of` returns, without messages, by Dagster's own calls; every queue counts."""

    def events(run_id: str, type_: DagsterEventType) -> list[tuple[int, Key]]:
        found = instance.get_records_for_run(run_id, of_type=type_).records
        said = [(item.storage_id, item.event_log_entry.dagster_event) for item in found]
        return [(number, (event.asset_key.to_user_string(), event.partition)) for number, event in said]

    ended: dict[Key, tuple[str, float, str]] = {}
    at_work: set[Key] = set()
    planned = [
        (number, key, record)
        for record in instance.get_run_records()
        for number, key in events(record.dagster_run.run_id, DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    ]
    for _, key, record in sorted(planned, key=lambda item: item[0]):
        run = record.dagster_run
        made = [key_ for _, key_ in events(run.run_id, DagsterEventType.ASSET_MATERIALIZATION)]
        if not run.is_finished:
            at_work.add(key)
        elif key in made:
            ended.pop(key, None)
        else:
            ended[key] = (OVER[run.status], record.end_time, run.run_id)
    return ended, at_work


def agrees(instance, home) -> tuple[dict[Key, Ended], set[Key]]:
    ended, at_work = runs_of(str(home))
    assert ({key: (item.state, item.time, item.run) for key, item in ended.items()}, at_work) == by_dagster(instance)
    return ended, at_work


def messages(ended: dict[Key, Ended]) -> dict[str, tuple[str, str]]:
    return {f"{asset}[{month}]": (item.state, item.message) for (asset, month), item in ended.items()}


def test_a_home_without_runs_has_none(tmp_path):
    assert runs_of(str(tmp_path)) == ({}, set())
    assert remembered(str(tmp_path), BACKLOG) == ""
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_has_not_ended_without_a_result(instance, home):
    execute(instance, "2016-01")
    assert agrees(instance, home) == ({}, set())


def test_what_failed_says_its_innermost_cause_and_so_does_what_never_came_to_its_turn(instance, home):
    execute(instance, "2016-01", first="raise")
    ended, at_work = agrees(instance, home)
    assert at_work == set()
    assert messages(ended)["first[2016-01]"] == ("failed", "OSError: the disk is full")
    assert messages(ended)["second[2016-01]"] == ("failed", "OSError: the disk is full")


def test_what_was_skipped_is_no_failure(instance, home):
    execute(instance, "2016-01", first="skip", second="make")
    ended, _ = agrees(instance, home)
    assert messages(ended)["first[2016-01]"] == ("skipped", "there was nothing to work on")


def test_the_latest_attempt_counts(instance, home):
    execute(instance, "2016-01", second="raise")
    execute(instance, "2016-02", second="raise")
    assert set(agrees(instance, home)[0]) == {("second", "2016-01"), ("second", "2016-02")}
    execute(instance, "2016-01")
    assert set(agrees(instance, home)[0]) == {("second", "2016-02")}
    last = execute(instance, "2016-01", second="raise")
    assert agrees(instance, home)[0]["second", "2016-01"].run == last


def test_what_was_cancelled_or_given_up_has_failed(instance, home):
    cancelled = create(instance, "2016-01", Status.STARTED)
    instance.report_run_canceled(cancelled)
    gone = create(instance, "2016-02", Status.STARTED, ["first"])
    instance.report_run_failed(gone, "its process is gone (pid 7); run again what it has not materialized")
    ended, at_work = agrees(instance, home)
    assert at_work == set()
    assert {month for _, month in ended} == {"2016-01", "2016-02"}
    assert messages(ended)["first[2016-01]"][0] == "failed"
    assert messages(ended)["first[2016-02]"] == (
        "failed",
        "its process is gone (pid 7); run again what it has not materialized",
    )


@pytest.mark.parametrize("status", [Status.STARTING, Status.STARTED, Status.CANCELING])
def test_what_runs_is_at_work(instance, home, status):
    create(instance, "2016-01", status, ["first"])
    assert agrees(instance, home) == ({}, {("first", "2016-01")})


@pytest.mark.parametrize("status", [Status.QUEUED, Status.NOT_STARTED])
def test_what_is_queued_is_at_work_while_a_daemon_works_the_queue_off(instance, home, status):
    run_id = create(instance, "2016-01", Status.NOT_STARTED, ["first"]).run_id
    if status == Status.QUEUED:
        queued = dg.DagsterEvent(DagsterEventType.RUN_ENQUEUED.value, JOB.name)
        instance.report_dagster_event(queued, run_id)
    assert instance.get_run_by_id(run_id).status == status
    assert runs_of(str(home)) == ({}, set())
    for ago, expected in ((900, set()), (1, {("first", "2016-01")})):
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - ago, "QUEUED_RUN_COORDINATOR", "daemon", []))
        assert runs_of(str(home)) == ({}, expected)
    assert by_dagster(instance) == ({}, {("first", "2016-01")})


def test_a_run_that_was_deleted_is_forgotten(instance, home):
    instance.delete_run(execute(instance, "2016-01", first="raise"))
    assert agrees(instance, home) == ({}, set())


def test_what_processes_remember_is_read(instance, home):
    assert remembered(str(home), BACKLOG) == ""
    instance.daemon_cursor_storage.set_cursor_values({BACKLOG: "something"})
    assert remembered(str(home), BACKLOG) == "something"
    assert instance.daemon_cursor_storage.get_cursor_values({BACKLOG}) == {BACKLOG: "something"}
