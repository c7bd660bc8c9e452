"""Where versions are rebuilt: a temporary lake, and processes that rebuild them by the code of their commits.

The real store is never written to, and its registry is never read.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bikes_assets.app import state
from bikes_assets.app.settings import settings
from bikes_assets.app.store import assets, current, is_table, lake, last_plan, source_files, table
from bikes_assets.core.code_version import code_version
from bikes_assets.core.errors import LineageError, SettingsError
from bikes_assets.core.record import Record, Version
from bikes_assets.orchestration.project import Rebuild
from bikes_assets.storage.code.foreign_git import has_commit
from bikes_assets.storage.code.working_tree import checked_out, commit_of, difference
from bikes_assets.storage.files import is_of_this_user
from bikes_assets.storage.lake import Lake
from bikes_assets.storage.processes import ending_with_this
from bikes_assets.storage.removals import removed_versions
from bikes_assets.storage.sources.recorded_files import Places, recorded_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bikes_assets.core.staleness import Plan
    from bikes_assets.orchestration.project import Project
    from bikes_assets.verification.reproduction import Step

_REBUILD = Path(__file__).parents[1] / "orchestration" / "rebuild.py"
_ENGINES = {"duckdb": "duckdb", "pyspark": "spark"}
_AGAIN = "again "
"""Prefix of rebuilt versions, before their table version in the sandbox, so that none has the id of a recorded one."""


class _Place(NamedTuple):
    """The code, source and engine that versions are rebuilt with.

    Attributes:
        commit: git commit, "" for the current working tree.
        changed: digest of the uncommitted changes on top of it.
        source: path or URL of the source, "" for versions that read none.
        query: SQL query of the source, if it is a database.
        engine: engine that computes features.
    """

    commit: str
    changed: str
    source: str
    query: str
    engine: str


class Recipes:
    """What versions are rebuilt with: the recorded code, source and engine wherever they are available, or the current ones.

    Args:
        folder: temporary folder.
        here: the current plan, to rebuild with the current code; None to rebuild with what was recorded.
        stored: whether the stored rows of a version that cannot be rebuilt are used.
        trusted: whether code that only the lake has may run, although others can write there.

    Attributes:
        taken: address of each version whose stored rows are used, and why.
    """

    def __init__(self, folder: Path, here: Plan | None, *, stored: bool, trusted: bool) -> None:
        self._folder, self._here, self._may_take = folder, here, stored
        self._project, self._real = current(), lake()
        self._root = self._real.root
        self._trusted = trusted or is_of_this_user(self._real.location)
        self._plan = here or last_plan()
        self.taken: dict[str, str] = {}
        # most versions share a few commits and one source
        self._has, self._difference = cache(has_commit), cache(self._real.difference)
        self._sources: dict[tuple[int | str, tuple[str, str]], tuple[str, str]] = {}
        self._places, self._digests = Places(source_files(), self._root), cache(_digests_of)
        self._removed = removed_versions(self._real.location)

    @property
    def is_here(self) -> bool:
        """Whether versions are rebuilt with the current code, settings and source, not with the recorded ones."""
        return self._here is not None

    def place_of(self, record: Record) -> _Place | None:
        """Return what a version is rebuilt with; None if its stored rows are used."""
        code = self._code_of(record)
        if isinstance(code, str):
            return self._left(record, code)
        outside = [item for item in record.inputs if item.asset not in assets()]
        source = self._source_of(record, outside[0], code) if outside else ("", "")
        if isinstance(source, str):
            return self._left(record, source)
        name = record.params.get("engine", "pandas").partition(".")[0]
        return _Place(*code, *source, settings().engine if self._here else _ENGINES.get(name, "pandas"))

    def _left(self, record: Record, why: str) -> None:
        """Note that a version's stored rows are used; for recorded decisions they always are.

        Raises:
            LineageError: the version must be rebuilt; or its rows cannot be used, as they were removed.
        """
        address = record.output.address
        if record.code_version and not self._may_take:
            raise LineageError(f"{address} cannot be rebuilt: {why}; --stored takes it as it is")
        if removal := self._removed.get(address):
            raise LineageError(
                f"{address} cannot be rebuilt: {why}, and its rows were removed by retention on {removal.moment}"
            )
        self.taken[address] = why

    def tree(self, commit: str, changed: str) -> AbstractContextManager[Path]:
        """Return a commit's code with its uncommitted changes, as a context; the working tree if no commit is given."""
        found = difference(self._root) if self._here else self._difference(changed)
        if not commit or found is None:
            return nullcontext(self._root)
        return checked_out(self._root, commit, found, self._folder / f"tree-{commit}-{changed}")

    def config_of(self, record: Record) -> Mapping[str, Any]:
        """Return the config to rebuild a version with."""
        return self._here.nodes[record.output.asset].config if self._here else record.config

    def _code_of(self, record: Record) -> tuple[str, str] | str:
        """Return the commit and uncommitted changes of the code that rebuilds a version, or why there is none."""
        if not record.code_version:
            return "decided, not rebuilt"
        if self._here:
            changed = difference(self._root)
            return ("", "") if changed.dropped else (commit_of(self._root), changed.digest)
        asset, known = record.output.asset, record.environment
        commit, changed = str(known.get("git_commit", "")), str(known.get("git_diff", ""))
        if not self._has(self._root, commit):
            why = f"commit {commit[:12]} is not in this repository" if commit else "its code was in no git repository"
        elif self._difference(changed) is None:
            why = f"its code differed from commit {commit[:12]}, and the difference {changed} was not kept"
        elif changed and not self._trusted:
            kept = self._real.difference_file(changed)
            why = f"its code differed from commit {commit[:12]} by {kept}, and others can write there: look, then --trust-lake"
        else:
            return commit, changed
        if self._plan and asset in self._plan.nodes:
            module, _, name = self._plan.nodes[asset].function.rpartition(".")
            if code_version(module, name) == record.code_version:
                return "", ""  # whatever else changed, the function that makes it did not
        return f"{why}, and the code here is another"

    def _source_of(self, record: Record, read: Version, code: tuple[str, str]) -> tuple[str, str] | str:
        """Return where a version of the source is read and by which query, or why it cannot be read."""
        if read.asset not in self._project.sources:
            return f"the project {self._project.name} says nothing of how {read.asset} is read"
        reader: Any = self._project.sources[read.asset][0]()
        here = (str(reader.source), str(getattr(reader, "query", "")))
        if self._here or self._source_here(read.asset) == read.version:
            return here
        origin = _origin(record, read)
        if (read.version, code) not in self._sources:
            self._sources[read.version, code] = self._gathered(origin, here[0], *code)
        source, why = self._sources[read.version, code]
        if source and not why:
            return source, ""
        # some files are missing, but the available ones may have the very rows
        database = (str(origin["uri"]), str(origin["name"])) if origin.get("kind") == "sql" else ("", "")
        for place in ((source, ""), here, database):
            if self._digests(read.asset, *place).get(str(read.partition)) == read.digest:
                return place
        return f"{why}, and nothing at hand holds the rows of {read.partition} that were read"

    @staticmethod
    def _source_here(asset: str) -> str:
        """Return the version of the source that the project names, "" if it cannot be read."""
        try:
            return state.observed()[asset].origin.version
        except LineageError:
            return ""

    def _gathered(self, origin: Mapping[str, Any], configured: str, commit: str, changed: str) -> tuple[str, str]:
        """Copy the files of a source version from wherever they are available, and return the source that they form.

        Args:
            origin: where its rows came from.
            configured: where the project's source is.
            commit: git commit that a version was materialized by; its tree is searched last but for DVC.
            changed: digest of the uncommitted changes on top of it.

        Returns:
            Path of the file or folder, "" if no file is available; and the missing files, "" if there are none.
        """
        version, files = str(origin["version"]), recorded_files(origin)
        if not files:
            return "", f"the database of version {version[:12]} has changed"
        names = [str(origin["name"]), *(file.name for file in files)]
        if any(name in ("", ".", "..") or Path(name).name != name for name in names):
            return "", f"the record names files {', '.join(map(repr, names))}, which are no names of files"
        folder = self._folder / "source" / str(len(self._sources))
        one = len(files) == 1 and files[0].uri == origin["uri"]
        source = folder / "copied" / (files[0].name if one else str(origin["name"]))
        targets = {file.name: source if one else source / file.name for file in files}
        found = {file.name: self._places.copy(file, targets[file.name]) for file in files}
        missing = [file for file in files if not found[file.name].location]
        if missing and commit:
            with self.tree(commit, changed) as tree:
                is_inside = Path(configured).is_relative_to(self._root)
                places = Places(str(tree / Path(configured).relative_to(self._root)) if is_inside else "", tree)
                missing = [file for file in missing if not places.copy(file, targets[file.name]).location]
        if not missing:
            return str(source), ""
        looks = "; ".join(dict.fromkeys(str(look) for file in missing for look in found[file.name].looks))
        name = "" if one else f", of which {', '.join(file.name for file in missing)} is missing,"
        why = f"the source of SHA-256 {version[:12]}{name} is not at hand (looked at {looks})"
        if origin.get("tracked"):
            kept = _fetched(origin, folder / "from DVC", self._root)
            if isinstance(kept, Path):
                return str(kept), ""
            why = f"{why}: {kept}"
        return (str(source) if len(missing) < len(files) else ""), why


