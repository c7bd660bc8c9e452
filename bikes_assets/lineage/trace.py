"""Traces a value in the lake to the raw rows and files that it came from, by the records in the commits.

Each step goes to the version that was recorded as read, never to the latest. All rows are verified by their digests,
and a model's file by its SHA-256.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from bikes_assets.core.address import Address, ModelRef, parse_address, parse_row
from bikes_assets.core.errors import DigestError, LineageError
from bikes_assets.core.record import Record, Version
from bikes_assets.core.secrets import shown
from bikes_assets.lineage.trace_result import CheckedVersion, RawRows, Source, SourceFile, Trace, TracedModel, Value
from bikes_assets.storage.lake import MODEL_ROWS
from bikes_assets.storage.sources.recorded_files import NOTHING, Places, recorded_files

if TYPE_CHECKING:
    import pyarrow as pa

    from bikes_assets.core.columns import ColumnFunction
    from bikes_assets.core.schema import Column, Schema
    from bikes_assets.lineage.trace_result import FileState, Scalar
    from bikes_assets.storage.lake import Lake
    from bikes_assets.storage.sources.recorded_files import FoundFile

    Key: TypeAlias = Mapping[str, Any]
    """Values of a row's key, by column, in the order of the key."""

_EXAMPLE = "demand_predictions[2012-08]#2012-08-14T17:00"


@dataclass(frozen=True)
class Computed:
    """How columns of a table are computed from rows of another.

    Attributes:
        source: the asset whose rows are read.
        functions: the column functions.
        steps: those whose columns other functions read and the result leaves out.
        grid: turns the rows of a few partitions into the frame that the functions see.
        by: key columns of the groups that each have a history, such as stations; the remaining one orders the rows.
    """

    source: str
    functions: Sequence[ColumnFunction]
    steps: Sequence[ColumnFunction]
    grid: Callable[[Any], Any]
    by: Sequence[str] = ()


@dataclass(frozen=True)
class Derivations:
    """How the rows of each table are computed: all that a trace knows of the domain. Tables that it does not name are raw.

    Attributes:
        same_row: columns that are computed from the row with the same key, by table: column to asset to columns.
        computed: tables whose other columns are computed.
        predicted: columns that a model predicts for the row with the same key, by table: the table of features, and
            each column with the part of the model that predicts it, "" for the model itself.
    """

    same_row: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]
    computed: Mapping[str, Computed]
    predicted: Mapping[str, tuple[str, Mapping[str, str]]]


