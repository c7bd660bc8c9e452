"""Readers: the rows of a source exactly as it holds them, and the exact version that was read.

A source is one setting: a path or URL of a CSV or Parquet file or of a folder of them, or a database URL with a query.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.core.digest import file_digest, table_digest
from bikes_assets.core.errors import DataError, SchemaError, SettingsError
from bikes_assets.core.record import Origin
from bikes_assets.core.schema import Column, ColumnType, Schema
from bikes_assets.core.secrets import shown
from bikes_assets.storage.files import base_name, filesystem_of, is_remote
from bikes_assets.storage.sources.content import Kind, bounded, kind_of, too_large, unpacked
from bikes_assets.storage.sources.dvc import Altered, DvcPointers
from bikes_assets.storage.sources.errors import reporting, unusable
from bikes_assets.storage.sources.files import ListedFile, list_files
from bikes_assets.storage.sources.formats import (
    DATES,
    MONTH,
    Limits,
    check_columns,
    check_rows,
    concatenated,
    months_in,
    parse_csv,
    parse_parquet,
    table_of,
    to_arrow_backed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    import pyarrow as pa
    from fsspec import AbstractFileSystem
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Raw:
    """Rows as read.

    Attributes:
        frame: all rows in source order, of Arrow types. From CSV every column is text, blanks are empty text.
        origin: the version that `frame` holds.
        locate: gives the file of a row and its line in a text file (the header is line 1) or its 1-based row elsewhere,
            for the row's position in `frame`.
    """

    frame: pd.DataFrame
    origin: Origin
    locate: Callable[[int], tuple[str, int]]


@dataclass(frozen=True, slots=True)
class SourceRows:
    """Rows that came from a source, as a dataset of a tracking server describes them.

    Attributes:
        name: name of the dataset.
        digest: content digest of the rows.
        origin: the version of the source that they came from.
        frame: the rows.
        targets: column with the target, None where there is none.
        predictions: column with predictions, None where there is none.
    """

    name: str
    digest: str
    origin: Origin
    frame: pd.DataFrame
    targets: str | None = None
    predictions: str | None = None


class Reader(ABC):
    """Reads a source, and reports which version it read."""

    columns: tuple[str, ...]
    date_column: str

    @abstractmethod
    def origin(self) -> Origin:
        """Return the origin of this reader's latest `read`; before any, of the source as it stands now."""

    @abstractmethod
    def read(self) -> Raw:
        """Return all rows as the source holds them.

        Raises:
            DataError: the source is missing, damaged, beyond the limits or not of the declared columns.
        """

    def span(self) -> tuple[str, str]:
        """Return the first and last month, such as `2011-01`, in the date column."""
        dates = self.read().frame[self.date_column]
        return _first_and_last(self.origin().name, self.date_column, {str(dates.min())[:7], str(dates.max())[:7]})

    def fingerprint(self) -> str:
        """Return a cheap token that changes when the source does, empty when there is none."""
        return ""

    def lineage(
        self,
        name: str,
        data: pd.DataFrame,
        targets: str | None = None,
        predictions: str | None = None,
        *,
        digest: str | None = None,
    ) -> SourceRows:
        """Return the description of `data` as a dataset whose source is this reader's origin.

        Args:
            name: name of the dataset.
            data: the rows, or what was computed from them.
            targets: column with the target.
            predictions: column with predictions.
            digest: the table's digest; by default one over all rows of `data` as they stand.
        """
        return SourceRows(name, digest or frame_digest(data), self.origin(), data, targets, predictions)