class Sandbox:
    """A temporary lake in which versions are rebuilt.

    Args:
        folder: temporary folder.
        recorded: a version's record, None for what comes from outside.
        recipes: what versions are rebuilt with.

    Attributes:
        lake: the temporary lake.
        rebuilt: recorded and rebuilt version, by the recorded one's address, in the order of rebuilding.
        locks: text of the lock file of the code that rebuilt a version, by its address.

    Raises:
        SettingsError: the project does not say how its definitions are pointed at a temporary lake.
    """

    def __init__(self, folder: Path, recorded: Callable[[Version], Record | None], recipes: Recipes) -> None:
        self._folder, self._recorded, self.recipes = folder, recorded, recipes
        self._project, self._real = current(), lake()
        if self._project.environment is None:
            raise SettingsError(
                f"project {self._project.name}: found no `environment`, expected a function that returns the settings of its "
                "definitions for a temporary lake; declare it in its Project"
            )
        self._settings = self._project.environment
        self.lake = Lake(str(folder / "lake"), self._real.schemas, self._real.root)
        self.rebuilt: dict[str, tuple[Record, Record]] = {}
        self.locks: dict[str, str] = {}
        self._latest: dict[tuple[str, str | None], Version] = {}
        self._span = ("", "")

    def rows(self, version: Version) -> Any:
        """Return the rows of a version, recorded or rebuilt."""
        asset, key = version.asset, version.partition
        at = self.lake.table(asset, assets().get(asset)) if is_again(version) else table(asset)
        return at.read([key], int(str(version.version).removeprefix(_AGAIN)))[key][1]

    def make(self, wanted: Sequence[Step], progress: Callable[[str, int, int], None]) -> None:
        """Rebuild versions in an order in which each finds its inputs as it read them."""
        self._span = self._months([step.record for step in wanted])
        for place, group in groupby(wanted, key=lambda step: step.place):
            if place is None:
                for step in group:
                    progress(step.version.asset, len(self.rebuilt), len(wanted))
                    self._take(step.record)
            else:
                self._make_at(place, list(group), progress, len(wanted))

    def _take(self, record: Record) -> None:
        """Copy a version's stored rows into the sandbox, with their digest verified."""
        output = record.output
        rows = table(output.asset).read([output.partition], int(output.version))[output.partition][1]
        if not is_table(output.asset):
            for row in rows.to_pylist():
                self.lake.save_file(self._real.load_file(row["sha256"]))
        target = self.lake.table(output.asset, table(output.asset).schema)
        rebuilt = target.write(output.partition, rows, record.to_dict(), since=target.version())
        self._note(record, replace(record, output=replace(output, version=rebuilt)))

    def _make_at(
        self, place: _Place, group: Sequence[Step], progress: Callable[[str, int, int], None], total: int
    ) -> None:
        """Rebuild versions by the code of one commit, in a separate process."""
        with self.recipes.tree(place.commit, place.changed) as tree:
            lock = _text(tree / "requirements.lock")
            asked = [
                {
                    "asset": step.version.asset,
                    "partition": step.version.partition,
                    "config": self.recipes.config_of(step.record),
                }
                for step in group
            ]
            progress(group[0].version.asset, len(self.rebuilt), total)
            remembered = {
                f"bikes_assets/evidence/{step.version.asset}": json.dumps(step.record.evidence)
                for step in group
                if step.record.evidence  # what experiments observed of this very code need not be observed again
            }
            order = {"definitions": self._project.definitions, "remembered": remembered, "steps": asked}
            told = _rebuilt(tree, _code_in(tree, self._project), self._environment(place), order, self._folder / "log")
            for step, answer in zip(group, told, strict=False):
                if "failed" in answer:
                    what = f"{step.version.address} cannot be rebuilt"
                    by = (
                        "the code here"
                        if self.recipes.is_here
                        else f"commit {place.commit[:12] or 'none, the code here'}"
                    )
                    raise LineageError(f"{what} by {by}: {answer['failed']}")
                output = step.version
                self._note(step.record, self.lake.record(output.asset, output.partition, int(answer["version"])))
                self.locks[output.address] = lock
                progress(output.asset, len(self.rebuilt), total)

    def _months(self, records: Sequence[Record]) -> tuple[str, str]:
        """Return the first and last partition of some versions and everything upstream of them."""
        found, waiting = dict[Version, Record](), [*records]
        while waiting:
            record = waiting.pop()
            if record.output not in found:
                found[record.output] = record
                waiting += [item for item in map(self._recorded, record.inputs) if item]
        keys = [key for record in found.values() for key in (record.output.partition,) if key]
        return min(keys, default=""), max(keys, default="")

    def _environment(self, place: _Place) -> dict[str, str]:
        """Return the environment of a rebuilding process: it knows the sandbox, and nothing of the store."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("BIKES_", "DAGSTER_", "MLFLOW_"))
        }
        span = self._span
        rebuild = Rebuild(self._folder, self.lake.location, place.source, place.query, place.engine, span)
        own = {
            **self._settings(rebuild),
            "DAGSTER_HOME": str(self._folder / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "TMPDIR": str(self._folder),  # its temporary files are deleted with the sandbox
        }
        return kept | {name: value for name, value in own.items() if value}

    def _note(self, recorded: Record, rebuilt: Record) -> None:
        """Note the rebuilt versions, under ids that no recorded version has."""
        output = replace(rebuilt.output, version=f"{_AGAIN}{rebuilt.output.version}")
        # the latest version of each partition is what was read
        inputs = tuple(self._latest.get((item.asset, item.partition), item) for item in rebuilt.inputs)
        self._latest[output.asset, output.partition] = output
        self.rebuilt.pop(recorded.output.address, None)  # rebuilt once more, it comes after what was rebuilt before
        self.rebuilt[recorded.output.address] = (recorded, replace(rebuilt, output=output, inputs=inputs))


def is_again(version: Version) -> bool:
    """Return whether a version is a rebuilt one."""
    return str(version.version).startswith(_AGAIN)


def _digests_of(asset: str, source: str, query: str) -> Mapping[str, str]:
    """Return the digest of each partition's rows in a source of an asset, empty if it cannot be read."""
    try:
        return state.digests_of(asset, source, query or None) if source and "***" not in source else {}
    except LineageError:
        return {}


