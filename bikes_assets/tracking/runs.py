"""MLflow's runs for Dagster's runs: one for each Dagster run, and one for each attempt to materialize something.

The attempts at the assets that people compare are in the experiment that the settings name, side by side. Everything
else is in a second experiment: the run of each Dagster run (the parent), and nested in it the attempts at all other
assets.

Everything is written from Dagster's events and their records, by explicit run ids, and writing it is idempotent. So the
same functions serve a run in progress and `orchestration.reconcile`, which logs later what could not be logged then.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bikes_assets.core.address import ModelRef, parse_address, partition_address
from bikes_assets.core.record import Record
from bikes_assets.events.attempts import attempt_key
from bikes_assets.events.pages import dagster_asset, dagster_run, lineage_page, mlflow_run
from bikes_assets.tracking import notes, params, registry
from bikes_assets.tracking.artifacts import log_plots
from bikes_assets.tracking.names import key_name, model_name
from bikes_assets.tracking.version_source import model_id_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    import dagster as dg
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run, RunInfo

    from bikes_assets.core.schema import Schema
    from bikes_assets.events.attempts import Attempt


class VersionNumbers(Protocol):
    """Keeps the highest version number of each registered model: a number is never given to another version."""

    def get(self, asset: str) -> int:
        """Return the highest number that a registered version of an asset has, 0 where there is none."""
        ...

    def note(self, asset: str, number: int) -> None:
        """Store a number that was given."""
        ...


PARENT = "mlflow.parentRunId"
"""Tag of a nested run: its parent's id."""
PARENT_OF_FLAT = "parent_run_id"
"""Tag of a run that is compared with others: its parent's id, under a name that does not make MLflow nest it."""
RUN = "dagster_run_id"
KEY = "materialization"
"""Tag of an attempt's run, which a parent does not have: the key of the attempt (see `attempts.attempt_key`)."""

_Item = TypeVar("_Item")
_COMPARED = ("table_version", "address", "digest", "code_version", "git_commit")
"""Tags of a run that nobody has reason to change."""


