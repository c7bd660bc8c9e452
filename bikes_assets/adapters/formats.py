"""CSV and Parquet bytes, and rows of a query, to Arrow tables: strict, bounded, and with the row of what is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.lineage.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    import pyarrow as pa
    from pyarrow import csv as pa_csv
    from pyarrow import parquet as pq

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one source may hold, stored as well as unpacked: a larger one is refused before it fills memory."""

    max_bytes: int = 2 << 30
    max_rows: int = 50_000_000


def too_large(name: str, found: str, room: int) -> DataError:
    """Return the error of a source that holds more than it may."""
    return DataError(name, found=found, expected=f"at most {room} bytes, the limit of one source less its files before")


def check_rows(name: str, rows: int, limits: Limits) -> None:
    """Raise DataError when there are no rows, or more than the limit."""
    if rows == 0:
        raise DataError(name, found="no rows", expected="at least one")
    if rows > limits.max_rows:
        expected = f"at most {limits.max_rows} rows, the limit of one source less its files before"
        raise DataError(name, found=f"{rows} rows", expected=expected)


def check_columns(name: str, found: list[str], expected: tuple[str, ...], row: int | None = None) -> None:
    """Raise DataError when a column is missing, extra, twice or out of order."""
    wanted = "the columns " + ", ".join(expected)
    for column in expected:
        if column not in found:
            raise DataError(name, row=row, column=column, found="no such column", expected=wanted)
    for column in found:
        if column not in expected:
            raise DataError(name, row=row, column=column, found="an extra column", expected=wanted)
        if found.count(column) > 1:
            raise DataError(name, row=row, column=column, found="the column twice", expected=wanted)
    for column, place in zip(found, expected, strict=True):
        if column != place:
            raise DataError(name, row=row, column=column, found="the column out of order", expected=f"{place} here")


def bounded(handle: Any, name: str, room: int) -> bytes:
    """Return all bytes of `handle`, or stop as soon as there are more than `room`."""
    chunks, size = [], 0
    while chunk := handle.read(_CHUNK):
        size += len(chunk)
        if size > room:
            raise too_large(name, f"more than {room} bytes", room)
        chunks.append(chunk)
    return b"".join(chunks)


def _unpacked(name: str, content: bytes, limits: Limits) -> bytes:
    if not name.lower().endswith(".gz"):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as handle:
            return bounded(handle, name, limits.max_bytes)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(name, found=f"damaged gzip ({error})", expected="a whole gzip file") from error


def parse_csv(name: str, content: bytes, columns: tuple[str, ...], limits: Limits) -> tuple[pa.Table, int]:
    """Return the rows as text, and the size in bytes of the unpacked file."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    text = _unpacked(name, content, limits)
    _check_text(name, text, columns)
    check_rows(name, text.count(b"\n") - text.endswith(b"\n"), limits)
    odd: list[pa_csv.InvalidRow] = []

    def refuse(row: pa_csv.InvalidRow) -> str:
        odd.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(text),
            # named columns make the header row 1, and one thread keeps the rows numbered
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=list(columns)),
            parse_options=pa_csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=refuse),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        if not odd:
            raise DataError(name, found=f"damaged CSV ({error})", expected="comma-separated values") from error
        row, fields = odd[0].number, odd[0].actual_columns
        raise DataError(name, row=row, found=f"{fields} fields", expected=f"{len(columns)} fields") from None
    return table.slice(1), len(text)


def _check_text(name: str, text: bytes, columns: tuple[str, ...]) -> None:
    """Refuse what a CSV parser would skip, repair or join in silence: every row has to be one line of UTF-8."""
    if not text:
        raise DataError(name, found="an empty file", expected="a header and rows")
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(name, row=1, found="UTF-16", expected="UTF-8")
    header = text[: end if (end := text.find(b"\n")) >= 0 else None]
    for found, expected, place in (
        ("a NUL byte", "text", text.find(b"\0")),
        ("a byte that is not UTF-8", "UTF-8", _first_not_utf8(text)),
    ):
        if place >= 0:
            row = text.count(b"\n", 0, place) + 1
            line = text[text.rfind(b"\n", 0, place) + 1 : place]
            field = re.sub(rb'"[^"]*"?', b"", line).count(b",")
            column = columns[field] if field < len(columns) and row > 1 else None
            raise DataError(name, row=row, column=column, found=found, expected=expected)
    check_columns(name, next(csv.reader([header.decode("utf-8-sig").rstrip("\r")]), []), columns, row=1)
    for found, expected, pattern in (
        ("a carriage return within the line", "lines that end in LF or CRLF", rb"\r(?!\n)"),
        ("a blank line", f"{len(columns)} fields", rb"(?<=\n)\r?\n"),
    ):
        if match := re.search(pattern, text):
            raise DataError(name, row=text.count(b"\n", 0, match.start()) + 1, found=found, expected=expected)
    if b'"' in text:
        for row, line in enumerate(io.BytesIO(text), start=1):
            if line.count(b'"') % 2:
                raise DataError(name, row=row, found="a quotation mark without its other", expected="both on one line")


def _first_not_utf8(text: bytes) -> int:
    try:
        if not text.isascii():
            text.decode()
    except UnicodeDecodeError as error:
        return error.start
    return -1


def csv_months(name: str, content: bytes, column: str, limits: Limits) -> set[str]:
    """Return the months in a CSV file's date column, which it reads alone."""
    text = io.BytesIO(_unpacked(name, content, limits))
    rows = csv.reader(io.TextIOWrapper(text, encoding="utf-8-sig", newline=""))
    try:
        place = next(rows, []).index(column)
        return {row[place][:7] for row in rows}
    except (ValueError, IndexError, csv.Error):
        found, row = "no date", max(rows.line_num, 1)
        raise DataError(name, row=row, column=column, found=found, expected="YYYY-MM-DD in every row") from None


