"""Dagster IO managers over the lake: reads are pinned to a version and remembered, writes carry a record of them.

Inputs are loaded when a step starts; what was read is remembered until its output is written, and becomes the output's
record: on Delta's commit, on Dagster's materialization event and in MLflow's run.
"""

from __future__ import annotations

import inspect
import json
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeAlias, Union, get_args, get_origin

import dagster as dg

from bikes_assets.core.digest import object_digest, table_digest
from bikes_assets.core.errors import ConflictError, FencedError, LineageError, RecordError, SchemaError
from bikes_assets.core.record import Origin, Record, Use, Version, partition_address, used_digest
from bikes_assets.core.schema import Schema, schema_from
from bikes_assets.events import metadata
from bikes_assets.events.reported import REGISTERED, latest_version
from bikes_assets.events.retries import judged
from bikes_assets.events.workers import AT_WORK, began_later
from bikes_assets.lineage.projection import WHOLE
from bikes_assets.storage.code.environment import environment
from bikes_assets.storage.delta import PARTITION, LakeTable, Memory, present_version, stored_schema
from bikes_assets.storage.lake import MODEL_ROWS, DeltaReader, Lake, ModelFormat, digest_together, to_pandas
from bikes_assets.storage.sources.readers import Reader
from bikes_assets.storage.sources.source_state import SourceFormat
from bikes_assets.tracking.model_copies import log_copy, set_aliases
from bikes_assets.tracking.names import logged_model_name
from bikes_assets.tracking.params import settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from bikes_assets.tracking.resource import Tracking

Parts: TypeAlias = "dict[str | None, tuple[Version, Any]]"
"""Versions of partitions, and their rows: an Arrow table each, or the files that hold them. The key is None for assets
without partitions."""


@dataclass(frozen=True)
class Outcome:
    """What an asset function returns: its value, and what to record about it. A plain value has nothing to record.

    Attributes:
        value: a table (any frame that Narwhals reads) or a model.
        datasets: what was read in which role: context (`raw`, `training`, ...) to input asset and its partitions, None
            for all.
                By default every table that was read, as `input`, or as `training` if the value is a model.
        role: context of a table as a dataset, `output` by default.
        metrics: metrics, as float.
        series: metrics by step (a whole number), such as the error by hour of the day.
        params: settings and transformations.
        checks: result of each check that was run on the value: whether it passed.
        used: which columns of an input contributed to the value, by asset; all columns of an input that is not named.
        inert: input columns that are unused by the model, so that no output depends on them, by asset; see
            `core.record.Record`.
        evidence: what experiments have shown of the function that made the value.
        figures: plots, by title.
        example: a few of a model's input rows.
        config: settings that the value was made with, if they differ from the run's.
    """

    value: Any
    datasets: Mapping[str, tuple[str, Sequence[str] | None]] | None = None
    role: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, bool] = field(default_factory=dict)
    used: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inert: Mapping[str, Sequence[str]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, metadata.Drawing] = field(default_factory=dict)
    example: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Read:
    """What a step read of one asset."""

    reader: Reader
    schema: Schema
    parts: Parts


@dataclass
class _Step:
    """What a running step has read so far, and the version of its output's table when it began."""

    since: int
    reads: dict[str, _Read] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Prepared:
    """An outcome to be published: its table and rows, their digests, and the models that it is or was made with."""

    table: LakeTable
    rows: pa.Table
    digest: str
    columns: dict[str, str]
    models: list[dict[str, Any]]


@dataclass(frozen=True)
class _Published:
    """What a commit holds: rows and record; and the record of the partition's previous version, if it is known."""

    rows: pa.Table
    record: Record
    before: Record | None = None


