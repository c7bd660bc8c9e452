"""When the daemon looks at backfills and at its queue: a real instance, and Dagster's daemon as a process."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus as Status
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon import controller
from dagster._daemon.backfill import execute_backfill_iteration_loop
from dagster._daemon.daemon import IntervalDaemon, SpanMarker
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from bikes_assets.events.warm import daemon
from bikes_assets_tests.events.test_launcher import YAML, Project, wait_until, write_project

MONTHS = ["2024-01", "2024-02", "2024-03"]
CODE = """
    import time
    from pathlib import Path

    import dagster as dg

    MONTHS = dg.MonthlyPartitionsDefinition("2024-01", end_date="2024-04", fmt="%Y-%m")
    BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0)
    FOLDER = Path(__file__).parent

    @dg.asset(partitions_def=MONTHS)
    def rows() -> None: ...

    @dg.asset(partitions_def=MONTHS, deps=[dg.AssetDep(rows, partition_mapping=BEFORE)])
    def features() -> None:
        (FOLDER / "waits").touch()
        while (FOLDER / "wait").exists():
            time.sleep(0.05)

    @dg.asset(partitions_def=MONTHS, deps=[dg.AssetDep(features, partition_mapping=BEFORE)])
    def model() -> None: ...

    @dg.asset(partitions_def=MONTHS, deps=[model])
    def predictions() -> None: ...

    defs = dg.Definitions([rows, features, model, predictions], executor=dg.in_process_executor)
"""

DAEMON = """
from dagster._daemon import controller
controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 3600
from dagster._daemon.cli import main
main()
"""
"""Dagster's daemon, which by itself would look at backfills once an hour."""


@dataclass
class Home:
    """A project with a daemon, and the instance that both have."""

    folder: Path
    instance: dg.DagsterInstance

    def launch(self) -> str:
        """Launch a backfill of all partitions of all assets, as Dagster's pages do."""
        code: dict[str, Any] = {"__file__": str(self.folder / "definitions.py")}
        exec((self.folder / "definitions.py").read_text(), code)
        graph = code["defs"].resolve_asset_graph()
        backfill = PartitionBackfill.from_asset_partitions(
            "all",
            graph,
            None,
            [*graph.materializable_asset_keys],
            time.time(),
            {},
            self.instance,
            all_partitions=True,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        return backfill.backfill_id

    def backfill(self) -> PartitionBackfill:
        found = self.instance.get_backfill("all")
        assert found
        return found

    def ended(self, seconds: float) -> BulkActionStatus:
        at_work = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING)
        wait_until(lambda: self.backfill().status not in at_work, seconds, self.told)
        return self.backfill().status

    def told(self) -> str:
        """Return what the backfill, its runs and the daemon say."""
        runs = [f"{run.status.value} {run.asset_selection} {run.tags}" for run in self.instance.get_runs()]
        printed = (self.folder.parent / "printed").read_text()
        return "\n".join([self.backfill().status.value, *runs, printed[-20_000:]])

    def materialized(self) -> list[tuple[str, str]]:
        """Return the partitions of all materializations, in their order."""
        events = [
            (record.storage_id, record.asset_key.to_user_string(), record.partition_key)
            for name in ("rows", "features", "model", "predictions")
            for record in self.instance.fetch_materializations(dg.AssetKey(name), limit=100).records
        ]
        return [(name, month) for _, name, month in sorted(events)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    folder, place = tmp_path / "project", tmp_path / "home"
    for each in (folder, place):
        each.mkdir()
    (folder / "definitions.py").write_text(textwrap.dedent(CODE))
    (place / "dagster.yaml").write_text(
        YAML.replace("WarmRunQueue}", "WarmRunQueue, config: {dequeue_interval_seconds: 1}}")
    )
    with dg.DagsterInstance.from_config(str(place)) as instance, (tmp_path / "printed").open("w") as printed:
        command = [sys.executable, "-c", DAEMON, "run", "-f", "definitions.py"]
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "DAGSTER_HOME": str(place)}, stdout=printed, stderr=printed
        )
        try:
            wait_until(lambda: "BACKFILL" in instance.get_daemon_heartbeats(), 120)
            yield Home(folder, instance)
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.slow
def test_a_backfill_goes_on_when_its_runs_have_ended(home: Home) -> None:
    home.launch()
    assert home.ended(300) == BulkActionStatus.COMPLETED_SUCCESS
    # Then each partition is materialized once, after what it is materialized from
    done = home.materialized()
    assert sorted(done) == sorted(
        (name, month) for name in ("rows", "features", "model", "predictions") for month in MONTHS
    )
    for name, parent in (("features", "rows"), ("model", "features")):
        for before, month in pairwise(MONTHS):
            assert done.index((name, month)) > max(done.index((parent, before)), done.index((parent, month)))
    # And what a run can materialize together is not taken apart: predictions with their model
    runs = home.instance.get_runs()
    assert {run.status for run in runs} == {Status.SUCCESS}
    assert len(runs) == 3 * len(MONTHS)


