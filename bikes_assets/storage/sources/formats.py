"""CSV and Parquet bytes, and rows of a query, to Arrow tables: strict, bounded, and with errors that name the row."""

from __future__ import annotations

import csv
import io
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import DataError
from bikes_assets.storage.sources.content import too_large

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    import pyarrow as pa
    from pyarrow import csv as pa_csv
    from pyarrow import parquet as pq

DATES = "YYYY-MM-DD in every row"
MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_MOST_SHOWN = 100
_MOST_OF_HEADER = 1 << 20
_MOST_ROWS = 1024
"""Rows of a Parquet file that are read at once."""
_MOST_WIDTH = 4096
"""Bytes of a value, by type, for types whose values all have one length."""
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_WIDE = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one source may hold, stored as well as unpacked: a larger one is refused before it fills memory."""

    max_bytes: int = 2 << 30
    max_rows: int = 50_000_000


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


def parse_csv(name: str, text: bytes, columns: tuple[str, ...], limits: Limits) -> pa.Table:
    """Return the rows as text."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    _check_text(name, text, columns)
    check_rows(name, text.count(b"\n") - text.endswith(b"\n"), limits)
    odd: list[pa_csv.InvalidRow] = []

    def refuse(row: pa_csv.InvalidRow) -> str:
        odd.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(text),
            # column names count the header as row 1, and only one thread numbers rows
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
    return table.slice(1)


def _check_text(name: str, text: bytes, columns: tuple[str, ...]) -> None:
    """Refuse what a CSV parser would skip, repair or join in silence: every row has to be one line of UTF-8."""
    if not text:
        raise DataError(name, found="an empty file", expected="a header and rows")
    if wide := _wide(text):
        advice = f"UTF-8; save it as UTF-8, or convert it by `iconv -f {wide} -t UTF-8`"
        raise DataError(name, row=1, found=wide, expected=advice)
    length = end if (end := text.find(b"\n")) >= 0 else len(text)
    if length > _MOST_OF_HEADER:
        raise DataError(name, row=1, found=f"a header of {length} bytes", expected=f"at most {_MOST_OF_HEADER}")
    header = text[:length]
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
    line = header.decode("utf-8-sig").rstrip("\r")
    for delimiter, words in _DELIMITERS.items():
        if _fields(name, line, delimiter) == list(columns) and len(columns) > 1:
            expected = "commas; save it as comma-separated values, with points in numbers"
            raise DataError(name, row=1, found=f"{words} between the columns", expected=expected)
    check_columns(name, _fields(name, line, ","), columns, row=1)
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


