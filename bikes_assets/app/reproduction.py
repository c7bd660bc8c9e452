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
from bikes_assets.app.sandbox import Recipes, Sandbox, is_again
from bikes_assets.app.store import assets, current, is_table, lake, table
from bikes_assets.core.address import Address
from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import LineageError, RemovedError
from bikes_assets.lineage.diff import Change, Known, changes, compare_rows, explain
from bikes_assets.lineage.elements import MODEL
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
    current_ones = [
        str(Address(asset, None, key, str(commit.version)))
        for asset in assets()
        if table(asset).exists()
        for key, commit in sorted(table(asset).published().items(), key=lambda item: str(item[0]))
        if commit.record["code_version"]  # else it was decided, not rebuilt
    ]
    index = answers.refreshed()
    registered = [found.facts["address"] for name in index.names(MODEL) for found in index.find(name, MODEL)]
    gone = removed_versions(lake().location)
    return [address for address in dict.fromkeys((*current_ones, *registered)) if address not in gone]


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
        here: the current plan (see `state.plan`): rebuild with the code, settings and source in this working tree
            instead of the recorded ones.
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
    remove_abandoned(current().lake.root)
    with scratch_folder() as folder:
        recipes = Recipes(folder, here, stored=stored, trusted=trusted)
        sandbox = Sandbox(folder, known.record, recipes)
        sandbox.make(steps(targets, known.record, recipes.place_of), progress)
        both = _Both(known, sandbox)
        return [both.outcome(record) for record in targets]


class _Both(Known):
    """What is known of both sides: the recorded versions and the rebuilt ones."""

    def __init__(self, stored: versions.Stored, sandbox: Sandbox) -> None:
        self._stored, self._sandbox, self._real = stored, sandbox, lake()
        self._again = {rebuilt.output: (recorded, rebuilt) for recorded, rebuilt in sandbox.rebuilt.values()}

    def record(self, version: Version) -> Record | None:
        """Return the record of a version, recorded or rebuilt; None for what comes from outside."""
        return self._again[version][1] if version in self._again else self._stored.record(version)

    def rows(self, a: Version, b: Version) -> RowChange | None:
        """Return how the rows of two versions of a partition differ."""
        if not (key := self.key(a.asset)):
            return None
        try:
            return compare_rows(self._sandbox.rows(a), self._sandbox.rows(b), key)
        except RemovedError:
            return None

    def functions(self, code_version: str) -> Mapping[str, str] | None:
        """Return the digest of each function in a code version."""
        return self._stored.functions(code_version) or self._sandbox.lake.code(code_version)

    def text(self, digest: str) -> str | None:
        """Return the source text of a function."""
        return self._stored.text(digest) or self._sandbox.lake.text(digest)

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
        taken = self._sandbox.recipes.taken
        if address in taken:
            raise LineageError(f"{address} cannot be rebuilt: {taken[address]}")
        chain = self._chain(target)
        recorded, rebuilt = self._sandbox.rebuilt[address]
        addresses = [item.output.address for item, _ in chain]
        same = (recorded.output.digest, recorded.metrics) == (rebuilt.output.digest, rebuilt.metrics)
        largest, said, removed = self._compared(recorded, rebuilt)
        return Reproduction(
            address,
            verdict(same, largest),
            (recorded.output.digest, rebuilt.output.digest),
            largest,
            said,
            changes(recorded.metrics, rebuilt.metrics),
            parts(chain),
            () if same else explain(recorded, rebuilt, self).causes,
            (*changes(recorded.environment, rebuilt.environment), *self._unlocked(recorded)),
            dict(Counter(item.output.asset for item, _ in chain if item.output.address not in taken)),
            {item: taken[item] for item in addresses if item in taken},
            removed,
        )

    def _chain(self, target: Record) -> list[tuple[Record, Record]]:
        """Return everything that was rebuilt for a version, in order, itself last."""
        wanted, waiting = set[str](), [target.output.address]
        while waiting:
            address = waiting.pop()
            if address in self._sandbox.rebuilt and address not in wanted:
                wanted.add(address)
                waiting += [item.address for item in self._sandbox.rebuilt[address][0].inputs]
        return [pair for address, pair in self._sandbox.rebuilt.items() if address in wanted]

    def _compared(self, a: Record, b: Record) -> tuple[float | None, tuple[str, str], str]:
        """Return how far two versions are apart, beyond comparing their digests.

        Returns:
            The largest relative difference, None if it cannot be computed; for models, the digests of their
            predictions, "" without any; and why the recorded version cannot be read, "" if it can.
        """
        import numpy as np

        if is_table(a.output.asset):
            if a.output.digest == b.output.digest:
                return 0.0, ("", ""), ""
            try:
                return largest_difference(self._sandbox.rows(a.output), self._sandbox.rows(b.output)), ("", ""), ""
            except RemovedError as error:
                return None, ("", ""), str(error)
        if current().predict is None:
            return 0.0 if a.output.digest == b.output.digest else None, ("", ""), ""
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

        known = current()
        assert known.predict  # noqa: S101 - the caller has looked
        at = self._sandbox.lake if is_again(model) else self._real
        (row,) = self._sandbox.rows(model).to_pylist()
        loaded = at.load_model(known.models, row["sha256"], row["card"], row["origin"])
        read: dict[str, list[Version]] = {}
        for item in recorded.inputs:
            if is_table(item.asset):
                read.setdefault(item.asset, []).append(self._equal(item))
        frames = {
            asset: to_pandas([self._sandbox.rows(item) for item in items], table(asset).schema)
            for asset, items in read.items()
        }
        return np.asarray(known.predict(loaded, frames), "float64")

    def _equal(self, version: Version) -> Version:
        """Return a version with the rows of a recorded one: the rebuilt one if it is equal, else the recorded one."""
        _, rebuilt = self._sandbox.rebuilt.get(version.address, (None, None))
        return rebuilt.output if rebuilt and rebuilt.output.digest == version.digest else version

    def _unlocked(self, record: Record) -> Iterator[Change]:
        """Yield installed packages that differ from the lock file of the code that rebuilt a version."""
        lock = self._sandbox.locks[record.output.address]
        digest = hashlib.sha256(lock.encode()).hexdigest() if lock else ""
        if not self._sandbox.recipes.is_here and record.environment.get("lock", "") != digest:
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
