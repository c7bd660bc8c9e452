"""Dagster's run launcher that has each run begin in a process forked from a zygote, for dagster.yaml to name.

run_launcher: {module: bikes_assets.events.warm.launcher, class: WarmRunLauncher}
run_coordinator: {module: bikes_assets.events.warm.launcher, class: WarmRunQueue}
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dagster import DagsterRun, DagsterRunStatus, DefaultRunLauncher, QueuedRunCoordinator
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import serialize_value

from bikes_assets.events.warm.libraries import locations, memory_of
from bikes_assets.events.warm.zygote import MOST_BYTES
from bikes_assets.events.workers import tag, worker_of
from bikes_assets.storage.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dagster._serdes import ConfigurableClassData

_ANSWER_SECONDS = 120
"""How long a zygote may take to answer: it may be importing a large library on a busy machine."""
_BEGIN_SECONDS = 10
"""How long a termination waits for a run to begin its steps; one of a run whose code is still loaded fails it in Dagster."""
_END_SECONDS = 2
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
"""Variables that libraries read when they are imported, which is before a project could set them."""


class WarmRunLauncher(DefaultRunLauncher):
    """Launches runs from zygotes, one for each code location; where that cannot be, as Dagster's default launcher does.

    A zygote is a child of the process that launches, which alone can order runs from it. It is started by the first
    launch, and ends with the launcher, but not before its runs have ended. It is replaced where what it has loaded, or
    the environment, is not as it was.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._zygotes: dict[str, _ZygoteProcess] = {}
        self._lock = threading.Lock()
        self._at_work: set[Process] = set()
        self._ended = 0

    def launch_run(self, context: LaunchRunContext) -> None:
        """Have a run begin, in a warm process if possible."""
        run = context.dagster_run
        code = run.job_code_origin
        if sys.platform != "linux" or not code or code.repository_origin.executable_path != sys.executable:
            super().launch_run(context)
        elif why := self._launch_warm(run):
            self._instance.report_engine_event(f"The run begins in a process that imports everything: {why}", run)
            super().launch_run(context)

    def _launch_warm(self, run: DagsterRun) -> str:
        """Have a run begin in a forked process; return why none was forked, "" if one was."""
        location = run.remote_job_origin.location_name if run.remote_job_origin else ""
        order = {"run": run.run_id, "instance": serialize_value(self._instance.get_ref())}
        why = ""
        for _ in range(2):  # a zygote that is stale or gone is replaced, once
            reader, writer = os.pipe()
            try:
                pid, why = self._fork(location, order, reader)
                if pid:
                    process = Process.of(pid)
                    tag(self._instance, run.run_id, process)
                    with self._lock:
                        self._at_work.add(process)
                    self._run_ids.add(run.run_id)
                    os.write(writer, b"1")
                    return ""
            finally:  # where nothing was written, a process that waits at the pipe ends now
                os.close(reader)
                os.close(writer)
        return why

    def _fork(self, location: str, order: Mapping[str, str], pipe: int) -> tuple[int, str]:
        """Return the id of a process that waits at a pipe to execute a run; or 0, and why there is none."""
        with self._lock:
            try:
                zygote = self._zygote(location)
            except OSError as error:
                return 0, f"no other process could be started: {error}"
            pid, why = zygote.fork(order, pipe)
            if not pid:
                self._zygotes.pop(location).retire()
        return pid, why

    def _zygote(self, location: str) -> _ZygoteProcess:
        environment = self._environment(location)
        if location in self._zygotes and self._zygotes[location].environment != environment:
            self._zygotes.pop(location).retire()
        if location not in self._zygotes:
            memory = memory_of(self._instance.root_directory, location)
            self._zygotes[location] = _ZygoteProcess(environment, memory)
        return self._zygotes[location]

    def prepare(self) -> None:
        """Start the zygotes of the code locations that had runs before, so that the next one need not wait for it."""
        with self._lock, suppress(OSError):  # the first launch tries again
            for location in locations(self._instance.root_directory):
                self._zygote(location)

    def ended(self) -> int:
        """Return how many processes of runs that it has launched have ended."""
        with self._lock:
            gone = [run for run in self._at_work if run.is_gone()]
            self._at_work.difference_update(gone)
            self._ended += len(gone)
            return self._ended

    def _environment(self, location: str) -> dict[str, str]:
        """Return the variables of a run's process: libraries may read them when they are imported."""
        secrets = self._instance._secrets_loader  # pyright: ignore[reportPrivateUsage]
        more = secrets.get_secrets_for_environment(location or None) if secrets else {}
        return {**_QUIET, **os.environ, **more}

    def terminate(self, run_id: str) -> bool:
        """Interrupt the process of a run, as Dagster's default launcher does; return whether it was there."""
        run = self._begun(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return False
        if GRPC_INFO_TAG in run.tags:
            return super().terminate(run_id)
        self._instance.report_run_canceling(run)
        worker = worker_of(self._instance, run)
        if worker and worker.is_gone():
            self._instance.report_run_canceled(run, f"Its process is gone (pid {worker.pid}).")
            return False
        if worker and worker.birth and worker.host == socket.gethostname():
            return worker.send(signal.SIGINT)
        where = f"it is a process of {worker.host}" if worker else "its process is not known"
        self._instance.report_engine_event(f"The run cannot be terminated from here: {where}.", run)
        return False

    def _begun(self, run_id: str) -> DagsterRun | None:
        """Return a run that has begun its steps, or does not begin them any more, or not soon."""
        end = time.monotonic() + _BEGIN_SECONDS
        while (run := self._instance.get_run_by_id(run_id)) and run.status == DagsterRunStatus.STARTING:
            worker = worker_of(self._instance, run)
            if (worker and worker.is_gone()) or time.monotonic() > end:
                break
            time.sleep(0.05)
        return run

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether Dagster's run monitoring, where it is enabled, can ask for the process of a run."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a run is there; one that cannot be looked up from here counts as being there."""
        worker = worker_of(self._instance, run)
        if worker and worker.is_gone():
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process is gone (pid {worker.pid})")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def dispose(self) -> None:
        """Let go of the zygotes: each ends when its runs have ended."""
        with self._lock:
            zygotes = [*self._zygotes.values()]
            self._zygotes.clear()
        for zygote in zygotes:
            zygote.retire()
        for zygote in zygotes:
            zygote.wait()
        super().dispose()


class WarmRunQueue(QueuedRunCoordinator):
    """Dagster's queue of runs, whose daemon starts the zygotes when it starts itself."""

    @property
    def dequeue_interval_seconds(self) -> int:
        """How often the daemon looks at the queue; it asks once, when it starts, and nothing else does."""
        launcher = self._instance.run_launcher
        if sys.platform == "linux" and isinstance(launcher, WarmRunLauncher):
            from bikes_assets.events.warm.daemon import look_in_time  # only the daemon needs what it imports

            launcher.prepare()
            look_in_time()
        return super().dequeue_interval_seconds


class _ZygoteProcess:
    """A zygote, and the socket by which it takes orders."""

    def __init__(self, environment: Mapping[str, str], memory: Path) -> None:
        self.environment = dict(environment)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_ANSWER_SECONDS)
        command = [sys.executable, "-m", "bikes_assets.events.warm.zygote", str(theirs.fileno()), str(memory)]
        with theirs:
            self._process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )

    def fork(self, order: Mapping[str, str], pipe: int) -> tuple[int, str]:
        """Order a process; return its id, or 0 and why there is none."""
        message = json.dumps(order).encode()
        if len(message) > MOST_BYTES:
            return 0, f"the instance's configuration has {len(message)} bytes"
        try:
            socket.send_fds(self._socket, [message], [pipe])
            answer: dict[str, Any] = json.loads(self._socket.recv(MOST_BYTES) or "{}")
        except TimeoutError:
            self._process.kill()
            return 0, f"the process to fork it from did not answer for {_ANSWER_SECONDS} seconds"
        except OSError:
            answer = {}
        return answer.get("pid", 0), answer.get("why", "the process to fork it from has ended")

    def retire(self) -> None:
        """Order nothing any more, upon which it ends, or later, when its runs have ended."""
        self._socket.close()
        threading.Thread(target=self._process.wait, daemon=True).start()  # else it would remain as a zombie

    def wait(self) -> None:
        """Wait a moment for its end."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
