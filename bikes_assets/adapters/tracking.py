"""MLflow over dagster-mlflow: one parent run per Dagster run, one nested run per materialization.

dagster-mlflow attaches to the parent through its `mlflow_run_id`; left to itself it would create one by search and then
create, which makes several under parallel steps, and would reuse another Dagster run's in the same process.
"""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow import MlflowClient
    from mlflow.data.dataset import Dataset

_DEFAULTS = {
    # its own retries would hold a materialization for minutes when its server is gone
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model's copy in MLflow: id of the logged model and version in the registry."""

    model_id: str
    version: int


@dataclass
class Materialization:
    """What MLflow is told of one materialization; it becomes one nested run.

    Attributes:
        name: address of what is materialized, such as `demand_features[2012-08]`.
        tags: facts that find it again: Dagster run, asset, partition, table version, digest.
        params: settings and transformations.
        metrics: figures, linked to the model, if there is one, and to the dataset with context `validation`.
        datasets: (dataset, context) pairs; context is raw, features, training, validation, inference or predictions.
        models: ids of logged models that were read.
        run_id: id of the nested run.
    """

    name: str
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    datasets: list[tuple[Dataset, str]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    logged: LoggedModel | None = None


class Tracking:
    """MLflow for the materializations of one Dagster run.

    Args:
        client: client of the tracking store.
        experiment_id: experiment of all runs.
        parent_run_id: MLflow run of the Dagster run.
        url: where people open MLflow.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, parent_run_id: str, url: str) -> None:
        self.client, self.experiment_id, self.parent_run_id, self.url = client, experiment_id, parent_run_id, url

    def start(self, name: str) -> Materialization:
        """Create the nested run of one materialization."""
        run = self.client.create_run(
            self.experiment_id,
            run_name=name,
            tags={"mlflow.parentRunId": self.parent_run_id, "mlflow.source.name": "bikes_assets"},
        )
        return Materialization(name, run.info.run_id)

    def finish(self, made: Materialization) -> None:
        """Write everything that `made` holds to its run, and end the run."""
        from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Metric, Param, RunTag

        inputs = [
            DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)])  # pyright: ignore[reportPrivateUsage]
            for dataset, context in made.datasets
        ]
        self.client.log_inputs(made.run_id, inputs, [LoggedModelInput(item) for item in made.models])
        judged_on = next((dataset for dataset, context in made.datasets if context == "validation"), None)
        link = {"dataset_name": judged_on.name, "dataset_digest": judged_on.digest} if judged_on else {}
        model = {"model_id": made.logged.model_id} if made.logged else {}
        now = int(time.time() * 1000)
        self.client.log_batch(
            made.run_id,
            metrics=[Metric(key, value, now, 0, **link, **model) for key, value in made.metrics.items()],
            params=[Param(key, str(value)) for key, value in made.params.items()],
            tags=[RunTag(key, str(value)) for key, value in made.tags.items()],
        )
        self.client.set_terminated(made.run_id, "FINISHED")

    def fail(self, made: Materialization) -> None:
        """End the nested run of a materialization that was not published."""
        self.client.set_terminated(made.run_id, "FAILED")

    def log_model(
        self,
        made: Materialization,
        estimator: Any,
        *,
        name: str,
        example: Any,
        trusted: Sequence[str],
        tags: dict[str, str],
    ) -> LoggedModel:
        """Log a copy of a fitted estimator in skops format and register it as the next version of `name`.

        Args:
            made: the materialization that fitted it.
            estimator: fitted scikit-learn estimator.
            name: registered model.
            example: a handful of input rows, for the signature and as example.
            trusted: the types that its file may hold.
            tags: what it was made from.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model, infer_signature

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import sklearn as flavor  # pyright: ignore[reportPrivateImportUsage]

            info = Model.log(
                None,
                flavor=flavor,
                name=name,
                run_id=made.run_id,
                sk_model=estimator,
                serialization_format="skops",
                skops_trusted_types=list(trusted),
                pip_requirements=pinned_requirements(),
                signature=infer_signature(example, estimator.predict(example)),
                input_example=example,
            )
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = self.client.create_model_version(
            name, f"models:/{info.model_id}", made.run_id, tags=tags, model_id=info.model_id
        )
        made.logged = LoggedModel(info.model_id, int(version.version))
        return made.logged

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.url}/#/experiments/{self.experiment_id}/runs/{run_id}"


def pinned_requirements() -> list[str]:
    """Return what a model's copy needs to be loaded, at this environment's versions."""
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("scikit-learn", "skops", "numpy", "pandas")]


