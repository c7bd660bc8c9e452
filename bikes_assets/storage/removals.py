"""What retention has removed from a lake: a small record of each removal, written before anything is deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from time import time as clock
from typing import Any

from bikes_assets.core.errors import RemovedError
from bikes_assets.storage.files import new_name, read_folder, read_json, write_file
from bikes_assets.storage.parsed import fields, texts

_IN_MLFLOW, _WITHDRAWN = ".mlflow.json", ".withdrawn.json"
_NUMBER = (int, float)
_TYPES = {"id": str, "time": _NUMBER, "user": str, "days": _NUMBER, "versions": list, "models": dict}
_EXPECTED = "a record of what retention removed; restore the file"


@dataclass(frozen=True, slots=True)
class Removal:
    """One removal.

    Attributes:
        id: its name in the lake.
        time: when, Unix seconds.
        user: who.
        days: how old a version had to be.
        versions: address of each version whose rows were removed.
        models: SHA-256 of each model file that was removed, and the version in which it was fitted.
    """

    id: str
    time: float
    user: str
    days: float
    versions: Sequence[str]
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def moment(self) -> str:
        """When it was, in UTC."""
        return moment(self.time)


def moment(seconds: float) -> str:
    """Return a time in words, from Unix seconds."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def removals(lake: str) -> list[Removal]:
    """Return every removal that was not withdrawn, oldest first."""
    files = read_folder(_folder(lake))
    found = (
        read_removal(text, f"{_folder(lake)}/{name}")
        for name, text in files.items()
        if is_removal(name) and f"{name.removesuffix('.json')}{_WITHDRAWN}" not in files
    )
    return sorted(found, key=lambda item: (item.time, item.id))


def is_removal(name: str) -> bool:
    """Return whether a file of this name records a removal."""
    return not name.endswith((_IN_MLFLOW, _WITHDRAWN))


def is_withdrawal(name: str) -> bool:
    """Return whether a file of this name records that a removal was withdrawn."""
    return name.endswith(_WITHDRAWN)


def read_removal(content: bytes, place: str) -> Removal:
    """Return the removal that a file records, or that it says was withdrawn.

    Raises:
        StoreError: it records none.
    """
    return read_json(content, place, _removal, _EXPECTED)


def removed_versions(lake: str) -> dict[str, Removal]:
    """Return each version that was removed, by address, with its removal."""
    return {address: item for item in reversed(removals(lake)) for address in item.versions}


def raise_if_removed(lake: str, address: str) -> None:
    """Fail where a version was removed; called when its files are missing.

    Raises:
        RemovedError: it was; the message says when.
    """
    if found := removed_versions(lake).get(address):
        raise RemovedError(
            f"{address}: its rows were removed by retention on {found.moment} ({found.user}), for nothing live needed them; "
            f"what it was materialized from is on record: bikes upstream '{address}'"
        )


def raise_if_model_removed(lake: str, sha256: str) -> None:
    """Fail where a model's file was removed; called when it is missing.

    Raises:
        RemovedError: it was; the message names the version in which it was fitted, and when.
    """
    for item in reversed(removals(lake)):
        if address := item.models.get(sha256):
            raise RemovedError(
                f"{address}: its model file {sha256}.skops was removed by retention on {item.moment} ({item.user}), for nothing "
                f"live needed it; how it was fitted is on record: bikes upstream '{address}'"
            )


def write_removal(
    lake: str, *, time: float, user: str, days: float, versions: Sequence[str], models: Mapping[str, str]
) -> Removal:
    """Store the record of what is about to be removed, and return it."""
    made = Removal(new_name(), time, user, days, versions, models)
    write_file(f"{_folder(lake)}/{made.id}.json", json.dumps(asdict(made)).encode())
    return made


def withdraw(lake: str, removal: Removal) -> None:
    """Withdraw a removal of which nothing was deleted; its record stays, for the audit log may hold it already."""
    withdrawn = replace(removal, time=clock())
    write_file(f"{_folder(lake)}/{removal.id}{_WITHDRAWN}", json.dumps(asdict(withdrawn)).encode())


def removed_in_mlflow(lake: str) -> set[str]:
    """Return the versions whose runs and copies are deleted in MLflow, by address."""
    files = read_folder(_folder(lake))
    return {
        address
        for name, text in files.items()
        if name.endswith(_IN_MLFLOW)
        for address in read_json(text, f"{_folder(lake)}/{name}", _versions, _EXPECTED)
    }


def write_removed_in_mlflow(lake: str, *, time: float, versions: Sequence[str]) -> None:
    """Store the versions whose runs and copies are deleted in MLflow."""
    values: dict[str, Any] = {"time": time, "versions": list(versions)}
    write_file(f"{_folder(lake)}/{new_name()}{_IN_MLFLOW}", json.dumps(values).encode())


def _removal(values: Any) -> Removal:
    found = Removal(**fields(values, _TYPES))
    return replace(found, versions=_versions(values), models=texts(found.models))


def _versions(values: Any) -> list[str]:
    found = values["versions"]
    if not isinstance(found, list) or not all(isinstance(address, str) for address in found):
        raise ValueError("expected a list of versions")
    return found


def _folder(lake: str) -> str:
    return f"{lake}/removed"
