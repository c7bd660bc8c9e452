"""MLflow's side of Dagster's runs: a parent run for each, a nested run for each attempt to materialize something.

All that is written is made of Dagster's events and their records, by explicit run ids, and writing it twice changes nothing:
so the same functions serve a run at work and `adapters.sync`, which writes later what MLflow did not take then.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from bikes_assets.adapters import metadata, registry
from bikes_assets.adapters.attempts import attempt_key
from bikes_assets.adapters.mlflow_names import key_name, model_name
from bikes_assets.lineage.graph import Record, parse_address, partition_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import dagster as dg
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run, RunInfo

    from bikes_assets.adapters.attempts import Attempt
    from bikes_assets.lineage.schema import Schema


class Registered(Protocol):
    """Keeps the highest number of each registered model: a number that was given means one version for ever."""

    def get(self, asset: str) -> int:
        """Return the highest number that a registered version of an asset has, 0 where there is none."""
        ...

    def note(self, asset: str, number: int) -> None:
        """Keep a number that was given."""
        ...


PARENT = "mlflow.parentRunId"
RUN = "dagster_run_id"
KEY = "materialization"
"""Tag of a nested run: the attempt that it stands for (see `attempts.attempt_key`)."""

_Item = TypeVar("_Item")
_COMPARED = ("table_version", "address", "digest", "code_version", "git_commit")
"""Tags of a run that nobody has a reason to change."""
_PARAM = 6_000
"""Characters that MLflow takes of a parameter's value."""


