"""Dagster's run launcher that leaves each run to a Celery worker, for dagster.yaml to name; see docs/scale-out.md.

run_launcher: {module: bikes_assets.events.celery.launcher, class: CeleryLauncher, config: {broker: {env: BIKES_BROKER}}}
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

if TYPE_CHECKING:
    from dagster import DagsterRun

EXECUTE_RUN = "bikes_assets.execute_run"
"""The task; dagster-celery's own worker does not know it, for it would keep the code that an earlier run has imported."""
_SETTINGS = {
    # a worker takes a run when it has a free process; what it had taken in advance would be lost with it for an hour
    "worker_disable_prefetch": True,
    "broker_connection_retry_on_startup": True,
    # how long a launch waits for a broker that is away: 50 seconds
    "task_publish_retry_policy": {"max_retries": 12, "interval_start": 1, "interval_step": 1, "interval_max": 5},
}
_ANSWER_SECONDS = 3
_KNOWN_SECONDS = 1
"""How long an answer holds: Dagster asks for all runs one after the other."""
_MOST_UNANSWERED = 3
"""Looks in a row at which no worker says that it executes a run, until it is lost: a worker may be connecting again."""


class CeleryLauncher(CeleryRunLauncher):
    """Launches runs as Celery tasks, and asks the workers which of them they are executing.

    dagster-celery's own launcher goes by the task's state: a run whose worker was killed is healthy for ever.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._answer: tuple[float, set[str]] | None = None
        self._unanswered: dict[str, int] = {}

    def app_args(self) -> dict[str, Any]:
        """Return the arguments of the Celery app: `config_source` of dagster.yaml over the settings above.

        No results are kept: how a run has ended is in Dagster's event log.
        """
        given = super().app_args()
        return given | {"backend": "disabled://", "config_source": _SETTINGS | given["config_source"]}

    def launch_run(self, context: LaunchRunContext) -> None:
        """Put a run into the workers' queue."""
        run = context.dagster_run
        if not run.job_code_origin:
            raise ValueError(f"run {run.run_id}: found no code location, from which a worker could load it")
        # no instance: the worker's is that of its own machine, where paths of this one need not exist
        order = serialize_value(ExecuteRunArgs(run.job_code_origin, run.run_id, None, True))
        task = self.celery.signature(EXECUTE_RUN, args=(order,), immutable=True)
        self._launch_celery_task_run(run, task, EXECUTE_RUN)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether a worker is executing a run; Dagster's run monitoring asks for runs that have started."""
        if _task_of(run) in self._executed():
            self._unanswered.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        unanswered = self._unanswered.pop(run.run_id, 0) + 1
        if unanswered < _MOST_UNANSWERED:
            self._unanswered[run.run_id] = unanswered
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "no worker is executing it")

    def terminate(self, run_id: str) -> bool:
        """Interrupt the process of a run, whose worker may be anywhere, or take the run from the queue."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        self._answer = None  # a worker may have taken it since
        waits = _task_of(run) not in self._executed()
        self.celery.control.revoke(_task_of(run), terminate=True)
        if waits:
            self._instance.report_run_canceled(run, "No worker is executing it.")
        return True

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:  # noqa: ARG002
        """Return what is known of a run that has not started in time."""
        return f"Celery task {_task_of(run)}: no worker has begun it, or its worker is gone"

    def _executed(self) -> set[str]:
        """Return the tasks that workers are executing, as they tell."""
        if not self._answer or time.monotonic() - self._answer[0] > _KNOWN_SECONDS:
            told = self.celery.control.inspect(timeout=_ANSWER_SECONDS).active() or {}
            self._answer = time.monotonic(), {task["id"] for tasks in told.values() for task in tasks}
        return self._answer[1]


def _task_of(run: DagsterRun) -> str:
    return run.tags.get(DAGSTER_CELERY_TASK_ID_TAG, "")
