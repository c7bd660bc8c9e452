"""Dagster IO managers over the lake: what is read is pinned and remembered, what is written carries the record of it.

Inputs are loaded when a step starts; what was read is kept until its output is written, and becomes the output's record:
on Delta's commit, on Dagster's materialization event and in MLflow's run.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg

from bikes_assets.adapters import metadata
from bikes_assets.adapters.delta import LakeTable, Memory
from bikes_assets.adapters.environment import environment
from bikes_assets.adapters.lake import MODEL_ROWS, DeltaReader, Lake, ModelFormat, digest_together, to_pandas
from bikes_assets.adapters.mlflow_models import log_copy, set_aliases
from bikes_assets.adapters.observed import SourceFormat
from bikes_assets.adapters.readers import Reader
from bikes_assets.adapters.retries import judged
from bikes_assets.adapters.workers import AT_WORK, began_later
from bikes_assets.lineage.digest import object_digest, table_digest
from bikes_assets.lineage.errors import ConflictError, FencedError, LineageError
from bikes_assets.lineage.graph import Origin, Record, Use, Version, partition_address, used_digest
from bikes_assets.lineage.schema import Schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from bikes_assets.adapters.tracking import Tracking

Parts: TypeAlias = "dict[str, tuple[Version, Any]]"
"""Versions of partitions, and their rows: an Arrow table each, or the files that they were left in."""


@dataclass(frozen=True)
class Outcome:
    """What an asset returns: its value and what people want to know of it.

    Attributes:
        value: a table (any frame that Narwhals reads) or a model.
        datasets: what was read in which role: context (`raw`, `training`, ...) to input asset and its partitions, None for all.
        role: context of the value as a dataset, None when it is not one.
        metrics: figures, in float.
        series: figures by a whole number, such as the error by hour of the day.
        params: settings and transformations.
        checks: whether each check that was run on the value passed.
        used: which columns of an input went into the value, by asset; all of those of an input that is not named.
        figures: plots, by title.
        example: a handful of a model's input rows.
    """

    value: Any
    datasets: Mapping[str, tuple[str, Sequence[str] | None]] = field(default_factory=dict)
    role: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, bool] = field(default_factory=dict)
    used: Mapping[str, Sequence[str]] = field(default_factory=dict)
    figures: Mapping[str, metadata.Drawing] = field(default_factory=dict)
    example: Any = None


@dataclass(frozen=True)
class _Read:
    """What a step read of one asset."""

    reader: Reader
    schema: Schema
    parts: Parts


@dataclass
class _Step:
    """What a running step has read so far, and its output's table version when it began."""

    since: int
    reads: dict[str, _Read] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Prepared:
    """An outcome as it is published: its rows, their digests, and the models that it is or was made with."""

    rows: pa.Table
    digest: str
    columns: dict[str, str]
    models: list[dict[str, Any]]


_steps: dict[tuple[str, str, int], _Step] = {}


