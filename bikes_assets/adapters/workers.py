"""Who executes a Dagster run, and the end of runs that nobody executes any more."""

from __future__ import annotations

import os
import socket
import time

import dagster as dg

AT_WORK = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""Statuses of a run that is being executed, or believed to be."""
WORKER = "bikes_assets/worker"
"""Tag of a Dagster run: `process id@time` of what executes it, where Dagster's own events do not tell."""
HOST = "bikes_assets/host"
"""Tag of a Dagster run: `start of its id@machine` that executes it. Process ids mean something there alone. With its id, for a
run that is executed again inherits the tags of the first."""
SILENCE = {"start": 600, "elsewhere": 6 * 3600}
"""Seconds without an event after which a run is given up: one that no process has begun, and one of another machine."""


def mark_host(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Note in a run's tags which machine executes it, where that may be another one than that of who asks later."""
    if not is_of_one_machine(instance) and not _host(instance, run):
        instance.add_run_tags(run.run_id, {HOST: f"{run.run_id[:8]}@{socket.gethostname()}"})


def end_abandoned(instance: dg.DagsterInstance) -> list[str]:
    """End every Dagster run whose process is gone, as failed, or as canceled where that was asked for.

    A process of this machine is looked for by its id. A run of another machine is left to that machine, and given up after
    `SILENCE`, as is a run that no process has begun. Should it come back to life, it can publish nothing more.
    """
    done: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[*AT_WORK, dg.DagsterRunStatus.NOT_STARTED])):
        if run.status == dg.DagsterRunStatus.NOT_STARTED and (WORKER not in run.tags or run.parent_run_id):
            continue  # it waits for somebody to launch it
        why = _why_gone(instance, run)
        if not why:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, f"{why}.")
        else:
            instance.report_run_failed(run, f"{why}; run again what it has not made.")
        done.append(f"Dagster run {run.run_id}: {why}, so it has ended")
    return done


def may_report(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether another process of this machine that executes a run, ended or not, is still there to report its events."""
    worker = _worker(instance, run)
    return (
        bool(worker) and _host(instance, run) == socket.gethostname() and worker[0] != os.getpid() and _alive(*worker)
    )


def this_process() -> str:
    """Return `process id@time@machine` of this process."""
    return f"{os.getpid()}@{time.time():.3f}@{socket.gethostname()}"


def is_gone(process: str) -> bool:
    """Return whether what `this_process` returned once is no more; False where that cannot be known."""
    pid, _, rest = process.partition("@")
    at, _, host = rest.partition("@")
    return bool(pid) and host == socket.gethostname() and not _alive(int(pid), float(at))


def began_later(instance: dg.DagsterInstance, run_id: str, than: str) -> bool:
    """Return whether a run was created after another one; False where either is not known."""
    first, second = (instance.get_run_record_by_id(item) if item else None for item in (run_id, than))
    if not first or not second:
        return False
    return (first.storage_id, first.create_timestamp) > (second.storage_id, second.create_timestamp)


def was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Return whether a run of this process was stopped by Ctrl-C: Dagster calls it failed, and goes on."""
    reasons = [event.job_failure_data.failure_reason for event in result.all_events if event.is_job_failure]
    return any(reason and reason.name == "UNEXPECTED_TERMINATION" for reason in reasons)


def _why_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return why a run cannot be at work any more, "" where it may be."""
    worker, host = _worker(instance, run), _host(instance, run)
    if worker and host == socket.gethostname():
        return "" if _alive(*worker) else f"its process is gone (pid {worker[0]})"
    if worker and host:
        where, limit = f"it is of machine {host} and has", SILENCE["elsewhere"]
    else:
        where, limit = "no process says that it executes it, and it has", SILENCE["start"]
    silent = time.time() - _last_event(instance, run)
    return f"{where} told nothing for {silent / 60:.0f} minutes" if silent > limit else ""


def _host(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return the machine that executes a run, "" where it is not known."""
    if is_of_one_machine(instance):
        return socket.gethostname()
    run_id, _, host = run.tags.get(HOST, "").partition("@")
    return host if run_id == run.run_id[:8] else ""


def _worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Return the process that executes a run, and a time at which it did; None while it is not known."""
    if WORKER in run.tags and not run.parent_run_id:  # else it is the parent's
        pid, _, at = run.tags[WORKER].partition("@")
        return int(pid), float(at)
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    for record in records:
        entry = record.event_log_entry
        pid = getattr(entry.get_dagster_event().event_specific_data, "metadata", {}).get("pid")
        if pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def _last_event(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float:
    records = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    if records:
        return records[0].event_log_entry.timestamp
    known = instance.get_run_record_by_id(run.run_id)
    return known.create_timestamp.timestamp() if known else 0.0


def _alive(pid: int, at: float) -> bool:
    """Return whether the process that had this id at a time is still there; ids are given anew."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.create_time() <= at + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_of_one_machine(instance: dg.DagsterInstance) -> bool:
    """Return whether Dagster's runs lie in SQLite: a file, which one machine has."""
    from dagster._core.storage.runs import SqliteRunStorage

    return isinstance(instance.run_storage, SqliteRunStorage)
