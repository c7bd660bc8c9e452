"""Files with a checksum, so that damage is noticed before anything is read from them.

The index has its checksum in another file beside it; results that are cached in a small file have it in the file itself,
and a damaged one counts as no file. The checksum is CRC-32, which detects every single flipped bit and every burst of up
to 32 bits (Peterson and Brown, 1961). It does not protect against somebody who changes the file on purpose.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from bikes_assets.core.errors import LineageError
from bikes_assets.storage.disk import locked, put
from bikes_assets.storage.parsed import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

_CHUNK, _SECONDS = 1 << 22, 600


class DamagedError(LineageError):
    """A file is not what was written to it."""


class ChecksummedFile:
    """A file, and its checksum in another one beside it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checksum, self._lock = path.with_name(f"{path.name}.crc32"), path.with_name(f".{path.name}.lock")
        self._checked: tuple[int, int, int] | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let one process of this machine at a time write to the file; then store its checksum, even after an error."""
        with locked(self._lock, _SECONDS):
            try:
                yield
            finally:
                if self.path.exists():
                    put(self._checksum, self._sum().encode())
                    self._checked = self._state()

    def check(self) -> None:
        """Compare the file with its checksum, unless it cannot have changed since this process last compared them.

        Raises:
            DamagedError: they differ.
        IsADirectoryError: a folder is there.
        """
        if self.path.is_dir():  # of which SQLite says no more than that it cannot be opened
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.path))
        if self._checked == self._state() or self._holds():
            return
        with locked(self._lock, _SECONDS):  # another process may have written, and be about to store the checksum
            if not self._holds():
                raise DamagedError(f"{self.path}: found content that its checksum does not hold")

    def remove(self) -> None:
        """Remove the file and its checksum."""
        for file in (self._checksum, self.path, self.path.with_name(f"{self.path.name}-journal")):
            file.unlink(missing_ok=True)
        self._checked = None

    def _holds(self) -> bool:
        state = self._state()
        try:
            holds = self._checksum.read_text() == self._sum()
        except (OSError, UnicodeDecodeError):
            holds = False
        self._checked = state if holds else None
        return holds

    def _state(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _sum(self) -> str:
        found = 0
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found = zlib.crc32(chunk, found)
        return f"{found:08x}"


def read_memory(memory: Path, of: Callable[[Any], T]) -> T | None:
    """Return what `of` makes of a file's JSON values; None where there is no file, or it does not hold what it should.

    The file is only a cache: one that was damaged, or written by another version, is written again.
    """
    try:
        return parsed(
            memory.read_bytes(),
            lambda kept: of(kept["values"]) if kept["crc32"] == _sum(kept["values"]) else None,
        )
    except (FileNotFoundError, ValueError):
        return None


def write_memory(memory: Path, values: Any) -> None:
    """Cache JSON values in a file; where nothing can be written, they are computed again the next time."""
    with suppress(OSError):
        put(memory, json.dumps({"crc32": _sum(values), "values": values}).encode())


def _sum(values: Any) -> str:
    # the values as JSON returns them: a tuple comes back as a list, and a numeric key as text
    return f"{zlib.crc32(json.dumps(values).encode()):08x}"