def reader_for(
    source: str,
    *,
    columns: tuple[str, ...],
    date_column: str = "",
    query: str | None = None,
    limits: Limits = Limits(),
    altered: Altered = "refuse",
) -> Reader:
    """Return the reader of a source; nothing is opened yet.

    Args:
        source: database URL when there is a query; else path or URL of a CSV or Parquet file, which may be packed, or
            of a folder of such files.
        columns: the columns that the source must have, in order.
        date_column: the column whose values begin with YYYY-MM, for `Reader.span`.
        query: a SELECT.
        limits: the most that is read.
        altered: what happens with a file that DVC tracks and that differs from its pointer: `refuse` it, or `mark` it.

    Raises:
        SettingsError: `source` is empty.
    """
    if not source.strip():
        raise SettingsError("source: found nothing, expected a path, a URL, or a database URL with a query")
    if query is not None:
        return SqlReader(source, columns, date_column, query, limits)
    return FileReader(source, columns, date_column, limits, altered)


class FileReader(Reader):
    """Reads a file or a folder of files, local or remote: each once, so that the same bytes are hashed and parsed."""

    def __init__(
        self, source: str, columns: tuple[str, ...], date_column: str, limits: Limits, altered: Altered = "refuse"
    ) -> None:
        """Keep the settings; nothing is opened yet."""
        self.source, self.columns, self.date_column, self.limits = source, columns, date_column, limits
        self.altered: Altered = altered
        self._name = base_name(source)
        self._read: Origin | None = None

    def origin(self) -> Origin:
        """Return the origin of this reader's latest `read`; before any, of the source as it stands now."""
        if self._read:
            return self._read
        tracking, held = self._tracking(), _Held()
        for name, content in self._contents(self._files()):
            tracking.take(name, content)
            held.add(name, content, kind_of(name, content, self.columns))
        return self._origin(held, tracking)

    def read(self) -> Raw:
        """Return all rows as the files hold them, files in order of their names.

        Raises:
            DataError: the source is missing, damaged, beyond the limits, not of the declared columns, or not what DVC
                tracks.
            SettingsError: there is no such kind of URL, or its package is not installed.
        """
        tracking, held = self._tracking(), _Held()
        tables = [table for _, table in self._tables(tracking, held)]
        self._read = self._origin(held, tracking)
        names = [name for name, _, _ in held.files]
        locate = _locator(names, [len(table) for table in tables], _first_row(self._read.kind))
        return Raw(to_arrow_backed(concatenated(names, tables)), self._read, locate)

    def span(self) -> tuple[str, str]:
        """Return the first and last month, such as `2011-01`, that `read` has; it needs no pandas.

        Raises:
            DataError: as by `read`; or a date does not begin with YYYY-MM.
        """
        column, held = self.date_column, _Held()
        months: set[str] = set()
        for name, table in self._tables(self._tracking(), held, only=column):
            months |= months_in(name, column, table[column], _first_row(held.kinds[-1][1]))
        self._kind(held)
        return min(months), max(months)

    def fingerprint(self) -> str:
        """Return a token of each file's name, size, and time or ETag; empty where a server reports only a size."""
        tracked = self._tracking().mark()  # first: a missing file is reported by its pointer
        marks = [(file.name, dict(file.mark)) for file in self._files()]
        if any(mark.keys() <= {"size"} for _, mark in marks):
            return ""
        return file_digest((repr(marks) + tracked).encode())

    def _tracking(self) -> DvcPointers:
        return DvcPointers.of(self.source, self.altered)

    def _filesystem(self) -> tuple[AbstractFileSystem, str]:
        expected = (
            "a path, a URL that fsspec reads with the packages installed, such as s3://bucket/hour.csv or "
            "zip://hour.csv::/path/to/rentals.zip, or a database URL with a query"
        )
        with reporting(self.source, shown(self.source), expected):
            try:
                fs, path = filesystem_of(self.source)
            except (ImportError, ValueError, TypeError) as error:
                raise unusable(self.source, error, expected) from None
        fs.invalidate_cache()  # a cached listing would hide that a file has changed
        return fs, path

    def _files(self) -> list[ListedFile]:
        """Return the files, in order of their names."""
        fs, path = self._filesystem()
        place = shown(self.source)
        with reporting(self.source, place, "a file or folder that can be read"):
            return list_files(fs, path, self._name, place)

    def _contents(self, listed: list[ListedFile]) -> Iterator[tuple[str, bytes]]:
        fs, _ = self._filesystem()
        limit = self.limits.max_bytes
        # read from the beginning, because not every server gives parts of a file
        options: dict[str, Any] = {"block_size": 0} if self.source.startswith(("http://", "https://")) else {}
        for file in listed:
            if (file.size or 0) > limit:
                raise too_large(file.name, f"{file.size} bytes", limit)
            with (
                reporting(self.source, file.name, "a file that can be read"),
                fs.open(file.path, "rb", **options) as handle,
            ):
                content = bounded(handle, file.name, limit)
            limit -= len(content)
            yield file.name, content

    def _tables(self, tracking: DvcPointers, held: _Held, only: str | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Yield each file's name and rows, all together within the limits.

        Args:
            tracking: what each file is compared with, before it is parsed.
            held: records each file.
            only: the only column that is wanted.
        """
        limits = self.limits
        for name, content in self._contents(self._files()):
            tracking.take(name, content)
            kind = kind_of(name, content, self.columns)
            plain = unpacked(name, content, limits.max_bytes)
            if kind == "csv":
                table, size = parse_csv(name, plain, self.columns, limits), len(plain)
            else:
                table, size = parse_parquet(name, plain, self.columns, limits, only)
            limits = Limits(limits.max_bytes - size, limits.max_rows - len(table))
            held.add(name, content, kind)
            yield name, table

    def _kind(self, held: _Held) -> Kind:
        """Return the format of the files.

        Raises:
            DataError: they have different formats.
        """
        first: dict[Kind, str] = {kind: name for name, kind in reversed(held.kinds)}
        if len(first) > 1:
            found = f"CSV ({first['csv']}) and Parquet ({first['parquet']}) together"
            raise DataError(self._name, found=found, expected="a folder of one of them")
        return held.kinds[0][1]

    def _origin(self, held: _Held, tracking: DvcPointers) -> Origin:
        fs, path = self._filesystem()
        lines = "".join(f"{name} {digest}\n" for name, digest, _ in held.files)
        one_file = len(held.files) == 1 and held.files[0][0] == self._name
        version = held.files[0][1] if one_file else file_digest(lines.encode())
        chained = is_remote(self.source) and "::" in self.source
        uri = shown(self.source if chained else str(fs.unstrip_protocol(path)))
        size = sum(size for _, _, size in held.files)
        return Origin(self._name, uri, self._kind(held), version, size, tuple(held.files), tracking.facts())


class _Held:
    """What was read: name, SHA-256, size and format of each file."""

    def __init__(self) -> None:
        self.files: list[tuple[str, str, int]] = []
        self.kinds: list[tuple[str, Kind]] = []

    def add(self, name: str, content: bytes, kind: Kind) -> None:
        self.files.append((name, file_digest(content), len(content)))
        self.kinds.append((name, kind))


class SqlReader(Reader):
    """Reads the result of one SELECT; its order does not change the version, as databases guarantee none."""

    def __init__(self, source: str, columns: tuple[str, ...], date_column: str, query: str, limits: Limits) -> None:
        """Keep the settings; nothing is opened yet."""
        self.source, self.columns, self.date_column, self.limits = source, columns, date_column, limits
        self.query = query.strip().removesuffix(";")
        self._name = " ".join(query.split())
        self._read: Origin | None = None

    def origin(self) -> Origin:
        """Return the origin of this reader's latest `read`; before any, of the result as it is now."""
        return self._read or self.read().origin

    def read(self) -> Raw:
        """Return all rows of the result.

        Raises:
            DataError: the query fails, or its result is empty, beyond the limits or not of the declared columns.
            SettingsError: the database URL cannot be used.
        """
        encode = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":")).encode
        rows: list[Sequence[Any]] = []
        lines: list[bytes] = []
        size = 0
        with self._connection() as connection:
            result = connection.exec_driver_sql(self.query)
            check_columns(self._name, list(result.keys()), self.columns)
            for row in result:
                rows.append(row)
                lines.append(encode(list(row)).encode() + b"\n")
                size += len(lines[-1])
                if size > self.limits.max_bytes:
                    raise too_large(self._name, f"more than {self.limits.max_bytes} bytes", self.limits.max_bytes)
                check_rows(self._name, len(rows), self.limits)
        check_rows(self._name, len(rows), self.limits)
        version = hashlib.sha256(self.query.encode() + b"\n" + b"".join(sorted(lines))).hexdigest()
        self._read = Origin(self._name, shown(self.source), "sql", version, size)
        table = table_of(self._name, rows, self.columns)
        return Raw(to_arrow_backed(table), self._read, _locator([self._name], [len(rows)], first=1))

    def span(self) -> tuple[str, str]:
        """Return the first and last month, such as `2011-01`; the database finds them."""
        with self._connection() as connection:
            column = connection.dialect.identifier_preparer.quote(self.date_column)
            first_and_last = f"select min({column}), max({column}) from (\n{self.query}\n) q"  # noqa: S608 - the query is the setting
            months = {str(value)[:7] for value in connection.exec_driver_sql(first_and_last).one()}
        return _first_and_last(self._name, self.date_column, months)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        import sqlalchemy as sa
        from sqlalchemy.exc import ArgumentError

        try:
            url = sa.make_url(self.source)
            engine = sa.create_engine(url, poolclass=sa.NullPool)
        except (ImportError, ArgumentError) as error:
            raise unusable(self.source, error, "a SQLAlchemy URL whose driver is installed, for a query") from None
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists() and "uri" not in url.query:
            raise DataError(shown(self.source), found="no such file", expected="a database")  # SQLite would create it
        with reporting(self.source, self._name, "a SELECT that the database answers"), engine.connect() as connection:
            # the text is sent as it is: a colon or percent sign in the query is no parameter
            yield connection.execution_options(stream_results=True, no_parameters=True)


