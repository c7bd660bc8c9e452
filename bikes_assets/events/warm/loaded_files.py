"""The files that a process has loaded, compared with what lies on disk."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from typing import TYPE_CHECKING, TypeAlias

from bikes_assets.events.warm.libraries import FOLDERS, file_of, is_library

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_State: TypeAlias = tuple[int, int, int]


class LoadedFiles:
    """The files of each module that this process loads from now on, as they were just before they were read.

    A source file outside of `FOLDERS` is compiled again if its bytecode is older: Python takes bytecode for current
    by the source's size and whole second, and two edits may have both in common.
    """

    def __init__(self) -> None:
        self._states = {folder: _state(folder) for folder in FOLDERS}  # installing a package changes its folder
        self.note(sys.modules)
        read_stats = SourceFileLoader.path_stats

        def path_stats(loader: SourceFileLoader, path: str) -> Mapping[str, float]:
            self._states.setdefault(path, _state(path))
            if not is_library(path) and _is_newer_than_its_bytecode(path):
                raise OSError(f"{path} is newer than its bytecode")  # by which the loader compiles it
            return read_stats(loader, path)

        setattr(SourceFileLoader, "path_stats", path_stats)  # noqa: B010 - the type checker wants the first name to be self

    def note(self, names: Iterable[str]) -> None:
        """Remember the files of some modules, such as extension modules, whose loading cannot be observed."""
        for name in [*names]:
            if file := file_of(sys.modules.get(name)):
                self._states.setdefault(file, _state(file))

    def changed(self) -> list[str]:
        """Return the files that are not as they were when they were loaded."""
        return [file for file, state in self._states.items() if _state(file) != state]


def _is_newer_than_its_bytecode(source: str) -> bool:
    bytecode = importlib.util.cache_from_source(source)
    try:
        return os.stat(bytecode).st_mtime_ns < os.stat(source).st_mtime_ns
    except OSError:
        return False


def _state(file: str) -> _State | None:
    """Return what changes with a file, or with the names in a folder; None where there is none."""
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
