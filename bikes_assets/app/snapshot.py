"""Snapshots of a project's store: written for version control, and compared with the current state."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.app import answers
from bikes_assets.app.store import assets, current, lake, mlflow_client, table
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import parse_address, partition_address, record_digest
from bikes_assets.core.secrets import scrubbed
from bikes_assets.lineage import event_log
from bikes_assets.lineage.elements import MODEL
from bikes_assets.storage import disk
from bikes_assets.storage.commits import differing
from bikes_assets.storage.removals import removed_versions
from bikes_assets.verification import integrity
from bikes_assets.verification.snapshot import Snapshot, SnapshotChange, compare, loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bikes_assets.core.record import Record
    from bikes_assets.core.staleness import Plan
    from bikes_assets.storage.commits import Commit
    from bikes_assets.verification.integrity import Inspection


@dataclass
class Verification:
    """Whether a store matches a snapshot.

    Attributes:
        changes: each difference, including what was rematerialized with an unchanged digest.
        checked: number of versions, model files and copies that were read and verified, if that was requested.
        damage: what of them is not what was stored, by name.
        notes: what could not be checked, and why.
    """

    changes: list[SnapshotChange]
    checked: int = 0
    damage: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether the store has the snapshot's content and none of it is damaged."""
        return not self.damage and all(change.is_rematerialized for change in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "same": self.is_same,
            "changes": [change.to_dict() for change in self.changes],
            "checked": self.checked,
            "damage": self.damage,
            "notes": self.notes,
        }


def default_file() -> Path:
    """Return the default path of a snapshot."""
    return current().lake.root / "lineage.lock.json"


def take(plan: Plan) -> Snapshot:
    """Return the snapshot of the current state.

    Args:
        plan: the current plan, which gives the code versions; see `state.plan`.

    Raises:
        DataError: the source cannot be read.
    """
    origins = [reader().origin() for reader, _ in current().sources.values()]
    files = [file for item in origins for file in item.files or ((item.name, item.version, item.size),)]
    commits = {asset: table(asset).commits() for asset in assets()}
    newest = {(asset, item.partition): item for asset, items in commits.items() for item in items}
    return Snapshot(
        source={name: {"sha256": sha256} for name, sha256, _ in files},
        code={asset: {"code_version": node.code_version} for asset, node in plan.nodes.items()},
        partitions={
            partition_address(asset, partition): {
                "version": item.version,
                "digest": item.digest,
                "content": item.content,
                "record": record_digest(item.record),
            }
            for (asset, partition), item in newest.items()
        },
        models=dict(_models({(asset, item.version): item for asset, items in commits.items() for item in items})),
    )


def write(plan: Plan, file: Path | None = None) -> Snapshot:
    """Write the snapshot of the current state to a file, and return it.

    Raises:
        SettingsError: the file cannot be written, or its folder does not exist.
    """
    file = file or default_file()
    with disk.named(file, "snapshot") as write:
        snapshot = take(plan)
        write(snapshot.dumps().encode())
    return snapshot


def verify(
    plan: Plan,
    file: Path | None = None,
    *,
    deep: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Verification:
    """Return whether the store still matches a snapshot, and what differs.

    Args:
        plan: the current plan.
        file: the snapshot, by default that of the project.
        deep: whether everything that is stored is also read and verified: every version's files, the digests of current
            versions' rows, model files, and their copies in MLflow. The source's files are read in any case.
        progress: called with what is being verified, how much is done, and of how much.

    Raises:
        LineageError: there is no such file, it is not a snapshot, or the source cannot be read.
    """
    file = file or default_file()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise LineageError(f"{file}: cannot be read: {why}; write it with bikes snapshot") from None
    was, now = loads(text, str(file)), take(plan)
    found = Verification(compare(was, now), damage=_altered())
    _compare_records(found)
    if deep:
        _look(found, now, progress)
    return found


def _altered() -> dict[str, str]:
    """Return what is not as it was published, by address."""
    found: dict[str, str] = {}
    for asset in assets():
        published, altered = lake().look(table(asset))
        for key, what in altered.items():
            address = f"{partition_address(asset, key)}@{published[key].version}"
            found[address] = f"{address}: {what}; bikes run materializes it again"
    return found


def _compare_records(found: Verification) -> None:
    """Compare each event's record with that in the lake's commit, and name the events that are ignored."""
    commits = {asset: {commit.version: commit for commit in table(asset).commits()} for asset in assets()}
    for event in event_log.reported_since(current().events, 0):
        if event.record and event.asset in commits:
            commit = commits[event.asset].get(int(event.record.output.version))
            if damage := differing(event.record, commit, table(event.asset).uri):
                found.damage.setdefault(event.record.output.address, damage)
        elif event.set_aside:
            found.notes.append(event.set_aside)


def _models(commits: dict[tuple[str, int], Commit]) -> Iterator[tuple[str, dict[str, str | int]]]:
    """Yield each registered model version in the index, with the file that the lake's commit names."""
    index = answers.refreshed()
    for name in index.names(MODEL):
        facts = index.find(name, MODEL)[0].facts
        asset, _, version = parse_address(facts["address"])
        commit = commits.get((asset, int(version or 0)))
        models = commit.record.get("models", ()) if commit else ()
        sha256 = next((model["sha256"] for model in models if not model["origin"]), "")
        digest = record_digest(commit.record) if commit else ""
        yield name, {"address": facts["address"], "digest": facts["digest"], "sha256": sha256, "record": digest}


def _look(found: Verification, now: Snapshot, progress: Callable[[str, int, int], None]) -> None:
    """Read and verify everything that is stored, and collect the results."""
    tables = [table(asset) for asset in assets() if table(asset).exists()]
    # model files that nothing current was predicted with may have been removed with the versions they were fitted for
    named = [
        model for item in tables for commit in item.published().values() for model in commit.record.get("models", ())
    ]
    of_models = {model["sha256"] for model in named if model.get("sha256")}
    total = sum(len(item.commits()) for item in tables) + len(of_models) + len(now.models)
    unchecked = gone = 0
    for item in _everything(tables, of_models, now, found):
        found.checked += 1
        progress(item.name, found.checked, max(total, found.checked))
        unchecked, gone = unchecked + item.unchecked, gone + item.gone
        if item.damage:
            found.damage.setdefault(item.name, item.damage)
    if unchecked:
        found.notes.append(
            f"{unchecked} versions are from before files had checksums: their content's digest alone verifies them"
        )
    if gone:
        found.notes.append(f"{gone} versions that retention removed, or copies in MLflow, are not there any more")


def _records() -> list[Record]:
    """Return the records from which MLflow's runs are written: those on the events."""
    events = event_log.reported_since(current().events, 0)
    return [event.record for event in events if event.record and event.asset in assets()]


def _everything(tables: list[Any], of_models: set[str], now: Snapshot, found: Verification) -> Iterator[Inspection]:
    removed = removed_versions(lake().location)
    for item in tables:
        yield from integrity.of_table(item, removed)
    yield from integrity.of_model_files(lake(), of_models)
    uri = current().mlflow
    if not uri:
        return
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        found.notes.append("MLflow: there is no store, so no copy was checked")  # asking would create one
        return
    records = _records()
    fitted = {record.output.address: record.fitted for record in records}
    models = {name: fitted.get(str(facts["address"])) or {} for name, facts in now.models.items()}
    try:
        yield from integrity.of_copies(mlflow_client(), models)
        yield from integrity.of_runs(mlflow_client(), records)
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises: the rest is verified, and a note says so
        found.notes.append(f"MLflow: not all copies were checked: {scrubbed(str(error)).splitlines()[0]}")
