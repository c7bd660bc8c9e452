"""Questions to the index, by address, from any level to any other; each as of any event.

A walk stays on the level of its start, or goes to another one. Between two levels it uses the coarsest level that
distinguishes what both do, on which each end represents everything that it comprises. For a column and a partition,
these are the versions of the column, and the versions of the columns of the partition. An alias and a registered model
version are names of a version, and give the same answers as that. So for any two things `paths` finds a path exactly
where the walks say that one is downstream of the other.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bikes_assets.core.address import WHOLE, Address
from bikes_assets.core.errors import LineageError
from bikes_assets.core.texts import newest
from bikes_assets.lineage.elements import (
    ALIAS,
    CODE,
    COLUMN,
    COLUMN_VERSION,
    DATASET,
    FILE,
    JOB,
    MODEL,
    PARTITION,
    RUN,
    TAG,
    VERSION,
    Answer,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bikes_assets.core.record import Version
    from bikes_assets.lineage.elements import Direction
    from bikes_assets.lineage.index import Index

KINDS = (DATASET, COLUMN, PARTITION, VERSION, COLUMN_VERSION, MODEL, ALIAS, TAG, FILE, JOB, CODE, RUN)
"""Kinds of things that an address may name, in the order in which they are tried; each is a level to ask about."""

_CONTRIBUTORS = {FILE: VERSION, CODE: VERSION, RUN: VERSION, TAG: COLUMN}
"""Kinds of things that have no upstream, and the level of their downstream."""
_NAMES = (MODEL, ALIAS)
"""Kinds of things that are names of a version."""
_GRAIN = {DATASET: (0, 0), COLUMN: (1, 0), PARTITION: (0, 1), VERSION: (0, 2), COLUMN_VERSION: (1, 2)}
"""How fine each level is, by column and by partition or version."""
_LEVELS = {grain: kind for kind, grain in _GRAIN.items()}
_OF_VERSIONS = (PARTITION, VERSION, COLUMN_VERSION)
"""Levels of which other tools tell nothing."""
_MOST_LISTED = 20
"""Number of names that an error lists."""
_MOST_BEGUN = 10_000
"""Number of characters of a name's beginning that are looked for: SQLite takes patterns of 50,000 bytes."""
_SHORTENED = {CODE: 8, RUN: 8, FILE: 4}
"""Kinds whose names may be abbreviated, and the least number of characters."""


def find(index: Index, address: str, *, as_of: int | None = None) -> Result:
    """Return the thing that an address names; for a partition's column, the column of its latest version.

    Raises:
        LineageError: there is none as of that event, or there are several; the message lists the nearest names.
    """
    parts = Address.parse(address)
    name = str(parts) if parts else address
    if parts and parts.column is not None and parts.partition is not None and parts.version is None:
        versions = index.within(
            COLUMN_VERSION, parts.asset, column=parts.column, partition=parts.partition, as_of=as_of
        )
        name = str(max(versions, key=lambda item: _number(str(item.version)), default=parts))
    found = {item.kind: item for text in dict.fromkeys((name, address)) for item in index.find(text, as_of=as_of)}
    for kind in KINDS:
        if kind in found:
            return found[kind]
    begun = [
        (kind, name)
        for kind, least in _SHORTENED.items()
        if len(address) >= least
        for name in _begun(index, kind, address, as_of)
    ]
    if len(begun) == 1:
        return index.find(begun[0][1], begun[0][0], as_of=as_of)[0]
    if begun:
        raise LineageError(f"found several that begin with {address!r}: {', '.join(name for _, name in begun[:5])}")
    if "#" in address:
        raise LineageError(
            f"found the row {address!r}, expected a table, column or version; bikes trace says what a row is from"
        )
    raise LineageError(f"found nothing called {address!r}{_when(as_of)}; {_nearest(index, address, as_of)}")


def version_named(index: Index, found: Result, *, as_of: int | None = None) -> Result:
    """Return the version that an alias or a registered model version is a name of; anything else is itself."""
    if found.kind not in _NAMES:
        return found
    (version,) = index.find(found.facts["address"], VERSION, as_of=as_of)
    return version