@pytest.mark.slow
def test_a_backfill_that_is_canceled_ends_with_its_runs(home: Home) -> None:
    # Given runs at work, and one in the queue
    (home.folder / "wait").touch()
    home.launch()
    wait_until((home.folder / "waits").exists, 120)
    # When it is canceled as Dagster's pages do
    home.instance.update_backfill(home.backfill().with_status(BulkActionStatus.CANCELING))
    # Then
    assert home.ended(300) == BulkActionStatus.CANCELED
    assert {name for name, _ in home.materialized()} == {"rows"}
    of_features = [run for run in home.instance.get_runs() if dg.AssetKey("features") in run.asset_selection]
    assert {run.status for run in of_features} == {Status.CANCELED}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance whose daemon queries often."""
    monkeypatch.setattr(daemon, "_QUERY_SECONDS", 0.01)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        yield found


def add_backfill(instance: dg.DagsterInstance, name: str = "one") -> None:
    instance.add_backfill(
        PartitionBackfill(
            backfill_id=name,
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={},
            backfill_timestamp=time.time(),
            partition_names=[],
        )
    )


def add_run(instance: dg.DagsterInstance, status: Status, backfill: str = "one") -> dg.DagsterRun:
    @dg.job
    def nothing() -> None: ...

    place = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(python_file="definitions.py"))
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(place, "__repository__"), "nothing")
    tags = {BACKFILL_ID_TAG: backfill}
    return instance.create_run_for_job(nothing, status=status, tags=tags, remote_job_origin=origin)


def begin(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Have a run begin its steps."""
    event = DagsterEvent(DagsterEventType.RUN_START.value, run.job_name)
    instance.handle_new_event(dg.EventLogEntry(None, 10, "", run.run_id, time.time(), dagster_event=event))


@dataclass
class Pauses:
    """Pauses between looks at the backfills of an instance."""

    backfills: daemon._Backfills
    monkeypatch: pytest.MonkeyPatch

    def seconds(self, happens: Callable[[], Any], usual: float, queued: float, after: float = 0) -> float:
        """Return how long the next pause takes, in which something happens after some seconds, and one query at least."""
        self.monkeypatch.setattr(daemon, "DEFAULT_DAEMON_INTERVAL_SECONDS", usual)
        self.monkeypatch.setattr(daemon, "_QUEUED_SECONDS", queued)
        start, has_happened = time.monotonic(), False
        for _ in self.backfills.pause(threading.Event()):
            if not has_happened and time.monotonic() - start >= after:
                happens()
                has_happened = True
        return time.monotonic() - start

    def is_ended_by(self, happens: Callable[[], Any]) -> bool:
        return self.seconds(happens, usual=30, queued=30) < 30

    def lasts(self, happens: Callable[[], Any] = lambda: None) -> bool:
        """Return whether it takes as long as Dagster's own."""
        return self.seconds(happens, usual=0.3, queued=30) >= 0.3


