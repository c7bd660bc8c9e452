"""Making versions again from their records, apart from the store, to see whether what comes out is what was recorded.

Each version, and all that lies upstream of it, is made again by the code of its own commit, in a git worktree, on a lake that
is thrown away; tables are written and read there by that code's own pipeline. Then the records of both are compared.
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
    """Return the address of every version that is there to be used: each partition's present one, each registered model's."""
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
    """Make versions again and return what came of it, in the order of their addresses.

    Args:
        addresses: `demand_model@3`, `demand_model@champion`, `demand_features[2012-08]@20`, `demand_features[2012-08]`.
        here: what would make everything now (see `runs.plan`): make them with the code, the settings and the source that are
            here, not with those that were recorded.
        stored: take what cannot be made again, upstream of these, as it is stored.
        trusted: run code that only the lake holds, though others can write to that: what a tree had beside its commit.
        progress: called with what is being made, how many versions are done, and of how many.

    Raises:
        LineageError: there is no such version, it cannot be made again, or one of its steps fails; the message says why.
        DigestError: what lies in the store is not what was published.
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
    """What is known of both: the recorded versions, and those that came out on a bench."""

    def __init__(self, stored: versions.Stored, bench: Bench) -> None:
        self._stored, self._bench, self._real = stored, bench, lake()
        self._again = {made.output: (recorded, made) for recorded, made in bench.made.values()}

    def record(self, version: Version) -> Record | None:
        """Return how a version was made, recorded or made again; None for what comes from outside."""
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
        """Return the digest of each function that a code version stands for."""
        return self._stored.functions(code_version) or self._bench.lake.code(code_version)

    def text(self, digest: str) -> str | None:
        """Return the source text of a function."""
        return self._stored.text(digest) or self._bench.lake.text(digest)

    def used(self, record: Record, columns: Collection[str]) -> Mapping[str, Collection[str]] | None:
        """Return which columns of each input went into some columns of what was made."""
        return self._stored.used(self._again.get(record.output, (record,))[0], columns)

    def key(self, asset: str) -> Collection[str]:
        """Return a table's key."""
        return self._stored.key(asset)

    def outcome(self, target: Record) -> Reproduction:
        """Return what came of making a version again.

        Raises:
            LineageError: it could not be made.
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
        """Return what was made for a version, in the order of its making, itself last."""
        wanted, waiting = set[str](), [target.output.address]
        while waiting:
            address = waiting.pop()
            if address in self._bench.made and address not in wanted:
                wanted.add(address)
                waiting += [item.address for item in self._bench.made[address][0].inputs]
        return [pair for address, pair in self._bench.made.items() if address in wanted]

    def _compared(self, a: Record, b: Record) -> tuple[float | None, tuple[str, str], str]:
        """Return how far two versions are apart beyond their digests.

        Returns:
            The largest relative difference, None where there is none to tell; of models, digests of their predictions, "" where
            there are none; and why the recorded one cannot be looked at, "" where it can.
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
        """Return what a model predicts for the rows that the recorded one was fitted or validated on.

        Raises:
            RemovedError: the model, or rows that did not come out as they were recorded, were removed by retention.
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
        """Return a version whose rows are those of a recorded one: what came out on the bench where that is equal, or itself."""
        _, made = self._bench.made.get(version.address, (None, None))
        return made.output if made and made.output.digest == version.digest else version

    def _unlocked(self, record: Record) -> Iterator[Change]:
        """Yield what is installed otherwise than the lock file of the code that made a version says."""
        lock = self._bench.locks[record.output.address]
        digest = hashlib.sha256(lock.encode()).hexdigest() if lock else ""
        if not self._bench.is_here and record.environment.get("lock", "") != digest:
            yield Change("requirements.lock", record.environment.get("lock", ""), digest)
        for change in _installed_otherwise(lock):
            if change.name.removeprefix("locked.") not in record.environment["libraries"]:
                yield change


@cache
def _installed_otherwise(lock: str) -> tuple[Change, ...]:
    """Return what is installed here in another version than a lock file says."""
    found = [(wanted, _installed(wanted.name)) for wanted in _requirements(lock)]
    return tuple(
        Change(f"locked.{wanted.name}", str(wanted.specifier).removeprefix("=="), installed)
        for wanted, installed in found
        if not wanted.specifier.contains(installed, prereleases=True)
    )


def _requirements(lock: str) -> Iterator[Requirement]:
    """Yield what a lock file has installed on a machine like this."""
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