@dataclass(frozen=True, slots=True)
class MlflowRuns:
    """Writes and finds MLflow's runs of Dagster's runs.

    Attributes:
        client: client of the tracking store.
        experiment_id: experiment of all runs.
        schemas: declared columns of each table, by asset.
        dagster_url: where people open Dagster.
        mlflow_url: where people open MLflow.
        registered: the highest number of each registered model that this store knows, None where nobody keeps it.
    """

    client: MlflowClient
    experiment_id: str
    schemas: Mapping[str, Schema]
    dagster_url: str
    mlflow_url: str
    registered: Registered | None = None

    def of(self, run_id: str) -> list[Run]:
        """Return the runs of a Dagster run, parent and nested ones, oldest first."""
        found = self.client.search_runs([self.experiment_id], f"tags.{RUN} = '{run_id}'", max_results=1000)
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

    def create_parent(self, run: dg.DagsterRun, start: float | None = None) -> str:
        """Create the run of a Dagster run; the caller has looked that there is none."""
        tags = {
            RUN: run.run_id,
            "dagster.url": f"{self.dagster_url}/runs/{run.run_id}",
            "mlflow.source.name": "bikes_assets",
        }
        return self.client.create_run(self.experiment_id, _milliseconds(start), tags, parent_name(run)).info.run_id

    def create(
        self, parent: str, run: dg.DagsterRun, step_key: str, number: int, asset: str, start: float | None = None
    ) -> str:
        """Create the nested run of an attempt to materialize an asset; the caller has looked that there is none."""
        partition = run.tags.get("dagster/partition")
        page = f"{self.dagster_url}/assets/{quote(asset)}" + (f"?partition={quote(partition)}" if partition else "")
        tags = {
            PARENT: parent,
            RUN: run.run_id,
            KEY: attempt_key(run.run_id, step_key, number),
            "asset": asset,
            "partition": partition or "",
            "attempt": str(number),
            "dagster.url": page,
            "mlflow.source.name": "bikes_assets",
        }
        name = partition_address(asset, partition) + (f" attempt {number}" if number > 1 else "")
        return self.client.create_run(self.experiment_id, _milliseconds(start), tags, name).info.run_id

    def finish(self, run_id: str, record: Record, model_id: str = "") -> int:
        """Write a record to its nested run, register the model that it fitted, and end the run.

        Args:
            run_id: the nested run.
            record: what was published.
            model_id: the logged model of what it fitted, where it was logged after the record was written.

        Returns:
            The registered version of what it fitted, 0 where it fitted none.
        """
        from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Param, RunTag

        from bikes_assets.adapters.mlflow_source import dataset_entity

        model_id = model_id or (record.fitted["mlflow_model_id"] if record.fitted else "")
        inputs = [
            DatasetInput(
                dataset_entity(use, self.schemas.get(use.asset)), [InputTag("mlflow.data.context", use.context)]
            )
            for use in record.datasets
        ]
        models = [LoggedModelInput(self._model_id(item)) for item in record.models if item["origin"]]
        _again(lambda: self.client.log_inputs(run_id, inputs, [item for item in models if item.model_id]))
        written = [Param(key_name(name), value) for name, value in _params(record).items()]
        tags = [RunTag(key_name(name), value) for name, value in registry.fitting(_tags(record)).items()]
        metrics = _figures(record, model_id)
        parts = zip_longest(batched(metrics, 1000), batched(written, 100), batched(tags, 100), fillvalue=())
        for some_metrics, some_params, some_tags in parts:  # in one call, where MLflow takes so many
            _again(partial(self.client.log_batch, run_id, some_metrics, some_params, some_tags))
        version = self.register(record, model_id, run_id) if record.fitted and model_id else 0
        self.client.set_terminated(run_id, "FINISHED", _milliseconds(record.time))
        return version

    def register(self, record: Record, model_id: str, run_id: str) -> int:
        """Return the registered model version of what a record fitted; it is created where there is none.

        Args:
            record: what was published.
            model_id: the logged model.
            run_id: the nested run.

        Raises:
            ModelError: the registered model is not the one that earlier versions were registered in; see `registry.register`.
        """
        assert record.fitted  # noqa: S101 - the caller knows
        asset = record.output.asset
        tags = version_tags(record, record.fitted)
        beyond = self.registered.get(asset) if self.registered else 0
        number = registry.register(
            self.client, model_id, run_id, name=model_name(asset), tags=tags, beyond=beyond, of={"asset": asset}
        )
        if self.registered:
            self.registered.note(asset, number)
        return number

    def end(self, run_id: str, status: str, at: float | None = None, error: str = "") -> None:
        """End a run that published nothing, or a parent."""
        if error:
            self.client.set_tag(run_id, "error", error)
        self.client.set_terminated(run_id, status, _milliseconds(at))

    def url(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.mlflow_url}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def _model_id(self, model: Mapping[str, Any]) -> str:
        """Return the logged model of a record's model, which may have been logged after the record was written."""
        if model["mlflow_model_id"]:
            return model["mlflow_model_id"]
        name = model_name(parse_address(model["origin"].removesuffix(" baseline"))[0])
        version = registry.version_of(self.client, name, sha256=model["sha256"])
        return self.client.get_model_version(name, str(version)).tags["mlflow_model_id"] if version else ""


