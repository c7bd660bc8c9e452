"""The result of a trace: where a row's values came from, down to raw rows and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Scalar: TypeAlias = int | float | str | bool | None
FileState: TypeAlias = Literal["as recorded", "changed", "gone", "not checked"]


@dataclass(frozen=True)
class RawRows:
    """Cells of one column of raw rows that contributed to a value.

    Attributes:
        asset: table of the rows.
        column: the column.
        keys: keys of the rows, in order.
        values: the column's value in each.
        versions: addresses of the versions that the rows are in.
        absent: keys that no row has, which contributed by being absent.
    """

    asset: str
    column: str
    keys: tuple[str, ...]
    values: tuple[Scalar, ...]
    versions: tuple[str, ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """A value, and what it was computed from.

    Attributes:
        address: such as `demand_features.temperature[2012-08]@20#2012-08-14T17:00`.
        value: the value; None where it is missing.
        model: address of the model that predicted it, "" where none did.
        computed_from: the values of other tables' rows that it was computed from.
        rows: the raw rows that contributed to it, by column.
        repeats: whether the current code computes the same value from the same rows; None where nothing was computed.
    """

    address: str
    value: Scalar
    model: str = ""
    computed_from: tuple[Value, ...] = ()
    rows: tuple[RawRows, ...] = ()
    repeats: bool | None = None


@dataclass(frozen=True)
class TracedModel:
    """A model that contributed: its file was read, and has the SHA-256 that it was stored under.

    Attributes:
        address: the version that was fitted, such as `demand_model[2012-08]@18`.
        name: class of the estimator.
        digest: of the fitted state.
        sha256: of the file.
        served_by: the version that promoted it.
        features: columns that it reads.
        training: addresses of the versions that it was fitted on.
        validation: addresses of the versions that it was validated on.
    """

    address: str
    name: str
    digest: str
    sha256: str
    served_by: str
    features: tuple[str, ...]
    training: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class CheckedVersion:
    """A version of which rows were read, verified by its commit: by `digest` or, for models, `content`.

    Attributes:
        address: such as `demand_features[2012-08]@20`.
        digest: content digest.
        content: digest of the rows as stored; for a table, the same as `digest`.
        inputs: what it was materialized from, as recorded: address to digest.
        code_version: of the function that materialized it.
        run: Dagster's run that materialized it.
        time: when, Unix seconds.
    """

    address: str
    digest: str
    content: str
    inputs: Mapping[str, str]
    code_version: str
    run: str
    time: float


@dataclass(frozen=True)
class SourceFile:
    """A file that rows came from, as recorded, and its current state.

    Attributes:
        name: its name.
        uri: where it was read.
        sha256: of what was read.
        size: bytes that were read.
        state: whether the current file is the recorded one; `not checked` for a query or a URL without its secrets.
        found: SHA-256 of the current file, "" where that was not read.
        at: where a file of this SHA-256 is now: its own address, another, or what DVC has; "" where none was found.
    """

    name: str
    uri: str
    sha256: str
    size: int
    state: FileState
    found: str
    at: str


@dataclass(frozen=True)
class Source:
    """A partition of an external source, as it was read.

    Attributes:
        address: such as `rental_records[2012-08]@35f54957...`.
        digest: content digest of its rows.
        files: the files that were read.
    """

    address: str
    digest: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class Trace:
    """Where one row's values came from; all versions are those that were recorded, never the latest.

    Attributes:
        address: the row, with the table version that it is in.
        values: the values in question.
        models: the models that contributed.
        versions: every version that was read and verified by its digest.
        sources: the external source's partitions and files.
    """

    address: str
    values: tuple[Value, ...]
    models: tuple[TracedModel, ...]
    versions: tuple[CheckedVersion, ...]
    sources: tuple[Source, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as JSON-ready values."""
        return asdict(self)
