"""Temporary folders, named after their process, so that the next process finds and removes what a killed one left."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bikes_assets.storage.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "bikes-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a temporary folder, which is removed afterwards; folders of processes that are gone are removed first."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if abandoned(folder):
            remove(folder)
    prefix = f"{_PREFIX}{Process.this()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def abandoned(path: Path) -> Path | None:
    """Return the temporary folder that a path is in if its process is gone; None otherwise, or if unknown."""
    for folder in (path, *path.parents):
        name, _, _ = folder.name.removeprefix(_PREFIX).rpartition("-")
        process = Process.parse(name) if folder.name.startswith(_PREFIX) else None
        if process:
            return folder if process.is_gone() else None
    return None


def remove(folder: Path) -> None:
    """Remove a temporary folder, unless it is another user's: in a shared folder anybody may take this name."""
    if folder.exists() and folder.lstat().st_uid == os.getuid():
        shutil.rmtree(folder, ignore_errors=True)
