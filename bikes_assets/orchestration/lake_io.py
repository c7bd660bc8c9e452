"""What the IO managers of tables and models have in common: pinned reads that are remembered, and writes that record them.

Inputs are loaded when a step starts; what was read is remembered until its output is written, and becomes the output's
record: on Delta's commit, on Dagster's materialization event and in MLflow's run.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from bikes_assets.core.errors import ConflictError, FencedError, RecordError
from bikes_assets.core.record import Record, partition_address
from bikes_assets.events import metadata
from bikes_assets.events.reported import REGISTERED, latest_version
from bikes_assets.events.retries import classified_errors
from bikes_assets.events.workers import AT_WORK, began_later
from bikes_assets.orchestration.outcome import (
    Outcome,
    Parts,
    Prepared,
    PublishedVersion,
    Read,
    RunningStep,
    attempt_of,
    of_same,
    partition_of,
    record_of,
)
from bikes_assets.storage.delta import LakeTable, Memory, current_version
from bikes_assets.storage.lake import DeltaReader
from bikes_assets.tracking.model_copies import set_aliases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bikes_assets.storage.lake import Lake
    from bikes_assets.tracking.resource import Tracking

_steps: dict[tuple[str, str, int], RunningStep] = {}


class LakeIOManager(dg.IOManager):
    """Loads with pinned versions, remembers what was loaded, and publishes outputs with their record.

    Attributes:
        read_as: context of what was read, if an outcome names none.
        made_as: context of the output, if an outcome names none; None if it is not a dataset.
    """

    read_as: str = "input"
    made_as: str | None = None

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._memory = Memory()

    def resource(self) -> dg.IOManagerDefinition:
        """Return it as a resource of a project with `tracking_resource` as resource `mlflow`, or without one."""
        return dg.IOManagerDefinition(named_as(self), description=purpose(self), required_resource_keys={"mlflow"})

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the mapped partitions of an upstream asset, all as of one table version.

        Raises:
            LineageError: a partition of a table has not been materialized.
        """
        with classified_errors(attempt_of(context), self.lake.location):
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Any:
        step = running_step(context, self.lake)
        asset = context.asset_key.to_user_string()
        partitions = [*context.asset_partition_keys] if context.has_asset_partitions else [None]
        table = self.table(asset)
        version, parts = self.read(table, partitions)
        step.reads[asset] = Read(DeltaReader(table, version, partitions), table.schema, parts)
        return self.value(step, partitions, step.reads[asset], context)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish an `Outcome` or a plain value: Delta commit, then Dagster's event and MLflow's run, with the record.

        Raises:
            ConflictError: an earlier run has published the partition since this step began; a retry reads the inputs
                again.
            FencedError: the Dagster run has ended meanwhile, or a later run has published the partition.
            StoreError: the lake cannot be written.
        """
        with classified_errors(attempt_of(context), self.lake.location):
            self._publish(context, obj if isinstance(obj, Outcome) else Outcome(obj))

    def _publish(self, context: dg.OutputContext, obj: Outcome) -> None:
        asset = context.asset_key.to_user_string()
        step = _steps.pop(_step_key(context), None) or RunningStep(current_version(self.lake.uri(asset)))
        tracking: Tracking | None = context.resources.mlflow
        made = self._committed_earlier(context, step, obj) or self._commit(context, step, obj, tracking)
        record, links = made.record, dict[str, str]()
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(record.output.digest))
        run_id, registered = record.made_by["mlflow_run_id"], 0
        if tracking and tracking.is_connected and run_id:
            registered = tracking.finish(run_id, record, {title: plot.svg() for title, plot in obj.plots.items()})
            if asset == self.lake.serving:
                tracking.ask(partial(set_aliases, lake=self.lake))
            links["mlflow_run"] = tracking.url(run_id, asset)
        facts = {
            **(record.params if asset == self.lake.serving else {}),
            **({REGISTERED: registered} if registered else {}),
        }
        shown = metadata.Shown(record.metrics, obj.plots, facts, links)
        values = metadata.of_materialization(
            made.rows, record, context.definition_metadata, before=made.before, shown=shown
        )
        # sync may have reported the commit of a run that has ended: it must not be reported twice
        _still_at_work(context)
        context.add_output_metadata(values)

    def _committed_earlier(
        self, context: dg.OutputContext, step: RunningStep, outcome: Outcome
    ) -> PublishedVersion | None:
        """Return what an earlier attempt at this step committed, None if it committed nothing.

        The commit is in the log, but the attempt failed before it reported it: the store's answer was lost, and the
        store could not be reached afterwards. An outcome with other inputs, code or config than the commit's is
        published as a new version.
        """
        partition = partition_of(context)
        if attempt_of(context) == 1:
            return None
        prepared = self.prepare(context, outcome, step, None, "")
        commit = prepared.table.latest(partition)
        made_by = {"dagster_run_id": context.run_id, "step_key": context.step_key}
        if commit is None or not made_by.items() <= commit.record.get("made_by", {}).items():
            return None
        earlier = Record.from_dict(commit.record)
        if of_same(earlier) != of_same(self._record(context, prepared, step, outcome)):
            return None
        ((_, rows),) = prepared.table.read([partition], commit.version).values()
        return PublishedVersion(rows, earlier.at(commit.version))

    def _commit(
        self, context: dg.OutputContext, step: RunningStep, outcome: Outcome, tracking: Tracking | None
    ) -> PublishedVersion:
        """Commit an outcome to the lake, and return what was committed."""
        asset, partition = context.asset_key.to_user_string(), partition_of(context)
        known = latest_version(context.step_context.instance, asset)
        run_id = tracking.start(context.step_key, attempt_of(context), asset) if tracking else ""
        prepared = self.prepare(context, outcome, step, tracking if run_id else None, run_id)
        record = self._record(context, prepared, step, outcome, run_id)
        self.lake.keep_code(context.definition_metadata.get(metadata.FUNCTION, ""), record.code_version)
        self.lake.keep_difference()
        fence = partial(_still_at_work, context)
        before = _previous(prepared.table, partition) if step.since > 0 else None
        if known > step.since:  # another partition was published since, or the table has lost versions
            prepared.table.begin_beyond(known)
        try:
            # all partitions of a table have one schema
            replace_schema = partition is None and asset not in self.lake.schemas
            version = prepared.table.write(
                partition, prepared.rows, record.to_dict(), since=step.since, fence=fence, replace_schema=replace_schema
            )
        except ConflictError as error:
            if began_later(context.step_context.instance, error.run_id, context.run_id):
                raise FencedError(str(error)) from error
            raise
        return PublishedVersion(prepared.rows, record.at(version), before)

    def _record(
        self, context: dg.OutputContext, prepared: Prepared, step: RunningStep, outcome: Outcome, run_id: str = ""
    ) -> Record:
        return record_of(context, self.lake, prepared, step, outcome, run_id, (self.read_as, self.made_as))

    @abstractmethod
    def table(self, asset: str) -> LakeTable:
        """Return the table of an asset that is read."""

    def read(self, table: LakeTable, partitions: Sequence[str | None]) -> tuple[int, Parts]:
        """Return the current table version, and each partition's version and rows as of it."""
        return table.read_current(partitions, self._memory)

    @abstractmethod
    def value(self, step: RunningStep, partitions: Sequence[str | None], read: Read, context: dg.InputContext) -> Any:
        """Return the value for the asset function's parameter, from what was read."""

    @abstractmethod
    def prepare(
        self, context: dg.OutputContext, outcome: Outcome, step: RunningStep, tracking: Tracking | None, run_id: str
    ) -> Prepared:
        """Return an outcome to be published; a model's copy is logged to the attempt's run."""