@pytest.fixture
def pauses(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Pauses:
    return Pauses(daemon._Backfills(instance), monkeypatch)


def test_without_a_backfill_it_is_looked_as_often_as_dagster_does(pauses: Pauses) -> None:
    assert 0.3 <= pauses.seconds(lambda: None, usual=0.3, queued=30) < 30


def test_a_backfill_is_looked_at_when_it_was_launched_when_its_runs_have_ended_and_when_it_is_canceled(
    instance: dg.DagsterInstance, pauses: Pauses
) -> None:
    # When it is launched
    assert pauses.is_ended_by(lambda: add_backfill(instance))
    # When some of its runs have ended, and not all
    first, second = add_run(instance, Status.STARTED), add_run(instance, Status.STARTED)
    assert pauses.lasts(lambda: instance.report_run_failed(first))
    # When all have, and once only
    assert pauses.is_ended_by(lambda: instance.report_run_failed(second))
    assert pauses.lasts()
    # When it is canceled while a run is at work, and when another one begins, which no look before could terminate
    first, second = add_run(instance, Status.STARTED), add_run(instance, Status.STARTING)
    canceled = instance.get_backfills()[0].with_status(BulkActionStatus.CANCELING)
    assert pauses.is_ended_by(lambda: instance.update_backfill(canceled))
    instance.report_run_canceling(first)
    assert pauses.lasts()
    assert pauses.is_ended_by(lambda: begin(instance, second))


def test_a_run_that_ends_during_a_look_is_not_missed(instance: dg.DagsterInstance, pauses: Pauses) -> None:
    add_backfill(instance)
    run = add_run(instance, Status.STARTED)
    assert pauses.is_ended_by(lambda: None)  # as when the daemon has been started again
    instance.report_run_failed(run)
    assert pauses.is_ended_by(lambda: None)


def test_a_backfill_whose_runs_wait_in_the_queue_is_looked_at_less_often(
    instance: dg.DagsterInstance, pauses: Pauses
) -> None:
    # Given
    add_backfill(instance)
    add_run(instance, Status.STARTED)
    queued = add_run(instance, Status.QUEUED)
    assert pauses.is_ended_by(lambda: None)
    # Then
    assert pauses.seconds(lambda: None, usual=0.3, queued=1) >= 1

    # And a while after the last one has left it
    assert pauses.seconds(lambda: instance.report_run_failed(queued), usual=0.5, queued=30, after=1) >= 1.4
    # And another one, whose runs are all at work, does not wait for it
    add_backfill(instance, "other")
    add_run(instance, Status.STARTED, "other")
    assert pauses.is_ended_by(lambda: None)
    assert pauses.seconds(lambda: None, usual=0.3, queued=30) < 30


def test_the_end_of_the_daemon_ends_a_pause(instance: dg.DagsterInstance) -> None:
    over = threading.Event()
    over.set()
    assert [*daemon._Backfills(instance).pause(over)] == []


def test_dagsters_loops_wait_for_nothing_but_the_shutdown_and_mark_their_looks(instance: dg.DagsterInstance) -> None:
    """Once one of these fails, what is put in the place of their waiting has to be looked at."""
    assert controller.DEFAULT_DAEMON_INTERVAL_SECONDS == 30
    over = threading.Event()
    over.set()
    start, end = SpanMarker.START_SPAN, SpanMarker.END_SPAN
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        loop = execute_backfill_iteration_loop(workspace, logging.getLogger(), over)
        assert [*islice(loop, 8)] == [start, None, end, None] * 2

    class Nothing(IntervalDaemon[Any]):
        @classmethod
        def daemon_type(cls) -> str:
            return "NOTHING"

        def run_iteration(self, workspace_process_context: Any) -> Any:  # noqa: ARG002 - as Dagster calls it
            yield from ()

    assert [*islice(Nothing(0).core_loop(workspace, threading.Event()), 6)] == [start, end, None] * 2


def test_a_loop_over_the_queue_that_is_begun_again_has_its_interval(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster begins a loop again after an error."""
    monkeypatch.setattr(QueuedRunCoordinatorDaemon, "core_loop", IntervalDaemon.core_loop)
    daemon._look_at_the_queue()
    queue = QueuedRunCoordinatorDaemon(interval_seconds=7)
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        loop = queue.core_loop(workspace, threading.Event())
        next(loop)
        assert queue.interval_seconds == 0
        loop.close()
    assert queue.interval_seconds == 7


@pytest.mark.slow
def test_the_launcher_counts_the_runs_that_have_ended(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text(YAML)
    write_project(tmp_path / "project")
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        project = Project(tmp_path / "project", instance)
        run = project.at_work()
        assert project.launcher.ended() == 0
        project.go_on()
        project.ended(run)
        wait_until(lambda: project.launcher.ended() == 1)
        assert project.launcher.ended() == 1
