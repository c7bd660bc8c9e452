"""Format of a file: CSV or Parquet, packed or plain. The content decides; the name helps where it is damaged."""

from __future__ import annotations

import io
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bikes_assets.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection

Kind: TypeAlias = Literal["csv", "parquet"]

_CHUNK = 1 << 20
_HEAD = 1 << 16
_PACKED = {
    "gzip": rb"\x1f\x8b",
    "bz2": rb"BZh[1-9](1AY&SY|\x17rE8P)",  # text may begin with the first three
    "zstd": rb"\x28\xb5\x2f\xfd",
    "lz4": rb"\x04\x22\x4d\x18",
    "xz": rb"\xfd7zXZ\0",
}
_BINARY = {
    b"PK\x03\x04": "a zip archive or Excel workbook",
    b"PARE": "encrypted Parquet",
    b"ARROW1": "an Arrow (Feather) file",
    b"Obj\x01": "an Avro file",
    b"SQLite format 3\0": "a SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"7z\xbc\xaf": "a 7z archive",
}
_TEXT = {b"<": "HTML or XML", b"{": "JSON", b"[": "JSON", b"ORC": "an ORC file", b"%PDF": "a PDF file"}
"""First bytes of other formats; those of text formats could also begin a header."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_NAMES: dict[Kind, set[str]] = {"parquet": {".parquet", ".parq", ".pqt", ".pq"}, "csv": {".csv"}}
_EXPECTED = "CSV or Parquet, plain or packed by gzip, bzip2, xz, zstd or lz4"


def too_large(name: str, found: str, limit: int) -> DataError:
    """Return the error of a source that holds more than it may."""
    return DataError(
        name, found=found, expected=f"at most {limit} bytes, the limit of one source less its files before"
    )


def bounded(handle: Any, name: str, limit: int) -> bytes:
    """Return all bytes of `handle`, or fail as soon as there are more than `limit`."""
    chunks, size = [], 0
    while chunk := handle.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise too_large(name, f"more than {limit} bytes", limit)
        chunks.append(chunk)
    return b"".join(chunks)


def unpacked(name: str, content: bytes, limit: int) -> bytes:
    """Return the content of a packed file, and any other file as it is.

    Raises:
        DataError: it is damaged, or holds more than `limit` bytes.
    """
    packing = _packing(content)
    return _read(name, content, packing, lambda handle: bounded(handle, name, limit)) if packing else content


def kind_of(name: str, content: bytes, columns: Collection[str]) -> Kind:
    """Return the format of a file; of a packed one, the format of its content.

    Args:
        name: its name.
        content: its bytes as stored.
        columns: the columns that a CSV file's header is known by.

    Raises:
        DataError: it is neither CSV nor Parquet.
    """
    packing = _packing(content)
    head = _read(name, content, packing, lambda handle: handle.read(_HEAD)) if packing else content[:_HEAD]
    if head.startswith(b"PAR1"):
        return "parquet"
    found = next((what for magic, what in _BINARY.items() if head.startswith(magic)), "")
    if head[257:262] == b"ustar":
        found = "a tar archive"
    if not found and (_has_header(head, columns) or head.startswith(_UTF_16)):
        return "csv"  # its parser says what is wrong with it
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    found = found or next((what for magic, what in _TEXT.items() if text.startswith(magic)), "")
    suffixes = {*PurePosixPath(name.lower()).suffixes}
    if not found:
        for kind, known in _NAMES.items():
            if suffixes & known or (kind == "csv" and not head):
                return kind
    within = f" packed by {packing}" if packing else ""
    raise DataError(name, found=(found or f"content of no known kind, {head[:8]!r}...") + within, expected=_EXPECTED)


def _packing(content: bytes) -> str:
    """Return how a file is packed, "" where it is not."""
    return next((packing for packing, magic in _PACKED.items() if re.match(magic, content)), "")


def _has_header(head: bytes, columns: Collection[str]) -> bool:
    """Return whether the first line names a column, whatever the separator is."""
    line = head.partition(b"\n")[0].decode("utf-8-sig", "replace")
    return any(field.strip(" \"'\r") in columns for field in re.split(r"[,;\t|]", line))


def _read(name: str, content: bytes, packing: str, read: Any) -> bytes:
    import lzma

    import pyarrow as pa

    try:
        if packing == "xz":
            return read(lzma.LZMAFile(io.BytesIO(content)))
        with pa.CompressedInputStream(pa.BufferReader(content), packing) as handle:
            return read(handle)
    except (EOFError, OSError, pa.ArrowException, lzma.LZMAError) as error:
        raise DataError(name, found=f"damaged {packing} ({error})", expected=f"a whole {packing} file") from error