class LakeIOManager(dg.IOManager):
    """Loads with pinned versions, remembers what was loaded, and publishes outputs with their record."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._memory = Memory()

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the mapped partitions of an upstream asset, all as of one table version.

        Raises:
            LineageError: a partition of a table has not been materialized.
        """
        with judged(_attempt(context), self.lake.location):
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Any:
        step = _running_step(context, self.lake)
        asset, partitions = context.asset_key.to_user_string(), list(context.asset_partition_keys)
        table = self.lake.table(asset)
        version, parts = self.read(table, partitions)
        step.reads[asset] = _Read(DeltaReader(table, version, partitions), table.schema, parts)
        return self.value(step, partitions, step.reads[asset])

    def handle_output(self, context: dg.OutputContext, obj: Outcome) -> None:
        """Publish an outcome: Delta commit first, then Dagster's event and MLflow's run, each with the record.

        Raises:
            ConflictError: an earlier run has published the partition since this step began; another try reads anew.
            FencedError: the Dagster run has ended meanwhile, or a later one has published the partition.
            StoreError: the lake cannot be written.
        """
        with judged(_attempt(context), self.lake.location):
            self._publish(context, obj)

    def _publish(self, context: dg.OutputContext, obj: Outcome) -> None:
        asset, partition = context.asset_key.to_user_string(), context.partition_key
        table = self.lake.table(asset)
        step = _steps.pop(_step_key(context), None) or _Step(table.version())
        tracking: Tracking | None = context.resources.mlflow
        run_id = tracking.start(context.step_key, _attempt(context)) if tracking else ""
        prepared = self.prepare(context, obj, step, tracking if run_id else None, run_id)
        record = _record(context, prepared, step, obj, run_id, self.lake)
        self.lake.keep_code(context.definition_metadata.get(metadata.FUNCTION, ""), record.code_version)
        fence = partial(_still_at_work, context)
        try:
            version = table.write(partition, prepared.rows, record.to_dict(), since=step.since, fence=fence)
        except ConflictError as error:
            if began_later(context.step_context.instance, error.run_id, context.run_id):
                raise FencedError(str(error)) from error
            raise
        record = record.at(version)
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(prepared.digest))
        values = {
            **metadata.of_materialization(prepared.rows, record.to_dict(), context.definition_metadata),
            **metadata.of_outcome(obj.metrics, obj.figures),
        }
        if asset == self.lake.serving:
            values |= record.params
        if tracking and run_id:
            registered = tracking.finish(run_id, record)
            if asset == self.lake.serving:
                tracking.ask(partial(set_aliases, lake=self.lake))
            values["mlflow_run"] = dg.MetadataValue.url(tracking.url(run_id))
            if registered:
                values["mlflow_model_version"] = registered
        fence()  # sync may have reported the commit of a run that has ended: it must not be reported twice
        context.add_output_metadata(values)

    def read(self, table: LakeTable, partitions: Sequence[str]) -> tuple[int, Parts]:
        """Return the present table version, and each partition's version and rows as of it."""
        return table.read_present(partitions, self._memory)

    @abstractmethod
    def value(self, step: _Step, partitions: Sequence[str], read: _Read) -> Any:
        """Return what the asset function is handed for what was read."""

    @abstractmethod
    def prepare(
        self, context: dg.OutputContext, outcome: Outcome, step: _Step, tracking: Tracking | None, run_id: str
    ) -> _Prepared:
        """Return an outcome as it is to be published; a model's copy is logged to the nested run."""


class TableIOManager(LakeIOManager):
    """Tables: pandas frames in assets, Delta partitions in the lake."""

    def value(self, step: _Step, partitions: Sequence[str], read: _Read) -> Any:  # noqa: ARG002
        """Return the rows of all partitions."""
        missing = [key for key in partitions if key not in read.parts]
        if missing:
            asset = read.reader.origin().name
            raise LineageError(f"{asset}: not materialized yet for {', '.join(missing)}; materialize that first")
        return self.frame(read.parts, read.schema)

    def frame(self, parts: Parts, schema: Schema) -> pd.DataFrame:
        """Return the rows in key order."""
        return to_pandas([rows for _, rows in parts.values()], schema)

    def prepare(
        self,
        context: dg.OutputContext,
        outcome: Outcome,
        step: _Step,
        tracking: Tracking | None,  # noqa: ARG002
        run_id: str,  # noqa: ARG002
    ) -> _Prepared:
        """Return the rows as declared; the models are those that were read."""
        schema = self.lake.table(context.asset_key.to_user_string()).schema
        rows = schema.conform(outcome.value)
        digest = table_digest(rows, schema)
        return _Prepared(rows, digest.table, digest.columns, step.models)