def walk(
    index: Index,
    address: str,
    direction: Direction,
    *,
    level: str | None = None,
    depth: int | None = None,
    as_of: int | None = None,
) -> Answer:
    """Return everything upstream or downstream of what an address names.

    Args:
        index: the index.
        address: a dataset, column, partition, version, column of a version, model version, alias, tag, file, code or
            run.
        direction: upstream or downstream.
        level: the one of KINDS that is asked about; by default that of the address, with what belongs to it: other
            tools' jobs for datasets; tags for columns; files, code, runs and registered model versions for versions;
            and aliases for all.
        depth: how many edges to follow at most, None for all.
        as_of: number of the last event that counts.
    """
    start = version_named(index, find(index, address, as_of=as_of), as_of=as_of)
    if level is not None:
        found = _at_level(index, start, direction, level, depth, as_of)
    else:
        beside = index.walk([(start.kind, start.name)], direction, depth=depth, as_of=as_of).things
        found = [item for item in beside if item.kind not in _NAMES]
        for kind in _NAMES if direction == "downstream" else ():
            # registered versions are many, and are included only with versions
            if kind == ALIAS or _natural(start.kind) == VERSION:
                found += _at_level(index, start, direction, kind, depth, as_of)
    return Answer(sorted(found, key=lambda item: (item.depth, item.kind, item.name)))


def paths(index: Index, start: str, end: str, *, as_of: int | None = None) -> tuple[int, Iterator[list[Result]]]:
    """Return how many paths lead from one thing downstream to another, and the paths, on the level where both meet."""
    first, last = (version_named(index, find(index, name, as_of=as_of), as_of=as_of) for name in (start, end))
    if last.kind in _CONTRIBUTORS:
        return 0, iter(())
    met = _meeting(first.kind, last.kind)
    starts, ends = (_comprised(index, item, met, as_of) for item in (first, last))
    if not _is_led_to(first, met):
        return index.paths(starts, ends, as_of=as_of)
    count, ways = index.paths(starts, ends, as_of=as_of, from_goals=True)
    return count, ([first, *(replace(item, depth=item.depth + 1) for item in way)] for way in ways)


def begun(index: Index, text: str) -> list[str]:
    """Return the addresses with a prefix: datasets and tags at first, then their parts; versions once it has an @."""
    kinds = (DATASET, TAG) if not text else (DATASET, COLUMN, PARTITION, MODEL, ALIAS, TAG)
    kinds += (VERSION,) if "@" in text else ()
    names = (name for kind in kinds for name in _begun(index, kind, text))
    return [name for name in names if not name.endswith(f".{WHOLE}")]


def event_by(index: Index, as_of: str | datetime | None) -> int | None:
    """Return the number of the last event by a time; None for now.

    Args:
        index: the index.
        as_of: the time, such as 2012-08-14T17:00; without an offset it is local time.

    Raises:
        LineageError: the text is no time.
    """
    return None if as_of is None else index.event_at(unix_seconds_of(as_of))


def unix_seconds_of(time: str | datetime) -> float:
    """Return a time in Unix seconds; without an offset it is local time.

    Raises:
        LineageError: the text is no time.
    """
    try:
        return (time if isinstance(time, datetime) else datetime.fromisoformat(time)).timestamp()
    except (ValueError, OverflowError, OSError):  # no time, or one that no clock of this machine shows
        now = datetime.now(UTC).isoformat(timespec="minutes")
        raise LineageError(f"found time {str(time)!r}, expected one like {now}") from None


def column_digest(index: Index, version: Version, column: str) -> str:
    """Return the digest of a column of a version, "" where the index has none."""
    name = str(Address(version.asset, column, version.partition, str(version.version)))
    return next((str(item.facts.get("digest", "")) for item in index.find(name, COLUMN_VERSION)), "")


def _at_level(
    index: Index, start: Result, direction: Direction, level: str, depth: int | None, as_of: int | None
) -> list[Result]:
    """Return the things of one kind upstream or downstream of a thing, each once, at its least depth."""
    if (direction == "downstream" and level in _CONTRIBUTORS) or (
        direction == "upstream" and start.kind in _CONTRIBUTORS
    ):
        return []
    met = _meeting(start.kind, level)
    starts, is_led_to = _comprised(index, start, met, as_of), _is_led_to(start, met)
    if not starts and start.kind in (DATASET, COLUMN):  # other tools' things have no versions, but may lead to some
        further = index.walk([(start.kind, start.name)], direction, as_of=as_of).things
        starts, is_led_to = [part for item in further for part in _comprised(index, item, met, as_of)], True
    less = None if depth is None else depth - is_led_to
    reached = [*index.walk(starts, direction, depth=less, as_of=as_of).things] if less != 0 else []
    if is_led_to:
        reached = [replace(item, depth=item.depth + 1) for item in reached]
    if is_led_to or (level in (*_CONTRIBUTORS, JOB) and _natural(level) != met):
        at = int(is_led_to)
        reached = [*(replace(index.find(name, kind, as_of=as_of)[0], depth=at) for kind, name in starts), *reached]
    found: dict[str, Result] = {}
    for item in reached:
        for other in _of_level(index, item, level, as_of):
            if depth is None or other.depth <= depth:
                found.setdefault(other.name, other)
    if met in _OF_VERSIONS and level in (DATASET, COLUMN):  # other tools tell nothing of versions
        for other in index.beyond([start, *found.values()], direction, as_of=as_of):
            if other.kind == level and (depth is None or other.depth <= depth):
                found.setdefault(other.name, other)
    return [*found.values()]


