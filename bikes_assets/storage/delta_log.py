"""The log of a Delta table as files: where they are, whether they are flushed, and what a power loss left of them.

Delta Lake flushes nothing. Here each commit is flushed before the next one is made, so that only the last can be torn:
empty, or cut short. Nobody has been told about that commit yet, and it is set aside.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from bikes_assets.core.faults import at_store
from bikes_assets.storage import disk
from bikes_assets.storage.files import delta_options, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deltalake import DeltaTable

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
