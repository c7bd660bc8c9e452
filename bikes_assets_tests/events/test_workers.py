"""Which runs are given up: those whose process is gone, and no other."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import dagster as dg
import psutil
import pytest
from dagster import DagsterRunStatus as Status
from dagster._core.events import EngineEventData

from bikes_assets.core.errors import StoreError
from bikes_assets.defs.failures import failures
from bikes_assets.events import workers
from bikes_assets.events.attempts import what_failed
from bikes_assets.events.webserver import FAILURE
from bikes_assets.events.workers import WORKER, end_abandoned, mark, may_report
from bikes_assets.storage.processes import Process

HERE = socket.gethostname()
GONE = f"4194303@1@{HERE}"


@pytest.fixture
def alone(tmp_path):
    """Yield an instance whose storage is a file of this machine."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def shared(alone, monkeypatch):
    """Yield an instance whose storage several machines share, as far as the reaper can tell."""
    monkeypatch.setattr(workers, "is_of_one_machine", lambda _: False)
    return alone


def tagged(instance, tags, status=Status.STARTED):
    run = dg.DagsterRun(job_name="job", status=status, tags=tags)
    instance.add_run(run)
    return run


def silent_for(monkeypatch, seconds):
    now = time.time()
    monkeypatch.setattr(workers.time, "time", lambda: now + seconds)


def test_a_run_whose_process_is_gone_is_ended_and_one_whose_process_is_there_is_not(alone):
    gone, there = tagged(alone, {WORKER: GONE}), tagged(alone, {WORKER: str(Process.this())})
    assert end_abandoned(alone) == [f"Dagster run {gone.run_id}: its process is gone (pid 4194303), so it has ended"]
    assert [alone.get_run_by_id(run.run_id).status for run in (gone, there)] == [Status.FAILURE, Status.STARTED]


def test_another_process_that_got_the_id_is_not_the_one_that_executed_a_run(alone):
    other = replace(Process.this(), birth="1")
    run = tagged(alone, {WORKER: str(other)})
    assert not may_report(alone, run)
    assert len(end_abandoned(alone)) == 1


def test_whatever_the_clock_says_a_process_is_the_same(monkeypatch):
    """psutil tells when a process began by the time at which the machine started, which moves with the clock."""
    before = Process.this()
    began = psutil.boot_time()
    for hours in (-5, -0.2, 0.2, 5):
        monkeypatch.setattr(psutil._pslinux, "boot_time", lambda hours=hours: began + hours * 3600)
        silent_for(monkeypatch, hours * 3600)
        assert (Process.this(), before.is_gone()) == (before, False)


def test_a_step_notes_what_executes_a_run_that_dagster_launched(alone):
    """Dagster's event tells the process id alone."""
    run = tagged(alone, {})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as launched:
        alone.report_engine_event(
            "Started", run, EngineEventData(metadata={"pid": dg.MetadataValue.text(str(launched.pid))})
        )
        mark(alone, run)
        run = alone.get_run_by_id(run.run_id)
        noted = Process.parse(run.tags[WORKER].rpartition("@")[0])
        assert (noted.pid, noted.host, noted.is_gone(), may_report(alone, run)) == (launched.pid, HERE, False, True)
        assert end_abandoned(alone) == []
        launched.kill()
    assert not may_report(alone, run)
    assert len(end_abandoned(alone)) == 1


def test_a_run_that_was_to_be_cancelled_is_cancelled(alone):
    gone = tagged(alone, {WORKER: GONE}, Status.CANCELING)
    end_abandoned(alone)
    assert alone.get_run_by_id(gone.run_id).status == Status.CANCELED


def test_a_run_that_waits_is_left_alone(alone, monkeypatch):
    waits = tagged(alone, {}, Status.NOT_STARTED)
    silent_for(monkeypatch, 30 * 24 * 3600)
    assert end_abandoned(alone) == []
    assert alone.get_run_by_id(waits.run_id).status == Status.NOT_STARTED


def test_a_run_of_a_process_that_was_killed_before_its_first_event_is_ended(alone):
    gone = tagged(alone, {WORKER: GONE}, Status.NOT_STARTED)
    end_abandoned(alone)
    assert alone.get_run_by_id(gone.run_id).status == Status.FAILURE