class ModelIOManager(LakeIOManager):
    """Models: a file named by its SHA-256, and a row of the asset's table that points to it."""

    def __init__(self, lake: Lake, model_format: ModelFormat) -> None:
        super().__init__(lake)
        self.format = model_format
        # of a month's three candidates, two were the month before's
        self._loaded = lru_cache(maxsize=4)(partial(lake.load_model, model_format))

    def value(self, step: _Step, partitions: Sequence[str], read: _Read) -> dict[str, Any]:  # noqa: ARG002
        """Return the model of each partition that has one."""
        models: dict[str, Any] = {}
        for partition, (version, rows) in read.parts.items():
            for row in rows.to_pylist():
                row["origin"] = row["origin"] or version.address
                step.models.append(_named(row))
                models[partition] = self._loaded(row["sha256"], row["card"], row["origin"])
        return models

    def prepare(
        self, context: dg.OutputContext, outcome: Outcome, step: _Step, tracking: Tracking | None, run_id: str
    ) -> _Prepared:
        """Store the model's file and return its row; a model that was only chosen keeps its origin and its copy."""
        card = self.format.card(outcome.value)
        digest = object_digest(self.format.state(outcome.value))
        origin = card.pop("origin")
        known = next((item for item in step.models if item["digest"] == digest and item["origin"] == origin), None)
        content = b"" if known else self.format.dump(outcome.value)
        row = {
            "digest": digest,
            "sha256": known["sha256"] if known else self.lake.save_file(content),
            "origin": origin,
            "card": json.dumps(card, sort_keys=True),
            "example": ""
            if outcome.example is None
            else outcome.example.to_json(orient="table", index=False, double_precision=15),
            "mlflow_model_id": known["mlflow_model_id"] if known else "",
        }
        if tracking and not origin:
            asset, model = context.asset_key.to_user_string(), outcome.value
            log = partial(
                log_copy, run_id=run_id, asset=asset, models=self.format, model=model, content=content, row=row
            )
            row["mlflow_model_id"] = tracking.ask(log) or ""
        import pyarrow as pa

        rows = MODEL_ROWS.conform(pa.Table.from_pylist([row], schema=MODEL_ROWS.arrow()))
        return _Prepared(rows, digest, {}, [_named(row)])


class SourceInputManager(dg.InputManager):
    """Reads an external source: its rows are observed, hashed and remembered like any other input.

    Args:
        lake: the lake, where the outputs of the reading steps lie.
        reader: makes a reader of the source.
        format_: how the source is read.
    """

    def __init__(self, lake: Lake, reader: Callable[[], Reader], format_: SourceFormat) -> None:
        self.lake, self.reader, self.format = lake, reader, format_
        self._parsed: tuple[str, Any] = ("", None)

    def load_input(self, context: dg.InputContext) -> Any:
        """Read and validate the source and return one partition's rows; report it to Dagster when it is new.

        Raises:
            DataError: the source is not of its layout.
        """
        with judged(_attempt(context), self.lake.location):
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Any:
        step = _running_step(context, self.lake)
        asset, partition, reader = context.asset_key.to_user_string(), context.asset_partition_key, self.reader()
        version = reader.origin().version
        if version != self._parsed[0]:
            raw = reader.read()
            self._parsed = (raw.origin.version, self.format.parse(raw))
        schema = self.format.schema
        rows = schema.conform(self.format.select(self._parsed[1], partition))
        found = Version(asset, partition, self._parsed[0], table_digest(rows, schema).table)
        step.reads[asset] = _Read(reader, schema, {partition: (found, rows)})
        metadata.observe(context.instance, found, reader.origin(), len(rows))
        return to_pandas([rows], schema)


def _running_step(context: dg.InputContext, lake: Lake) -> _Step:
    """Return what is known of the running step; its output's table is pinned when its first input is loaded."""
    key = _step_key(context)
    if key not in _steps:
        for other in [other for other in _steps if other[0] == key[0]]:
            del _steps[other]  # a step of this run that failed or skipped: steps of a process run one by one
        outputs = (item.properties.asset_key for item in context.step_context.step.step_outputs)
        (output,) = (asset for asset in outputs if asset)  # a check's output is of no asset
        _steps[key] = _Step(lake.table(output.to_user_string()).version())
    return _steps[key]


