"""Addresses: how assets, columns, partitions and versions are written as text, and read back without loss.

An asset is `demand_features`, a column of it `demand_features.temperature`, a partition `demand_features[2012-08]`,
that at a table version `demand_features[2012-08]@20`, a column of that `demand_features.temperature[2012-08]@20`.
`taxi/fare_model@3` is a version of something without partitions, or a registered model version. Names that hold
characters which an address uses itself are written as JSON strings: `trips."Temp [C]"["a]b"]@3`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from bikes_assets.core.errors import LineageError

WHOLE = "*"
"""Name of the single column of something without columns, such as a model; no table may have a column of this name."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_BARE_NAME = r'[^\s.\[\]@#"\\\x00-\x1f\x7f-\x9f]+'
_BARE_KEY = r'[^\[\]"\\\s\x00-\x1f\x7f-\x9f](?:[^\[\]"\\\x00-\x1f\x7f-\x9f]*[^\[\]"\\\s\x00-\x1f\x7f-\x9f])?'
_NAME, _KEY = f"(?:{_QUOTED}|{_BARE_NAME})", f"(?:{_QUOTED}|{_BARE_KEY})"
_ADDRESS = re.compile(
    rf"(?P<asset>{_NAME})(?:\.(?P<column>{_NAME}))?(?:\[(?P<partition>{_KEY})\])?(?:@(?P<version>{_NAME}))?"
)
_ROW = re.compile(rf"(?P<address>{_ADDRESS.pattern})#(?P<key>.*)", re.DOTALL)
_IS_BARE = {"name": re.compile(_BARE_NAME), "key": re.compile(_BARE_KEY)}


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an address; those that it does not name are None.

    Attributes:
        asset: Dagster's asset key as text, such as `taxi/trips`.
        column: name of a column, or WHOLE.
        partition: partition key.
        version: table version, number of a registered model version, or an alias.
    """

    asset: str
    column: str | None = None
    partition: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        """Return the address as text: the same for the same parts, which `parse` gives back."""
        return "".join(
            (
                _written(self.asset),
                f".{_written(self.column)}" if self.column is not None else "",
                f"[{_written(self.partition, 'key')}]" if self.partition is not None else "",
                f"@{_written(self.version)}" if self.version is not None else "",
            )
        )

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """Return the parts of an address, None where a text is none."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            return None
        try:
            return cls(*(_read(match[name]) for name in ("asset", "column", "partition", "version")))  # pyright: ignore[reportArgumentType]
        except ValueError:  # a quoted part that is no JSON string, or half of a character
            return None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A fitted model, as a record names it: `demand_model[2012-08]@12`, or a part of it, `demand_model[2012-08]@12 baseline`.

    Attributes:
        address: the version in which it was fitted; "" in the record of that version itself.
        part: which model of that version it is, such as its baseline; "" for the one that the version is of.
    """

    address: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.address} {self.part}" if self.part else self.address

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Return the model that a text names; an address ends in no word after a space."""
        address, _, part = text.rpartition(" ")
        return cls(address, part) if address and part.isidentifier() else cls(text)


def parse_row(text: str) -> tuple[Address, str] | None:
    """Return a row's address and key from `demand_predictions[2012-08]#2012-08-14T17:00`; None for any other text."""
    match = _ROW.fullmatch(text)
    address = Address.parse(match["address"]) if match else None
    return (address, match["key"]) if match and address else None


def parse_address(text: str) -> tuple[str, str | None, str | None]:
    """Return asset, partition and version of an address; what it does not name is None.

    Raises:
        LineageError: `text` is not an address, or one of a column.
    """
    found = Address.parse(text)
    if found is None or found.column is not None:
        raise LineageError(
            f"found address {text!r}, expected one like demand_features[2012-08] or demand_features[2012-08]@20"
        )
    return found.asset, found.partition, found.version


def partition_address(asset: str, partition: str | None) -> str:
    """Return the address of a partition, `demand_features[2012-08]`, or of an asset without partitions."""
    return str(Address(asset, partition=partition))


def _written(part: str, kind: str = "name") -> str:
    return part if _IS_BARE[kind].fullmatch(part) else json.dumps(part, ensure_ascii=False)


def _read(part: str | None) -> str | None:
    """Return the text of a part.

    Raises:
        ValueError: it is quoted and no JSON string, or has half of a character, which is no text.
    """
    if part is None or not part.startswith('"'):
        return part
    text: str = json.loads(part)
    text.encode()
    return text
