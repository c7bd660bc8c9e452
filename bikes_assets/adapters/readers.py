"""Readers: the rows of a source just as it holds them, and the exact version that was read.

A source is one setting: a path or URL of a CSV or Parquet file or of a folder of them, or a database URL with a query.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from abc import ABC, abstractmethod
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.adapters.files import filesystem_of
from bikes_assets.adapters.formats import (
    Limits,
    bounded,
    check_columns,
    check_rows,
    concatenated,
    csv_months,
    parquet_months,
    parse_csv,
    parse_parquet,
    table_of,
    to_arrow_backed,
    too_large,
)
from bikes_assets.adapters.versioned_source import Altered, Tracking
from bikes_assets.lineage.digest import file_digest
from bikes_assets.lineage.errors import DataError, LineageError, SettingsError
from bikes_assets.lineage.graph import Origin
from bikes_assets.lineage.secrets import scrubbed, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from fsspec import AbstractFileSystem
    from mlflow.data.dataset import Dataset
    from sqlalchemy import Connection

_SUFFIXES = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet"}
_CHANGES = ("size", "mtime", "created", "LastModified", "last_modified", "Last-Modified", "ETag", "etag", "Content-MD5")


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


class Reader(ABC):
    """Reads a source, and has to say which version it read."""

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
    ) -> Dataset:
        """Return an MLflow dataset of `data` whose source is this reader's origin.

        Args:
            name: name of the dataset.
            data: the rows, or what was made of them.
            targets: column with the target.
            predictions: column with predictions.
            digest: the table's digest; by default one over all rows of `data` as they stand.
        """
        from mlflow.data.pandas_dataset import from_pandas

        from bikes_assets.adapters.mlflow_source import VersionedSource, frame_digest

        source = VersionedSource(self.origin())
        digest = digest or frame_digest(data)
        dataset = from_pandas(data, source=source, targets=targets, name=name, digest=digest, predictions=predictions)
        with warnings.catch_warnings():  # a hint for models' inputs, once per dataset
            warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
            dataset.schema  # noqa: B018 - inferred here, and kept
        return dataset


def reader_for(
    source: str,
    *,
    columns: tuple[str, ...],
    date_column: str,
    query: str | None = None,
    limits: Limits = Limits(),
    altered: Altered = "refuse",
) -> Reader:
    """Return the reader of a source; nothing is opened yet.

    Args:
        source: database URL when there is a query; else path or URL of a `.csv`, `.csv.gz` or `.parquet` file, or of a
            folder of CSV or of Parquet files.
        columns: the columns that the source must have, in order.
        date_column: the column whose values begin with YYYY-MM.
        query: a SELECT.
        limits: the most that is read.
        altered: what becomes of a file that DVC tracks and that is not what its pointer says: `refuse` it, or `mark` it.

    Raises:
        SettingsError: `source` is empty.
    """
    if not source.strip():
        raise SettingsError("source: found nothing, expected a path, a URL, or a database URL with a query")
    if query is not None:
        return SqlReader(source, columns, date_column, query, limits)
    return FileReader(source, columns, date_column, limits, altered)


class FileReader(Reader):
    """Reads a file or a folder of files, local or remote: each file once, and what is hashed is what is parsed."""

    def __init__(
        self, source: str, columns: tuple[str, ...], date_column: str, limits: Limits, altered: Altered = "refuse"
    ) -> None:
        """Keep the settings; nothing is opened yet."""
        self.source, self.columns, self.date_column, self.limits = source, columns, date_column, limits
        self.altered: Altered = altered
        self._name = _base_name(shown(source))
        self._read: Origin | None = None

    def origin(self) -> Origin:
        """Return the origin of this reader's latest `read`; before any, of the source as it stands now."""
        if self._read:
            return self._read
        files, tracking = [], self._tracking()
        for name, content in self._contents(self._files()):
            tracking.take(name, content)
            files.append(_hashed(name, content))
        return self._origin(files, tracking)

    def read(self) -> Raw:
        """Return all rows as the files hold them, files in order of their names.

        Raises:
            DataError: the source is missing, damaged, beyond the limits, not of the declared columns, or not what DVC tracks.
            SettingsError: there is no such kind of URL, or its package is not installed.
        """
        tracking, listed = self._tracking(), self._files()
        parse = {"csv": parse_csv, "parquet": parse_parquet}[_kind(listed[0][0])]
        files, tables, limits = [], [], self.limits
        for name, content in self._contents(listed):
            tracking.take(name, content)
            table, unpacked = parse(name, content, self.columns, limits)
            limits = Limits(limits.max_bytes - unpacked, limits.max_rows - len(table))
            files.append(_hashed(name, content))
            tables.append(table)
        self._read = self._origin(files, tracking)
        names = [name for name, _, _ in files]
        locate = _locator(names, [len(table) for table in tables], first=2 if parse is parse_csv else 1)
        return Raw(to_arrow_backed(concatenated(names, tables)), self._read, locate)

    def span(self) -> tuple[str, str]:
        """Return the first and last month, such as `2011-01`; looks at the date column only, without pandas.

        Raises:
            DataError: a file cannot be read, or its dates do not begin with YYYY-MM.
        """
        self._tracking()
        listed = self._files()
        months_in = {"csv": csv_months, "parquet": parquet_months}[_kind(listed[0][0])]
        months = [months_in(*file, self.date_column, self.limits) for file in self._contents(listed)]
        return _first_and_last(self._name, self.date_column, set[str]().union(*months))

    def fingerprint(self) -> str:
        """Return a token of each file's name, size, and time or ETag; empty where a server tells nothing but a size."""
        tracked = self._tracking().mark()  # first: what is missing is told by its pointer
        marks = [(name, {key: str(info[key]) for key in _CHANGES if info.get(key)}) for name, _, info in self._files()]
        if any(mark.keys() <= {"size"} for _, mark in marks):
            return ""
        return file_digest((repr(marks) + tracked).encode())

    def _tracking(self) -> Tracking:
        return Tracking.of(self.source, self.altered, _kind)

    def _filesystem(self) -> tuple[AbstractFileSystem, str]:
        try:
            fs, path = filesystem_of(self.source)
        except (ImportError, ValueError) as error:
            expected = "a path, a URL that fsspec reads with the packages installed, or a database URL with a query"
            raise _unusable(self.source, error, expected) from None
        fs.invalidate_cache()  # a listing kept from earlier would hide that a file has changed
        return fs, path

    def _files(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return each file's name, path, and what its file system tells of it, in order of the names."""
        fs, path = self._filesystem()
        with _reporting(self.source, self._name, "a file or folder that can be read"):
            info = fs.info(path)
            listed = [(self._name, path, info)]
            if info["type"] == "directory":
                listed = [(_base_name(each["name"]), each["name"], each) for each in fs.ls(path, detail=True)]
        files = [file for file in listed if file[2]["type"] == "file" and _kind(file[0])]
        files = sorted((file for file in files if not file[0].startswith(".")), key=lambda file: file[0])
        if len({_kind(name) for name, _, _ in files}) != 1:
            found = "CSV and Parquet together" if files else "no such file"
            expected = "a .csv, .csv.gz or .parquet file, or a folder of one kind"
            raise DataError(self._name, found=found, expected=expected)
        return files

    def _contents(self, listed: list[tuple[str, str, dict[str, Any]]]) -> Iterator[tuple[str, bytes]]:
        fs, _ = self._filesystem()
        room = self.limits.max_bytes
        for name, path, info in listed:
            if (info.get("size") or 0) > room:
                raise too_large(name, f"{info['size']} bytes", room)
            with _reporting(self.source, name, "a file that can be read"), fs.open(path, "rb") as handle:
                content = bounded(handle, name, room)
            room -= len(content)
            yield name, content

    def _origin(self, files: list[tuple[str, str, int]], tracking: Tracking) -> Origin:
        fs, path = self._filesystem()
        lines = "".join(f"{name} {digest}\n" for name, digest, _ in files)
        one_file = len(files) == 1 and files[0][0] == self._name
        version = files[0][1] if one_file else file_digest(lines.encode())
        uri, size = shown(str(fs.unstrip_protocol(path))), sum(size for _, _, size in files)
        return Origin(self._name, uri, _kind(files[0][0]), version, size, tuple(files), tracking.facts())


class SqlReader(Reader):
    """Reads the result of one SELECT; the order of its rows does not change the version, for databases promise none."""

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
            raise _unusable(self.source, error, "a SQLAlchemy URL whose driver is installed, for a query") from None
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists() and "uri" not in url.query:
            raise DataError(shown(self.source), found="no such file", expected="a database")  # SQLite would create it
        with _reporting(self.source, self._name, "a SELECT that the database answers"), engine.connect() as connection:
            # text is sent as it is: a colon or percent sign in the query is no parameter
            yield connection.execution_options(stream_results=True, no_parameters=True)


def _kind(name: str) -> str:
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), "")