def _fields(name: str, line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(
            name, row=1, found=f"a header that cannot be read ({error})", expected="names of columns"
        ) from None


def _first_not_utf8(text: bytes) -> int:
    try:
        if not text.isascii():
            text.decode()
    except UnicodeDecodeError as error:
        return error.start
    return -1


def _wide(text: bytes) -> str:
    """Return the encoding of text in two- or four-byte units, by its byte order mark or its zero bytes; "" for none."""
    for mark, encoding in _WIDE.items():
        if text.startswith(mark):
            return encoding
    if len(text) > 1 and (text[0] == 0) != (text[1] == 0):
        return "UTF-16BE" if text[0] == 0 else "UTF-16LE"
    return ""


def months_in(name: str, column: str, values: pa.ChunkedArray, first_row: int) -> set[str]:
    """Return the months of dates, such as `2011-01`: of text, dates, or times that are written YYYY-MM-DD first.

    Args:
        name: the file's name.
        column: the column's name.
        values: its values.
        first_row: number of their first row in the file.

    Raises:
        DataError: a value begins otherwise, or is missing; or the column is of a type that cannot be written so.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        text = pc.cast(values, pa.large_string())
    except pa.ArrowException:
        raise DataError(
            name, column=column, found=f"type {values.type}, which is not supported", expected=DATES
        ) from None
    months = pc.utf8_slice_codeunits(text, 0, 7)
    found = [month or "" for month in pc.unique(months).to_pylist()]
    if wrong := [month for month in found if not MONTH.fullmatch(month)]:
        row = next(row for row, month in enumerate(months.to_pylist()) if (month or "") == wrong[0])
        value = repr(text[row].as_py()) if wrong[0] else "nothing"
        raise DataError(name, row=first_row + row, column=column, found=value[:_MOST_SHOWN], expected=DATES)
    return set(found)


def _open_parquet(name: str, content: bytes, limits: Limits) -> pq.ParquetFile:
    """Return the opened file after checking that its footer is within the limits; nothing is decoded before."""
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


def parse_parquet(
    name: str, content: bytes, columns: tuple[str, ...], limits: Limits, only: str | None = None
) -> tuple[pa.Table, int]:
    """Return the rows in their stored types, and their size in memory in bytes; categories are read as their values.

    Args:
        name: the file's name.
        content: its bytes.
        columns: the columns that it must have, in order.
        limits: the most that it may hold.
        only: the only column that is wanted.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _open_parquet(name, content, limits)
    check_columns(name, file.schema_arrow.names, columns)
    wanted = [only] if only else [*columns]
    _check_types(name, [file.schema_arrow.field(column) for column in wanted])
    texts, rows = _bounds(file, wanted, limits)
    batches, size = [], 0
    with _decoding(name):
        file = pq.ParquetFile(pa.BufferReader(content), metadata=file.metadata, read_dictionary=texts)
        for batch in file.iter_batches(batch_size=rows, columns=wanted):
            limit = limits.max_bytes - size
            if (needed := sum(_bytes(column) for column in batch.columns)) > limit:
                raise too_large(name, f"more than {limits.max_bytes} bytes when unpacked", limits.max_bytes)
            size += needed
            batches.append(pa.RecordBatch.from_arrays([*map(_plain, batch.columns)], batch.schema.names))
        table = pa.Table.from_batches(batches).combine_chunks()
    if len(table) != file.metadata.num_rows:
        expected = f"the {file.metadata.num_rows} that its footer declares"
        raise DataError(name, found=f"{len(table)} rows", expected=expected)
    return table, size


def _check_types(name: str, fields: Sequence[pa.Field]) -> None:
    """Refuse, before anything is decoded, what no text file could hold.

    Raises:
        DataError: a column is of lists or the like, of values that are very long each, or of a type that somebody has
            added to Arrow's: what its stored values mean is not known.
    """
    import pyarrow as pa

    for field in fields:
        is_wide = pa.types.is_fixed_size_binary(field.type) and field.type.byte_width > _MOST_WIDTH
        if is_wide or pa.types.is_nested(field.type) or isinstance(field.type, pa.BaseExtensionType):
            found = f"type {field.type}, which is not supported"
            expected = "text, numbers, dates or times, stored as such"
            raise DataError(name, column=field.name, found=found, expected=expected)


def _bounds(file: pq.ParquetFile, wanted: Sequence[str], limits: Limits) -> tuple[list[str], int]:
    """Return which columns to read as categories, and how many rows at once: a few bytes can encode very long rows.

    Text is read as the categories that it is stored by, each value once. In the one encoding that cannot be read so, a
    value may be as long as all of its column chunk.
    """
    chunks = [
        file.metadata.row_group(group).column(place)
        for group in range(file.metadata.num_row_groups)
        for place, column in enumerate(file.schema_arrow.names)
        if column in wanted
    ]
    sharing = {chunk.path_in_schema: 0 for chunk in chunks if "DELTA_BYTE_ARRAY" in chunk.encodings}
    for chunk in chunks:
        if chunk.path_in_schema in sharing:
            sharing[chunk.path_in_schema] = max(sharing[chunk.path_in_schema], chunk.total_uncompressed_size)
    texts = [name for name in wanted if _is_text(file.schema_arrow.field(name).type) and name not in sharing]
    longest = max([1, *sharing.values()])
    return texts, min(_MOST_ROWS, max(1, limits.max_bytes // (4 * longest)))


def _is_text(type_: pa.DataType) -> bool:
    import pyarrow as pa

    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(type_) for is_kind in (*kinds, pa.types.is_binary, pa.types.is_large_binary))


def _bytes(column: pa.Array) -> int:
    """Return how many bytes a column takes, a category as its value in each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(column, pa.DictionaryArray):
        return column.nbytes
    counted: Any = pc.value_counts(column.indices)
    try:
        lengths = pc.binary_length(column.dictionary.take(counted.field("values")))
    except pa.ArrowNotImplementedError:  # values of one length each
        return 16 * len(column)
    return 8 * len(column) + (pc.sum(pc.multiply(lengths, counted.field("counts"))).as_py() or 0)


def _plain(values: pa.Array) -> pa.Array:
    """Return a column's values themselves: not as categories, and text in a single one of Arrow's text types."""
    import pyarrow as pa

    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    is_text = pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type)
    return values.cast(pa.string()) if is_text else values


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        found, expected = f"Parquet that is not supported here ({error})", "columns of text, numbers, dates or times"
        raise DataError(name, found=found, expected=expected) from error
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
    """Return the table in its Arrow types: integers with nulls stay integers."""
    import pandas as pd

    return table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