def test_a_run_of_another_machine_is_not_judged_by_process_ids_of_this_one(shared, monkeypatch):
    elsewhere = tagged(shared, {WORKER: f"4194303@1@not-{HERE}"})
    here = tagged(shared, {WORKER: GONE})
    assert [line.split(":")[0] for line in end_abandoned(shared)] == [f"Dagster run {here.run_id}"]
    silent_for(monkeypatch, 7 * 3600)
    (line,) = end_abandoned(shared)
    assert line == (
        f"Dagster run {elsewhere.run_id}: it is of machine not-{HERE} and has told nothing for 420 minutes, so it has ended"
    )


@pytest.mark.parametrize("minutes", [9, 11])
def test_a_run_that_no_process_has_begun_is_given_up_after_ten_minutes(shared, monkeypatch, minutes):
    tagged(shared, {}, Status.STARTING)
    silent_for(monkeypatch, minutes * 60)
    assert len(end_abandoned(shared)) == (minutes > 10)


def test_a_run_that_is_executed_again_is_not_judged_by_the_tags_of_the_first(shared):
    first = "12345678-0000-0000-0000-000000000000"
    for tag in (GONE, f"{GONE}@12345678"):
        again = dg.DagsterRun(
            job_name="job", status=Status.STARTING, tags={WORKER: tag}, parent_run_id=first, root_run_id=first
        )
        shared.add_run(again)
        assert end_abandoned(shared) == []
        mark(shared, again)
        assert shared.get_run_by_id(again.run_id).tags[WORKER] == f"{Process.this()}@{again.run_id[:8]}"


def test_a_process_is_gone_only_where_that_can_be_known():
    assert not Process.parse(str(Process.this())).is_gone()
    assert Process.parse(GONE).is_gone()
    assert not Process.parse(f"4194303@1@not-{HERE}").is_gone()
    assert Process.parse("") is None
    assert Process.parse("x@y") is None


def test_a_process_that_has_ended_is_gone_also_while_nobody_has_waited_for_it():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        known = Process.parse(f"{process.pid}@@{HERE}")
        assert not known.is_gone()
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert known.is_gone()


def test_dagsters_own_monitoring_cannot_ask_the_default_launcher(alone):
    """Why we look for the process ourselves."""
    assert type(alone.run_launcher).__name__ == "DefaultRunLauncher"
    assert not alone.run_launcher.supports_check_run_worker_health


def test_a_failure_is_told_in_one_line_and_in_the_runs_tags(alone):
    @dg.op
    def step():
        raise ValueError("no such thing\nand more")

    @dg.job
    def job():
        step()

    result = job.execute_in_process(instance=alone, raise_on_error=False)
    failed = next(event for event in result.all_events if event.is_run_failure)
    failures(
        dg.build_run_status_sensor_context(
            sensor_name="failures", dagster_event=failed, dagster_instance=alone, dagster_run=result.dagster_run
        ).for_run_failure()
    )
    told = alone.get_run_by_id(result.run_id).tags[FAILURE]
    assert told == "step: ValueError: no such thing; see the run's events, mend it, then run it again"


def test_a_run_that_was_ended_from_outside_says_why(alone):
    gone = tagged(alone, {WORKER: GONE})
    end_abandoned(alone)
    assert what_failed(alone, gone) == (
        "before its first step: its process is gone (pid 4194303); run again what it has not materialized"
    )


def test_a_run_that_fails_before_its_first_step_says_why(alone):
    @dg.resource
    def away(_):
        raise StoreError("/x/store.json: found half of it; restore it, then run again")

    @dg.asset(required_resource_keys={"store"})
    def rentals():
        pass

    job = dg.Definitions([rentals], resources={"store": away}).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=alone, raise_on_error=False)
    assert what_failed(alone, result.dagster_run) == (
        "before its first step: StoreError: /x/store.json: found half of it; restore it, then run again"
    )


def test_a_signal_reaches_that_very_process_alone():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        this = Process.of(process.pid)
        assert not replace(this, birth="another").send(
            signal.SIGKILL
        )  # no process can be started so that it ignores it
        assert not Process.parse(GONE).send(signal.SIGKILL)
        assert process.poll() is None
        assert this.send(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert not this.send(signal.SIGKILL)
