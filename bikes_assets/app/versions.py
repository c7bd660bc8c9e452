"""Versions by address, and what the lake and the lineage index know of them. It imports neither Dagster nor MLflow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from bikes_assets.app.store import assets, is_table, lake, table
from bikes_assets.core.address import WHOLE, Address
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record, Version, parse_address
from bikes_assets.core.staleness import Materialized, Reason, rematerialized_because
from bikes_assets.lineage import queries
from bikes_assets.lineage.diff import Known, compare_rows
from bikes_assets.lineage.elements import ALIAS, COLUMN_VERSION, MODEL, VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bikes_assets.lineage.diff import RowChange
    from bikes_assets.lineage.index import Index


def record_of(index: Index, address: str) -> Record:
    """Return the record of the version that an address names.

    Args:
        index: the lineage index, which knows registered models and aliases.
        address: `demand_model@3`, `demand_model@champion`, `demand_features[2012-08]@20` as of a table version, or
            `demand_features[2012-08]` for the current one.

    Raises:
        LineageError: there is no such version.
    """
    asset, partition, version = parse_address(address)
    if asset not in assets():
        raise LineageError(f"{address}: found no asset {asset!r} in the lake, expected one of {', '.join(assets())}")
    is_whole = partition is None and table(asset).exists() and None in table(asset).published()
    if partition is None and version is None and not is_whole:
        raise LineageError(
            f"{address}: found no partition, expected one such as {asset}[2012-08] or {asset}[2012-08]@20"
        )
    if partition is not None or (is_whole and (version is None or version.isdecimal())):
        return lake().record(asset, partition, version)
    named = queries.find(index, address)
    if named.kind not in (MODEL, ALIAS):
        raise LineageError(f"{address}: found a {named.kind}, expected a version, such as {asset}[2012-08]@20")
    return record_of(index, named.facts["address"])


@dataclass(frozen=True, slots=True, repr=False)
class HistoryEntry:
    """One materialization of a partition, and why.

    Attributes:
        address: the version that was materialized.
        time: when, Unix seconds.
        run: Dagster's run that materialized it.
        reasons: what differed from the version before; `asked` if nothing did, `missing` if there was none.
        changed: columns with other content than in the version before, all if there was none; "*" for assets without
            columns.
    """

    address: str
    time: float
    run: str
    reasons: tuple[Reason, ...]
    changed: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<HistoryEntry {self.address}: {', '.join(dict.fromkeys(reason.kind for reason in self.reasons))}>"


def history(asset: str, partition: str | None, function: str) -> list[HistoryEntry]:
    """Return every version of a partition, oldest first, from the lake's own log.

    Args:
        asset: the asset.
        partition: partition key, None for an unpartitioned asset.
        function: dotted name of the function that makes it.
    """
    found: list[HistoryEntry] = []
    before: Materialized | None = None
    for commit in table(asset).commits():
        if commit.partition != partition:
            continue
        record = Record.from_dict(commit.record).at(commit.version)
        made = Materialized.of(record)
        reasons = rematerialized_because(before, made, function)
        was = (before.columns or {WHOLE: before.digest}) if before else {}
        changed = [name for name, digest in (made.columns or {WHOLE: made.digest}).items() if was.get(name) != digest]
        run = record.made_by.get("dagster_run_id", "")
        found.append(HistoryEntry(record.output.address, record.time, run, tuple(reasons), tuple(changed)))
        before = made
    return found


class Stored(Known):
    """What the lake and the index know beyond two records."""

    def __init__(self, index: Index) -> None:
        self._index, self._lake = index, lake()
        # a pair of versions is often reached by several paths
        self._record, self._rows = cache(self._lake.record), cache(self._compared)
        self._functions, self._text = cache(self._lake.code), cache(self._lake.text)

    def record(self, version: Version) -> Record | None:
        """Return the record of a version of an asset in the lake."""
        if version.asset not in assets():
            return None
        return self._record(version.asset, version.partition, int(version.version))

    def rows(self, a: Version, b: Version) -> RowChange | None:
        """Return how the stored rows of two versions of a table's partition differ, with verified digests."""
        return self._rows(a, b) if self.key(a.asset) else None

    def functions(self, code_version: str) -> Mapping[str, str] | None:
        """Return the digests of a code version's functions, as stored in the lake."""
        return self._functions(code_version)

    def text(self, digest: str) -> str | None:
        """Return a function's source text, as stored in the lake."""
        return self._text(digest)

    def _compared(self, a: Version, b: Version) -> RowChange:
        known = table(a.asset)
        one, other = (known.read([a.partition], int(item.version))[a.partition][1] for item in (a, b))
        return compare_rows(one, other, known.schema.key)

    def used(self, record: Record, columns: Collection[str]) -> Mapping[str, Collection[str]] | None:
        """Return which columns some columns of a version are computed from, according to the index."""
        output = record.output
        if not self._index.find(output.address, VERSION):
            return None
        version = Address(output.asset, None, output.partition, str(output.version))
        starts = [(COLUMN_VERSION, str(replace(version, column=name))) for name in columns or (WHOLE,)]
        found: dict[str, set[str]] = {}
        for item in self._index.walk(starts, "upstream", depth=1, kinds=(COLUMN_VERSION,)).things:
            above = Address.parse(item.name)
            if above and above.column is not None:
                found.setdefault(above.asset, set()).add(above.column)
        return found or None

    def key(self, asset: str) -> Collection[str]:
        """Return a table's key."""
        return table(asset).schema.key if is_table(asset) else ()
