"""Making versions again from their records, apart from the store, to see whether what comes out is what was recorded.

Each version, and all that lies upstream of it, is made again by the code of its own commit, in a git worktree, on a lake that
is thrown away; tables are written and read there by that code's own pipeline. Nothing of the real store is written, and none of
its registry is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bikes_assets import answers, present, versions
from bikes_assets.adapters.files import is_of_this_user
from bikes_assets.adapters.lake import MODEL_ROWS, Lake, to_pandas
from bikes_assets.adapters.removed import removed_versions
from bikes_assets.adapters.working_tree import checked_out, commit_of, difference, has_commit
from bikes_assets.lineage.code import code_version
from bikes_assets.lineage.diff import Change, Known, changes, compare_rows, explain
from bikes_assets.lineage.digest import file_digest
from bikes_assets.lineage.errors import DataError, LineageError
from bikes_assets.lineage.graph import Record, Version
from bikes_assets.lineage.projection import MODEL
from bikes_assets.lineage.reproduction import (
    Reproduction,
    Step,
    largest_difference,
    largest_relative,
    parts,
    steps,
    verdict,
)
from bikes_assets.settings import ROOT, settings
from bikes_assets.store import ASSETS, MODELS, PINS, SCHEMAS, lake, table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy as np
    from packaging.requirements import Requirement

    from bikes_assets.lineage.diff import RowChange
    from bikes_assets.lineage.index import Index
    from bikes_assets.lineage.staleness import Plan

_REBUILD = Path(__file__).parent / "adapters" / "rebuild.py"
_ENGINES = {"duckdb": "duckdb", "pyspark": "spark"}


class _Place(NamedTuple):
    """What versions are made with.

    Attributes:
        commit: git commit, "" for the working tree as it stands.
        changed: digest of the difference from it.
        source: where the source is read, "" for versions that read none.
        query: its query, where it is a database.
        engine: what computes features.
    """

    commit: str
    changed: str
    source: str
    query: str
    engine: str


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
        addresses: `demand_model@3`, `demand_model@champion`, `demand_features[2012-08]@17`, `demand_features[2012-08]`.
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
    with tempfile.TemporaryDirectory(prefix="bikes-reproduce-", ignore_cleanup_errors=True) as folder:
        bench = _Bench(Path(folder), index, here, stored=stored, trusted=trusted)
        bench.make(steps(targets, bench.record, bench.place_of), progress)
        return [bench.outcome(record) for record in targets]


class _Bench(Known):
    """Where versions are made again, and what is known of both: the recorded ones and those that came out.

    A version that came out has the version `again N`: N is its table version on the bench.
    """

    def __init__(self, folder: Path, index: Index, here: Plan | None, *, stored: bool, trusted: bool) -> None:
        self._folder, self._here, self._may_take = folder, here, stored
        self._stored, self._real = versions.Stored(index), lake()
        self._trusted = trusted or is_of_this_user(self._real.location)
        self._lake = Lake(str(folder / "lake"), SCHEMAS, ROOT)
        self._plan = here or present.last_plan()
        self._span = ("", "")
        # recorded and made: by address of the recorded one, in the order of their making; and by what came out
        self._made: dict[str, tuple[Record, Record]] = {}
        self._again: dict[Version, tuple[Record, Record]] = {}
        self._taken: dict[str, str] = {}
        self._locks: dict[_Place, str] = {}
        self._found: dict[tuple[str, str, str], tuple[str, str] | str] = {}

    # what is known

    def record(self, version: Version) -> Record | None:
        """Return how a version was made, recorded or made again; None for what comes from outside."""
        return self._again[version][1] if version in self._again else self._stored.record(version)

    def rows(self, a: Version, b: Version) -> RowChange | None:
        """Return how the rows of two versions of a partition differ."""
        if a.asset not in SCHEMAS:
            return None
        return compare_rows(self._rows(a), self._rows(b), SCHEMAS[a.asset].key)

    def functions(self, code_version: str) -> Mapping[str, str] | None:
        """Return the digest of each function that a code version stands for."""
        return self._real.code(code_version) or self._lake.code(code_version)

    def text(self, digest: str) -> str | None:
        """Return the source text of a function."""
        return self._real.text(digest) or self._lake.text(digest)

    def used(self, record: Record, columns: Collection[str]) -> Mapping[str, Collection[str]] | None:
        """Return which columns of each input went into some columns of what was made."""
        return self._stored.used(self._again.get(record.output, (record,))[0], columns)

    def key(self, asset: str) -> Collection[str]:
        """Return a table's key."""
        return self._stored.key(asset)

    # making

    def place_of(self, record: Record) -> _Place | None:
        """Return what a version is made with; None where it is to be taken as it is stored."""
        code = self._code_of(record)
        if isinstance(code, str):
            return self._left(record, code)
        outside = [item for item in record.inputs if item.asset not in ASSETS]
        source = self._source_of(record, outside[0], code) if outside else ("", "")
        if isinstance(source, str):
            return self._left(record, source)
        name = record.params.get("engine", "pandas").partition(".")[0]
        return _Place(*code, *source, settings().engine if self._here else _ENGINES.get(name, "pandas"))

    def _left(self, record: Record, why: str) -> None:
        """Take note of what is taken as it is stored; what was decided always is.

        Raises:
            LineageError: it is to be made.
        """
        if record.code_version and not self._may_take:
            raise LineageError(f"{record.output.address} cannot be made again: {why}; --stored takes it as it is")
        self._taken[record.output.address] = why

    def make(self, wanted: Sequence[Step], progress: Callable[[str, int, int], None]) -> None:
        """Make versions in an order in which each finds its inputs as it read them."""
        self._span = self._months([step.record for step in wanted])
        for place, group in groupby(wanted, key=lambda step: step.place):
            if place is None:
                for step in group:
                    progress(step.version.asset, len(self._made), len(wanted))
                    self._take(step.record)
            else:
                self._make_at(place, list(group), progress, len(wanted))

    def _code_of(self, record: Record) -> tuple[str, str] | str:
        """Return commit and difference of the code that a version is made by, or why there is none."""
        if not record.code_version:
            return "decided, not made"
        if self._here:
            return commit_of(ROOT), difference(ROOT).digest
        asset, commit, changed = (
            record.output.asset,
            record.environment.get("git_commit", ""),
            record.environment.get("git_diff", ""),
        )
        if not has_commit(ROOT, commit):
            why = f"commit {commit[:12]} is not in this repository" if commit else "its code was in no git repository"
        elif self._real.difference(changed) is None:
            why = f"its code differed from commit {commit[:12]}, and the difference {changed} was not kept"
        elif changed and not self._trusted:
            kept = self._real.difference_file(changed)
            why = f"its code differed from commit {commit[:12]} by {kept}, and others can write there: look, then --trust-lake"
        else:
            return commit, changed
        if self._plan and asset in self._plan.nodes:
            module, _, name = self._plan.nodes[asset].function.rpartition(".")
            if code_version(module, name) == record.code_version:
                return "", ""  # whatever else changed, what makes it did not
        return f"{why}, and the code here is another"

    def _source_of(self, record: Record, read: Version, code: tuple[str, str]) -> tuple[str, str] | str:
        """Return where a version of the source is read, or why it cannot be."""
        known, at = settings(), (str(read.version), *code)
        here = (known.source_location, known.source_query or "")
        if self._here:
            return here
        if at not in self._found:
            is_here = self._source_here() == read.version
            self._found[at] = here if is_here else self._source_again(_origin(record, read), *code)
        return self._found[at]

    @staticmethod
    def _source_here() -> str:
        """Return the version of the source that the settings name, "" where it cannot be read."""
        try:
            return present.observed().origin.version
        except DataError:
            return ""

    def _source_again(self, origin: Mapping[str, Any], commit: str, changed: str) -> tuple[str, str] | str:
        """Return where a version of the source is read that is not here any more, or why it cannot be had."""
        wanted, inside = str(origin["version"]), settings().source
        if commit and not Path(inside).is_absolute() and "://" not in inside:
            with self._tree(commit, changed) as tree:
                if (file := tree / inside).is_file() and file_digest(content := file.read_bytes()) == wanted:
                    place = self._folder / "source" / wanted / file.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
                    return str(place), ""
        if not origin.get("tracked"):
            return f"the source of SHA-256 {wanted[:12]} is not at hand"
        from bikes_assets.adapters.versioned_source import fetch

        recorded = [Path(str(facts["repository"])) for facts in origin["tracked"].values()]
        # in another place, the repository is taken to be the project's own
        repository = None if all((place / ".dvc").is_dir() for place in recorded) else ROOT
        try:
            return str(fetch(origin, self._folder / "source" / wanted, repository)), ""
        except LineageError as error:
            return str(error)

    def _take(self, record: Record) -> None:
        """Put a version on the bench as it is stored, checked."""
        output = record.output
        rows = table(output.asset).read([output.partition], int(output.version))[output.partition][1]
        if output.asset not in SCHEMAS:
            for row in rows.to_pylist():
                self._lake.save_file(self._real.load_file(row["sha256"]))
        target = self._lake.table(output.asset, SCHEMAS.get(output.asset, MODEL_ROWS))
        made = target.write(output.partition, rows, record.to_dict(), since=target.version())
        self._note(record, replace(record, output=replace(output, version=made)))

    def _make_at(
        self, place: _Place, group: Sequence[Step], progress: Callable[[str, int, int], None], total: int
    ) -> None:
        """Make versions by the code of one commit, in a process of its own."""
        with self._tree(place.commit, place.changed) as tree:
            self._locks[place] = _text(tree / "requirements.lock")
            asked = [
                {
                    "asset": step.version.asset,
                    "partition": step.version.partition,
                    "config": self._config_of(step.record),
                }
                for step in group
            ]
            progress(group[0].version.asset, len(self._made), total)
            remembered = {
                f"bikes_assets/evidence/{step.version.asset}": json.dumps(step.record.evidence)
                for step in group
                if step.record.evidence  # what experiments showed of this very code need not be shown again
            }
            order = {"definitions": "bikes_assets.definitions:defs", "remembered": remembered, "steps": asked}
            told = _rebuilt(tree, self._environment(place), order, self._folder / "log")
            for step, answer in zip(group, told, strict=False):
                if "failed" in answer:
                    what = f"{step.version.address} cannot be made again"
                    by = "the code here" if self._here else f"commit {place.commit[:12] or 'none, the code here'}"
                    raise LineageError(f"{what} by {by}: {answer['failed']}")
                output = step.version
                self._note(step.record, self._lake.record(output.asset, str(output.partition), int(answer["version"])))
                progress(output.asset, len(self._made), total)

    def _tree(self, commit: str, changed: str) -> AbstractContextManager[Path]:
        """Return the code of a commit with a difference, by its digest, as a context; the working tree where there is none."""
        found = difference(ROOT) if self._here else self._real.difference(changed)
        if not commit or found is None:
            return nullcontext(ROOT)
        return checked_out(ROOT, commit, found, self._folder / f"tree-{commit}-{changed}")

    def _config_of(self, record: Record) -> Mapping[str, Any]:
        return self._here.nodes[record.output.asset].config if self._here else record.config

    def _months(self, records: Sequence[Record]) -> tuple[str, str]:
        """Return the first and last partition of some versions and all that is upstream of them."""
        found, waiting = dict[Version, Record](), [*records]
        while waiting:
            record = waiting.pop()
            if record.output not in found:
                found[record.output] = record
                waiting += [item for item in map(self._stored.record, record.inputs) if item]
        keys = [key for record in found.values() for key in (record.output.partition,) if key]
        return min(keys), max(keys)

    def _environment(self, place: _Place) -> dict[str, str]:
        """Return the environment of a process that makes versions: it knows the bench, and nothing of the store."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("BIKES_", "DAGSTER_", "MLFLOW_"))
        }
        own = {
            "BIKES_DATA": str(self._folder),
            "BIKES_LAKE": self._lake.location,
            "BIKES_SOURCE": place.source or str(self._folder / "no source"),
            "BIKES_SOURCE_QUERY": place.query,
            "BIKES_DVC": "mark",  # it is known by its SHA-256
            "BIKES_ENGINE": place.engine,
            "BIKES_FIRST_MONTH": self._span[0],
            "BIKES_LAST_MONTH": self._span[1],
            "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{self._folder}/mlflow.db",
            "DAGSTER_HOME": str(self._folder / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }
        return kept | {name: value for name, value in own.items() if value}

    def _note(self, recorded: Record, made: Record) -> None:
        """Take note of what came out, under versions that no recorded one has."""
        again = {
            (item.output.asset, item.output.partition): item for _, item in self._made.values()
        }  # the latest of each partition is what was read
        inputs = tuple(
            again[item.asset, item.partition].output if (item.asset, item.partition) in again else item
            for item in made.inputs
        )
        found = replace(made, output=replace(made.output, version=f"again {made.output.version}"), inputs=inputs)
        self._made.pop(recorded.output.address, None)  # made once more, it is the latest of its partition
        self._made[recorded.output.address] = (recorded, found)
        self._again[found.output] = (recorded, found)

    # what came of it

    def outcome(self, target: Record) -> Reproduction:
        """Return what came of making a version again.

        Raises:
            LineageError: it could not be made.
        """
        address = target.output.address
        if address in self._taken:
            raise LineageError(f"{address} cannot be made again: {self._taken[address]}")
        chain = self._chain(target)
        recorded, made = self._made[address]
        same = (recorded.output.digest, recorded.metrics) == (made.output.digest, made.metrics)
        largest, said = self._compared(recorded, made)
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
            dict(Counter(recorded.output.asset for recorded, _ in chain if recorded.output.address not in self._taken)),
            {
                item.output.address: self._taken[item.output.address]
                for item, _ in chain
                if item.output.address in self._taken
            },
        )

    def _chain(self, target: Record) -> list[tuple[Record, Record]]:
        """Return what was made for a version, in the order of its making, itself last."""
        wanted, waiting = set[str](), [target.output.address]
        while waiting:
            address = waiting.pop()
            if address in self._made and address not in wanted:
                wanted.add(address)
                waiting += [item.address for item in self._made[address][0].inputs]
        return [pair for address, pair in self._made.items() if address in wanted]

    def _compared(self, a: Record, b: Record) -> tuple[float | None, tuple[str, str]]:
        """Return the largest relative difference of two versions, and of models, digests of their predictions."""
        import numpy as np

        if a.output.asset in SCHEMAS:
            if a.output.digest == b.output.digest:
                return 0.0, ("", "")
            return largest_difference(self._rows(a.output), self._rows(b.output)), ("", "")
        one, other = self._predicted(a.output, a), self._predicted(b.output, a)
        figures = [np.array([record.metrics.get(name, np.nan) for name in sorted(a.metrics)]) for record in (a, b)]
        found = [largest_relative(one, other), largest_relative(*figures)]
        largest = None if None in found else max(item for item in found if item is not None)
        return largest, (file_digest(one.tobytes())[:32], file_digest(other.tobytes())[:32])

    def _predicted(self, model: Version, recorded: Record) -> np.ndarray:
        """Return what a model says of the rows that the recorded one was fitted or judged on."""
        import numpy as np

        at = self._lake if self._is_again(model) else self._real
        (row,) = self._rows(model).to_pylist()
        loaded = at.load_model(MODELS, row["sha256"], row["card"], row["origin"])
        features = [item for item in recorded.inputs if item.asset == "demand_features"]
        frame = to_pandas([self._rows(item) for item in features], SCHEMAS["demand_features"])
        said = [each.predict(frame) for each in (loaded, loaded.baseline) if each]
        return np.concatenate(said).astype("float64")

    def _rows(self, version: Version) -> Any:
        asset, key = version.asset, version.partition
        at = self._lake.table(asset, SCHEMAS.get(asset, MODEL_ROWS)) if self._is_again(version) else table(asset)
        return at.read([key], int(str(version.version).removeprefix("again ")))[key][1]

    @staticmethod
    def _is_again(version: Version) -> bool:
        return str(version.version).startswith("again ")

    def _unlocked(self, record: Record) -> Iterator[Change]:
        """Yield what is installed otherwise than the lock file of a record's commit says."""
        place = self.place_of(record)
        locked = self._locks.get(place, "") if place else ""
        digest = hashlib.sha256(locked.encode()).hexdigest() if locked else ""
        if not self._here and record.environment.get("lock", "") != digest:
            yield Change("requirements.lock", record.environment.get("lock", ""), digest)
        named = record.environment["libraries"]
        for wanted in _requirements(locked):
            found = _installed(wanted.name)
            if wanted.name not in named and not wanted.specifier.contains(found, prereleases=True):
                yield Change(f"locked.{wanted.name}", str(wanted.specifier).removeprefix("=="), found)


