"""Rebuilding versions from their records, apart from the store, to see whether the result is what was recorded.

Each version, and everything upstream of it, is rebuilt by the code of its own commit, in a git worktree, on a temporary
lake; that code's own pipeline reads and writes the tables there. Then the records of both are compared.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

from bikes_assets.app import answers, versions
from bikes_assets.app.sandbox import Bench, is_again
from bikes_assets.app.settings import ROOT
from bikes_assets.app.store import ASSETS, MODELS, PINS, SCHEMAS, lake, table
from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import LineageError, RemovedError
from bikes_assets.lineage.diff import Change, Known, changes, compare_rows, explain
from bikes_assets.lineage.projection import MODEL
from bikes_assets.storage.code.working_tree import remove_abandoned
from bikes_assets.storage.lake import to_pandas
from bikes_assets.storage.removals import removed_versions
from bikes_assets.storage.scratch import scratch_folder
from bikes_assets.verification.reproduction import (
    Reproduction,
    largest_difference,
    largest_relative,
    parts,
    steps,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy as np
    from packaging.requirements import Requirement

    from bikes_assets.core.record import Record, Version
    from bikes_assets.core.staleness import Plan
    from bikes_assets.lineage.diff import RowChange


def live() -> list[str]:
    """Return the address of every version in use: the current one of each partition, and each registered one."""
    present_ones = [
        f"{asset}[{key}]@{commit.version}"
        for asset in ASSETS
        if asset != PINS and table(asset).exists()
        for key, commit in sorted(table(asset).published().items(), key=lambda item: str(item[0]))
    ]
    index = answers.refreshed()
    registered = [found.facts["address"] for name in index.names(MODEL) for found in index.find(name, MODEL)]
    gone = removed_versions(lake().location)
    return [address for address in dict.fromkeys((*present_ones, *registered)) if address not in gone]


def reproduce(
    addresses: Sequence[str],
    *,
    here: Plan | None = None,
    stored: bool = False,
    trusted: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Reproduction]:
    """Rebuild versions and return the results, in the order of their addresses.

    Args:
        addresses: `demand_model@3`, `demand_model@champion`, `demand_features[2012-08]@20`, `demand_features[2012-08]`.
        here: the current plan (see `runs.plan`): rebuild with the code, settings and source in this working tree
            instead of
                the recorded ones.
        stored: use the stored rows of upstream versions that cannot be rebuilt.
        trusted: also run code that only the lake has, although others can write there: uncommitted changes of a tree.
        progress: called with what is being rebuilt, the number of versions that are done, and their total.

    Raises:
        LineageError: there is no such version, it cannot be rebuilt, or one of its steps fails; the message says why.
        DigestError: the stored content is not what was published.
    """
    index = answers.refreshed()
    targets = [versions.record_of(index, address) for address in addresses]
    known = versions.Stored(index)
    remove_abandoned(ROOT)
    with scratch_folder() as folder:
        bench = Bench(folder, known.record, here, stored=stored, trusted=trusted)
        bench.make(steps(targets, known.record, bench.place_of), progress)
        both = _Both(known, bench)
        return [both.outcome(record) for record in targets]


class _Both(Known):
    """What is known of both sides: the recorded versions and the rebuilt ones."""

    def __init__(self, stored: versions.Stored, bench: Bench) -> None:
        self._stored, self._bench, self._real = stored, bench, lake()
        self._again = {made.output: (recorded, made) for recorded, made in bench.made.values()}

    def record(self, version: Version) -> Record | None:
        """Return the record of a version, recorded or rebuilt; None for what comes from outside."""
        return self._again[version][1] if version in self._again else self._stored.record(version)

    def rows(self, a: Version, b: Version) -> RowChange | None:
        """Return how the rows of two versions of a partition differ."""
        if a.asset not in SCHEMAS:
            return None
        try:
            return compare_rows(self._bench.rows(a), self._bench.rows(b), SCHEMAS[a.asset].key)
        except RemovedError:
            return None

    def functions(self, code_version: str) -> Mapping[str, str] | None:
        """Return the digest of each function in a code version."""
        return self._stored.functions(code_version) or self._bench.lake.code(code_version)

    def text(self, digest: str) -> str | None:
        """Return the source text of a function."""
        return self._stored.text(digest) or self._bench.lake.text(digest)

    def used(self, record: Record, columns: Collection[str]) -> Mapping[str, Collection[str]] | None:
        """Return which columns of each input contributed to some columns of a version."""
        return self._stored.used(self._again.get(record.output, (record,))[0], columns)

    def key(self, asset: str) -> Collection[str]:
        """Return a table's key."""
        return self._stored.key(asset)

    def outcome(self, target: Record) -> Reproduction:
        """Return the result of rebuilding a version.

        Raises:
            LineageError: it could not be rebuilt.
        """
        address = target.output.address
        taken = self._bench.taken
        if address in taken:
            raise LineageError(f"{address} cannot be made again: {taken[address]}")
        chain = self._chain(target)
        recorded, made = self._bench.made[address]
        addresses = [item.output.address for item, _ in chain]
        same = (recorded.output.digest, recorded.metrics) == (made.output.digest, made.metrics)
        largest, said, removed = self._compared(recorded, made)
        return Reproduction(
            address,
            verdict(same, largest),
            (recorded.output.digest, made.output.digest),
            largest,
            said,
            changes(recorded.metrics, made.metrics),
            parts(chain),
            () if same else explain(recorded, made, self).causes,
            (*changes(recorded.environment, made.environment), *self._unlocked(recorded)),
            dict(Counter(item.output.asset for item, _ in chain if item.output.address not in taken)),
            {item: taken[item] for item in addresses if item in taken},
            removed,
        )

    def _chain(self, target: Record) -> list[tuple[Record, Record]]:
        """Return everything that was rebuilt for a version, in order, itself last."""
        wanted, waiting = set[str](), [target.output.address]
        while waiting:
            address = waiting.pop()
            if address in self._bench.made and address not in wanted:
                wanted.add(address)
                waiting += [item.address for item in self._bench.made[address][0].inputs]
        return [pair for address, pair in self._bench.made.items() if address in wanted]

    def _compared(self, a: Record, b: Record) -> tuple[float | None, tuple[str, str], str]:
        """Return how far two versions are apart, beyond comparing their digests.

        Returns:
            The largest relative difference, None if it cannot be computed; for models, the digests of their
            predictions, "" without any; and why the recorded version cannot be read, "" if it can.
        """
        import numpy as np

        if a.output.asset in SCHEMAS:
            if a.output.digest == b.output.digest:
                return 0.0, ("", ""), ""
            try:
                return largest_difference(self._bench.rows(a.output), self._bench.rows(b.output)), ("", ""), ""
            except RemovedError as error:
                return None, ("", ""), str(error)
        metrics = [np.array([record.metrics.get(name, np.nan) for name in sorted(a.metrics)]) for record in (a, b)]
        apart = largest_relative(*metrics)
        try:
            one, other = self._predicted(a.output, a), self._predicted(b.output, a)
        except RemovedError as error:
            return apart if a.output.digest == b.output.digest else None, ("", ""), str(error)
        found = [largest_relative(one, other), apart]
        largest = None if None in found else max(item for item in found if item is not None)
        return largest, (file_digest(one.tobytes())[:32], file_digest(other.tobytes())[:32]), ""

    def _predicted(self, model: Version, recorded: Record) -> np.ndarray:
        """Return a model's predictions for the rows that the recorded model was fitted or validated on.

        Raises:
            RemovedError: retention removed the model, or rows that were not reproduced as recorded.
        """
        import numpy as np

        at = self._bench.lake if is_again(model) else self._real
        (row,) = self._bench.rows(model).to_pylist()
        loaded = at.load_model(MODELS, row["sha256"], row["card"], row["origin"])
        features = [self._equal(item) for item in recorded.inputs if item.asset == "demand_features"]
        frame = to_pandas([self._bench.rows(item) for item in features], SCHEMAS["demand_features"])
        said = [each.predict(frame) for each in (loaded, loaded.baseline) if each]
        return np.concatenate(said).astype("float64")

    def _equal(self, version: Version) -> Version:
        """Return a version with the rows of a recorded one: the rebuilt one if it is equal, else the recorded one."""
        _, made = self._bench.made.get(version.address, (None, None))
        return made.output if made and made.output.digest == version.digest else version

    def _unlocked(self, record: Record) -> Iterator[Change]:
        """Yield installed packages that differ from the lock file of the code that made a version."""
        lock = self._bench.locks[record.output.address]
        digest = hashlib.sha256(lock.encode()).hexdigest() if lock else ""
        if not self._bench.is_here and record.environment.get("lock", "") != digest:
            yield Change("requirements.lock", record.environment.get("lock", ""), digest)
        for change in _installed_otherwise(lock):
            if change.name.removeprefix("locked.") not in record.environment["libraries"]:
                yield change


@cache
def _installed_otherwise(lock: str) -> tuple[Change, ...]:
    """Return packages that are installed here in another version than a lock file says."""
    found = [(wanted, _installed(wanted.name)) for wanted in _requirements(lock)]
    return tuple(
        Change(f"locked.{wanted.name}", str(wanted.specifier).removeprefix("=="), installed)
        for wanted, installed in found
        if not wanted.specifier.contains(installed, prereleases=True)
    )


def _requirements(lock: str) -> Iterator[Requirement]:
    """Yield the packages that a lock file installs on a machine like this one."""
    from packaging.requirements import Requirement

    for line in lock.splitlines():
        if line and not line.startswith((" ", "#", "-")):
            wanted = Requirement(line.rstrip(" \\"))
            if not wanted.marker or wanted.marker.evaluate():
                yield wanted


def _installed(name: str) -> str:
    try:
        return version_of(name)
    except PackageNotFoundError:
        return "0"