_MOST_NAMED = 20
"""Largest number of partitions that an error names one by one."""
_steps: dict[tuple[str, str, int], _Step] = {}


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
        return dg.IOManagerDefinition(_named_as(self), description=_purpose(self), required_resource_keys={"mlflow"})

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the mapped partitions of an upstream asset, all as of one table version.

        Raises:
            LineageError: a partition of a table has not been materialized.
        """
        with judged(_attempt(context), self.lake.location):
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Any:
        step = _running_step(context, self.lake)
        asset = context.asset_key.to_user_string()
        partitions = [*context.asset_partition_keys] if context.has_asset_partitions else [None]
        table = self.table(asset)
        version, parts = self.read(table, partitions)
        step.reads[asset] = _Read(DeltaReader(table, version, partitions), table.schema, parts)
        return self.value(step, partitions, step.reads[asset], context)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Publish an `Outcome` or a plain value: Delta commit, then Dagster's event and MLflow's run, with the record.

        Raises:
            ConflictError: an earlier run has published the partition since this step began; a retry reads the inputs
                again.
            FencedError: the Dagster run has ended meanwhile, or a later run has published the partition.
            StoreError: the lake cannot be written.
        """
        with judged(_attempt(context), self.lake.location):
            self._publish(context, obj if isinstance(obj, Outcome) else Outcome(obj))

    def _publish(self, context: dg.OutputContext, obj: Outcome) -> None:
        asset = context.asset_key.to_user_string()
        step = _steps.pop(_step_key(context), None) or _Step(present_version(self.lake.uri(asset)))
        tracking: Tracking | None = context.resources.mlflow
        made = self._committed_earlier(context, step, obj) or self._commit(context, step, obj, tracking)
        record, links = made.record, dict[str, str]()
        context.step_context.set_data_version(context.asset_key, dg.DataVersion(record.output.digest))
        run_id, registered = record.made_by["mlflow_run_id"], 0
        if tracking and tracking.is_connected and run_id:
            registered = tracking.finish(run_id, record, {title: plot.svg() for title, plot in obj.figures.items()})
            if asset == self.lake.serving:
                tracking.ask(partial(set_aliases, lake=self.lake))
            links["mlflow_run"] = tracking.url(run_id, asset)
        facts = {
            **(record.params if asset == self.lake.serving else {}),
            **({REGISTERED: registered} if registered else {}),
        }
        shown = metadata.Shown(record.metrics, obj.figures, facts, links)
        values = metadata.of_materialization(
            made.rows, record, context.definition_metadata, before=made.before, shown=shown
        )
        # sync may have reported the commit of a run that has ended: it must not be reported twice
        _still_at_work(context)
        context.add_output_metadata(values)

    def _committed_earlier(self, context: dg.OutputContext, step: _Step, outcome: Outcome) -> _Published | None:
        """Return what an earlier attempt at this step committed, None if it committed nothing.

        The commit is in the log, but the attempt failed before it reported it: the store's answer was lost, and the
        store could not be reached afterwards. An outcome with other inputs, code or config than the commit's is
        published as a new version.
        """
        partition = _partition(context)
        if _attempt(context) == 1:
            return None
        prepared = self.prepare(context, outcome, step, None, "")
        commit = prepared.table.latest(partition)
        made_by = {"dagster_run_id": context.run_id, "step_key": context.step_key}
        if commit is None or not made_by.items() <= commit.record.get("made_by", {}).items():
            return None
        earlier = Record.from_dict(commit.record)
        if _of_same(earlier) != _of_same(self._record(context, prepared, step, outcome, "")):
            return None
        ((_, rows),) = prepared.table.read([partition], commit.version).values()
        return _Published(rows, earlier.at(commit.version))

    def _commit(
        self, context: dg.OutputContext, step: _Step, outcome: Outcome, tracking: Tracking | None
    ) -> _Published:
        """Commit an outcome to the lake, and return what was committed."""
        asset, partition = context.asset_key.to_user_string(), _partition(context)
        known = latest_version(context.step_context.instance, asset)
        run_id = tracking.start(context.step_key, _attempt(context), asset) if tracking else ""
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
            anew = partition is None and asset not in self.lake.schemas
            version = prepared.table.write(
                partition, prepared.rows, record.to_dict(), since=step.since, fence=fence, anew=anew
            )
        except ConflictError as error:
            if began_later(context.step_context.instance, error.run_id, context.run_id):
                raise FencedError(str(error)) from error
            raise
        return _Published(prepared.rows, record.at(version), before)

    def _record(
        self, context: dg.OutputContext, prepared: _Prepared, step: _Step, outcome: Outcome, run_id: str
    ) -> Record:
        """Return the record of a materialization; its table version is not known before the commit."""
        output = Version(context.asset_key.to_user_string(), _partition(context), -1, prepared.digest)
        if outcome.datasets is None:
            datasets = [_use(self.read_as, read) for read in step.reads.values() if read.schema is not MODEL_ROWS]
        else:
            datasets = [_use(role, step.reads[asset], keys) for role, (asset, keys) in outcome.datasets.items()]
        if role := outcome.role or self.made_as:
            source = Origin(output.asset, prepared.table.uri, "delta", str(output.version), 0).to_dict()
            keys = () if output.partition is None else (output.partition,)
            datasets.append(Use(role, output.asset, keys, output.digest, len(prepared.rows), source))
        used = {
            asset: sorted({*step.reads[asset].schema.key, *names}) if names else []
            for asset, names in outcome.used.items()
        }
        return Record(
            output=output,
            columns=prepared.columns,
            inputs=tuple(version for read in step.reads.values() for version, _ in read.parts.values()),
            code_version=context.asset_spec.code_version or "",
            config=_config(context, outcome),
            environment=environment(self.lake.root),
            made_by={
                **self.lake.made_by,
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
                name: {str(step): float(value) for step, value in series.items()}
                for name, series in outcome.series.items()
            },
            checks=dict(outcome.checks),
            used=used,
            used_digests=_used_digests(used, step.reads),
            inert={asset: list(names) for asset, names in outcome.inert.items() if names},
            evidence=dict(outcome.evidence),
            time=time.time(),
        )

    @abstractmethod
    def table(self, asset: str) -> LakeTable:
        """Return the table of an asset that is read."""

    def read(self, table: LakeTable, partitions: Sequence[str | None]) -> tuple[int, Parts]:
        """Return the current table version, and each partition's version and rows as of it."""
        return table.read_present(partitions, self._memory)

    @abstractmethod
    def value(self, step: _Step, partitions: Sequence[str | None], read: _Read, context: dg.InputContext) -> Any:
        """Return the value for the asset function's parameter, from what was read."""

    @abstractmethod
    def prepare(
        self, context: dg.OutputContext, outcome: Outcome, step: _Step, tracking: Tracking | None, run_id: str
    ) -> _Prepared:
        """Return an outcome to be published; a model's copy is logged to the attempt's run."""


