"""A file with a checksum in another file beside it, so that damage is noticed before anything is read from it.

The checksum is CRC-32, which detects every single flipped bit and every burst of up to 32 bits (Peterson and Brown,
1961). It does not protect against somebody who changes the file on purpose.
"""

from __future__ import annotations

import errno
import os
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bikes_assets.core.errors import LineageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK, _SECONDS = 1 << 22, 600


class DamagedError(LineageError):
    """A file is not what was written to it."""


class SealedFile:
    """A file, and its checksum in another one beside it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seal = path.with_name(f"{path.name}.crc32")
        self._checked: tuple[int, int, int] | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let one process of this machine at a time write to the file; then store its checksum, even after an error."""
        from filelock import FileLock

        with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_SECONDS):
            try:
                yield
            finally:
                if self.path.exists():
                    part = self._seal.with_name(f".{self._seal.name}.part")
                    part.write_text(self._sum())
                    part.replace(self._seal)
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
        from filelock import FileLock

        # another process may have written, and be about to store the checksum
        with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_SECONDS):
            if not self._holds():
                raise DamagedError(f"{self.path}: found content that its checksum does not hold")

    def remove(self) -> None:
        """Remove the file and its checksum."""
        for file in (self._seal, self.path, self.path.with_name(f"{self.path.name}-journal")):
            file.unlink(missing_ok=True)
        self._checked = None

    def _holds(self) -> bool:
        state = self._state()
        try:
            holds = self._seal.read_text() == self._sum()
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
