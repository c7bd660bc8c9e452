"""Dagster's storages with one engine each: what they override, what it saves, and that they find what Dagster's own wrote."""

from __future__ import annotations

import queue
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import Pool

import bikes_assets
from bikes_assets.events import sqlite_storage
from bikes_assets.events.code_location import attribute_runs


@dg.asset
def numbers():
    return 1


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def made_at(home: Path) -> tuple[str, int]:
    """Materialize an asset in an instance; return the run's id and the number of connections that were opened for it."""
    opened = []

    def count(*_: object) -> None:
        opened.append(1)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        event.listen(Pool, "connect", count)
        try:
            result = dg.materialize([numbers], instance=instance, resources={"io_manager": dg.mem_io_manager})
        finally:
            event.remove(Pool, "connect", count)
    assert result.success
    return result.run_id, len(opened)


def test_dagster_yaml_names_them(home):
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), home)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.run_storage) is sqlite_storage.RunStorage
        assert type(instance.event_log_storage) is sqlite_storage.EventLogStorage


def test_a_materialization_opens_few_connections_where_dagsters_own_open_one_a_statement(home, tmp_path_factory):
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), home)
    plain = tmp_path_factory.mktemp("plain")
    (plain / "dagster.yaml").write_text("telemetry: {enabled: false}\n")

    _, opened = made_at(home)
    _, of_dagsters_own = made_at(plain)

    assert opened <= 6  # a statement within another's transaction needs a connection of its own
    assert of_dagsters_own > 30, "Dagster keeps connections by now: events/sqlite_storage.py may have become needless"


def test_whoever_watches_a_run_is_told_of_each_event_while_all_connections_stay_open(home):
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), home)
    told = queue.Queue()

    with dg.DagsterInstance.from_config(str(home)) as page, dg.DagsterInstance.from_config(str(home)) as worker:
        run = worker.add_run(dg.DagsterRun(job_name="job"))
        page.watch_event_logs(run.run_id, None, lambda entry, _: told.put(entry.dagster_event.message))
        for message in ("first", "second"):
            worker.report_engine_event(message, run)
            assert told.get(timeout=30) == message


def test_a_home_that_dagsters_own_storages_began_goes_on(home):
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "event_log_storage:\n"
        "  module: dagster._core.storage.event_log\n"
        "  class: ConsolidatedSqliteEventLogStorage\n"
        "  config: {base_dir: {env: DAGSTER_HOME}}\n"
    )
    before, _ = made_at(home)

    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), home)
    after, _ = made_at(home)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert [run.run_id for run in instance.get_runs()] == [after, before]
        events = instance.fetch_materializations(dg.AssetKey("numbers"), limit=5).records
        assert [item.run_id for item in events] == [after, before]


@dg.asset(check_specs=[dg.AssetCheckSpec("positive", asset="checked")])
def checked():
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])


def test_an_event_is_one_transaction_with_what_is_looked_up_of_it(home):
    # Given a run with a check
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), home)
    commits = []
    with dg.DagsterInstance.from_config(str(home)) as instance:
        storage = instance.event_log_storage
        event.listen(storage._engine, "commit", lambda _: commits.append(1))
        result = dg.materialize([checked], instance=instance, resources={"io_manager": dg.mem_io_manager})
        logs = instance.all_logs(result.run_id)
        (planned,) = (entry for entry in logs if "ASSET_CHECK_EVALUATION_PLANNED" in str(entry.dagster_event_type))
        # When its events are stored again, but for the one of which there can be one, each is committed once
        again = [entry for entry in logs if entry is not planned]
        commits.clear()
        for entry in again:
            storage.store_event(entry)
        assert len(commits) == len(again)
        # and of one whose check cannot be written, nothing is stored
        with storage._engine.begin() as connection:
            told = "create trigger full before insert on asset_check_executions begin select raise(abort, 'full'); end"
            connection.exec_driver_sql(told)
        with pytest.raises(IntegrityError):
            storage.store_event(planned)
        assert len(instance.all_logs(result.run_id)) == len(logs) + len(again)


def test_what_a_thread_stores_together_another_does_not_see_before_it_is_complete(home):
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), home)
    with dg.DagsterInstance.from_config(str(home)) as instance, ThreadPoolExecutor(1) as other:
        run = instance.add_run(dg.DagsterRun(job_name="job"))
        seen = lambda: len(instance.all_logs(run.run_id))  # noqa: E731
        with instance.event_log_storage.together():
            instance.report_engine_event("first", run)
            instance.report_engine_event("second", run)
            assert (seen(), other.submit(seen).result()) == (2, 0)
        assert other.submit(seen).result() == 2
        with suppress(KeyboardInterrupt), instance.event_log_storage.together():
            instance.report_engine_event("third", run)
            raise KeyboardInterrupt
        assert seen() == 2
        instance.report_engine_event("fourth", run)
        assert other.submit(seen).result() == 3


def test_the_events_that_plan_a_run_are_one_transaction(home):
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), home)
    commits = []
    job = dg.Definitions(assets=[checked, numbers]).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        attribute_runs(instance, job, "a_module", "a_location")
        event.listen(instance.event_log_storage._engine, "commit", lambda _: commits.append(1))
        run = instance.create_run_for_job(job, asset_selection=None)
        planned = len(commits)
        assert len(instance.all_logs(run.run_id)) == 3  # two assets, and a check
        assert planned == 1