def _origin(record: Record, read: Version) -> Mapping[str, Any]:
    """Return where the rows of a version of the source came from, as a record says."""
    found = (use.source for use in record.datasets if use.asset == read.asset)
    return next(found, {"version": read.version})


def _rebuilt(
    tree: Path, environment: Mapping[str, str], order: Mapping[str, Any], log: Path
) -> Iterator[dict[str, Any]]:
    """Yield what a process answers that makes partitions by the code of a tree; what else it prints goes into a file."""
    paths = os.pathsep.join(part for part in (str(tree), os.environ.get("PYTHONPATH", "")) if part)
    wanted = log.with_name("asked.json")
    wanted.write_text(json.dumps(order))
    command = [sys.executable, "-P", str(_REBUILD)]
    env = {**environment, "PYTHONPATH": paths}
    with (
        wanted.open() as given,
        log.open("w") as other,
        subprocess.Popen(
            command, cwd=tree, env=env, stdin=given, stdout=subprocess.PIPE, stderr=other, text=True
        ) as it,
    ):
        try:
            for line in it.stdout or ():
                yield json.loads(line)
            if it.wait():
                yield {"failed": f"its process ended with {it.returncode}: {_text(log)[-500:]}"}
        finally:
            it.kill()


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
        return version(name)
    except PackageNotFoundError:
        return "0"


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
