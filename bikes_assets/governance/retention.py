"""Removing what nothing live needs: rows and model files from the lake, runs and copies from MLflow.

Delta's logs, with the record of each version, are never removed, nor are files that no log names: a running commit may
be about to add them. Each removal is written down before anything is deleted; the next removal completes one that was
killed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bikes_assets.core.address import ModelRef
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record
from bikes_assets.core.transient import at_store
from bikes_assets.governance.retention_policy import DAY, Published, Stays, live, staying
from bikes_assets.storage.files import filesystem_of, remove_files
from bikes_assets.storage.removals import Removal, removed_in_mlflow, removed_versions, withdraw, write_removal

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from bikes_assets.storage.delta import LakeTable
    from bikes_assets.storage.lake import Lake

_BATCH = 1_000
"""Largest number of files that one request deletes."""


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    """What happens to a version.

    Attributes:
        address: the version.
        asset: the asset that it belongs to.
        state: whether it stays, may go, or went; `lost` if it should have stayed, but another program removed its rows.
        time: when it was published, Unix seconds.
        size: bytes of its files that still exist.
        stays: why it stays.
        removal: the removal that included it, even if that was killed before its files were deleted.
    """

    address: str
    asset: str
    state: Literal["stays", "goes", "removed", "lost"]
    time: float
    size: int
    stays: Stays | None = None
    removal: Removal | None = None


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What may be removed, and what stays.

    Attributes:
        now: when it was planned, Unix seconds.
        days: number of days for which every version stays.
        verdicts: of each version, by asset, oldest first.
        files: paths or URLs of the tables' files that may be removed.
        models: SHA-256 and bytes of the model files that may be removed.
        fitted: SHA-256 of each of these, and the version in which it was fitted.
        models_staying: number of model files that stay, and their bytes.
        in_mlflow: versions, removed or to be removed, whose run and copy in MLflow are deleted with them.
    """

    now: float
    days: float
    verdicts: Sequence[RetentionDecision]
    files: Sequence[str] = ()
    models: Mapping[str, int] = field(default_factory=dict)
    fitted: Mapping[str, str] = field(default_factory=dict)
    models_staying: tuple[int, int] = (0, 0)
    in_mlflow: Sequence[Record] = ()

    @property
    def going(self) -> list[RetentionDecision]:
        """The versions that may be removed."""
        return [item for item in self.verdicts if item.state == "goes"]

    @property
    def size(self) -> int:
        """Bytes that may be freed."""
        return sum(item.size for item in self.going) + sum(self.models.values())


def plan(
    lake: Lake, tables: Sequence[LakeTable], *, held: Iterable[str], aliased: Iterable[str], now: float, days: float
) -> RetentionPlan:
    """Return what may be removed from a lake, and what stays and why; nothing is changed.

    Args:
        lake: the lake.
        tables: its tables.
        held: addresses of the versions that a hold names.
        aliased: addresses of the versions that an alias of a registered model resolves to.
        now: current time, Unix seconds.
        days: number of days for which every version stays.
    """
    published = [_published(table) for table in tables]
    everything = [item for items in published for item in items]
    stays = staying(everything, live(everything, held=held, aliased=aliased, now=now, days=days))
    removed = removed_versions(lake.location)
    verdicts: list[RetentionDecision] = []
    files: list[str] = []
    for table, items in zip(tables, published, strict=True):
        decided, going = _decisions(table, items, stays, removed)
        verdicts += decided
        files += going
    gone = [item.record for item in everything if item.address not in stays]
    kept = {model["sha256"] for item in everything if item.address in stays for model in item.record.models}
    there = lake.model_files()
    old = {
        sha256: size for sha256, (size, written) in there.items() if written < now - DAY
    }  # a run may be about to name it
    fitted = {
        model["sha256"]: ModelRef.parse(model["origin"]).address or record.output.address
        for record in gone
        for model in record.models
        if model["sha256"] in old and model["sha256"] not in kept
    }
    done = removed_in_mlflow(lake.location)
    return RetentionPlan(
        now,
        days,
        verdicts,
        files,
        {sha256: old[sha256] for sha256 in sorted(fitted)},
        fitted,
        (len(there) - len(fitted), sum(size for sha256, (size, _) in there.items() if sha256 not in fitted)),
        [item for item in gone if item.output.address not in done and _is_in_mlflow(item, kept)],
    )