def _natural(kind: str) -> str:
    """Return the level whose walks meet a kind of things."""
    return VERSION if kind in _NAMES else DATASET if kind == JOB else _CONTRIBUTORS.get(kind, kind)


def _meeting(one: str, other: str) -> str:
    """Return the coarsest level that distinguishes everything that either of two kinds does."""
    by_column, by_version = map(max, *(_GRAIN[_natural(kind)] for kind in (one, other)))
    return _LEVELS.get((by_column, by_version), COLUMN_VERSION)


def _is_led_to(thing: Result, level: str) -> bool:
    """Return whether a thing's parts on a level are what it leads to, because it is not of that level itself."""
    return thing.kind in _CONTRIBUTORS and _natural(thing.kind) != level


def _comprised(index: Index, thing: Result, level: str, as_of: int | None) -> list[tuple[str, str]]:
    """Return what a thing comprises, or leads to, on an equally fine or finer level, by kind and name."""
    if _natural(thing.kind) == level:
        return [(thing.kind, thing.name)]
    if thing.kind in _CONTRIBUTORS:
        edges = index.neighbours(thing.kind, thing.name, "downstream", as_of=as_of)
        return [name for edge in edges for name in _comprised(index, Result(*edge.target), level, as_of)]
    parts = Address.parse(thing.name)
    if parts is None:
        return []
    within = index.within(level, parts.asset, column=parts.column, partition=parts.partition, as_of=as_of)
    return [(level, str(item)) for item in within if parts.version in (None, item.version)]


def _of_level(index: Index, thing: Result, level: str, as_of: int | None) -> Iterator[Result]:
    """Yield what a thing is, or is part of, on a level at least as coarse; a version's names; what led to it."""
    if thing.kind == level and level not in _NAMES:
        yield thing
        return
    parts = Address.parse(thing.name) if thing.kind in _GRAIN else None
    if parts is None:
        return
    if level in _GRAIN:
        by_column, by_version = _GRAIN[level]
        place = Address(
            parts.asset,
            parts.column if by_column else None,
            parts.partition if by_version else None,
            parts.version if by_version == _GRAIN[VERSION][1] else None,
        )
        yield from (replace(item, depth=thing.depth) for item in index.find(str(place), level, as_of=as_of))
        return
    at = _natural(level)
    place = (
        replace(parts, column=None) if at == VERSION else Address(parts.asset, parts.column if at == COLUMN else None)
    )
    direction = "downstream" if level in _NAMES else "upstream"
    depth = thing.depth + (level in _CONTRIBUTORS)
    for edge in index.neighbours(at, str(place), direction, to=level, as_of=as_of):
        _, name = edge.target if direction == "downstream" else edge.source
        yield from (replace(item, depth=depth) for item in index.find(name, level, as_of=as_of))


def _nearest(index: Index, address: str, as_of: int | None) -> str:
    names = [name for kind in (DATASET, COLUMN, ALIAS, MODEL, TAG) for name in index.names(kind, as_of=as_of)]
    parts = Address.parse(address)
    asset = parts.asset if parts else re.split(r"[.\[@]", address)[0]
    if parts and parts.column is None and parts.partition is not None and parts.version is not None:
        own = index.within(VERSION, asset, partition=parts.partition, as_of=as_of)
        if versions := [int(item.version) for item in own if item.version and item.version.isdecimal()]:
            return f"expected one of its versions: {newest(versions)}"
    names += [str(item) for kind in (PARTITION, VERSION) for item in index.within(kind, asset, as_of=as_of)]
    near = get_close_matches(address, names, n=3, cutoff=0.5)
    if near:
        return f"expected one like {', '.join(near)}"
    datasets = index.names(DATASET, as_of=as_of)
    more = f" and {len(datasets) - _MOST_LISTED:,} more" if len(datasets) > _MOST_LISTED else ""
    return (
        f"expected one of {', '.join(datasets[:_MOST_LISTED])}{more}" if datasets else "nothing has been materialized"
    )


def _when(as_of: int | None) -> str:
    return "" if as_of is None else " at that time"


def _begun(index: Index, kind: str, text: str, as_of: int | None = None) -> list[str]:
    """Return the names of a kind that begin with a text; none begins with one that SQLite's GLOB would not take."""
    literal = re.sub(r"([*?\[])", r"[\1]", text)
    return index.names(kind, like=f"{literal}*", as_of=as_of) if len(literal) <= _MOST_BEGUN else []


def _number(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdecimal() else (0, version)