@dataclass(frozen=True, slots=True)
class MlflowRuns:
    """Writes and finds MLflow's runs of Dagster's runs.

    Attributes:
        client: client of the tracking store.
        experiment_id: experiment of the runs that people compare.
        lineage_id: experiment of all other runs. Runs from before there were two are all in the first one, and are
            found there.
        schemas: declared columns of each table, by asset.
        dagster_url: where people open Dagster.
        mlflow_url: where people open MLflow.
        lineage_url: where people open the lineage page, "" where nobody does.
        compared: assets whose runs people compare; None for all.
        registered: the highest number of each registered model that this store knows, None where nobody keeps it.
        is_restored: whether the registry has every version that the event log knows; see `registry.register`.
    """

    client: MlflowClient
    experiment_id: str
    lineage_id: str
    schemas: Mapping[str, Schema]
    dagster_url: str
    mlflow_url: str
    lineage_url: str = ""
    compared: Collection[str] | None = None
    registered: VersionNumbers | None = None
    is_restored: bool = False

    @property
    def experiment_ids(self) -> list[str]:
        """The experiments that contain runs."""
        return [self.experiment_id, self.lineage_id]

    def is_compared(self, asset: str) -> bool:
        """Return whether an asset is one of those whose runs people compare."""
        return self.compared is None or asset in self.compared

    def _lineage(self, asset: str, partition: str | None) -> str:
        return lineage_page(self.lineage_url, partition_address(asset, partition)) if self.lineage_url else ""

    def experiment_of(self, asset: str) -> str:
        """Return the experiment in which an asset's runs are created."""
        return self.experiment_id if self.is_compared(asset) else self.lineage_id

    def of(self, run_id: str) -> list[Run]:
        """Return the runs of a Dagster run, the parent and those of attempts, oldest first."""
        found = self.client.search_runs(self.experiment_ids, f"tags.{RUN} = '{run_id}'", max_results=1000)
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

    def create_parent(self, run: dg.DagsterRun, start: float | None = None) -> RunInfo:
        """Create the run of a Dagster run; the caller has checked that there is none."""
        page = dagster_run(self.dagster_url, run.run_id)
        tags = {RUN: run.run_id, **_tags_of_page(page)}
        return self.client.create_run(self.lineage_id, _milliseconds(start), tags, parent_name(run)).info

    def create(
        self, parent: str, run: dg.DagsterRun, step_key: str, number: int, asset: str, start: float | None = None
    ) -> RunInfo:
        """Create the run of an attempt to materialize an asset; the caller has checked that there is none."""
        partition, is_compared = run.tags.get("dagster/partition"), self.is_compared(asset)
        tags = {
            PARENT_OF_FLAT if is_compared else PARENT: parent,
            RUN: run.run_id,
            KEY: attempt_key(run.run_id, step_key, number),
            "asset": asset,
            "partition": partition or "",
            "attempt": str(number),
            **_tags_of_page(dagster_asset(self.dagster_url, asset, partition), self._lineage(asset, partition)),
        }
        # runs that are compared are named by what differs
        name = " ".join(filter(None, (partition, asset))) if is_compared else partition_address(asset, partition)
        name += f" attempt {number}" if number > 1 else ""
        return self.client.create_run(self.experiment_of(asset), _milliseconds(start), tags, name).info

    def finish(self, run_id: str, record: Record, model_id: str = "", plots: Mapping[str, str] | None = None) -> int:
        """Write a record to its attempt's run, register the model that it fitted, and end the run.

        Args:
            run_id: the attempt's run.
            record: what was published.
            model_id: the logged model that it fitted, where that was logged after the record was written.
            plots: SVG of its plots, by title.

        Returns:
            The registered version of the model that it fitted, 0 where it fitted none.
        """
        from mlflow.entities import DatasetInput, InputTag, LoggedModelInput, Param, RunTag

        from bikes_assets.tracking.datasets import dataset_entity

        model_id = model_id or (record.fitted["mlflow_model_id"] if record.fitted else "")
        inputs = [
            DatasetInput(
                dataset_entity(use, self.schemas.get(use.asset)), [InputTag("mlflow.data.context", use.context)]
            )
            for use in record.datasets
        ]
        models = [LoggedModelInput(self._model_id(item)) for item in record.models if item["origin"]]
        _again(lambda: self.client.log_inputs(run_id, inputs, [item for item in models if item.model_id]))
        written = [Param(key_name(name), value) for name, value in params.of_record(record).items()]
        page = dagster_asset(self.dagster_url, record.output.asset, record.output.partition)
        lineage = self._lineage(record.output.asset, record.output.partition)
        note = {notes.NOTE: notes.of_materialization(record, page, lineage)}
        tags = [RunTag(key_name(name), value) for name, value in registry.fitting(_tags(record) | note).items()]
        metrics = _metrics_of(record, model_id)
        parts = zip_longest(batched(metrics, 1000), batched(written, 100), batched(tags, 100), fillvalue=())
        for some_metrics, some_params, some_tags in parts:  # in one call, where MLflow accepts that many
            _again(partial(self.client.log_batch, run_id, some_metrics, some_params, some_tags))
        log_plots(self.client, run_id, plots or {})
        version = self.register(record, model_id, run_id) if record.fitted and model_id else 0
        self.client.set_terminated(run_id, "FINISHED", _milliseconds(record.time))
        return version

    def register(self, record: Record, model_id: str, run_id: str) -> int:
        """Return the registered version of the model that a record fitted; it is created where there is none.

        Args:
            record: what was published.
            model_id: the logged model.
            run_id: the attempt's run.

        Raises:
            ModelError: the registered model is not the one that earlier versions were registered in; see
                `registry.register`.
        """
        assert record.fitted  # noqa: S101 - the caller knows
        asset = record.output.asset
        tags = version_tags(record, record.fitted)
        beyond = self.registered.get(asset) if self.registered else 0
        number = registry.register(
            self.client,
            model_id,
            run_id,
            name=model_name(asset),
            tags=tags,
            description=self.note_of_version(record),
            beyond=beyond,
            is_restored=self.is_restored,
            of={"asset": asset},
            about=self.note_of_model(asset),
        )
        if self.registered:
            self.registered.note(asset, number)
        return number

    def end(self, run_id: str, status: str, at: float | None = None, error: str = "", dagster_run_id: str = "") -> None:
        """End a run that published nothing, or a parent.

        Args:
            run_id: the run.
            status: MLflow's status.
            at: when it ended, Unix seconds.
            error: what went wrong.
            dagster_run_id: the Dagster run whose page says more, where there is an error.
        """
        if error:
            self.client.set_tag(run_id, "error", error)
            note = notes.of_failure(dagster_run(self.dagster_url, dagster_run_id), error)
            self.client.set_tag(run_id, notes.NOTE, note)
        self.client.set_terminated(run_id, status, _milliseconds(at))

    def note_of_version(self, record: Record) -> str:
        """Return the description of the registered version of the model that a record fitted."""
        return notes.of_version(record, self.dagster_url)

    def note_of_model(self, asset: str) -> str:
        """Return the description of the registered model of an asset."""
        return notes.of_registered_model(asset, self.dagster_url)

    def url(self, run_id: str, experiment_id: str) -> str:
        """Return the address of a run's page."""
        return mlflow_run(self.mlflow_url, experiment_id, run_id)

    def _model_id(self, model: Mapping[str, Any]) -> str:
        """Return the logged model of a record's model, which may have been logged after the record was written."""
        if model["mlflow_model_id"]:
            return model["mlflow_model_id"]
        name = model_name(parse_address(ModelRef.parse(model["origin"]).address)[0])
        version = registry.version_of(self.client, name, sha256=model["sha256"])
        return model_id_in(self.client.get_model_version(name, str(version))) if version else ""


