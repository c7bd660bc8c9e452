"""People's own runs in MLflow: datasets, parameters, metrics and models are logged by run id; nothing is registered.

While such a run is open, MLflow's fluent calls in the same thread go to it. Nothing here can write to the lake.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from bikes_assets.core.errors import LineageError, TrackingError
from bikes_assets.core.secrets import scrubbed, shown
from bikes_assets.core.transient import without_secrets
from bikes_assets.tracking.client import client_of, experiment_of, fluent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from bikes_assets.core.record import Use
    from bikes_assets.core.schema import Schema

_Result = TypeVar("_Result")


@dataclass
class ExperimentRun:
    """One run of MLflow, open for writing.

    Attributes:
        client: client of the tracking store.
        uri: the tracking store.
        run: MLflow's description of the run, as it was created.
        validation: the dataset with context `validation` that a model's metrics are linked to, None while there is
            none.
    """

    client: MlflowClient
    uri: str
    run: Run
    validation: Use | None = field(default=None, init=False)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.info.run_id

    def log_dataset(self, use: Use, schema: Schema | None) -> None:
        """Log rows in a role as an input; in the role `validation`, a model's metrics logged later are linked to them.

        Raises:
            TrackingError: MLflow did not take it.
        """
        from mlflow.entities import DatasetInput, InputTag

        from bikes_assets.tracking.datasets import dataset_entity

        entry = DatasetInput(dataset_entity(use, schema), [InputTag("mlflow.data.context", use.context)])
        _told(self.uri, lambda: self.client.log_inputs(self.run_id, [entry]))
        if use.context == "validation":
            self.validation = use

    def log_input_model(self, model_id: str) -> None:
        """Log a logged model as an input.

        Raises:
            TrackingError: MLflow did not take it.
        """
        from mlflow.entities import LoggedModelInput

        _told(self.uri, lambda: self.client.log_inputs(self.run_id, models=[LoggedModelInput(model_id)]))

    def log(
        self, params: Mapping[str, Any], metrics: Mapping[str, float | Mapping[int, float]], model_id: str = ""
    ) -> None:
        """Log parameters and metrics.

        Args:
            params: settings, written as text.
            metrics: metrics by name: a number, or numbers by whole number (step).
            model_id: the logged model that the metrics are of, "" for none.

        Raises:
            TrackingError: a metric is no number, or MLflow refused it, as when a parameter already has another value.
        """
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        link: dict[str, Any] = {"model_id": model_id} if model_id else {}
        if self.validation and model_id:  # MLflow stores a metric's dataset only with its model
            link |= {"dataset_name": self.validation.name, "dataset_digest": self.validation.digest}
        logged = [
            Metric(name, _metric(name, value), now, int(step), **link)
            for name, values in metrics.items()
            for step, value in (values.items() if hasattr(values, "items") else [(0, values)])  # pyright: ignore
        ]
        texts = [Param(name, str(value)) for name, value in params.items()]
        _told(self.uri, lambda: self.client.log_batch(self.run_id, logged, texts))

    def log_model(self, estimator: Any, example: Any, trusted: Sequence[str]) -> str:
        """Log a copy of a fitted estimator, and return the logged model's id; it is not registered as a version.

        Args:
            estimator: fitted scikit-learn estimator.
            example: a handful of its input rows, a pandas frame.
            trusted: the types that its file may hold.

        Raises:
            ModelError: it holds a type that is not trusted.
            TrackingError: MLflow did not take it.
        """
        from bikes_assets.tracking import registry

        log = registry.log_copy
        return _told(
            self.uri,
            lambda: log(self.client, self.run_id, estimator, name="model", example=example, trusted=trusted, tags={}),
        )


@contextmanager
def experiment_run(
    uri: str, experiment: str, name: str, *, tags: Mapping[str, str], parent: str = "", store: str | None = None
) -> Iterator[ExperimentRun]:
    """Create a run, and end it FINISHED, FAILED when an error ended the block, or KILLED when Ctrl-C did.

    Args:
        uri: MLflow's store or server.
        experiment: name of the experiment, created when there is none.
        name: name of the run.
        tags: tags of the run.
        parent: id of the run that it is nested in, "" for none.
        store: id of the store whose rows it is about, "" where that has none yet, None for any.

    Raises:
        SettingsError: MLflow is in use by another store.
        TrackingError: MLflow cannot be reached; the block was not started.
    """
    if parent:
        tags = {**tags, "mlflow.parentRunId": parent}

    def begin() -> ExperimentRun:
        client = client_of(uri)
        experiment_id = experiment_of(client, uri, experiment, store)
        return ExperimentRun(client, uri, client.create_run(experiment_id, None, dict(tags), name))

    import mlflow

    run = _told(uri, begin)
    opened, status = [run.run_id], "FAILED"
    try:
        # `mlflow.start_run` would refuse the run where another experiment was set before, so it is made active directly
        with fluent(uri, run.run.info.experiment_id, [mlflow.ActiveRun(run.run)]) as stack:
            try:
                yield run
            finally:  # what the block started, nested in this one, and did not end
                opened += [item.info.run_id for item in stack.get() if item.info.run_id != run.run_id]
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        for run_id in reversed(opened):
            _end(run, run_id, status)


def _end(run: ExperimentRun, run_id: str, status: str) -> None:
    """End a run without raising after a block that failed, because that would hide the block's error."""
    try:
        _told(run.uri, lambda: run.client.set_terminated(run_id, status))
    except TrackingError:
        if status == "FINISHED":
            raise


def _metric(name: str, value: object) -> float:
    try:
        return float(value)  # pyright: ignore[reportArgumentType] - that is what is found out
    except (TypeError, ValueError):
        raise TrackingError(
            f"metric {name}: found {value!r}, expected a number, or numbers by whole number; log texts as params"
        ) from None


def _told(uri: str, call: Callable[[], _Result]) -> _Result:
    """Call MLflow; whatever it raises becomes a TrackingError that names the store."""
    try:
        return call()
    except LineageError:
        raise
    except Exception as error:  # noqa: BLE001 - MLflow may raise anything
        told = scrubbed(f"MLflow at {shown(uri)} cannot be reached, or refused: {error}", uri)
        raise TrackingError(told) from without_secrets(error)
