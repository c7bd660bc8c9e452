"""The current state of an external source: the digest of each partition's rows, cached with the source's fingerprint.

A source whose fingerprint has not changed is not read again, so that asking what is stale costs no parsing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.core.digest import table_digest
from bikes_assets.core.record import Origin
from bikes_assets.storage.checksums import read_memory, write_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bikes_assets.core.schema import Schema
    from bikes_assets.storage.sources.readers import Raw, Reader


@dataclass(frozen=True)
class SourceFormat:
    """How the domain reads a source; adapters know nothing else of it.

    Attributes:
        parse: validates what a reader read and returns the rows of all partitions.
        partitions: rows of all partitions to their keys, in order.
        select: rows of one partition.
        schema: declared columns of those rows.
    """

    parse: Callable[[Raw], Any]
    partitions: Callable[[Any], Sequence[str]]
    select: Callable[[Any, str], Any]
    schema: Schema


@dataclass(frozen=True)
class SourceState:
    """What a source held when it was last read.

    Attributes:
        of: identifies the source and the code that reads it.
        fingerprint: token of its state; "" where it has none, and is read every time.
        origin: what was read.
        digests: content digest of each partition that has rows, or that had some when the source was read before.
        rows: number of rows of each of these.
        since: when each digest was first seen, Unix seconds.
        empty: digest of no rows: that of any other partition, and of those that have none any more.
    """

    of: str
    fingerprint: str
    origin: Origin
    digests: dict[str, str]
    rows: dict[str, int]
    since: dict[str, float]
    empty: str


def observe(reader: Reader, format_: SourceFormat, memory: Path, of: str) -> SourceState:
    """Return the current state of a source; it is read where it may have changed since it was last read.

    Args:
        reader: reads it.
        format_: how.
        memory: file of the cache; it can be deleted at any time.
        of: identifies the source and the code that reads it.

    Raises:
        DataError: the source is missing, damaged, or not of its layout.
    """
    known = remembered(memory)
    fingerprint = reader.fingerprint()  # before the rows: what changes while they are read is read again next time
    if known and fingerprint and (known.of, known.fingerprint) == (of, fingerprint):
        return known
    raw, now = reader.read(), time.time()
    before = known.digests if known else {}
    held = partition_digests(raw, format_, before)
    digests = {partition: digest for partition, (digest, _) in held.items()}
    rows = {partition: count for partition, (_, count) in held.items()}
    since = {key: known.since[key] if known and before.get(key) == digest else now for key, digest in digests.items()}
    empty = table_digest(format_.schema.arrow().empty_table(), format_.schema).table
    found = SourceState(of, fingerprint, raw.origin, digests, rows, since, empty)
    write_memory(memory, asdict(found))
    return found


def partition_digests(raw: Raw, format_: SourceFormat, others: Iterable[str] = ()) -> dict[str, tuple[str, int]]:
    """Return the digest and the number of each partition's rows.

    Args:
        raw: what was read.
        format_: how.
        others: partitions that are included even where they have no rows.

    Raises:
        DataError: the rows are not of the layout.
    """
    records = format_.parse(raw)
    found: dict[str, tuple[str, int]] = {}
    for partition in sorted({*format_.partitions(records), *others}):
        table = format_.schema.conform(format_.select(records, partition))
        found[partition] = table_digest(table, format_.schema).table, len(table)
    return found


def remembered(memory: Path) -> SourceState | None:
    """Return the cached state, None where there is no usable one."""
    return read_memory(memory, _observed)


def _observed(values: Any) -> SourceState:
    origin = values["origin"]
    return SourceState(**values | {"origin": Origin(**origin | {"files": tuple(map(tuple, origin["files"]))})})