def _attempt(context: dg.InputContext | dg.OutputContext) -> int:
    return context.step_context.previous_attempt_count + 1


def _still_at_work(context: dg.OutputContext) -> None:
    """Fail where the Dagster run has ended: this step was given up, and what it made is nobody's any more.

    Raises:
        FencedError: it has.
    """
    run_id, instance = context.run_id, context.step_context.instance
    if not instance.get_runs_count(dg.RunsFilter(run_ids=[run_id], statuses=list(AT_WORK))):
        address = partition_address(context.asset_key.to_user_string(), context.partition_key)
        raise FencedError(
            f"{address}: run {run_id} ended while this step was at work, so nothing more is published; "
            "run again where the partition is still missing"
        )


def _step_key(context: dg.InputContext | dg.OutputContext) -> tuple[str, str, int]:
    step = context.step_context
    return step.run_id, step.step.key, step.previous_attempt_count


def _record(
    context: dg.OutputContext, prepared: _Prepared, step: _Step, outcome: Outcome, run_id: str, lake: Lake
) -> Record:
    """Return the record of a materialization; its table version is not known before the commit."""
    output = Version(context.asset_key.to_user_string(), context.partition_key, -1, prepared.digest)
    datasets = [_use(role, step.reads[asset], partitions) for role, (asset, partitions) in outcome.datasets.items()]
    if outcome.role:
        source = asdict(Origin(output.asset, lake.table(output.asset).uri, "delta", str(output.version), 0))
        datasets.append(
            Use(outcome.role, output.asset, (context.partition_key,), output.digest, len(prepared.rows), source)
        )
    used = {
        asset: sorted({*step.reads[asset].schema.key, *names}) if names else [] for asset, names in outcome.used.items()
    }
    return Record(
        output=output,
        columns=prepared.columns,
        inputs=tuple(version for read in step.reads.values() for version, _ in read.parts.values()),
        code_version=context.asset_spec.code_version or "",
        # in the order in which Dagster's event gives it back: MLflow takes its text, and takes no other later
        config=json.loads(json.dumps(context.step_context.op_config or {}, sort_keys=True)),
        environment=environment(lake.root),
        made_by={
            **lake.made_by,
            "dagster_run_id": context.run_id,
            "step_key": context.step_key,
            "attempt": str(_attempt(context)),
            "mlflow_run_id": run_id,
        },
        models=tuple(prepared.models),
        datasets=tuple(datasets),
        params={name: str(value) for name, value in outcome.params.items()},
        metrics={name: float(value) for name, value in outcome.metrics.items()},
        series={
            name: {str(step): float(value) for step, value in series.items()} for name, series in outcome.series.items()
        },
        checks=dict(outcome.checks),
        used=used,
        used_digests=_used_digests(used, step.reads, lake),
        time=time.time(),
    )


def _used_digests(used: Mapping[str, Sequence[str]], reads: Mapping[str, _Read], lake: Lake) -> dict[str, str]:
    """Return the digest of the columns that were used of each table version that was read."""
    found: dict[str, str] = {}
    for asset, names in used.items():
        reader = reads[asset].reader
        if names and isinstance(reader, DeltaReader):
            commits = lake.table(asset).published(reader.version)
            for key in reads[asset].parts:
                found[partition_address(asset, key)] = used_digest(commits[key].record["columns"], names)
    return found


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of a model."""
    return {key: value for key, value in row.items() if key not in ("card", "example")}


def _use(context: str, read: _Read, partitions: Sequence[str] | None) -> Use:
    """Return the role of the partitions that were read together, with the content digest of all their rows."""
    parts = {key: part for key, part in read.parts.items() if partitions is None or key in partitions}
    (asset,) = {version.asset for version, _ in read.parts.values()}
    digest, rows = digest_together([*parts.values()], read.schema), sum(len(rows) for _, rows in parts.values())
    return Use(context, asset, tuple(sorted(parts)), digest, rows, asdict(read.reader.origin()))
