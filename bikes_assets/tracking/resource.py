"""MLflow through dagster-mlflow, for a Dagster run in progress: one parent run, and one run for each attempt at a step.

dagster-mlflow attaches to the parent through its `mlflow_run_id`. By default it would search for a parent and create
one where it finds none, which makes several under parallel steps, and would reuse that of another Dagster run in the
same process. A run never waits for MLflow longer than `client.PATIENCE` seconds: what was not logged by then is logged
later, in order, by `orchestration.reconcile`.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from bikes_assets.core.errors import SettingsError, StoreError, TrackingError
from bikes_assets.core.secrets import scrubbed, shown
from bikes_assets.core.transient import store_error, without_secrets
from bikes_assets.events.attempts import attempts_of, ended
from bikes_assets.events.run_log import BACKLOG
from bikes_assets.events.workers import mark
from bikes_assets.tracking import notes as mlflow_notes
from bikes_assets.tracking.client import (
    PATIENCE,
    client_of,
    experiment_of,
    file_of,
    fluent,
    lineage_of,
    one_by_one,
)
from bikes_assets.tracking.names import is_refusal
from bikes_assets.tracking.numbers import Numbers
from bikes_assets.tracking.runs import KEY, MlflowRuns, by_attempt, end_failed, parent_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import RunInfo

    from bikes_assets.core.record import Record
    from bikes_assets.core.schema import Schema

_SLOW = 0.5
"""Seconds within which the first answer must come: the calls after it take about ten more."""

_Answer = TypeVar("_Answer")


class Tracking:
    """MLflow for the materializations of one Dagster run; while it is unreachable, calls do nothing and nothing fails.

    Args:
        instance: Dagster's instance, which stores that something is left to log.
        run: the Dagster run.
        warn: called once, with the reason, when MLflow becomes unreachable.
        patience: seconds to wait in total.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        run: dg.DagsterRun,
        warn: Callable[[str], object],
        patience: float = PATIENCE,
    ) -> None:
        self._instance, self._run, self._warn, self._patience = instance, run, warn, patience
        self._runs: MlflowRuns | None = None
        self._uri = ""
        self._found: RunInfo | None = None
        self._active: list[Any] = []
        self._away = False

    def connect(self, uri: str, experiment: str, connected: Callable[[], MlflowRuns], context: Any) -> None:
        """Find or create the parent run and make dagster-mlflow attach to it."""
        if backlog(self._instance):
            self._leave("something from before is not logged there yet, and what follows keeps its turn")
            return
        self._uri = uri
        patience = self._patience
        self._runs = self._try(lambda: replace(connected(), registered=Numbers(self._instance)))
        if patience - self._patience > _SLOW and not self._away:
            self._leave("it is slow to answer")
        if self._runs and not self._away:
            self._found = self._try(lambda: parent_run(self._required(), uri, self._instance, self._run))
        if self._found:
            self._active = self._try(lambda: _attached(context, self._required(), uri, experiment, self._parent)) or []

    @property
    def _parent(self) -> RunInfo:
        assert self._found  # noqa: S101 - without it, MLflow is unreachable
        return self._found

    @contextmanager
    def active(self) -> Iterator[None]:
        """Direct MLflow's fluent calls to this Dagster run's parent, whatever else is active in this thread."""
        if self._away or not self._active:
            yield
            return
        with fluent(self._uri, self._parent.experiment_id, self._active):
            yield

    @property
    def is_connected(self) -> bool:
        """Whether MLflow was reached, even if it is unreachable by now."""
        return self._runs is not None

    def start(self, step_key: str, number: int, asset: str) -> str:
        """Create the run of an attempt to materialize an asset, and return its id; "" while MLflow is unreachable."""

        def created() -> str:
            return self._required().create(self._parent.run_id, self._run, step_key, number, asset).run_id

        return self._try(created) or ""

    def ask(self, call: Callable[[MlflowClient], _Answer]) -> _Answer | None:
        """Return the result of `call` with MLflow's client, None while MLflow is unreachable."""
        return self._try(lambda: call(self._required().client))

    def finish(self, run_id: str, record: Record, plots: Mapping[str, str]) -> int:
        """Write a record and its plots, SVG by title, to its attempt's run and end it.

        Returns:
            The registered version of the fitted model, 0 where there is none, or while MLflow is unreachable.
        """
        return self._try(lambda: self._required().finish(run_id, record, plots=plots)) or 0

    def url(self, run_id: str, asset: str) -> str:
        """Return the address of the page of a run that `start` created for an asset."""
        return self._required().url(run_id, self._required().experiment_of(asset))

    def close(self) -> None:
        """End the parent as Dagster's run ends, and the runs of attempts that published nothing."""
        self._try(self._close)

    def _close(self) -> None:
        run = self._instance.get_run_by_id(self._run.run_id) or self._run
        attempts = attempts_of(self._instance, run.run_id)
        last = {attempt.step_key: attempt for attempt in attempts}
        status = ended(run)
        if not status and any(attempt.succeeded is False for attempt in last.values()):
            status = "FAILED"
        if not status and not _open_steps(self._instance, run, {key for key, item in last.items() if item.succeeded}):
            status = "FINISHED"
        lost = [attempt for attempt in attempts if attempt.succeeded is False and not attempt.record]
        if lost:
            with one_by_one(self._uri):  # the processes of a run's other steps do the same
                known = by_attempt(self._required().of(run.run_id))
                end_failed(self._required(), run, self._parent.run_id, lost, status or "", known)
        if status:
            self._required().end(self._parent.run_id, status)

    def _required(self) -> MlflowRuns:
        assert self._runs  # noqa: S101 - `_try` calls nothing while MLflow is unreachable
        return self._runs

    def _try(self, call: Callable[[], Any]) -> Any:
        """Call MLflow; an error there is only a warning, because the data does not depend on it."""
        if self._away:
            return None
        wall, busy = time.monotonic(), time.thread_time()
        try:
            result = call()
        except SettingsError:
            raise  # MLflow belongs to another store: nothing of this run may be written to it
        except Exception as error:  # noqa: BLE001 - whatever MLflow raises
            told = scrubbed(str(store_error(error, shown(self._uri)) or error), self._uri)
            if is_refusal(error):  # one item was refused; sync reports it again, and what follows is written
                self._warn(f"MLflow refused something, which is left out there: {told}")
            else:
                self._leave(told)
            return None
        except BaseException:  # an interruption: the store may be in the middle of a transaction, so do not wait
            self._leave("it was interrupted")
            raise
        waited = time.monotonic() - wall - (time.thread_time() - busy)
        if not file_of(self._uri):  # a SQLite file is this process's own work
            self._patience -= waited
        if self._patience < 0:
            self._leave("it is slow to answer")
        return result

    def _leave(self, reason: str) -> None:
        self._away = True
        mark_backlog(self._instance)
        self._warn(
            f"MLflow: {reason}. What this run makes from here on is logged later, by `bikes sync` or its sensor."
        )