def _fetched(origin: Mapping[str, Any], folder: Path, root: Path) -> Path | str:
    """Return a version of the source from DVC, or why DVC does not have it."""
    from bikes_assets.storage.sources.dvc import fetch

    recorded = [Path(str(facts["repository"])) for facts in origin["tracked"].values()]
    # elsewhere, the repository is assumed to be the project's own
    repository = None if all((place / ".dvc").is_dir() for place in recorded) else root
    try:
        return fetch(origin, folder, repository)
    except LineageError as error:
        return str(error)


def _origin(record: Record, read: Version) -> Mapping[str, Any]:
    """Return where a source version's rows came from, according to a record."""
    found = (use.source for use in record.datasets if use.asset == read.asset)
    return next(found, {"version": read.version})


def _code_in(tree: Path, project: Project) -> Path:
    """Return the folder of a tree from which a project's definitions are imported."""
    spec = find_spec(project.definitions.partition(":")[0].partition(".")[0])
    inside = Path(str(spec and spec.origin)).parents[1 if spec and spec.submodule_search_locations else 0]
    return tree / os.path.relpath(inside, project.lake.root)


def _rebuilt(
    tree: Path, code: Path, environment: Mapping[str, str], order: Mapping[str, Any], log: Path
) -> Iterator[dict[str, Any]]:
    """Yield the answers of a process that rebuilds partitions by a tree's code; its other output goes to a file."""
    paths = os.pathsep.join(part for part in (str(code), os.environ.get("PYTHONPATH", "")) if part)
    wanted = log.with_name("asked.json")
    wanted.write_text(json.dumps(order))
    command = [sys.executable, "-P", str(_REBUILD)]
    env = {**environment, "PYTHONPATH": paths}
    with (
        wanted.open() as given,
        log.open("w") as other,
        subprocess.Popen(
            command,
            cwd=tree,
            env=env,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=other,
            text=True,
            preexec_fn=ending_with_this(signal.SIGKILL),
        ) as it,
    ):
        try:
            for line in it.stdout or ():
                yield json.loads(line)
            if it.wait():
                yield {"failed": f"its process ended with {it.returncode}: {_text(log)[-500:]}"}
        finally:
            it.kill()


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
