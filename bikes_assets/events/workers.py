"""Which process executes a Dagster run, and the ending of runs that no process executes any more."""

from __future__ import annotations

import os
import socket
import time

import dagster as dg
from dagster._utils import get_run_crash_explanation

from bikes_assets.storage.processes import Process

AT_WORK = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""Statuses of a run that is being executed, or believed to be."""
WHY = "bikes_assets/why"
"""Tag of a Dagster run: why it was begun."""
WORKER = "bikes_assets/worker"
"""Tag of a Dagster run: the process that executes it, and the start of the run's id where a step has written the tag,
because a re-executed run inherits the tags of the first."""
SILENCE = {"start": 600, "elsewhere": 6 * 3600}
"""Seconds without an event after which a run is abandoned: one without a started step, or one of another machine."""


def mark(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Write to a run's tags which process of this machine executes it; Dagster's own events contain only its id."""
    worker = worker_of(instance, run)
    if worker is None or not worker.birth:
        tag(instance, run.run_id, Process.of(worker.pid) if worker else Process.this())


def tag(instance: dg.DagsterInstance, run_id: str, process: Process) -> None:
    """Write to a run's tags that a process executes it; `worker_of` reads it."""
    instance.add_run_tags(run_id, {WORKER: f"{process}@{run_id[:8]}"})


def end_abandoned(instance: dg.DagsterInstance) -> list[str]:
    """End every Dagster run whose process is gone, as failed, or as canceled where that was requested.

    A process of this machine is looked up by its id. A run of another machine is left to that machine, and abandoned
    after `SILENCE`, as is a run that no process has started. Should it resume, it can publish nothing more.
    """
    done: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[*AT_WORK, dg.DagsterRunStatus.NOT_STARTED])):
        if run.status == dg.DagsterRunStatus.NOT_STARTED and (WORKER not in run.tags or run.parent_run_id):
            continue  # it waits to be launched
        why = _why_gone(instance, run)
        if not why:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, f"{why}.")
        else:
            instance.report_run_failed(run, f"{why}; run again what it has not materialized.")
        done.append(f"Dagster run {run.run_id}: {why}, so it has ended")
    return done


def report_crash(instance: dg.DagsterInstance, run_id: str, exit_code: int) -> None:
    """End a run whose process has ended with an exit code, unless the process has done so itself."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    why = get_run_crash_explanation(f"The process of run {run_id}", exit_code)
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, why)
    else:
        instance.report_run_failed(run, why)


def worker_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Process | None:
    """Return the process that executes a run; None while it is not known."""
    text, _, of = run.tags.get(WORKER, "").rpartition("@")
    if of == run.run_id[:8]:
        return Process.parse(text)
    if WORKER in run.tags and not run.parent_run_id:  # otherwise the tag is the parent's
        return Process.parse(run.tags[WORKER])
    host = socket.gethostname() if is_of_one_machine(instance) else ""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    told = (record.event_log_entry.get_dagster_event().event_specific_data for record in records)
    pids = (getattr(data, "metadata", {}).get("pid") for data in told)
    return next((Process(int(str(pid.value)), "", host) for pid in pids if pid is not None), None)


def may_report(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether another process of this machine that executes a run, ended or not, can still report its events."""
    worker = worker_of(instance, run)
    if worker is None or worker.host != socket.gethostname() or worker.pid == os.getpid():
        return False
    return not worker.is_gone()


def began_later(instance: dg.DagsterInstance, run_id: str, than: str) -> bool:
    """Return whether a run was created after another one; False where either is not known."""
    first, second = (instance.get_run_record_by_id(item) if item else None for item in (run_id, than))
    if not first or not second:
        return False
    return (first.storage_id, first.create_timestamp) > (second.storage_id, second.create_timestamp)


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Return whether a run of this process was stopped by Ctrl-C: Dagster marks it as failed, and goes on."""
    reasons = [event.job_failure_data.failure_reason for event in result.all_events if event.is_job_failure]
    return any(reason and reason.name == "UNEXPECTED_TERMINATION" for reason in reasons)


def _why_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return why a run cannot be in progress any more, "" where it may be."""
    worker = worker_of(instance, run)
    if worker and worker.is_gone():
        return f"its process is gone (pid {worker.pid})"
    if worker and worker.birth and worker.host == socket.gethostname():
        return ""
    if worker and worker.host not in ("", socket.gethostname()):
        where, limit = f"it is of machine {worker.host} and has", SILENCE["elsewhere"]
    else:  # a process with its id may be another one
        where, limit = "no step of it has begun, and it has", SILENCE["start"]
    silent = time.time() - _last_event(instance, run)
    return f"{where} told nothing for {silent / 60:.0f} minutes" if silent > limit else ""


def _last_event(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float:
    records = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    if records:
        return records[0].event_log_entry.timestamp
    known = instance.get_run_record_by_id(run.run_id)
    return known.create_timestamp.timestamp() if known else 0.0


def is_of_one_machine(instance: dg.DagsterInstance) -> bool:
    """Return whether Dagster's runs are in SQLite: a file of one machine."""
    from dagster._core.storage.runs import SqliteRunStorage

    return isinstance(instance.run_storage, SqliteRunStorage)