@cache
def client_of(uri: str) -> MlflowClient:
    """Return the client of a tracking store, one a process.

    The first use of an empty SQLite store creates its tables; two processes doing so at once would break it, so it is
    done under a file lock.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # a dataset's integers without missing values stay integers: that is meant
    warnings.filterwarnings("ignore", message=".*integer column", category=UserWarning, module="mlflow")
    with _lock(uri):
        if uri.startswith("sqlite:///"):  # MLflow would try a file that cannot be opened for minutes
            with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store:
                store.execute("pragma schema_version")
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def experiment_of(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of the experiment of that name, created once; a SQLite store keeps artifacts beside itself."""
    with _lock(uri):
        known = client.get_experiment_by_name(name)
        if known:
            return known.experiment_id
        folder = _store_folder(uri)
        return client.create_experiment(name, artifact_location=(folder / "artifacts").as_uri() if folder else None)


def parent_run(client: MlflowClient, uri: str, experiment_id: str, run: dg.DagsterRun, url: str) -> str:
    """Return the one MLflow run of a Dagster run, created when there is none."""
    with _lock(uri):
        found = client.search_runs([experiment_id], f"tags.dagster_run_id = '{run.run_id}'", max_results=1)
        if found:
            return found[0].info.run_id
        partition = run.tags.get("dagster/partition")
        tags = {"dagster_run_id": run.run_id, "dagster.url": f"{url}/runs/{run.run_id}"}
        name = f"dagster {run.run_id[:8]}" + (f" [{partition}]" if partition else "")
        return client.create_run(experiment_id, run_name=name, tags=tags).info.run_id


def tracking_resource(uri: str, experiment: str, mlflow_url: str, dagster_url: str) -> dg.ResourceDefinition:
    """Return the `mlflow` resource: a `Tracking`, or None while MLflow cannot be reached (the data goes its way)."""

    @dg.resource(description="MLflow: one run per Dagster run, one nested run per materialization.")
    def mlflow(context: Any) -> Iterator[Tracking | None]:
        try:
            client = client_of(uri)
            experiment_id = experiment_of(client, uri, experiment)
            parent = parent_run(client, uri, experiment_id, context.run, dagster_url)
        except Exception as error:  # noqa: BLE001 - whatever MLflow's store raises, a run of the pipeline goes on
            context.log.warning(f"MLflow at {uri} cannot be reached, nothing is logged there: {error}")
            yield None
            return
        with _attached(context, client, uri, experiment, parent):
            yield Tracking(client, experiment_id, parent, mlflow_url)
        failed = context.instance.get_run_stats(context.run.run_id).steps_failed
        client.set_terminated(parent, "FAILED" if failed else "FINISHED")  # ending the active run says FINISHED

    return mlflow


@contextmanager
def _attached(context: Any, client: MlflowClient, uri: str, experiment: str, parent: str) -> Iterator[None]:
    """Have dagster-mlflow attach to the parent run, so that MLflow's fluent calls in an asset go to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from dagster_mlflow import mlflow_tracking

        config = {"experiment_name": experiment, "mlflow_tracking_uri": uri, "mlflow_run_id": parent, "env": {}}
        attach: Any = mlflow_tracking.resource_fn
        attached = attach(context.replace_config(config))
        name = client.get_run(parent).info.run_name
        next(attached)
        client.update_run(parent, name=name)  # it calls each run by the name of Dagster's job
    try:
        yield
    finally:
        mlflow.end_run()


@contextmanager
def _lock(uri: str) -> Iterator[None]:
    folder = _store_folder(uri)
    if folder is None:  # a server keeps its own store
        yield
        return
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout=120):
        yield


def _store_folder(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else None