class Tracer:
    """Traces rows of a lake; it does not read again what it has read and checked.

    Args:
        lake: the lake.
        derivations: how its tables' rows are computed.
        source: path or URL of the current source, which is searched for files that are not at their recorded addresses.
    """

    def __init__(self, lake: Lake, derivations: Derivations, source: str = "") -> None:
        self.lake, self.derivations = lake, derivations
        self._places = Places(source, lake.root)
        self._parts: dict[Version, _Part] = {}
        self._models: dict[tuple[str, Version], TracedModel] = {}
        self._grids: dict[tuple[Version, ...], Any] = {}

    def trace(self, address: str) -> Trace:
        """Return where a row's values came from.

        Args:
            address: `demand_predictions[2012-08]#2012-08-14T17:00`; with a column,
                `demand_predictions.prediction[2012-08]#...`, for that alone; with a table version,
                `demand_predictions[2012-08]@18#...`, for its value in that version. The values of several key columns
                are in the key's order, separated by commas: `rides[2012-08]#2012-08-14T17:00,31`. In a value, `%2C` is
                a comma and `%25` a percent sign.

        Raises:
            LineageError: there is no such table, column, partition, version or row; the message says which exist.
            DigestError: what is stored differs from what was published, or from what was read according to a record.
        """
        named = parse_row(address)
        if named is None:
            raise LineageError(f"found address {address!r}, expected that of a row, such as {_EXAMPLE}")
        (place, key), asset, column = named, named[0].asset, named[0].column
        schema = self.lake.schemas.get(asset) or self.lake.table(asset).schema
        if schema is MODEL_ROWS:  # a table that does not exist has this schema, too
            raise LineageError(f"found no table {asset!r}, expected one of {', '.join(self.lake.schemas)}")
        if column and column not in schema.names:
            raise LineageError(f"found no column {asset}.{column}, expected one of {', '.join(schema.names)}")
        if not schema.key:
            raise LineageError(
                f"{asset}: found no declared key, expected columns that name a row; declare them in its schema"
            )
        part = self._asked(asset, place.partition, place.version)
        descent = _Descent(self, part, part.key(key))
        names = [column] if column else [name for name in schema.names if name not in schema.key]
        values = descent.values(part, names)
        return Trace(
            f"{part.version.address}#{part.text(descent.key)}",
            tuple(values[name] for name in names),
            tuple(descent.models.values()),
            tuple(item.checked for item in descent.parts.values()),
            tuple(source for item in descent.parts.values() for source in self._sources(item)),
        )

    def _asked(self, asset: str, partition: str | None, version: str | None) -> _Part:
        commit = self.lake.resolve(asset, partition, version)
        return self.part(Version(asset, partition, commit.version, commit.digest))

    def part(self, version: Version) -> _Part:
        """Return the rows of a version, verified by its commit, and the commit by the expected digest.

        Raises:
            DigestError: they differ, or the version does not exist.
        """
        if version not in self._parts:
            table, number = self.lake.table(version.asset), int(version.version)
            commit = table.published(number).get(version.partition) if table.exists() else None
            if commit is None or (commit.version, commit.digest) != (number, version.digest):
                found = f"digest {commit.digest} of version {commit.version}" if commit else "no such version"
                raise DigestError(f"{version.address}: found {found}, expected {version.digest}; restore {table.uri}")
            ((_, rows),) = table.read([version.partition], number).values()
            record = Record.from_dict(commit.record).at(number)
            self._parts[version] = _Part(version, commit.content, rows, record, table.schema)
        return self._parts[version]

    def model(self, record: Record, table: str) -> tuple[TracedModel, dict[str, Any], _Part]:
        """Return the model that predicted a version, its card, and the version that promoted it; its file is checked.

        Args:
            record: of the version.
            table: of the rows that the model read. A card without features means all that was used of it.
        """
        (said,) = record.models
        (serving,) = (
            self.part(item)
            for item in record.inputs
            if item.asset == self.lake.serving or item.address == said["origin"]
        )
        (row,) = serving.rows.to_pylist()
        if (row["digest"], row["sha256"]) != (said["digest"], said["sha256"]):
            raise DigestError(
                f"{serving.version.address}: holds model {row['digest']} in file {row['sha256']}, but {record.output.address} "
                f"was predicted with {said['digest']} in file {said['sha256']}; restore the lake"
            )
        address: str = said["origin"]
        schema = self.lake.table(table).schema
        read = [name for name in record.used.get(table, schema.names) if name not in schema.key]
        card: dict[str, Any] = {"features": read, **json.loads(row["card"])}
        if (address, serving.version) not in self._models:
            self.lake.load_file(said["sha256"])
            made = self._fitted(ModelRef.parse(address).address, serving.record).record
            uses = {use.context: use for use in made.datasets}
            training, validation = (
                tuple(
                    item.address
                    for item in made.inputs
                    if role in uses and item.asset == uses[role].asset and item.partition in uses[role].partitions
                )
                for role in ("training", "validation")
            )
            self._models[address, serving.version] = TracedModel(
                address,
                card["name"],
                said["digest"],
                said["sha256"],
                serving.version.address,
                tuple(card["features"]),
                training,
                validation,
            )
        return self._models[address, serving.version], card, serving

    def _fitted(self, address: str, chosen: Record) -> _Part:
        """Return the version in which a model was fitted; a pinned one is no input of the record that chose it."""
        recorded = next((item for item in (chosen.output, *chosen.inputs) if item.address == address), None)
        if recorded:
            return self.part(recorded)
        asset, partition, version = parse_address(address)
        return self._asked(asset, partition, version)

    def grid(self, computed: Computed, parts: Sequence[_Part]) -> Any:
        """Return the frame that column functions see of the rows of some versions."""
        from bikes_assets.storage.lake import to_pandas

        key = tuple(part.version for part in parts)
        if key not in self._grids:
            rows = [part.rows for part in parts]
            self._grids[key] = computed.grid(to_pandas(rows, self.lake.schemas[computed.source]))
        return self._grids[key]

    def _sources(self, part: _Part) -> list[Source]:
        """Return the external partitions that a version was materialized from, with their files."""
        found: list[Source] = []
        for item in part.record.inputs:
            for use in part.record.datasets:
                if (use.asset, use.partitions) == (item.asset, (item.partition,)) and use.source["kind"] != "delta":
                    found.append(Source(item.address, item.digest, self._files_of(use.source)))
        return found

    def _files_of(self, origin: Mapping[str, Any]) -> tuple[SourceFile, ...]:
        return tuple(_traced(self._places.find(file)) for file in recorded_files(origin)) or (_query(origin),)