class TableIOManager(LakeIOManager):
    """Tables: pandas frames in assets, Delta partitions in the lake.

    A table without declared columns in the lake has those of the frame.
    """

    made_as = "output"

    def table(self, asset: str) -> LakeTable:
        """Return the table of an asset, with the declared or stored columns.

        Raises:
            LineageError: it has neither.
        """
        schema = self.lake.schemas.get(asset) or stored_schema(asset, self.lake.uri(asset))
        if schema is None:
            raise LineageError(
                f"{asset}: not materialized yet; materialize that first",
                found="nothing",
                expected=asset,
                advice="materialize that first",
            )
        return self.lake.table(asset, schema)

    def value(self, step: _Step, partitions: Sequence[str | None], read: _Read, context: dg.InputContext) -> Any:  # noqa: ARG002
        """Return the rows of all partitions."""
        _all_there(partitions, read)
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
        asset = context.asset_key.to_user_string()
        schema = self.lake.schemas.get(asset) or self._schema_of(context, outcome, step)
        _check_lineage(context, schema, step)
        rows = schema.conform(outcome.value)
        digest = table_digest(rows, schema)
        return _Prepared(self.lake.table(asset, schema), rows, digest.table, digest.columns, step.models)

    def _schema_of(self, context: dg.OutputContext, outcome: Outcome, step: _Step) -> Schema:
        """Return the columns of a frame without declared ones; the same code must make the same from the same inputs.

        Raises:
            SchemaError: a column has a type that tables do not have, or the same code has made other columns of the
                same inputs.
        """
        asset = context.asset_key.to_user_string()
        found, uri = schema_from(outcome.value, asset), self.lake.uri(asset)
        if PARTITION in found.names:
            raise SchemaError(f"{asset}.{PARTITION}: found a column of the name that the lake keeps; rename it")
        known = stored_schema(asset, uri)
        if known is None or known.types == found.types:
            return found
        before = self.lake.table(asset, known).published().get(_partition(context))
        if before is None or before.record["code_version"] != context.asset_spec.code_version:
            return found
        for item in before.record["inputs"]:
            read = step.reads.get(item["asset"])
            then = stored_schema(item["asset"], self.lake.uri(item["asset"]), int(item["version"]))
            if read is None or then is None or read.schema.types != then.types:
                return found
        raise SchemaError(
            f"{asset}: found columns {_shown(found)}, expected {_shown(known)}, which the same code made of the same columns; "
            "make them alike, or declare the schema"
        )


