"""Checks: what must hold of a value that was materialized, before it is published."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import CheckFailed, SchemaError
from bikes_assets.core.record import partition_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from bikes_assets.core.schema import Column, Schema


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check looks at: a value that was materialized, and what it was materialized from.

    Attributes:
        asset: name of the asset.
        partition: partition key, "" where the asset has no partitions.
        value: the value itself: a table or a model.
        metrics: its metrics, by name.
        inputs: what its function was given, by parameter.
        evidence: what checks last observed about the function that materialized the asset; the same code need not be
            observed again.
    """

    asset: str
    partition: str
    value: Any
    metrics: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check.

    Attributes:
        passed: whether what is expected holds.
        found: what was found, in words.
        metrics: the numbers that the result rests on, by name.
        waived: why a failure of a blocking check stops nothing this time, empty when it does.
        evidence: what it observed about the function that returned the subject, JSON-ready; later checks are given it.
    """

    passed: bool
    found: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    waived: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold of an asset.

    Attributes:
        name: name of the check, unique in its asset.
        description: what is expected, in words.
        blocking: whether a failure keeps the value from being published; otherwise it is a warning.
        function: looks at a subject and returns its verdict.
    """

    name: str
    description: str
    blocking: bool
    function: Callable[[Subject], Verdict]


def run_checks(checks: Sequence[Check], subject: Subject) -> list[tuple[Check, Verdict]]:
    """Return each check with its verdict, in order; after one that stops the subject, the rest are not run."""
    found: list[tuple[Check, Verdict]] = []
    for check in checks:
        found.append((check, check.function(subject)))
        if stops(*found[-1]):
            break
        if evidence := found[-1][1].evidence:
            subject = replace(subject, evidence=evidence)
    return found


def stops(check: Check, verdict: Verdict) -> bool:
    """Return whether a verdict keeps the subject from being published."""
    return check.blocking and not verdict.passed and not verdict.waived


def failure(found: Sequence[tuple[Check, Verdict]], subject: Subject) -> CheckFailed | None:
    """Return the error that keeps the subject from being published, None when nothing does."""
    address = partition_address(subject.asset, subject.partition or None)
    return next(
        (
            CheckFailed(check.name, address, found=verdict.found, expected=check.description)
            for check, verdict in found
            if stops(check, verdict)
        ),
        None,
    )


def schema_check(schema: Schema) -> Check:
    """Return the blocking check that a table conforms to its declared schema, its unique key included."""

    def conforms(subject: Subject) -> Verdict:
        try:
            rows = len(schema.conform(subject.value))
        except SchemaError as error:
            return Verdict(False, str(error))
        return Verdict(True, f"{rows} rows as declared", {"rows": rows})

    unique = f" and unique {', '.join(schema.key)}" if schema.key else ""
    return Check("schema", f"columns, types, order{unique} as declared", True, conforms)


def range_check(schema: Schema) -> Check:
    """Return the blocking check that each value is allowed: its column's `minimum`, `maximum` and `allowed`.

    It runs after the check of the schema, because it relies on the columns being there. Whether it passes or not, it
    reports the lowest and the highest value of each of these columns.
    """
    bound = [column for column in schema.columns if column.constraint]

    def in_range(subject: Subject) -> Verdict:
        table = schema.conform(subject.value)
        outside = {column.name: rows for column in bound if (rows := out_of_range(table[column.name], column))}
        ends = {column.name: found for column in bound if (found := _ends(table, column))}
        spans = "; ".join(f"{name} {low:.6g} to {high:.6g}" for name, (low, high) in ends.items())
        metrics = {f"out of range {name}": float(len(rows)) for name, rows in outside.items()}
        for name, (low, high) in ends.items():
            metrics |= {f"min {name}": float(low), f"max {name}": float(high)}
        if not outside:
            return Verdict(True, f"{len(table)} rows, every value in range" + (f": {spans}" if spans else ""), metrics)
        name, rows = next(iter(outside.items()))
        row = table.slice(rows[0], 1).to_pylist()[0]
        where = ", ".join(f"{key} {row[key]}" for key in schema.key)
        count = sum(len(found) for found in outside.values())
        told = f"{name} {row[name]} at {where}, and {count - 1} more values out of range" + (
            f": {spans}" if spans else ""
        )
        return Verdict(False, told, metrics)

    allowed = "; ".join(f"{column.name} {column.constraint}" for column in bound) or "any value of the column's type"
    return Check("ranges", allowed, True, in_range)


def _ends(table: pa.Table, column: Column) -> tuple[float, float] | None:
    """Return the lowest and the highest value of a column of numbers; None for any other column, or without a value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table[column.name]
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)) or values.null_count == len(values):
        return None
    found = pc.min_max(values).as_py()
    return found["min"], found["max"]


def out_of_range(values: pa.Array[Any] | pa.ChunkedArray[Any], column: Column) -> list[int]:
    """Return the rows of a column whose value is none of those allowed; a missing value is the schema's matter."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wrong = pa.scalar(False)
    if column.allowed:
        wrong = pc.invert(pc.is_in(values, value_set=pa.array(column.allowed, values.type)))
    if column.minimum is not None:
        wrong = pc.or_(wrong, pc.less(values, column.minimum))
    if column.maximum is not None:
        wrong = pc.or_(wrong, pc.greater(values, column.maximum))
    wrong = pc.and_(wrong, pc.is_valid(values))  # not indices_nonzero: it crashes on an array without chunks
    return [row for row, is_wrong in enumerate(wrong.to_pylist()) if is_wrong]
