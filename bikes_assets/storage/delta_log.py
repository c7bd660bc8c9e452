"""The log of a Delta table: its creation, its next commit, its files, and what a power loss left of them.

Delta Lake flushes nothing. Here each commit is flushed before the next one is written, so that only the last can be torn:
empty, or cut short. Nobody has been told about that commit yet, and it is set aside.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bikes_assets.core.transient import at_store, away, store_error
from bikes_assets.storage import disk
from bikes_assets.storage.files import create_file, delta_options, filesystem_of, is_remote, read_file
from bikes_assets.storage.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deltalake import DeltaTable
    from deltalake import Schema as Types
    from deltalake.transaction import AddAction, RemoveAction

    from bikes_assets.core.schema import Schema

PARTITION = "partition"
"""Name of the partition column: it is not part of the content."""
OF_NONE = "__HIVE_DEFAULT_PARTITION__"
"""Name of the folder of the partition null in Delta tables."""
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",  # every version stays readable
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "10",  # opening a table reads the commits since the last checkpoint
}
_MAGIC = b"PAR1"
"""What a Parquet file begins and ends with."""
_HINT = "_last_checkpoint"
_TORN = "torn"


def log_file(uri: str, version: int) -> str:
    """Return the path of a table's commit."""
    return f"{uri}/_delta_log/{version:020}.json"


def is_table(uri: str) -> bool:
    """Return whether there is a table."""
    from deltalake import DeltaTable

    _set_torn_aside(uri)
    if not is_remote(uri):  # Delta lists a whole log to answer this
        folder = Path(uri.removeprefix("file://"), "_delta_log")
        if not folder.is_dir():
            return False
        with os.scandir(folder) as entries:
            return any(_is_commit(entry.name) for entry in entries)
    with at_store(uri):
        return DeltaTable.is_deltatable(uri, delta_options(uri))


def is_there(uri: str, version: int) -> bool:
    """Return whether the log of a table has a commit of a version, without opening the table."""
    _set_torn_aside(uri)
    if is_remote(uri):
        return read_file(log_file(uri, version)) is not None
    return Path(log_file(uri.removeprefix("file://"), version)).exists()


def versions(uri: str) -> list[int]:
    """Return the versions of which the log of a table has a commit, oldest first, without opening the table."""
    _set_torn_aside(uri)
    filesystem, folder = filesystem_of(f"{uri}/_delta_log")
    filesystem.invalidate_cache()
    with at_store(uri):
        if not filesystem.exists(folder):
            return []
        names = (path.rpartition("/")[2] for path in filesystem.ls(folder, detail=False))
    return sorted(int(name.partition(".")[0]) for name in names if _is_commit(name))


def open_table(uri: str, version: int | None = None) -> DeltaTable:
    """Return a table as of a version, by default the current one.

    Raises:
        TableNotFoundError: there is none.
        StoreError: the store is unreachable or busy.
    """
    from deltalake import DeltaTable

    _set_torn_aside(uri)
    with at_store(uri):
        return DeltaTable(uri, version, delta_options(uri))


def create_table(uri: str, name: str, schema: Schema) -> None:
    """Create a table once, however many processes try at once: Delta itself would let two of them do so."""
    if not is_remote(uri):
        place = Path(uri)
        with disk.locked(place.with_name(f".{place.name}.lock"), seconds=60):
            _create_at(uri, name, schema)
            flush_commit(uri, 0)
        return
    with scratch_folder() as folder:
        _create_at(str(folder), name, schema)
        first = Path(log_file(str(folder), 0)).read_text()
    # delta-rs escapes less of a path than Python does
    first = first.replace(folder.as_uri(), uri).replace(f"file://{folder}", uri)
    create_file(log_file(uri, 0), first.encode())


def _create_at(location: str, name: str, schema: Schema) -> None:
    from deltalake import DeltaTable

    DeltaTable.create(
        location, types_of(schema), mode="ignore", partition_by=[PARTITION], configuration=_CONFIGURATION, name=name
    )


def types_of(schema: Schema) -> Types:
    """Return the types that a table of a schema has in Delta."""
    import pyarrow as pa
    from deltalake import Schema as Types

    return Types.from_arrow(pa.schema([(PARTITION, pa.string()), *schema.arrow()]))