class ModelIOManager(LakeIOManager):
    """Models: a file named by its SHA-256, and a row of the asset's table that points to it."""

    read_as = "training"

    def __init__(self, lake: Lake, model_format: ModelFormat) -> None:
        super().__init__(lake)
        self.format = model_format
        # of a month's three candidates, two were also the month before's
        self._loaded = lru_cache(maxsize=4)(partial(lake.load_model, model_format))

    def table(self, asset: str) -> LakeTable:
        """Return the table of an asset."""
        return self.lake.table(asset, MODEL_ROWS)

    def value(self, step: _Step, partitions: Sequence[str | None], read: _Read, context: dg.InputContext) -> Any:
        """Return the model if one partition is read; for several, or for a mapping parameter, models by partition.

        A partition mapping whose kind leads to several also gives a mapping if it leads to one, such as for the first
        month. A mapping contains only the models that exist. A single one must exist, unless the parameter may be None.

        Raises:
            LineageError: a single one does not exist.
        """
        annotation = context.dagster_type.typing_type
        models: dict[str | None, Any] = {}
        for partition, (version, rows) in read.parts.items():
            for row in rows.to_pylist():
                row["origin"] = row["origin"] or version.address
                step.models.append(_named(row))
                models[partition] = self._loaded(row["sha256"], row["card"], row["origin"])
        if len(partitions) != 1:
            return models
        if partitions[0] is not None and (any(map(_is_mapping, _kinds(annotation))) or _may_be_several(context)):
            return models
        if partitions[0] not in models and type(None) not in _kinds(annotation):
            _all_there(partitions, read, "; or annotate the parameter as one that may be None, such as `Any | None`")
            raise LineageError(
                f"{partition_address(read.reader.origin().name, partitions[0])}: holds no model now; expected one"
            )
        return models.get(partitions[0])

    def prepare(
        self, context: dg.OutputContext, outcome: Outcome, step: _Step, tracking: Tracking | None, run_id: str
    ) -> _Prepared:
        """Store the model's file and return its row; a model that was only selected keeps its origin and its copy."""
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
            log = partial(
                log_copy,
                run_id=run_id,
                name=logged_model_name(context.asset_key.to_user_string(), _partition(context)),
                models=self.format,
                model=outcome.value,
                content=content,
                row=row,
                params=settings(_config(context, outcome), outcome.params),
            )
            row["mlflow_model_id"] = tracking.ask(log) or ""
        import pyarrow as pa

        rows = MODEL_ROWS.conform(pa.Table.from_pylist([row], schema=MODEL_ROWS.arrow()))
        return _Prepared(self.table(context.asset_key.to_user_string()), rows, digest, {}, [_named(row)])


class SourceInputManager(dg.InputManager):
    """Reads an external source: its rows are observed, hashed and recorded like any other input.

    Args:
        lake: the lake with the outputs of the reading steps.
        reader: returns a reader of the source.
        format_: how the source is read.
    """

    def __init__(self, lake: Lake, reader: Callable[[], Reader], format_: SourceFormat) -> None:
        self.lake, self.reader, self.format = lake, reader, format_
        self._parsed: tuple[str, Any] = ("", None)

    def resource(self) -> dg.InputManagerDefinition:
        """Return it as a resource, which assets name as the IO manager of an input."""
        return dg.InputManagerDefinition(_named_as(self), description=_purpose(self))

    def load_input(self, context: dg.InputContext) -> Any:
        """Read and validate the source and return one partition's rows; a new version of them is reported to Dagster.

        Raises:
            DataError: the source has another layout.
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


def _purpose(manager: Any) -> str:
    """Return the first paragraph of the docstring of a manager's class."""
    return (inspect.getdoc(type(manager)) or "").partition("\n\n")[0]


def _named_as(manager: Any) -> Callable[[Any], Any]:
    """Return a resource function with the name of the manager's class, which Dagster's UI shows as the type."""

    def made(_: Any) -> Any:
        return manager

    made.__name__, made.__module__ = type(manager).__name__, type(manager).__module__
    return made


def _running_step(context: dg.InputContext, lake: Lake) -> _Step:
    """Return the state of the running step; its output's table is pinned when its first input is loaded."""
    key = _step_key(context)
    if key not in _steps:
        for other in [other for other in _steps if other[0] == key[0]]:
            del _steps[other]  # a step of this run that failed or skipped: steps of a process run one by one
        outputs = (item.properties.asset_key for item in context.step_context.step.step_outputs)
        (output,) = (asset for asset in outputs if asset)  # a check's output has no asset
        _steps[key] = _Step(present_version(lake.uri(output.to_user_string())))
    return _steps[key]


def _config(context: dg.OutputContext, outcome: Outcome) -> dict[str, Any]:
    """Return the config of an outcome, in the order in which Dagster returns it: MLflow compares its text."""
    return json.loads(json.dumps(outcome.config or context.step_context.op_config or {}, sort_keys=True))