def finished_runs(client: MlflowClient) -> dict[str, Run]:
    """Return the nested runs that have ended well, by the attempt that each stands for."""
    experiments = [item.experiment_id for item in client.search_experiments()]
    found: dict[str, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs(experiments, "attributes.status = 'FINISHED'", max_results=1000, page_token=token)
        found |= {run.data.tags[KEY]: run for run in page if KEY in run.data.tags}
        token = page.token
        if not token:
            return found


def contradictions(run: Run, record: Record) -> list[str]:
    """Return the tags, parameters and metrics of a run that are not what its record says."""
    held = {
        **{f"tag {name}": value for name, value in run.data.tags.items()},
        **{f"parameter {name}": value for name, value in run.data.params.items()},
        **{f"metric {name}": repr(value) for name, value in run.data.metrics.items()},
    }
    tags = {name: value for name, value in _tags(record).items() if name in _COMPARED}
    said = {
        **{f"tag {name}": value for name, value in tags.items()},
        **{f"parameter {key_name(name)}": value for name, value in _params(record).items()},
        **{f"metric {key_name(name)}": repr(value) for name, value in record.metrics.items() if isfinite(value)},
    }
    return [name for name, value in said.items() if held.get(name) != value]


def parent_name(run: dg.DagsterRun) -> str:
    """Return what the run of a Dagster run is called."""
    partition = run.tags.get("dagster/partition")
    return f"dagster {run.run_id[:8]}" + (f" [{partition}]" if partition else "")


def by_attempt(runs: Iterable[Run]) -> dict[str, RunInfo]:
    """Return the nested runs of a Dagster run by the attempt that each stands for."""
    return {run.data.tags[KEY]: run.info for run in runs if KEY in run.data.tags}


def end_failed(
    runs: MlflowRuns,
    run: dg.DagsterRun,
    parent: str,
    attempts: Iterable[Attempt],
    run_status: str,
    known: Mapping[str, RunInfo],
) -> list[Attempt]:
    """Give each attempt that published nothing its nested run and its end.

    Args:
        runs: MLflow's runs.
        run: the Dagster run.
        parent: its run in MLflow.
        attempts: attempts that are over and published nothing.
        run_status: MLflow's status of the Dagster run.
        known: the nested runs that there are, by attempt.

    Returns:
        The attempts whose run was not there or not ended so.
    """
    changed: list[Attempt] = []
    for attempt in attempts:
        status, found = attempt.status(run_status), known.get(attempt.key)
        if status and (found is None or found.status != status):
            create = partial(runs.create, parent, run, attempt.step_key, attempt.number, attempt.asset, attempt.start)
            run_id = found.run_id if found else create()
            runs.end(run_id, status, attempt.end, attempt.error)
            changed.append(attempt)
    return changed


def _params(record: Record) -> dict[str, str]:
    params = {**{f"config.{name}": value for name, value in record.config.items()}, **record.params}
    return {name: str(value)[:_PARAM] for name, value in params.items()}


def _tags(record: Record) -> dict[str, str]:
    output = record.output
    return {
        "table_version": str(output.version),
        "address": output.address,
        "digest": output.digest,
        "code_version": record.code_version,
        "git_commit": record.environment["git_commit"],
        "mlflow.note.content": metadata.note(record),
        **{f"check.{name}": "passed" if passed else "failed" for name, passed in record.checks.items()},
    }


def _figures(record: Record, model_id: str) -> list[Metric]:
    """Return a record's figures, linked to the rows that they were measured on and to the model that was fitted."""
    from mlflow.entities import Metric

    judged = next((use for use in record.datasets if use.context == "validation"), None)
    link: dict[str, Any] = {"dataset_name": judged.name, "dataset_digest": judged.digest} if judged else {}
    link |= {"model_id": model_id} if model_id else {}
    by_step = [*((name, {"0": value}) for name, value in record.metrics.items()), *record.series.items()]
    time_of = int(record.time * 1000)
    return [
        Metric(key_name(name), value, time_of, int(step), **link)
        for name, series in by_step
        for step, value in series.items()
    ]


def version_tags(record: Record, model: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Return what a registered version is tagged with: what it is, and what it was made of."""
    return {
        "address": record.output.address,
        "asset": record.output.asset,
        "partition": record.output.partition or "",
        "digest": record.output.digest,
        "sha256": model["sha256"],
        RUN: record.made_by["dagster_run_id"],
        "code_version": record.code_version,
        "inputs": [f"{item.address} {item.digest}" for item in record.inputs],
        **{use.context: f"{use.name} {use.digest}" for use in record.datasets},
    }


def batched(items: Iterable[_Item], most: int) -> Iterator[list[_Item]]:
    """Yield items in lists of so many: MLflow takes no more of them in one call."""
    waiting = iter(items)
    while batch := list(islice(waiting, most)):
        yield batch


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _again(call: Callable[[], Any], attempts: int = 5) -> None:
    """Call MLflow, again when its SQL store met another writer's row: of eight writers one may lose a dataset otherwise."""
    from mlflow.exceptions import MlflowException

    for attempt in range(attempts):
        try:
            call()
        except MlflowException as error:
            if attempt + 1 == attempts or not any(
                sign in str(error) for sign in ("UNIQUE", "IntegrityError", "locked")
            ):
                raise
            time.sleep(random.uniform(0, 0.1))
        else:
            return
