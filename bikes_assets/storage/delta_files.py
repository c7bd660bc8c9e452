"""The Parquet files of a Delta table: where they are, whether they are as they were stored, and their rows."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import uuid4

from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import LineageError
from bikes_assets.storage.delta_log import OF_NONE, PARTITION
from bikes_assets.storage.files import filesystem_of, is_remote, read_files, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

_LONGEST_NAME = 255
"""Longest name of a file or folder that file systems accept, in bytes."""


def of_partitions(table: DeltaTable, keys: Iterable[str | None]) -> dict[str | None, list[dict[str, Any]]]:
    """Return the files of each of these partitions, as Delta's log describes them."""
    import pyarrow as pa

    files: dict[str | None, list[dict[str, Any]]] = {key: [] for key in keys}
    if files:
        # read as a stream, and without timestamps, because pyarrow needs pandas for these and for anything else
        columns = [f"partition.{PARTITION}", "path", "size_bytes", "num_records"]
        actions: Any = table.get_add_actions(flatten=True)
        for action in pa.RecordBatchReader.from_stream(actions).read_all().select(columns).to_pylist():
            if action[f"partition.{PARTITION}"] in files:
                files[action[f"partition.{PARTITION}"]].append(action)
    return files


def place_of(uri: str, file: Mapping[str, Any]) -> str:
    """Return the path or URL of a file of Delta's log."""
    return f"{uri}/{unquote(file['path'])}"


def damage(uri: str, file: Mapping[str, Any], checksums: Mapping[str, str] | None = None) -> str:
    """Return how a file differs from what was stored, in words; "" where it does not.

    Args:
        uri: location of the table.
        file: the file, as Delta's log describes it.
        checksums: SHA-256 by path in the table, where the content is to be compared too; at a URL only the size is.
    """
    place = place_of(uri, file)
    filesystem, path = filesystem_of(place)
    if not filesystem.exists(path):
        return f"{place} is missing, expected {file['size_bytes']:,} bytes"
    size = filesystem.size(path)
    if size != file["size_bytes"]:
        return f"{place} has {size:,} bytes, expected {file['size_bytes']:,}"
    checksum = (checksums or {}).get(unquote(file["path"]))
    if checksum and not is_remote(uri):
        with Path(path).open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        if sha256 != checksum:
            return wrong_checksum(place, sha256, checksum)
    return ""


def read_rows(
    uri: str, files: Sequence[Mapping[str, Any]], columns: pa.Schema, checksums: Mapping[str, str]
) -> pa.Table:
    """Return the rows of some files, verified by their checksums; null for a column that a file lacks.

    Files are read as bytes, on this thread: Arrow's own threads may release a Python object after this process has
    begun to exit, which aborts it.

    Raises:
        OSError: a file is not what was stored.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [columns.empty_table()]
    places = [place_of(uri, file) for file in files]
    for file, place, content in zip(files, places, read_files(places), strict=True):
        if len(content) != file["size_bytes"]:
            raise OSError(f"{place} has {len(content):,} bytes, expected {file['size_bytes']:,}")
        checksum = checksums.get(unquote(file["path"]))
        if checksum and (sha256 := file_digest(content)) != checksum:
            raise OSError(wrong_checksum(place, sha256, checksum))
        rows = pq.ParquetFile(pa.BufferReader(content)).read(columns.names, use_threads=False)
        arrays = [rows[name] if name in rows.schema.names else pa.nulls(len(rows)) for name in columns.names]
        tables.append(pa.Table.from_arrays(arrays, columns.names).cast(columns))
    return pa.concat_tables(tables)


def store_rows(
    uri: str, folder: str, partition: str | None, rows: pa.Table
) -> tuple[list[AddAction | RemoveAction], dict[str, str]]:
    """Store rows in a file that no commit names yet, none for no rows; return its log entry and its checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from deltalake.transaction import AddAction

    if not len(rows):
        return [], {}
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    content = sink.getvalue().to_pybytes()
    path = f"{folder}/part-00000-{uuid4()}.parquet"
    write_file(f"{uri}/{path}", content)
    stats = json.dumps({"numRecords": len(rows)})
    action = AddAction(path, len(content), {PARTITION: partition}, time.time_ns() // 10**6, True, stats)
    return [action], {path: file_digest(content)}


def folder_of(asset: str, partition: str | None) -> str:
    """Return the folder of a partition's files; it is only a name, because the log holds the key.

    Raises:
        LineageError: the key holds an invalid character.
    """
    if partition is None:
        return f"{PARTITION}={OF_NONE}"
    try:
        name = f"{PARTITION}={quote(partition, safe='')}"
    except UnicodeEncodeError:
        raise LineageError(
            f"{asset}: found partition key {partition!r}, expected text that UTF-8 can hold; rename it"
        ) from None
    return name if len(name) <= _LONGEST_NAME else f"{PARTITION}={file_digest(partition.encode())}"


def wrong_checksum(place: str, found: str, expected: str) -> str:
    """Return the message about a file whose bytes are not those that were stored."""
    return f"{place} has SHA-256 {found}, expected {expected}"
