"""Snapshot: what a store holds, as a small text for version control; and how two of them differ.

It is sorted JSON with one thing on each line and without times, so that a rematerialized month is one changed line::

    { "format": "bikes-snapshot-1", "source": { "hour.csv": {"sha256": "35f5..."} }, "code": { "demand_features":
    {"code_version": "b1f0..."} }, "partitions": { "demand_features[2011-01]": {"version": 1, "digest": "1488...",
    "content": "1488...", "record": "c02e..."} }, "models": { "demand_model@1": {"address": "demand_model[2011-03]@1",
    "digest": "77aa...", "sha256": "90b1...", "record": "5d77..."} } }

A snapshot from before records had digests has none, and they are not compared.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from bikes_assets.core.errors import LineageError
from bikes_assets.storage.parsed import parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "bikes-snapshot-1"

Kind: TypeAlias = Literal["source", "code", "partitions", "models"]
"""Sections of a snapshot."""

Entry: TypeAlias = dict[str, str | int]
"""What a snapshot stores of one thing."""

_FIELDS: Mapping[str, Mapping[str, type]] = {
    "source": {"sha256": str},
    "code": {"code_version": str},
    "partitions": {"version": int, "digest": str, "content": str},
    "models": {"address": str, "digest": str, "sha256": str},
}
RECORD = "record"
"""Key of the record's digest in an entry."""
_WITH_RECORDS = ("partitions", "models")
_DIGEST = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store holds.

    Attributes:
        source: SHA-256 of each file of the source.
        code: current code version of each asset.
        partitions: table version, digest, content and the record's digest of each partition's current version, by its
            address.
        models: address, digest, SHA-256 of the file and the record's digest of each registered model version.
    """

    source: dict[str, Entry] = field(default_factory=dict)
    code: dict[str, Entry] = field(default_factory=dict)
    partitions: dict[str, Entry] = field(default_factory=dict)
    models: dict[str, Entry] = field(default_factory=dict)

    def dumps(self) -> str:
        """Return its text, which `loads` reads."""
        parts = [f'"format": {json.dumps(FORMAT)}']
        for kind in get_args(Kind):
            entries = sorted(getattr(self, kind).items())
            lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries)
            parts.append(f"{json.dumps(kind)}: {{\n{lines}\n}}" if lines else f"{json.dumps(kind)}: {{}}")
        return "{\n" + ",\n".join(parts) + "\n}\n"


def loads(text: str, file: str) -> Snapshot:
    """Return the snapshot in a text.

    Args:
        text: what `Snapshot.dumps` wrote.
        file: its file, for the error.

    Raises:
        LineageError: it is not a snapshot.
    """

    def refused(found: str, expected: str) -> LineageError:
        return LineageError(f"{file}: found {found}, expected {expected}; write it with bikes snapshot")

    try:
        values: Any = parsed(text, lambda values: values)
    except ValueError as error:
        raise refused(f"no JSON ({error})", "a snapshot") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise refused("JSON that does not say its format", f'"format": "{FORMAT}"')
    if values.keys() != {"format", *get_args(Kind)}:
        raise refused(", ".join(values), ", ".join(("format", *get_args(Kind))))
    for kind, fields in _FIELDS.items():
        entries = values[kind]
        if not isinstance(entries, dict):
            raise refused(f"{kind} {entries!r}", "an object")
        for name, entry in entries.items():
            optional = {RECORD: str} if isinstance(entry, dict) and RECORD in entry and kind in _WITH_RECORDS else {}
            if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != {
                **fields,
                **optional,
            }:
                raise refused(
                    f"{kind}, {name}: {entry!r}", ", ".join(f"{key} ({of.__name__})" for key, of in fields.items())
                )
    return Snapshot(**{kind: values[kind] for kind in get_args(Kind)})


@dataclass(frozen=True, slots=True)
class SnapshotChange:
    """One difference between a store and a snapshot.

    Attributes:
        kind: kind of the thing.
        name: file, asset, address of a partition, or registered model version.
        was: its entry in the snapshot, None if it is new.
        now: its current entry, None if it is gone.
    """

    kind: Kind
    name: str
    was: Entry | None
    now: Entry | None

    @property
    def is_rematerialized(self) -> bool:
        """Whether it was rematerialized with an unchanged digest: another version with the same content."""
        if not self.was or not self.now or self.kind not in ("partitions", "models"):
            return False
        version = "version" if self.kind == "partitions" else "address"
        return self.was["digest"] == self.now["digest"] and self.was[version] != self.now[version]

    def __str__(self) -> str:
        """Return it in words, on one line; digests by their first digits."""
        if self.was is None or self.now is None:
            told, known = ("is new", self.now) if self.was is None else ("is gone", self.was)
            return f"{self.name}: {told}: {_told(known or {})}"
        if self.is_rematerialized:
            version = "version" if self.kind == "partitions" else "address"
            versions = f"{version} {self.was[version]} -> {self.now[version]}"
            return f"{self.name}: rematerialized with the same digest {_short(self.now['digest'])}, {versions}"
        changes = [
            f"{_label(key)} {_short(self.was.get(key))} -> {_short(self.now.get(key))}"
            for key in dict.fromkeys([*self.was, *self.now])
            if self.was.get(key) != self.now.get(key)
        ]
        return f"{self.name}: {', '.join(changes)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "was": self.was,
            "now": self.now,
            "same_content": self.is_rematerialized,
        }


def compare(was: Snapshot, now: Snapshot) -> list[SnapshotChange]:
    """Return the differences between two snapshots, by kind and name."""
    return [
        SnapshotChange(kind, name, before.get(name), after.get(name))
        for kind in get_args(Kind)
        for before, after in [(getattr(was, kind), getattr(now, kind))]
        for name in sorted(before.keys() | after.keys())
        if _differ(before.get(name), after.get(name))
    ]


def _differ(was: Entry | None, now: Entry | None) -> bool:
    """Return whether two entries differ; the records are not compared if an older snapshot has no digest of one."""
    if was and now and RECORD not in was:
        now = {key: value for key, value in now.items() if key != RECORD}
    return was != now


def _told(entry: Mapping[str, str | int]) -> str:
    return ", ".join(f"{_label(key)} {_short(value)}" for key, value in entry.items())


def _label(key: str) -> str:
    return key.replace("_", " ").replace("sha256", "SHA-256")


def _short(value: str | int | None) -> str:
    """Return a value; of a digest the first eight digits."""
    return str(value)[:8] if _DIGEST.fullmatch(str(value)) else str(value)
