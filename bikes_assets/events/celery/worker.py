"""A Celery worker that executes Dagster's runs, each in a process of its own, which imports everything from disk.

    celery -A bikes_assets.events.celery.worker worker --concurrency 2

Broker and settings are those of the launcher that dagster.yaml in DAGSTER_HOME names. Processes end with what has started
them: a run's with the worker's, the worker's with its main one. So of a worker that is gone nothing is left at work.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from celery import signals
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import deserialize_value

from bikes_assets.core.errors import SettingsError
from bikes_assets.events.celery.launcher import EXECUTE_RUN, CeleryLauncher
from bikes_assets.events.workers import report_crash
from bikes_assets.storage.processes import ending_with_this

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery


def _app_of_home() -> Celery:
    """Return the app of the launcher in DAGSTER_HOME.

    Raises:
        SettingsError: there is none.
    """
    home = os.environ.get("DAGSTER_HOME", "")
    launcher = InstanceRef.from_dir(home).run_launcher if home else None
    if not isinstance(launcher, CeleryLauncher):
        found = f"{home}/dagster.yaml: found {type(launcher).__name__}" if home else "DAGSTER_HOME: found nothing"
        raise SettingsError(f"{found}, expected run_launcher to be CeleryLauncher, as docs/scale-out.md shows")
    return launcher.celery


def _execute_run(order: str) -> None:
    """Execute a run as `dagster api execute_run` does; end it as failed where its process has not lived to do so.

    dagster-celery's own task executes it in the worker's process, which keeps the code that an earlier run has imported.
    """
    command = [sys.executable, "-m", "dagster", "api", "execute_run", order]
    code = subprocess.Popen(command, preexec_fn=_interrupted_with(signal.SIGINT)).wait()
    if code:  # 1 where the run has failed, too
        with DagsterInstance.get() as instance:
            report_crash(instance, deserialize_value(order, ExecuteRunArgs).run_id, code)


def _interrupted_with(number: signal.Signals) -> Callable[[], None]:
    end = ending_with_this(number)

    def begin() -> None:
        signal.signal(number, signal.default_int_handler)  # Celery's processes ignore it
        end()

    return begin


def _end_processes_with_worker(**_: Any) -> None:
    end = ending_with_this(signal.SIGKILL)
    signals.worker_process_init.connect(lambda **_: end(), weak=False)


app = _app_of_home()
app.task(name=EXECUTE_RUN)(_execute_run)
signals.worker_init.connect(_end_processes_with_worker, weak=False)