def _base_name(path: str) -> str:
    """Return the last part of a path or URL; what follows a URL's `?` is no part of it."""
    return (path.partition("?")[0] if "://" in path else path).rstrip("/").rpartition("/")[2]


def _hashed(name: str, content: bytes) -> tuple[str, str, int]:
    return name, file_digest(content), len(content)


def _unusable(source: str, error: Exception, expected: str) -> SettingsError:
    return SettingsError(f"source {shown(source)}: {scrubbed(str(error), source)}; expected {expected}")


@contextmanager
def _reporting(source: str, name: str, expected: str) -> Iterator[None]:
    """Turn whatever a file system or database raises into a DataError without secrets."""
    try:
        yield
    except LineageError:
        raise
    except FileNotFoundError:
        raise DataError(shown(source), found="nothing there", expected=expected) from None
    except Exception as error:  # noqa: BLE001 - drivers and file systems raise what they like
        plain = getattr(error, "orig", None) or error  # what the driver said, without SQLAlchemy's additions
        found = f"{type(plain).__name__}: {scrubbed(str(plain), source)}"
        raise DataError(name, found=found, expected=expected) from None  # the cause may hold a password


def _locator(names: list[str], rows: list[int], first: int) -> Callable[[int], tuple[str, int]]:
    ends = list(accumulate(rows))

    def locate(position: int) -> tuple[str, int]:
        file = bisect_right(ends, position)
        return names[file], position - (ends[file] - rows[file]) + first

    return locate


def _first_and_last(name: str, column: str, months: set[str]) -> tuple[str, str]:
    for month in months or {"no date"}:
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
            raise DataError(name, column=column, found=repr(month), expected="YYYY-MM-DD in every row")
    return min(months), max(months)