@dataclass(frozen=True)
class _Part:
    """The rows of a version, checked, and its record."""

    version: Version
    content: str
    rows: pa.Table
    record: Record
    schema: Schema
    _places: dict[tuple[Any, ...], int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def checked(self) -> CheckedVersion:
        record = self.record
        return CheckedVersion(
            self.version.address,
            self.version.digest,
            self.content,
            {item.address: item.digest for item in record.inputs},
            record.code_version,
            record.made_by.get("dagster_run_id", ""),
            record.time,
        )

    @property
    def places(self) -> dict[tuple[Any, ...], int]:
        """Key of each row, and its position."""
        if not self._places:
            columns = (self.rows.column(name).to_pylist() for name in self.schema.key)
            self._places.update({key: place for place, key in enumerate(zip(*columns, strict=True))})
        return self._places

    def key(self, text: str) -> Key:
        """Return the key that a text names.

        Raises:
            LineageError: no row has it; the message gives the nearest.
        """
        if not self.places:
            raise LineageError(f"{self.version.address}: found no rows; trace another partition")
        known, names = list(self.places), self.schema.key
        parts = text.split(",") if len(names) > 1 else [text]
        try:
            values = [_value(self.schema[name], unquote(part)) for name, part in zip(names, parts, strict=True)]
            key = dict(zip(names, values, strict=True))
            nearest = key if self.place(key) is not None else _nearest(known, tuple(values))
        except (ValueError, KeyError, TypeError):  # not of the column's type, too few, or a time with an offset
            like = f"{_text(known[0])} ({', '.join(names)})"
            raise LineageError(f"{self.version.address}: found row {text!r}, expected one like {like}") from None
        if nearest is not key:
            raise LineageError(
                f"{self.version.address}: found no row {text}, expected one of {_text(known[0])} to {_text(known[-1])}; the "
                f"nearest is {_text(nearest)}"
            )
        return key

    def place(self, key: Key) -> int | None:
        """Return a row's position by the names of its key's columns; in a table with other names, by their order."""
        return self.places.get(_in_order(key, self.schema))

    def text(self, key: Key) -> str:
        """Return a key as it is written in an address of this table."""
        return _text(_in_order(key, self.schema))

    def value(self, column: str, key: Key) -> Scalar:
        """Return a cell, JSON-ready."""
        place = self.place(key)
        assert place is not None  # noqa: S101 - the caller has looked it up
        return _plain(self.rows.column(column)[place].as_py())


class _Descent:
    """The trace of one row: everything that was read for it, in that order."""

    def __init__(self, tracer: Tracer, part: _Part, key: Key) -> None:
        self.tracer, self.derivations, self.key = tracer, tracer.derivations, key
        self.parts: dict[Version, _Part] = {part.version: part}
        self.models: dict[str, TracedModel] = {}
        self._known: dict[str, Value] = {}

    def values(self, part: _Part, columns: Sequence[str]) -> dict[str, Value]:
        """Return the row's values in some columns of a version, with what each was computed from."""
        unknown = [name for name in columns if self._address(part, name) not in self._known]
        asset = part.version.asset
        table, predicted = self.derivations.predicted.get(asset, ("", {}))
        same_row = self.derivations.same_row.get(asset, {})
        found: list[Value] = []
        for name in unknown:
            if name in predicted:
                found.append(self._predicted(part, name, table, predicted[name]))
            elif name in same_row:
                found.append(self._value(part, name, **self._same_row(part, same_row[name])))
            elif asset not in self.derivations.computed:
                found.append(self._value(part, name))
                self._read(part.version)
        if asset in self.derivations.computed:
            computed = [name for name in unknown if name not in same_row]
            found += self._computed(part, computed, self.derivations.computed[asset]) if computed else []
        self._known |= {value.address: value for value in found}
        return {name: self._known[self._address(part, name)] for name in columns}

    def _predicted(self, part: _Part, name: str, table: str, output_by: str) -> Value:
        model, card, serving = self.tracer.model(part.record, table)
        self.parts.setdefault(serving.version, serving)
        self.models[model.address] = model
        features = (card[output_by] or card)["features"] if output_by else card["features"]
        values = self.values(self._input(part, table), features)
        address = f"{model.address} {output_by}" if output_by and card[output_by] else model.address
        return self._value(part, name, model=address, computed_from=tuple(values[feature] for feature in features))

    def _same_row(self, part: _Part, sources: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        computed_from: list[Value] = []
        rows: list[RawRows] = []
        for asset, columns in sources.items():
            above = self._input(part, asset)
            if self._is_raw(asset):
                rows += [self._raw(asset, column, [above], [self.key]) for column in columns]
            else:
                computed_from += self.values(above, columns).values()
        return {"computed_from": tuple(computed_from), "rows": tuple(rows)}

    def _computed(self, part: _Part, columns: Sequence[str], computed: Computed) -> list[Value]:
        from bikes_assets.lineage.rows import rows_behind

        above = [self._read(item) for item in part.record.inputs if item.asset == computed.source]
        schema = self.tracer.lake.schemas[computed.source]
        group = {name: self.key[name] for name in computed.by}
        (order,) = (name for name in schema.key if name not in group)
        made, behind = rows_behind(
            _of_group(self.tracer.grid(computed, above), group),
            computed.functions,
            order,
            self.key[order],
            schema=schema,
            steps=computed.steps,
            columns=columns,
        )
        return [
            self._value(
                part,
                name,
                rows=tuple(
                    self._raw(computed.source, source, above, [group | {order: at} for at in places])
                    for (of, source), places in behind.items()
                    if of == name
                ),
                repeats=made[name] == part.value(name, self.key),
            )
            for name in columns
        ]

    def _raw(self, asset: str, column: str, parts: Sequence[_Part], keys: Sequence[Key]) -> RawRows:
        lying = [(key, [part for part in parts if part.place(key) is not None]) for key in keys]
        there = [(key, part) for key, holders in lying for part in holders]
        schema = self.tracer.lake.schemas[asset]
        return RawRows(
            asset,
            column,
            tuple(part.text(key) for key, part in there),
            tuple(part.value(column, key) for key, part in there),
            tuple(dict.fromkeys(part.version.address for _, part in there)),
            tuple(_text(_in_order(key, schema)) for key, holders in lying if not holders),
        )

    def _value(self, part: _Part, name: str, **more: Any) -> Value:
        return Value(self._address(part, name), part.value(name, self.key), **more)

    def _address(self, part: _Part, name: str) -> str:
        version = part.version
        return f"{Address(version.asset, name, version.partition, str(version.version))}#{part.text(self.key)}"

    def _is_raw(self, asset: str) -> bool:
        return not any(asset in known for known in (self.derivations.computed, self.derivations.same_row))

    def _input(self, part: _Part, asset: str) -> _Part:
        """Return the version of an asset that holds this row, of those that a version was materialized from."""
        inputs = [item for item in part.record.inputs if item.asset == asset]
        inputs.sort(key=lambda item: item.partition != part.version.partition)  # the same partition, where there is one
        for item in inputs:
            if self.tracer.part(item).place(self.key) is not None:
                return self._read(item)
        found = ", ".join(item.address for item in inputs) or "none"
        raise LineageError(
            f"{part.version.address}: found no row {_text(self.key.values())} in what it was materialized from, {asset}: {found}"
        )

    def _read(self, version: Version) -> _Part:
        self.parts.setdefault(version, self.tracer.part(version))
        return self.parts[version]


def _traced(found: FoundFile) -> SourceFile:
    """Return a recorded file, the current state at its address, and where else it is."""
    file, there = found.file, found.looks[0]
    state: FileState = "gone" if there.why == NOTHING else "not checked"
    if there.sha256:
        state = "as recorded" if there.sha256 == file.sha256 else "changed"
    elsewhere = shown(found.location) or file.kept
    return SourceFile(file.name, file.uri, file.sha256, file.size, state, there.sha256, elsewhere)


def _query(origin: Mapping[str, Any]) -> SourceFile:
    return SourceFile(origin["name"], origin["uri"], origin["version"], origin["size"], "not checked", "", "")


def _of_group(frame: Any, group: Key) -> Any:
    """Return the rows of a frame that have some values."""
    import narwhals as nw

    if not group:
        return frame
    return (
        nw.from_native(frame, eager_only=True)
        .filter(*(nw.col(name) == value for name, value in group.items()))
        .to_native()
    )


def _in_order(key: Key, schema: Schema) -> tuple[Any, ...]:
    """Return a key's values in the order of a table's key: by column names, or unchanged where the table has others."""
    known = set(schema.key) <= key.keys()
    return tuple(key[name] for name in schema.key) if known else tuple(key.values())


def _value(column: Column, text: str) -> Any:
    """Return the value that a text in an address names.

    Raises:
        ValueError, KeyError: it is no value of the column's type.
    """
    if column.type == "string":
        return text
    if not text and column.nullable:
        return None
    if column.type == "timestamp":
        return datetime.fromisoformat(text)
    if column.type == "bool":
        return {"true": True, "false": False}[text]
    return int(text) if column.type == "int64" else float(text)


def _nearest(known: Sequence[tuple[Any, ...]], key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the key that is nearest to another, of keys in order: numbers and times by distance, others by place."""
    (first, *more) = key
    if not more and not isinstance(first, str | bool):
        return min(known, key=lambda item: abs(item[0] - first))
    return known[max(bisect_left(known, key) - 1, 0)]


def _text(key: Iterable[Any]) -> str:
    """Return a key as it is written in an address."""
    return ",".join(_part_text(value) for value in key)


def _part_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="auto" if value.second or value.microsecond else "minutes")
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return re.sub(r"[%,\x00-\x1f\x7f]", lambda odd: f"%{ord(odd[0]):02X}", str(value))


def _plain(value: Any) -> Scalar:
    return _part_text(value) if isinstance(value, datetime) else value