def _partition(context: dg.OutputContext) -> str | None:
    return context.partition_key if context.has_partition_key else None


def may_be_absent(annotation: Any) -> bool:
    """Return whether a parameter accepts missing partitions: it may be None, or maps partitions to their values."""
    return any(kind is type(None) or _is_mapping(kind) for kind in _kinds(annotation))


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _is_mapping(kind: Any) -> bool:
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _may_be_several(context: dg.InputContext) -> bool:
    """Return whether an input's partition mapping leads to several partitions by its kind, even if only to one now."""
    step = context.step_context
    asset = step.job_def.asset_layer.get_assets_def_for_node(step.node_handle)
    mapping = asset.get_partition_mapping_for_dep(context.asset_key) if asset else None
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return mapping.start_offset != mapping.end_offset
    return isinstance(mapping, dg.AllPartitionMapping)


def _all_there(partitions: Sequence[str | None], read: _Read, otherwise: str = "") -> None:
    """Raise an error if a partition to be read was never materialized; `otherwise` names an alternative to doing so.

    Raises:
        LineageError: a partition was never materialized.
    """
    missing = [key for key in partitions if key not in read.parts]
    if missing:
        which = "".join(f" for {', '.join(keys)}" for keys in [[key for key in missing if key]] if keys)
        name = read.reader.origin().name
        told = f"{name}: not materialized yet{which}; materialize that first{otherwise}"
        raise LineageError(
            told,
            found=f"nothing{which}",
            expected=", ".join(partition_address(name, key) for key in missing[:_MOST_NAMED]),
            advice=f"materialize that first{otherwise}",
        )


def _check_lineage(context: dg.OutputContext, schema: Schema, step: _Step) -> None:
    """Raise an error if an asset's declared lineage names a column that does not exist.

    Raises:
        SchemaError: a column is in none of the tables.
    """
    declared = context.definition_metadata.get(metadata.COLUMN_LINEAGE)
    if declared is None:
        return
    tables = {asset: read.schema for asset, read in step.reads.items()}
    tables[context.asset_key.to_user_string()] = schema
    named = [(schema.name, column) for column in declared.deps_by_column]
    named += [
        (dep.asset_key.to_user_string(), dep.column_name) for deps in declared.deps_by_column.values() for dep in deps
    ]
    for asset, column in named:
        if asset in tables and column not in (*tables[asset].names, WHOLE):
            found = ", ".join(tables[asset].names)
            raise SchemaError(
                f"{asset}: found columns {found}, expected {column}, which the column lineage of {schema.name} names"
            )


def _shown(schema: Schema) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in schema.types.items())


def _attempt(context: dg.InputContext | dg.OutputContext) -> int:
    return context.step_context.previous_attempt_count + 1


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
        address = partition_address(context.asset_key.to_user_string(), _partition(context))
        raise FencedError(
            f"{address}: run {run_id} ended while this step was at work, so nothing more is published; "
            "run again where the partition is still missing"
        )


def _step_key(context: dg.InputContext | dg.OutputContext) -> tuple[str, str, int]:
    step = context.step_context
    return step.run_id, step.step.key, step.previous_attempt_count


def _of_same(record: Record) -> tuple[object, ...]:
    """Return a key that is equal for two attempts with the same inputs, code, config and outcome."""
    return record.output.digest, record.columns, record.inputs, record.code_version, record.config


def _used_digests(used: Mapping[str, Sequence[str]], reads: Mapping[str, _Read]) -> dict[str, str]:
    """Return the digest of the used columns of each table version that was read."""
    found: dict[str, str] = {}
    for asset, names in used.items():
        reader = reads[asset].reader
        if names and isinstance(reader, DeltaReader):
            commits = reader.table.published(reader.version)
            for key in reads[asset].parts:
                found[partition_address(asset, key)] = used_digest(commits[key].record["columns"], names)
    return found


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a record stores about a model."""
    return {key: value for key, value in row.items() if key not in ("card", "example")}


def _use(context: str, read: _Read, partitions: Sequence[str] | None = None) -> Use:
    """Return the role of partitions that were read together, with the content digest of all their rows."""
    parts = {key: part for key, part in read.parts.items() if partitions is None or key in partitions}
    (asset,) = {version.asset for version, _ in read.parts.values()}
    digest, rows = digest_together([*parts.values()], read.schema), sum(len(rows) for _, rows in parts.values())
    keys = tuple(sorted(key for key in parts if key is not None))
    return Use(context, asset, keys, digest, rows, read.reader.origin().to_dict())