def tracking_resource(
    uri: str,
    experiment: str,
    mlflow_url: str,
    dagster_url: str,
    schemas: Mapping[str, Schema],
    claim: Callable[[dg.DagsterInstance], str | None] = lambda _: None,
    compared: Collection[str] | None = None,
    lineage_url: str = "",
) -> dg.ResourceDefinition:
    """Return the `mlflow` resource: a `Tracking` for each Dagster run.

    Args:
        uri: MLflow's store or server.
        experiment: name of the experiment.
        mlflow_url: where people open MLflow.
        dagster_url: where people open Dagster.
        schemas: declared columns of each table, by asset.
        claim: returns the id of the store that an instance is of, before anything is written; it raises where the
            instance is of another store than the lake.
        compared: assets whose runs are in the experiment, side by side, such as those that fit or evaluate a model;
            None for all. All other runs are in a second experiment, `NAME-lineage`.
        lineage_url: where people open the lineage page, "" where nobody does.
    """

    @dg.resource(description="MLflow: one run per Dagster run, one run per attempt to materialize something.")
    def mlflow(context: Any) -> Iterator[Tracking]:
        store = claim(context.instance)
        mark(context.instance, context.run)
        tracking = Tracking(context.instance, context.run, context.log.warning)
        pages = mlflow_url, dagster_url
        connected = partial(
            connect, uri, experiment, *pages, schemas, store, compared=compared, lineage_url=lineage_url
        )
        tracking.connect(uri, experiment, connected, context)
        try:
            yield tracking
        finally:
            tracking.close()

    return mlflow