def purpose(manager: Any) -> str:
    """Return the first paragraph of the docstring of a manager's class."""
    return (inspect.getdoc(type(manager)) or "").partition("\n\n")[0]


def named_as(manager: Any) -> Callable[[Any], Any]:
    """Return a resource function with the name of the manager's class, which Dagster's UI shows as the type."""

    def resource(_: Any) -> Any:
        return manager

    resource.__name__, resource.__module__ = type(manager).__name__, type(manager).__module__
    return resource


def running_step(context: dg.InputContext, lake: Lake) -> RunningStep:
    """Return the state of the running step; its output's table is pinned when its first input is loaded."""
    key = _step_key(context)
    if key not in _steps:
        for other in [other for other in _steps if other[0] == key[0]]:
            del _steps[other]  # a step of this run that failed or skipped: steps of a process run one by one
        outputs = (item.properties.asset_key for item in context.step_context.step.step_outputs)
        output = next(filter(None, outputs), None)  # a check's output has no asset
        _steps[key] = RunningStep(current_version(lake.uri(output.to_user_string())) if output else -1)
    return _steps[key]


def _previous(table: LakeTable, partition: str | None) -> Record | None:
    """Return the record of a partition's current version, None without one; it is for display only."""
    commit = table.latest(partition)
    try:
        return Record.from_dict(commit.record).at(commit.version) if commit else None
    except RecordError:
        return None


def _still_at_work(context: dg.OutputContext) -> None:
    """Raise an error if the Dagster run has ended: this step was given up, and its output must not be published.

    Raises:
        FencedError: the run has ended.
    """
    run_id, instance = context.run_id, context.step_context.instance
    if not instance.get_runs_count(dg.RunsFilter(run_ids=[run_id], statuses=list(AT_WORK))):
        address = partition_address(context.asset_key.to_user_string(), partition_of(context))
        raise FencedError(
            f"{address}: run {run_id} ended while this step was at work, so nothing more is published; "
            "run again where the partition is still missing"
        )


def _step_key(context: dg.InputContext | dg.OutputContext) -> tuple[str, str, int]:
    step = context.step_context
    return step.run_id, step.step.key, step.previous_attempt_count
