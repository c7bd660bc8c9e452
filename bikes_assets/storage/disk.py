"""Files on a disk of this machine: each is written atomically, and survives a power loss.

A file system keeps writes in memory for a while and may lose them with the power: a file is then empty, or its name is
gone. SQLite flushes what it commits, so an event could survive while the file that it describes does not. Whatever an
event describes is therefore flushed before it: the file, and the folders that list it.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING
from uuid import uuid4

from bikes_assets.core.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems whose folders need no flush."""


def put(file: Path, content: bytes, mode: int | None = None) -> None:
    """Store a file, in the place of one that may be there.

    Args:
        file: where.
        content: its content.
        mode: its permissions, None for those of a new file.
    """
    with _beside(file, content, mode) as part:
        part.replace(file)
    flush(file.parent)


@contextmanager
def replaced(file: Path) -> Iterator[IO[bytes]]:
    """Yield what writes to a file, which is stored in the place of one that may be there once all of it is written.

    What is no regular file, such as a pipe or a device, is written to at once; what a link leads to is replaced, not the
    link.
    """
    if file.exists() and not file.is_file():
        with file.open("wb") as stream:
            yield stream
        return
    place = file.resolve()
    with _beside(place, b"") as part:
        with part.open("wb") as written:
            yield written
            written.flush()
            os.fsync(written.fileno())
        part.replace(place)
    flush(place.parent)


@contextmanager
def named(file: Path, what: str) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes a file which the user named, atomically.

    Args:
        file: the file; a pipe or device, such as /dev/stdout, is written to and stays what it is.
        what: what it will hold, in a word.

    Raises:
        SettingsError: the file cannot be written, or its folder does not exist, which shows before anything is done.
    """
    if not file.parent.is_dir():
        raise SettingsError(f"{file}: found no folder {file.parent}, expected one to write the {what} to; create it")

    def write(content: bytes) -> None:
        try:
            with replaced(file) as written:
                written.write(content)
        except OSError as error:
            told = (
                f"{file}: the {what} cannot be written there ({error.strerror}); name another file, or see to this one"
            )
            raise SettingsError(told) from error

    yield write


def create(file: Path, content: bytes, mode: int | None = None) -> bool:
    """Store a file if there is none, and return whether it was stored: of many writers at once, one succeeds.

    Args:
        file: where.
        content: its content.
        mode: its permissions, None for those of a new file.
    """
    with _beside(file, content, mode) as part:
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


@contextmanager
def locked(file: Path, seconds: float) -> Iterator[None]:
    """Let one process of this machine at a time go on, which holds a lock file; others wait for it.

    Args:
        file: the lock file.
        seconds: how long to wait at most.

    Raises:
        filelock.Timeout: another process has held it for longer.
    """
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file, timeout=seconds):
        yield


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
def _beside(file: Path, content: bytes, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary file in the same folder, flushed before it is renamed into place; nothing is left behind."""
    _make(file.parent)
    part = file.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("wb") as written:
            if mode is not None:
                part.chmod(mode)  # before anything is in it
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
