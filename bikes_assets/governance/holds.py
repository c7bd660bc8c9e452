"""Holds: versions that must stay in the lake, whatever their age.

Holds are small files that are never changed or deleted; a release is a second file.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from bikes_assets.core.errors import LineageError
from bikes_assets.core.secrets import scrubbed
from bikes_assets.storage.files import new_name, read_folder, read_json, write_file
from bikes_assets.storage.parsed import fields

_RELEASED = ".released.json"
_TYPES = {"address": str, "version": str, "reason": str, "user": str, "time": (int, float)}
_EXPECTED = "a hold; restore the file, or where the version that it held may go, remove it"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold on a version.

    Attributes:
        id: its name in the lake.
        address: what was held, as the user named it.
        version: address of the version that this resolved to at that time.
        reason: why.
        user: who put it.
        time: when, Unix seconds.
    """

    id: str
    address: str
    version: str
    reason: str
    user: str
    time: float


def holds(lake: str) -> list[Hold]:
    """Return the active holds of a lake, oldest first."""
    files = read_folder(_folder(lake))
    standing = (name for name in files if not name.endswith(_RELEASED) and f"{_id(name)}{_RELEASED}" not in files)
    return sorted(
        (read_json(files[name], f"{_folder(lake)}/{name}", partial(_hold, _id(name)), _EXPECTED) for name in standing),
        key=lambda hold: (hold.time, hold.id),
    )


def hold(lake: str, address: str, version: str, *, reason: str, user: str) -> Hold:
    """Put a hold on a version, and return it."""
    made = Hold(new_name(), address, version, scrubbed(reason), user, time.time())
    values: dict[str, Any] = asdict(made)
    del values["id"]
    write_file(f"{_folder(lake)}/{made.id}.json", json.dumps(values).encode())
    return made


def release(lake: str, address: str, *, reason: str, user: str) -> list[Hold]:
    """Lift the holds that were put under an address, or on the version of that address, and return them.

    Raises:
        LineageError: there is no such hold; the message lists the active ones.
    """
    standing = holds(lake)
    lifted = [item for item in standing if address in (item.address, item.version)]
    if not lifted:
        known = ", ".join(dict.fromkeys(item.address for item in standing)) or "none, for nothing is held"
        raise LineageError(f"{address}: found no hold on it, expected one of {known}")
    for item in lifted:
        values = {"address": address, "reason": scrubbed(reason), "user": user, "time": time.time()}
        write_file(f"{_folder(lake)}/{item.id}{_RELEASED}", json.dumps(values).encode())
    return lifted


def read_hold(name: str, content: bytes, place: str) -> Hold:
    """Return what a file records: a hold, or the release of one, which has the id of the hold and its address alone.

    Args:
        name: the file's.
        content: the file's.
        place: the file's location, for the error.

    Raises:
        StoreError: it records neither.
    """
    if is_release(name):
        of = partial(_hold, name.removesuffix(_RELEASED))
        return read_json(content, place, lambda values: of({"version": values["address"], **values}), _EXPECTED)
    return read_json(content, place, partial(_hold, _id(name)), _EXPECTED)


def is_release(name: str) -> bool:
    """Return whether a file of this name records a release."""
    return name.endswith(_RELEASED)


def _hold(name: str, values: Any) -> Hold:
    return Hold(name, **fields(values, _TYPES))


def _folder(lake: str) -> str:
    return f"{lake}/holds"


def _id(name: str) -> str:
    return name.removesuffix(".json")