def _open_parquet(name: str, content: bytes, limits: Limits) -> pq.ParquetFile:
    """Return the opened file once its footer stays within the limits; nothing is decoded before."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _decoding(name):
        file = pq.ParquetFile(pa.BufferReader(content))
        metadata = file.metadata
        size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    check_rows(name, metadata.num_rows, limits)
    if not 0 <= size <= limits.max_bytes:
        raise too_large(name, f"{size} bytes when unpacked", limits.max_bytes)
    return file


def parse_parquet(name: str, content: bytes, columns: tuple[str, ...], limits: Limits) -> tuple[pa.Table, int]:
    """Return the rows in their stored types, and their size in bytes in memory."""
    import pyarrow as pa

    file = _open_parquet(name, content, limits)
    check_columns(name, file.schema_arrow.names, columns)
    batches, size = [], 0
    with _decoding(name):
        for batch in file.iter_batches(batch_size=1024):  # small: a few stored bytes can stand for very long rows
            size += batch.nbytes
            if size > limits.max_bytes:
                raise too_large(name, f"more than {limits.max_bytes} bytes when unpacked", limits.max_bytes)
            batches.append(batch)
        table = pa.Table.from_batches(batches, schema=file.schema_arrow).combine_chunks()
    if len(table) != file.metadata.num_rows:
        expected = f"the {file.metadata.num_rows} that its footer declares"
        raise DataError(name, found=f"{len(table)} rows", expected=expected)
    return table, size


def parquet_months(name: str, content: bytes, column: str, limits: Limits) -> set[str]:
    """Return the first and last month in a Parquet file's date column, which it reads alone."""
    import pyarrow.compute as pc

    file = _open_parquet(name, content, limits)
    if column not in file.schema_arrow.names:
        raise DataError(name, column=column, found="no such column", expected="a date in every row")
    with _decoding(name):
        return {str(value)[:7] for value in pc.min_max(file.read(columns=[column])[column]).as_py().values()}


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, OverflowError) as error:
        raise DataError(name, found=f"damaged Parquet ({error})", expected="a whole Parquet file") from error


def concatenated(names: list[str], tables: list[pa.Table]) -> pa.Table:
    """Return all files' rows; a column without any value in one file takes the type it has in the others."""
    import pyarrow as pa

    first: dict[str, pa.DataType] = {}
    for name, table in zip(names, tables, strict=True):
        for field in table.schema:
            expected = field.type if pa.types.is_null(field.type) else first.setdefault(field.name, field.type)
            if field.type != expected:
                raise DataError(name, column=field.name, found=field.type, expected=f"{expected} as in {names[0]}")
    return pa.concat_tables(tables, promote_options="default")


def table_of(name: str, rows: list[Sequence[Any]], columns: tuple[str, ...]) -> pa.Table:
    """Return rows of a query as a table, each column of the one type that its values have."""
    import pyarrow as pa

    arrays = []
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        try:
            arrays.append(pa.array(values))
        except (pa.ArrowException, OverflowError):
            kinds = [type(value) for value in values]
            kind = next(kind for kind in kinds if kind is not type(None))
            place = next((place for place, other in enumerate(kinds) if other not in (kind, type(None))), 0)
            expected = f"{kind.__name__} of 64 bits, as in the rows before"
            raise DataError(name, row=place + 1, column=column, found=repr(values[place]), expected=expected) from None
    return pa.Table.from_arrays(arrays, names=list(columns))


def to_arrow_backed(table: pa.Table) -> pd.DataFrame:
    """Return the table in its Arrow types, categories as values: integers with nulls stay integers."""
    import pandas as pd
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table[place].cast(field.type.value_type))
    return table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