def _first_row(kind: str) -> int:
    """Return the number of the first row with values: in a text file, the header's line is the first."""
    return 2 if kind == "csv" else 1


def _locator(names: list[str], rows: list[int], first: int) -> Callable[[int], tuple[str, int]]:
    ends = list(accumulate(rows))

    def locate(position: int) -> tuple[str, int]:
        file = bisect_right(ends, position)
        return names[file], position - (ends[file] - rows[file]) + first

    return locate


def _first_and_last(name: str, column: str, months: set[str]) -> tuple[str, str]:
    for month in months or {"no date"}:
        if not MONTH.fullmatch(month):
            raise DataError(name, column=column, found=repr(month), expected=DATES)
    return min(months), max(months)


def frame_digest(data: pd.DataFrame) -> str:
    """Return a content digest of all rows as they are, for a table without a declared schema.

    Raises:
        SchemaError: a column has an unsupported type.
    """
    import pyarrow as pa

    table = pa.Table.from_pandas(data, preserve_index=False)
    schema = Schema("data", (), tuple(Column(field.name, _column_type(field), "") for field in table.schema))
    return table_digest(table.cast(schema.arrow()).combine_chunks(), schema).table


def _column_type(field: pa.Field) -> ColumnType:
    from pyarrow import types

    kinds: tuple[tuple[Any, ColumnType], ...] = (
        (types.is_integer, "int64"),
        (types.is_floating, "float64"),
        (types.is_boolean, "bool"),
        (types.is_timestamp, "timestamp"),
        (types.is_date, "timestamp"),
    )
    for is_of, name in kinds:
        if is_of(field.type):
            return name
    if types.is_string(field.type) or types.is_large_string(field.type) or types.is_null(field.type):
        return "string"
    raise SchemaError(f"{field.name}: found type {field.type}, expected a number, truth value, text or time")
