"""Modules of libraries, in contrast to a project's own: which are loaded, and which a code location's runs import."""

from __future__ import annotations

import json
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_PATHS = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    *site.getsitepackages(),
    site.getusersitepackages(),
)
FOLDERS = tuple(dict.fromkeys(f"{os.path.realpath(path)}{os.sep}" for path in _PATHS))
"""Folders of Python's own library and of installed packages; code anywhere else is a project's."""
_MEMORY = "warm"


def is_library(file: str) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    return file.startswith(FOLDERS) or (bool(file) and os.path.realpath(file).startswith(FOLDERS))


def file_of(module: ModuleType | None) -> str:
    """Return the file of a module, "" for one that has none."""
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else ""


def library_modules() -> list[str]:
    """Return the names of loaded modules of libraries, in the order in which their import began."""
    return [name for name, module in [*sys.modules.items()] if is_library(file_of(module))]


def memory_of(home: str, location: str) -> Path:
    """Return the file that remembers the libraries of a code location's runs."""
    return Path(home) / _MEMORY / f"{quote(location, safe=' ')}.json"


def locations(home: str) -> Iterator[str]:
    """Yield the code locations whose runs' libraries are remembered."""
    for file in (Path(home) / _MEMORY).glob("*.json"):
        yield unquote(file.stem)


def remembered(file: Path) -> list[str]:
    """Return the remembered names, in the order to import them in; [] where nothing is remembered."""
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def learn(file: Path) -> None:
    """Remember which libraries this process has imported, beside those that are remembered."""
    names = remembered(file)
    both = [*dict.fromkeys([*names, *library_modules()])]
    if both != names:
        remember(file, both)


def remember(file: Path, names: Sequence[str]) -> None:
    """Write names to the file, atomically; where that fails, the next run is learned from."""
    part = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        part.write_text(json.dumps(names), encoding="utf-8")
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
