"""What is published: what an asset function returns, what its step has read, and the record of both."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from bikes_assets.core.record import Origin, Record, Use, Version, partition_address, used_digest
from bikes_assets.storage.code.environment import environment
from bikes_assets.storage.lake import MODEL_ROWS, DeltaReader, digest_together

if TYPE_CHECKING:
    import dagster as dg
    import pyarrow as pa

    from bikes_assets.core.schema import Schema
    from bikes_assets.events import metadata
    from bikes_assets.storage.delta import LakeTable
    from bikes_assets.storage.lake import Lake
    from bikes_assets.storage.sources.readers import Reader

Parts: TypeAlias = "dict[str | None, tuple[Version, Any]]"
"""Versions of partitions, and their rows: an Arrow table each, or the files that hold them. The key is None for assets
without partitions."""


@dataclass(frozen=True)
class Outcome:
    """What an asset function returns: its value, and what to record about it. A plain value has nothing to record.

    Attributes:
        value: a table (any frame that Narwhals reads) or a model.
        datasets: what was read in which role: context (`raw`, `training`, ...) to input asset and its partitions, None
            for all. By default every table that was read, as `input`, or as `training` if the value is a model.
        role: context of a table as a dataset, `output` by default.
        metrics: metrics, as float.
        series: metrics by step (a whole number), such as the error by hour of the day.
        params: settings and transformations.
        checks: result of each check that was run on the value: whether it passed.
        used: which columns of an input contributed to the value, by asset; all columns of an input that is not named.
        unused: input columns that are unused by the model, so that no output depends on them, by asset; see
            `core.record.Record`.
        evidence: what experiments have shown of the function that returned the value.
        plots: plots, by title.
        example: a few of a model's input rows.
        config: settings that the value was computed with, if they differ from the run's.
    """

    value: Any
    datasets: Mapping[str, tuple[str, Sequence[str] | None]] | None = None
    role: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, bool] = field(default_factory=dict)
    used: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unused: Mapping[str, Sequence[str]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    plots: Mapping[str, metadata.Drawing] = field(default_factory=dict)
    example: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Read:
    """What a step read of one asset."""

    reader: Reader
    schema: Schema
    parts: Parts


@dataclass
class RunningStep:
    """What a running step has read so far, and the version of its output's table when it began."""

    since: int
    reads: dict[str, Read] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """An outcome to be published: its table and rows, their digests, and the models that it is or was fitted with."""

    table: LakeTable
    rows: pa.Table
    digest: str
    columns: dict[str, str]
    models: list[dict[str, Any]]


@dataclass(frozen=True)
class PublishedVersion:
    """What a commit holds: rows and record; and the record of the partition's previous version, if it is known."""

    rows: pa.Table
    record: Record
    before: Record | None = None


def record_of(
    context: dg.OutputContext,
    lake: Lake,
    prepared: Prepared,
    step: RunningStep,
    outcome: Outcome,
    run_id: str,
    roles: tuple[str, str | None],
) -> Record:
    """Return the record of a materialization; its table version is not known before the commit.

    Args:
        context: Dagster's, of the output.
        lake: where it is published.
        prepared: what is published.
        step: what was read.
        outcome: what the asset function returned.
        run_id: MLflow's run, "" without one.
        roles: contexts of what was read and of the output as datasets, where the outcome names none; None for no
            dataset.
    """
    output = Version(context.asset_key.to_user_string(), partition_of(context), -1, prepared.digest)
    used = {
        asset: sorted({*step.reads[asset].schema.key, *names}) if names else [] for asset, names in outcome.used.items()
    }
    return Record(
        output=output,
        columns=prepared.columns,
        inputs=tuple(version for read in step.reads.values() for version, _ in read.parts.values()),
        code_version=context.asset_spec.code_version or "",
        config=config_of(context, outcome),
        environment=environment(lake.root),
        made_by={
            **lake.made_by,
            "dagster_run_id": context.run_id,
            "step_key": context.step_key,
            "attempt": str(attempt_of(context)),
            "mlflow_run_id": run_id,
        },
        models=tuple(prepared.models),
        datasets=tuple(_datasets(prepared, step, outcome, output, roles)),
        params={name: str(value) for name, value in outcome.params.items()},
        metrics={name: float(value) for name, value in outcome.metrics.items()},
        series={
            name: {str(step): float(value) for step, value in series.items()} for name, series in outcome.series.items()
        },
        checks=dict(outcome.checks),
        used=used,
        used_digests=_used_digests(used, step.reads),
        inert={asset: list(names) for asset, names in outcome.unused.items() if names},
        evidence=dict(outcome.evidence),
        time=time.time(),
    )


def _datasets(
    prepared: Prepared, step: RunningStep, outcome: Outcome, output: Version, roles: tuple[str, str | None]
) -> list[Use]:
    """Return the roles in which partitions were read, and that of the output."""
    read_as, made_as = roles
    if outcome.datasets is None:
        datasets = [_use(read_as, read) for read in step.reads.values() if read.schema is not MODEL_ROWS]
    else:
        datasets = [_use(role, step.reads[asset], keys) for role, (asset, keys) in outcome.datasets.items()]
    if role := outcome.role or made_as:
        source = Origin(output.asset, prepared.table.uri, "delta", str(output.version), 0).to_dict()
        keys = () if output.partition is None else (output.partition,)
        datasets.append(Use(role, output.asset, keys, output.digest, len(prepared.rows), source))
    return datasets


def config_of(context: dg.OutputContext, outcome: Outcome) -> dict[str, Any]:
    """Return the config of an outcome, in the order in which Dagster returns it: MLflow compares its text."""
    return json.loads(json.dumps(outcome.config or context.step_context.op_config or {}, sort_keys=True))


def partition_of(context: dg.OutputContext) -> str | None:
    """Return the partition of an output, None where the asset has none."""
    return context.partition_key if context.has_partition_key else None


def attempt_of(context: dg.InputContext | dg.OutputContext) -> int:
    """Return which attempt at its step this is, 1 for the first."""
    return context.step_context.previous_attempt_count + 1


def of_same(record: Record) -> tuple[object, ...]:
    """Return a key that is equal for two attempts with the same inputs, code, config and outcome."""
    return record.output.digest, record.columns, record.inputs, record.code_version, record.config


def named(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a record stores about a model."""
    return {key: value for key, value in row.items() if key not in ("card", "example")}


def _used_digests(used: Mapping[str, Sequence[str]], reads: Mapping[str, Read]) -> dict[str, str]:
    """Return the digest of the used columns of each table version that was read."""
    found: dict[str, str] = {}
    for asset, names in used.items():
        reader = reads[asset].reader
        if names and isinstance(reader, DeltaReader):
            commits = reader.table.published(reader.version)
            for key in reads[asset].parts:
                found[partition_address(asset, key)] = used_digest(commits[key].record["columns"], names)
    return found


def _use(context: str, read: Read, partitions: Sequence[str] | None = None) -> Use:
    """Return the role of partitions that were read together, with the content digest of all their rows."""
    parts = {key: part for key, part in read.parts.items() if partitions is None or key in partitions}
    (asset,) = {version.asset for version, _ in read.parts.values()}
    digest, rows = digest_together([*parts.values()], read.schema), sum(len(rows) for _, rows in parts.values())
    keys = tuple(sorted(key for key in parts if key is not None))
    return Use(context, asset, keys, digest, rows, read.reader.origin().to_dict())
