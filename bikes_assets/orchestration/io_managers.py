"""Dagster's IO managers over the lake: for tables, for models and for external sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import dagster as dg

from bikes_assets.core.address import WHOLE
from bikes_assets.core.digest import object_digest, table_digest
from bikes_assets.core.errors import LineageError, SchemaError
from bikes_assets.core.record import Version, partition_address
from bikes_assets.core.schema import Schema, schema_from
from bikes_assets.events import metadata
from bikes_assets.events.retries import classified_errors
from bikes_assets.orchestration.lake_io import LakeIOManager, named_as, purpose, running_step
from bikes_assets.orchestration.outcome import (
    Outcome,
    Parts,
    Prepared,
    Read,
    RunningStep,
    attempt_of,
    config_of,
    named,
    partition_of,
)
from bikes_assets.storage.delta import LakeTable, stored_schema
from bikes_assets.storage.delta_log import PARTITION
from bikes_assets.storage.lake import MODEL_ROWS, Lake, ModelFormat, to_pandas
from bikes_assets.storage.sources.readers import Reader
from bikes_assets.storage.sources.source_state import SourceFormat
from bikes_assets.tracking.model_copies import log_copy
from bikes_assets.tracking.names import logged_model_name
from bikes_assets.tracking.params import settings

if TYPE_CHECKING:
    import pandas as pd

    from bikes_assets.tracking.resource import Tracking

_MOST_NAMED = 20
"""Largest number of partitions that an error names one by one."""


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

    def value(self, step: RunningStep, partitions: Sequence[str | None], read: Read, context: dg.InputContext) -> Any:  # noqa: ARG002
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
        step: RunningStep,
        tracking: Tracking | None,  # noqa: ARG002
        run_id: str,  # noqa: ARG002
    ) -> Prepared:
        """Return the rows as declared; the models are those that were read."""
        asset = context.asset_key.to_user_string()
        schema = self.lake.schemas.get(asset) or self._schema_of(context, outcome, step)
        _check_lineage(context, schema, step)
        rows = schema.conform(outcome.value)
        digest = table_digest(rows, schema)
        return Prepared(self.lake.table(asset, schema), rows, digest.table, digest.columns, step.models)

    def _schema_of(self, context: dg.OutputContext, outcome: Outcome, step: RunningStep) -> Schema:
        """Return the columns of a frame without declared ones; the same code must make the same from the same inputs.

        Raises:
            SchemaError: a column has a type that tables do not have, or the same code has returned other columns of the
                same inputs.
        """
        asset = context.asset_key.to_user_string()
        found, uri = schema_from(outcome.value, asset), self.lake.uri(asset)
        if PARTITION in found.names:
            raise SchemaError(f"{asset}.{PARTITION}: found a column of the name that the lake keeps; rename it")
        known = stored_schema(asset, uri)
        if known is None or known.types == found.types:
            return found
        before = self.lake.table(asset, known).published().get(partition_of(context))
        if before is None or before.record["code_version"] != context.asset_spec.code_version:
            return found
        for item in before.record["inputs"]:
            read = step.reads.get(item["asset"])
            then = stored_schema(item["asset"], self.lake.uri(item["asset"]), int(item["version"]))
            if read is None or then is None or read.schema.types != then.types:
                return found
        raise SchemaError(
            f"{asset}: found columns {_shown(found)}, expected {_shown(known)}, which the same code returned "
            "for the same columns; make them alike, or declare the schema"
        )


class ModelIOManager(LakeIOManager):
    """Models: a file named by its SHA-256, and a row of the asset's table that points to it."""

    read_as = "training"

    def __init__(self, lake: Lake, model_format: ModelFormat) -> None:
        super().__init__(lake)
        self.format = model_format
        # of a month's three candidates, two were also the month before's, and one was fitted a moment ago
        self._loaded = lru_cache(maxsize=4)(self._load_model)
        self._fitted: dict[tuple[str, str], Any] = {}

    def table(self, asset: str) -> LakeTable:
        """Return the table of an asset."""
        return self.lake.table(asset, MODEL_ROWS)

    def value(self, step: RunningStep, partitions: Sequence[str | None], read: Read, context: dg.InputContext) -> Any:
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
                step.models.append(named(row))
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

    def _load_model(self, sha256: str, card: str, origin: str) -> Any:
        return self.lake.load_model(self.format, sha256, card, origin, self._fitted.get((sha256, card)))

    def prepare(
        self, context: dg.OutputContext, outcome: Outcome, step: RunningStep, tracking: Tracking | None, run_id: str
    ) -> Prepared:
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
        if content:
            self._fitted = {(row["sha256"], row["card"]): outcome.value}
        if tracking and not origin:
            log = partial(
                log_copy,
                run_id=run_id,
                name=logged_model_name(context.asset_key.to_user_string(), partition_of(context)),
                models=self.format,
                model=outcome.value,
                content=content,
                row=row,
                params=settings(config_of(context, outcome), outcome.params),
            )
            row["mlflow_model_id"] = tracking.ask(log) or ""
        import pyarrow as pa

        rows = MODEL_ROWS.conform(pa.Table.from_pylist([row], schema=MODEL_ROWS.arrow()))
        return Prepared(self.table(context.asset_key.to_user_string()), rows, digest, {}, [named(row)])


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
        return dg.InputManagerDefinition(named_as(self), description=purpose(self))

    def load_input(self, context: dg.InputContext) -> Any:
        """Read and validate the source and return one partition's rows; a new version of them is reported to Dagster.

        Raises:
            DataError: the source has another layout.
        """
        with classified_errors(attempt_of(context), self.lake.location):
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Any:
        step = running_step(context, self.lake)
        asset, partition, reader = context.asset_key.to_user_string(), context.asset_partition_key, self.reader()
        version = reader.origin().version
        if version != self._parsed[0]:
            raw = reader.read()
            self._parsed = (raw.origin.version, self.format.parse(raw))
        schema = self.format.schema
        rows = schema.conform(self.format.select(self._parsed[1], partition))
        found = Version(asset, partition, self._parsed[0], table_digest(rows, schema).table)
        step.reads[asset] = Read(reader, schema, {partition: (found, rows)})
        metadata.observe(context.instance, found, reader.origin(), len(rows))
        return to_pandas([rows], schema)


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


def _all_there(partitions: Sequence[str | None], read: Read, otherwise: str = "") -> None:
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


def _check_lineage(context: dg.OutputContext, schema: Schema, step: RunningStep) -> None:
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