def connect(
    uri: str,
    experiment: str,
    mlflow_url: str,
    dagster_url: str,
    schemas: Mapping[str, Schema],
    store: str | None = None,
    restored: list[str] | None = None,
    compared: Collection[str] | None = None,
    lineage_url: str = "",
) -> MlflowRuns:
    """Return the writer of MLflow's runs; with `restored`, deleted experiments are restored: see `experiment_of`.

    Raises:
        SettingsError: MLflow is in use by another store.
        TrackingError: MLflow cannot be reached, or its store is damaged.
    """
    try:
        client, lineage = client_of(uri), lineage_of(experiment)
        notes = {
            experiment: mlflow_notes.of_experiment(lineage),
            lineage: mlflow_notes.of_lineage_experiment(experiment),
        }
        first, second = (experiment_of(client, uri, name, store, restored, about) for name, about in notes.items())
        return MlflowRuns(client, first, second, schemas, dagster_url, mlflow_url, lineage_url, compared)
    except (SettingsError, TrackingError):
        raise
    except StoreError as error:
        raise TrackingError(str(error)) from error
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises
        raise TrackingError(scrubbed(f"{shown(uri)} cannot be reached: {error}", uri)) from without_secrets(error)


def parent_run(runs: MlflowRuns, uri: str, instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunInfo:
    """Return the one MLflow run of a Dagster run, created when there is none, and name it in the Dagster run's tags."""
    with one_by_one(uri):
        parents = [item.info for item in runs.of(run.run_id) if KEY not in item.data.tags]
        parent = parents[0] if parents else runs.create_parent(run)
    if run.tags.get("mlflow_run_id") != parent.run_id:
        instance.add_run_tags(run.run_id, {"mlflow_run_id": parent.run_id})
    return parent


def backlog(instance: dg.DagsterInstance) -> str:
    """Return since when something is left to log, "" when nothing is."""
    return instance.daemon_cursor_storage.get_cursor_values({BACKLOG}).get(BACKLOG, "")


def mark_backlog(instance: dg.DagsterInstance) -> None:
    """Store that something is left to log."""
    if not backlog(instance):
        instance.daemon_cursor_storage.set_cursor_values({BACKLOG: f"{time.time():.3f}"})


def clear_backlog(instance: dg.DagsterInstance) -> None:
    """Store that everything is logged."""
    if backlog(instance):
        instance.daemon_cursor_storage.set_cursor_values({BACKLOG: ""})


def _attached(context: Any, runs: MlflowRuns, uri: str, experiment: str, parent: RunInfo) -> list[Any]:
    """Make dagster-mlflow attach to the parent run, and return the runs that are then active in MLflow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dagster_mlflow import mlflow_tracking

        # before there were two experiments, parents were in the first one
        name = experiment if parent.experiment_id == runs.experiment_id else lineage_of(experiment)
        config = {"experiment_name": name, "mlflow_tracking_uri": uri, "mlflow_run_id": parent.run_id, "env": {}}
        attach: Any = mlflow_tracking.resource_fn
        # without active runs: otherwise it would take another Dagster run's for its own
        with fluent(uri, parent.experiment_id, []) as stack:
            next(attach(context.replace_config(config)))
            runs.client.update_run(parent.run_id, name=parent_name(context.run))  # it calls each by the job's name
            return list(stack.get())


def _open_steps(instance: dg.DagsterInstance, run: dg.DagsterRun, succeeded: set[str]) -> set[str]:
    """Return the steps that a Dagster run still has to execute; a step whose inputs were not materialized is skipped."""
    snapshot = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
    left = set(snapshot.step_keys_to_execute) - succeeded
    if left:
        records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_SKIPPED).records
        left -= {str(record.event_log_entry.step_key) for record in records}
    return left
