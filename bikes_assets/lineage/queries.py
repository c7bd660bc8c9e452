"""Questions to the index, by address; each as of any event."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bikes_assets.lineage.errors import LineageError
from bikes_assets.lineage.projection import (
    ALIAS,
    CODE,
    COLUMN,
    COLUMN_VERSION,
    DATASET,
    FILE,
    MODEL,
    PARTITION,
    RUN,
    TAG,
    VERSION,
    WHOLE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bikes_assets.lineage.index import Answer, Found, Index
    from bikes_assets.lineage.packed import Direction

KINDS = (DATASET, COLUMN, PARTITION, VERSION, COLUMN_VERSION, MODEL, ALIAS, TAG, FILE, CODE, RUN)
"""Kinds of things that an address may name, in the order in which it is taken for one."""

_SHORTENED = {CODE: 8, RUN: 8, FILE: 4}
"""Kinds of which the first characters of a name are enough, and how many at least."""

_COLUMN_OF_PARTITION = re.compile(r"\w+\.(\w+|\*)\[[^\]]+\]")


def find(index: Index, address: str, *, as_of: int | None = None) -> Found:
    """Return the thing that an address names; of a partition's column, that of its latest version.

    Raises:
        LineageError: there is none as of that event, or there are several; the nearest names are told.
    """
    if _COLUMN_OF_PARTITION.fullmatch(address):
        versions = index.names(COLUMN_VERSION, like=f"{_literal(address)}@*", as_of=as_of)
        if versions:
            address = max(versions, key=lambda name: _number(name.rpartition("@")[2]))
    found = {item.kind: item for item in index.find(address, as_of=as_of)}
    for kind in KINDS:
        if kind in found:
            return found[kind]
    begun = [
        (kind, name)
        for kind, least in _SHORTENED.items()
        if len(address) >= least
        for name in index.names(kind, like=f"{_literal(address)}*", as_of=as_of)
    ]
    if len(begun) == 1:
        return index.find(begun[0][1], begun[0][0], as_of=as_of)[0]
    if begun:
        raise LineageError(f"found several that begin with {address!r}: {', '.join(name for _, name in begun[:5])}")
    raise LineageError(f"found nothing called {address!r}{_when(as_of)}; {_nearest(index, address, as_of)}")


def walk(
    index: Index, address: str, direction: Direction, *, depth: int | None = None, as_of: int | None = None
) -> Answer:
    """Return all that lies upstream or downstream of what an address names, on the level that it names.

    Args:
        index: the index.
        address: a dataset, column, partition, version, column of a version, model version, alias, tag, file, code or run.
        direction: which way.
        depth: how many edges to go at most, None for all.
        as_of: number of the last event that counts.
    """
    start = find(index, address, as_of=as_of)
    # an alias is led to on every level: what it is made of are versions
    kinds = (VERSION, FILE, CODE, RUN) if start.kind == ALIAS and direction == "upstream" else ()
    return index.walk([(start.kind, start.name)], direction, depth=depth, kinds=kinds, as_of=as_of)


def paths(index: Index, start: str, end: str, *, as_of: int | None = None) -> tuple[int, Iterator[list[Found]]]:
    """Return how many ways lead from one thing downstream to another, and the ways."""
    first, last = find(index, start, as_of=as_of), find(index, end, as_of=as_of)
    return index.paths((first.kind, first.name), (last.kind, last.name), as_of=as_of)


def begun(index: Index, text: str) -> list[str]:
    """Return the addresses that begin so: datasets and tags at first, then what these have; versions once there is an @."""
    kinds = (DATASET, TAG) if not text else (DATASET, COLUMN, PARTITION, MODEL, ALIAS, TAG)
    kinds += (VERSION,) if "@" in text else ()
    names = (name for kind in kinds for name in index.names(kind, like=f"{_literal(text)}*"))
    return [name for name in names if not name.endswith(f".{WHOLE}")]


def address_of(found: Found) -> str:
    """Return how a thing is shown: what has no columns stands for itself."""
    if found.kind == COLUMN and found.name.endswith(f".{WHOLE}"):
        return found.name.removesuffix(f".{WHOLE}")
    return found.name


def _nearest(index: Index, address: str, as_of: int | None) -> str:
    names = [name for kind in (DATASET, COLUMN, ALIAS, MODEL, TAG) for name in index.names(kind, as_of=as_of)]
    asset = re.split(r"[.\[@]", address)[0]
    names += [
        name for kind in (PARTITION, VERSION) for name in index.names(kind, like=f"{_literal(asset)}[[]*", as_of=as_of)
    ]
    near = get_close_matches(address, names, n=3, cutoff=0.5)
    if near:
        return f"expected one like {', '.join(near)}"
    datasets = index.names(DATASET, as_of=as_of)
    return f"expected one of {', '.join(datasets)}" if datasets else "nothing has been materialized"


def _when(as_of: int | None) -> str:
    return "" if as_of is None else " at that time"


def _literal(text: str) -> str:
    """Return a text as SQLite's GLOB takes it for itself."""
    return re.sub(r"([*?\[])", r"[\1]", text)


def _number(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdecimal() else (0, version)