def finished_runs(client: MlflowClient) -> dict[str, Run]:
    """Return the runs of attempts that succeeded, by attempt."""
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
    """Return the tags, parameters and metrics of a run that differ from its record."""
    held = {
        **{f"tag {name}": value for name, value in run.data.tags.items()},
        **{f"parameter {name}": value for name, value in run.data.params.items()},
        **{f"metric {name}": repr(value) for name, value in run.data.metrics.items()},
    }
    tags = {name: value for name, value in _tags(record).items() if name in _COMPARED}
    always = {
        **{f"tag {name}": value for name, value in tags.items()},
        **{f"metric {key_name(name)}": repr(value) for name, value in record.metrics.items() if isfinite(value)},
    }
    # parameters never change in MLflow, so a run has those of when it was logged
    forms = (params.of_record(record), params.as_one_value_each(record))
    found = [
        [
            name
            for name, value in {
                **always,
                **{f"parameter {key_name(name)}": text for name, text in form.items()},
            }.items()
            if held.get(name) != value
        ]
        for form in forms
    ]
    return min(found, key=len)


def parent_name(run: dg.DagsterRun) -> str:
    """Return the name of the run of a Dagster run."""
    partition = run.tags.get("dagster/partition")
    return f"dagster {run.run_id[:8]}" + (f" [{partition}]" if partition else "")


def by_attempt(runs: Iterable[Run]) -> dict[str, RunInfo]:
    """Return the runs of a Dagster run's attempts, by attempt."""
    return {run.data.tags[KEY]: run.info for run in runs if KEY in run.data.tags}


def end_failed(
    runs: MlflowRuns,
    run: dg.DagsterRun,
    parent: str,
    attempts: Iterable[Attempt],
    run_status: str,
    known: Mapping[str, RunInfo],
) -> list[Attempt]:
    """Create and end the run of each attempt that published nothing.

    Args:
        runs: MLflow's runs.
        run: the Dagster run.
        parent: its run in MLflow.
        attempts: attempts that are over and published nothing.
        run_status: MLflow's status of the Dagster run.
        known: the existing runs of attempts, by attempt.

    Returns:
        The attempts whose run did not exist or had not ended that way.
    """
    changed: list[Attempt] = []
    for attempt in attempts:
        status, found = attempt.status(run_status), known.get(attempt.key)
        if status and (found is None or found.status != status):
            create = partial(runs.create, parent, run, attempt.step_key, attempt.number, attempt.asset, attempt.start)
            runs.end((found or create()).run_id, status, attempt.end, attempt.error, run.run_id)
            changed.append(attempt)
    return changed


def _tags_of_page(page: str, lineage: str = "") -> dict[str, str]:
    """Return the tags of a run that lead to its page in Dagster and to its lineage: as text, and in the description."""
    told = {"dagster.url": page, notes.NOTE: notes.of_page(page, lineage), "mlflow.source.name": "bikes_assets"}
    return told | ({"lineage.url": lineage} if lineage else {})


def _tags(record: Record) -> dict[str, str]:
    output = record.output
    return {
        "table_version": str(output.version),
        "address": output.address,
        "digest": output.digest,
        "code_version": record.code_version,
        "git_commit": record.environment["git_commit"],
        **{f"check.{name}": "passed" if passed else "failed" for name, passed in record.checks.items()},
    }


def _metrics_of(record: Record, model_id: str) -> list[Metric]:
    """Return a record's metrics, linked to the rows that they were computed on and to the model that was fitted."""
    from mlflow.entities import Metric

    validation = next((use for use in record.datasets if use.context == "validation"), None)
    link: dict[str, Any] = {"dataset_name": validation.name, "dataset_digest": validation.digest} if validation else {}
    link |= {"model_id": model_id} if model_id else {}
    by_step = [*((name, {"0": value}) for name, value in record.metrics.items()), *record.series.items()]
    time_of = int(record.time * 1000)
    return [
        Metric(key_name(name), value, time_of, int(step), **link)
        for name, series in by_step
        for step, value in series.items()
    ]


VERSION_TAGS = ("address", "digest", "sha256")
"""Tags of a registered version that say which version it represents."""


def version_tags(record: Record, model: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags by which a registered version is found; its description and its run say the rest."""
    return dict(zip(VERSION_TAGS, (record.output.address, record.output.digest, model["sha256"]), strict=True))


def batched(items: Iterable[_Item], most: int) -> Iterator[list[_Item]]:
    """Yield items in batches: MLflow accepts a limited number in one call."""
    waiting = iter(items)
    while batch := list(islice(waiting, most)):
        yield batch


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _again(call: Callable[[], Any], attempts: int = 5) -> None:
    """Call MLflow, and retry a conflict with another writer in its SQL store: otherwise a dataset may be lost."""
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
