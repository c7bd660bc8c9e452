"""The vocabulary of lineage: versions of assets, and the record of how one version was materialized from others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from bikes_assets.core.address import Address
from bikes_assets.core.address import parse_address as parse_address
from bikes_assets.core.address import partition_address as partition_address
from bikes_assets.core.digest import combined_digest
from bikes_assets.core.errors import RecordError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_FORM: dict[str, Any] = {"strict": True, "extra": "forbid"}
"""How Pydantic reads what `to_dict` wrote: values of other types and undeclared fields are refused."""


@dataclass(frozen=True, slots=True, repr=False)
class Version:
    """One version of one partition of an asset: a table's rows, a fitted model, or a source file.

    Attributes:
        asset: name of the asset.
        partition: partition key, None where the asset has no partitions.
        version: Delta table version that published it; for a source, the SHA-256 of its bytes.
        digest: content digest, 32 hexadecimal digits.
    """

    __pydantic_config__: ClassVar = _FORM

    asset: str
    partition: str | None
    version: int | str
    digest: str

    def __repr__(self) -> str:
        return f"<Version {self.address}>"

    @property
    def address(self) -> str:
        """The address, such as `demand_features[2012-08]@17`."""
        return str(Address(self.asset, None, self.partition, str(self.version)))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows came from, without secrets.

    Attributes:
        name: name of the file or folder, or the query.
        uri: address; passwords and query strings are replaced by `***`.
        kind: `csv`, `parquet`, `sql` or `delta`.
        version: SHA-256 of the file; of the sorted names and SHA-256 of a folder's files; of a query and its result.
        size: bytes as stored; for a query, bytes of its result as JSON lines.
        files: name, SHA-256 and size in bytes of each file.
        tracked: what the tool that keeps versions of files says about each file that it tracks, by name of the file, or
            of the folder where it tracks that as one: `md5`, `revision`, `remote`, `url`, `repository`, `path`,
            `differs`.
    """

    name: str
    uri: str
    kind: str
    version: str
    size: int
    files: tuple[tuple[str, str, int], ...] = ()
    tracked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; `tracked` is among them where it is not empty."""
        values = asdict(self)
        return values if self.tracked else {name: value for name, value in values.items() if name != "tracked"}


def span_of(partitions: Iterable[str]) -> str | None:
    """Return partitions as one range, such as `2011-01..2011-04`; None where there are none."""
    keys = sorted(partitions)
    return keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}" if keys else None


@dataclass(frozen=True, slots=True)
class Use:
    """Rows in a role: what a model was fitted on or validated on, or what was materialized.

    Attributes:
        context: the role: raw, features, training, validation, inference, predictions, ...
        asset: asset that the rows are of.
        partitions: the partitions that the rows are of; none where the asset has no partitions.
        digest: content digest of the rows of all of them.
        rows: number of rows.
        source: where they came from, as an `Origin`'s JSON-ready values.
    """

    __pydantic_config__: ClassVar = _FORM

    context: str
    asset: str
    partitions: tuple[str, ...]
    digest: str
    rows: int
    source: dict[str, Any]

    @property
    def name(self) -> str:
        """The address of the partitions as one range, such as `demand_features[2011-01..2011-04]`."""
        return partition_address(self.asset, self.span)

    @property
    def span(self) -> str | None:
        """The partitions as one range, such as `2011-01..2011-04`; None where the asset has none."""
        return span_of(self.partitions)


@dataclass(frozen=True, slots=True)
class Record:
    """How one version was materialized: everything that is needed to trace, compare or reproduce it.

    Attributes:
        output: the version that was materialized.
        columns: digest of each column of a table; empty for a model.
        inputs: the exact versions that were read.
        code_version: digest of the function that materialized it and of the project's functions that it reaches.
        config: settings of the run that materialized it.
        environment: git commit, lock-file digest, Python and library versions.
        made_by: ids of the runs that materialized it, by system (`dagster_run_id`, `mlflow_run_id`, ...).
        models: the fitted models that were fitted or read: origin, digest, SHA-256 of the file, MLflow id.
        datasets: which rows were read or published, and in which role; see `Use`.
        params: what else determines the result, such as the transformations, as text.
        metrics: the metrics, in float.
        series: metrics by a whole number, such as the error by hour of the day: name to number to value.
        checks: name of each check that was run on it, and whether it passed.
        used: which columns of an input, its key included, contributed to the output, by asset. All columns of an input
            that is not named contributed. An empty list means that the input served the metrics alone.
        used_digests: digest of those columns of each version that was read (see `used_digest`), by its partition's
            address.
        inert: columns of an input that were read but are unused by the model, such as features that no tree splits on,
            by asset.
        evidence: what perturbation has shown about the function that materialized it, see
            `verification.column_lineage.Evidence`.
        time: when it was materialized, Unix seconds; metrics in MLflow carry it, so that logging them again adds none.
    """

    __pydantic_config__: ClassVar = _FORM

    output: Version
    columns: dict[str, str]
    inputs: tuple[Version, ...]
    code_version: str
    config: dict[str, Any]
    environment: dict[str, Any]
    made_by: dict[str, str]
    models: tuple[dict[str, Any], ...] = ()
    datasets: tuple[Use, ...] = ()
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, dict[str, float]] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    used: dict[str, list[str]] = field(default_factory=dict)
    used_digests: dict[str, str] = field(default_factory=dict)
    inert: dict[str, list[str]] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0

    @property
    def fitted(self) -> dict[str, Any] | None:
        """The model that was fitted here, not read or chosen; None where none was."""
        return next((model for model in self.models if not model["origin"]), None)

    def at(self, version: int) -> Record:
        """Return the record with the table version that published it, which the commit's own record cannot hold."""
        output = replace(self.output, version=version)
        made = (self.output.asset, () if self.output.partition is None else (self.output.partition,))
        datasets = tuple(
            replace(use, source={**use.source, "version": str(version)}) if (use.asset, use.partitions) == made else use
            for use in self.datasets
        )
        return replace(self, output=output, datasets=datasets)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Record:
        """Return the record that `to_dict` wrote.

        Raises:
            RecordError: these are not the values of a record.
        """
        from pydantic import ValidationError

        try:
            return _form().validate_json(json.dumps(values))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "a value"
            raise RecordError(f"found no record{_of(values)}: {where}: {first['msg'].lower()}") from None
        except (RecursionError, TypeError):
            raise RecordError("found no record, but values that are nested too deep, or no JSON") from None


def _of(values: Any) -> str:
    """Return in words which version the values of a record claim to be of, as far as they name one."""
    try:
        return f" of {partition_address(values['output']['asset'], values['output']['partition'])}"
    except (LookupError, TypeError):
        return ""


@cache
def _form() -> TypeAdapter[Record]:
    from pydantic import TypeAdapter  # where a record is read, which not every question does

    return TypeAdapter(Record)


def fits_json(values: object) -> bool:
    """Return whether a record can store values: it is JSON, which has no NaN and no infinity."""
    try:
        json.dumps(values, allow_nan=False, skipkeys=True, default=str)
    except ValueError:
        return False
    return True


def record_digest(values: Mapping[str, Any]) -> str:
    """Return the digest of a whole record, as 32 hexadecimal digits.

    Args:
        values: what `Record.to_dict` returned.
    """
    return combined_digest([json.dumps(values, sort_keys=True)])


def used_digest(columns: Mapping[str, str], used: Iterable[str]) -> str:
    """Return one digest of some columns of a table version; versions that differ only in other columns have the same.

    Args:
        columns: digest of each column of the version.
        used: names of the columns; one that the version does not have counts as missing.
    """
    return combined_digest(part for name in sorted(used) for part in (name, columns.get(name, "")))