def commit_next(
    uri: str,
    table: DeltaTable,
    added: Sequence[AddAction | RemoveAction],
    metadata: Mapping[str, str],
    *,
    types: Types,
    replaced: Sequence[tuple[str, str, str]] = (),
    fence: Callable[[], object] = lambda: None,
) -> bool:
    """Make the commit after the version at which a table was opened; return whether it was created, or another came first.

    Args:
        uri: location of the table.
        table: the table.
        added: the files that it adds.
        metadata: its metadata.
        types: the table's columns from then on.
        replaced: what the partition that it replaces is found by; by default it replaces nothing.
        fence: called directly before; where it raises, nothing is committed.

    Raises:
        StoreError: the log of the table cannot be written, or its store is unreachable or busy.
    """
    from deltalake import CommitProperties
    from deltalake.exceptions import CommitFailedError, DeltaError

    flush_commit(uri, table.version())  # of another process, which may be about to
    fence()
    version, mode = table.version() + 1, "overwrite" if replaced else "append"
    # the version is the next one, or there is no commit; if Delta retried, a commit of no rows would not conflict with one
    # made at the same time
    once = CommitProperties(custom_metadata=dict(metadata), max_commit_retries=0)
    try:
        table.create_write_transaction([*added], mode, types, [PARTITION], [*replaced] or None, commit_properties=once)
    except (DeltaError, OSError) as error:
        if not _is_committed(uri, version, metadata):
            if unusable := store_error(error, uri) or away(error, uri):
                raise unusable from error
            if not isinstance(error, CommitFailedError):
                raise
            return False
    flush_commit(uri, version)
    return True


def _is_committed(uri: str, version: int, metadata: Mapping[str, str]) -> bool:
    """Return whether a version is the commit with this metadata: a store may have kept it, but its answer be lost.

    Clients then send it again, and get the answer that it exists already.
    """
    content = read_file(log_file(uri, version))
    return content is not None and metadata.items() <= metadata_in(entries_in(content)).items()


def metadata_in(entries: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return a commit's metadata from the entries of its file in Delta's log."""
    return next((entry["commitInfo"] for entry in entries if "commitInfo" in entry), {})


def entries_in(content: bytes) -> list[dict[str, Any]]:
    """Return the entries of a file of Delta's log."""
    return [json.loads(line) for line in content.splitlines()]


def flush_commit(uri: str, version: int) -> None:
    """Flush a commit to disk, and the checkpoint that came with it."""
    if is_remote(uri):
        return
    commit = Path(log_file(uri, version))
    checkpoint = _checkpoint(commit.parent, version)
    disk.flush(commit, *([checkpoint, commit.with_name(_HINT)] if checkpoint.exists() else []), commit.parent)
    if not version:  # its creation
        disk.flush(commit.parents[1], commit.parents[2])


@cache
def _set_torn_aside(uri: str) -> None:
    """Move aside what a power loss left torn of a table's last commits and of its last checkpoint.

    The power loss was before this process started, so one look is enough. Processes that write meanwhile rename only
    complete files into place.
    """
    folder = Path(uri) / "_delta_log"
    if is_remote(uri) or not folder.is_dir():
        return
    names = os.listdir(folder)
    for name in sorted(filter(_is_commit, names), reverse=True):
        if _is_whole_commit(folder / name):
            break
        _set_aside(folder / name)
    last = max((name for name in names if name.endswith(".checkpoint.parquet")), default="")
    if last and not _is_whole_checkpoint(folder / last):
        _set_aside(folder / last)
        _set_aside(folder / _HINT)
    elif _HINT in names and not _is_whole_hint(folder / _HINT, names):
        _set_aside(folder / _HINT)


def _checkpoint(folder: Path, version: int) -> Path:
    return folder / f"{version:020}.checkpoint.parquet"


def _is_commit(name: str) -> bool:
    stem, _, suffix = name.partition(".")
    return suffix == "json" and len(stem) == 20 and stem.isdecimal()


def _is_whole_commit(file: Path) -> bool:
    """Return whether a commit holds actions, each complete: nobody writes a commit without any."""
    try:
        return bool([json.loads(line) for line in file.read_bytes().splitlines() if line.strip()])
    except ValueError:
        return False


def _is_whole_checkpoint(file: Path) -> bool:
    content = file.read_bytes()
    return len(content) > len(_MAGIC) * 2 and content.startswith(_MAGIC) and content.endswith(_MAGIC)


def _is_whole_hint(file: Path, names: Iterable[str]) -> bool:
    """Return whether the hint leads to a checkpoint that exists; other programs write some in several files."""
    try:
        begins = f"{json.loads(file.read_bytes())['version']:020}.checkpoint."
    except (ValueError, LookupError, TypeError):
        return False
    return any(name.startswith(begins) for name in names)


def _set_aside(file: Path) -> None:
    if file.exists():
        file.replace(file.with_name(f".{file.name}.{uuid4().hex[:8]}.{_TORN}"))
