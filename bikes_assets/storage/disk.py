"""Files on a disk of this machine: each is written atomically, and survives a power loss.

A file system keeps writes in memory for a while and may lose them with the power: a file is then empty, or its name is
gone. SQLite flushes what it commits, so an event could survive while the file that it describes does not. Whatever an
event describes is therefore flushed before it: the file, and the folders that list it.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems whose folders need no flush."""


def put(file: Path, content: bytes) -> None:
    """Store a file, in the place of one that may be there."""
    with _beside(file, content) as part:
        part.replace(file)
    flush(file.parent)


def create(file: Path, content: bytes) -> bool:
    """Store a file if there is none, and return whether it was stored: of many writers at once, one succeeds."""
    with _beside(file, content) as part:
        try:
            os.link(part, file)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if file.exists():
                return False
            part.replace(file)
    flush(file.parent)
    return True


def flush(*paths: Path) -> None:
    """Flush the content of files, or the listings of folders, to disk."""
    for path in paths:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        except OSError as error:
            if error.errno not in _NO_FLUSH:
                raise
        finally:
            os.close(number)


def flush_all(folder: Path) -> None:
    """Flush a folder and everything in it to disk."""
    flush(*folder.rglob("*"), folder, folder.parent)


@contextmanager
def _beside(file: Path, content: bytes) -> Iterator[Path]:
    """Yield a temporary file in the same folder, flushed before it is renamed into place; nothing is left behind."""
    _make(file.parent)
    part = file.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        flush(folder.parent)
