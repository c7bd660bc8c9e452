"""Results cached in a small file of this machine, with a checksum: a damaged file counts as no file."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from bikes_assets.storage.disk import put
from bikes_assets.storage.parsed import parsed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


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