def apply(lake: Lake, look: Callable[[], RetentionPlan], user: str) -> RetentionPlan:
    """Remove from a lake what may be removed, and return it; the removal is written down before anything is deleted.

    Args:
        lake: the lake.
        look: returns what may be removed now; called before the removal is written down, and again before it is
            deleted.
        user: who removes it.

    Raises:
        LineageError: something to be removed has become needed in between; nothing was removed.
    """
    before = look()
    versions = [item.address for item in before.going if not item.removal]
    removal = None
    if versions or before.models:
        removal = write_removal(
            lake.location, time=before.now, user=user, days=before.days, versions=versions, models=before.fitted
        )
    after = look()
    needed = {item.address for item in after.verdicts if item.stays} & set(versions)
    if removal and needed:
        withdraw(lake.location, removal)
        raise LineageError(
            f"{min(needed)}: found that it came to be needed while it was about to be removed, expected nobody to hold it then; "
            "nothing was removed, run again"
        )
    for files in (after.files, [lake.model_location(sha256) for sha256 in after.models if sha256 in before.models]):
        for begin in range(0, len(files), _BATCH):
            remove_files(files[begin : begin + _BATCH])
    return before


def remove_in_mlflow(client: MlflowClient, experiment: str, records: Sequence[Record], moment: str) -> list[str]:
    """Delete the runs of removed versions from MLflow, and the copies of the models that these fitted.

    MLflow keeps deleted runs until its own `gc`. A registered version keeps its number and is tagged `removed`; one
    with an alias keeps its run and copy.

    Args:
        client: client of the tracking store.
        experiment: name of the experiment; runs are in the one beside it, too.
        records: records of the versions.
        moment: time of the removal, in words.

    Returns:
        Addresses of the versions that are done.
    """
    from bikes_assets.events.attempts import attempt_of
    from bikes_assets.tracking.client import lineage_of
    from bikes_assets.tracking.names import model_name
    from bikes_assets.tracking.registry import version_of
    from bikes_assets.tracking.runs import KEY

    named = (client.get_experiment_by_name(name) for name in (experiment, lineage_of(experiment)))
    known = [item.experiment_id for item in named if item]
    aliased = _aliased(client, {model_name(record.output.asset) for record in records if record.fitted})
    done: list[str] = []
    for record in records:
        output = record.output
        name = model_name(output.asset)
        version = version_of(client, name, address=output.address) if record.fitted else None
        if version and (name, version) in aliased:
            continue
        runs = client.search_runs(known, f"tags.{KEY} = '{attempt_of(record)}'") if known else []
        for run in runs:
            for copy in run.outputs.model_outputs if run.outputs else ():
                _delete_copy(client, copy.model_id)
            client.delete_run(run.info.run_id)
        if version:
            client.set_model_version_tag(name, str(version), "removed", moment)
        done.append(output.address)
    return done


def _published(table: LakeTable) -> list[Published]:
    return [Published(Record.from_dict(commit.record).at(commit.version), commit.time) for commit in table.commits()]


def _decisions(
    table: LakeTable, published: Sequence[Published], stays: Mapping[str, Stays], removed: Mapping[str, Removal]
) -> tuple[list[RetentionDecision], list[str]]:
    """Return the verdict on each version of a table, and the files that may be removed."""
    added = table.added()
    going = {int(item.record.output.version) for item in published if item.address not in stays}
    there = _sizes(table.uri) if published else {}
    # a commit that published nothing, such as a restored version, may have added an older version's file again
    kept = {path for version, paths in added.items() if version not in going for path in paths}
    verdicts: list[RetentionDecision] = []
    for item in published:
        version, address = int(item.record.output.version), item.address
        removal = removed.get(address)
        if address in stays:
            lost = not removal and any(path not in there for path in added[version])
            size = sum(there.get(path, 0) for path in added[version])
            state = "lost" if lost else "stays"
            verdicts.append(RetentionDecision(address, table.name, state, item.time, size, stays=stays[address]))
            continue
        sizes = [there[path] for path in added[version] if path in there and path not in kept]
        state = "removed" if removal and not sizes else "goes"
        verdicts.append(RetentionDecision(address, table.name, state, item.time, sum(sizes), removal=removal))
    files = {path for version in going for path in added[version] if path in there} - kept
    return verdicts, [f"{table.uri}/{path}" for path in sorted(files)]


def _sizes(folder: str) -> dict[str, int]:
    """Return the files under a folder or URL: path in it, and bytes."""
    filesystem, root = filesystem_of(folder)
    filesystem.invalidate_cache()
    with at_store(folder):
        found = filesystem.find(root, detail=True)
    return {path.removeprefix(root).lstrip("/"): int(about["size"]) for path, about in found.items()}


def _is_in_mlflow(record: Record, kept: Collection[str]) -> bool:
    """Return whether a removed version's MLflow run is deleted too: not if its model's file stays for another one."""
    return "attempt" in record.made_by and not (record.fitted and record.fitted["sha256"] in kept)


def _aliased(client: MlflowClient, names: Iterable[str]) -> set[tuple[str, int]]:
    """Return the registered versions that an alias names."""
    from bikes_assets.tracking.registry import registered_model

    models = [registered_model(client, name) for name in names]
    return {(model.name, int(version)) for model in models if model for version in model.aliases.values()}


def _delete_copy(client: MlflowClient, model_id: str) -> None:
    from bikes_assets.tracking.names import or_none

    or_none(lambda: client.delete_logged_model(model_id))  # a removal that was killed may have deleted it
