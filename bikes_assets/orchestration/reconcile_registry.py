"""Reconciliation of registered model versions with the event log: what somebody deleted, renamed or changed in MLflow.

A version number, once assigned, means one version forever. MLflow guarantees that for single versions, whose numbers
are never reused; but if a registered model is deleted or renamed, it counts from 1 again under the old name. So the
highest number is stored in Dagster's storage (`mlflow_numbers`), and a deleted registered model is restored version by
version, in order. Whether a version is ours is decided by its logged model (`version_source`), not by its tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bikes_assets.core.address import WHOLE, Address, parse_address
from bikes_assets.core.errors import DigestError, LineageError, ModelError
from bikes_assets.core.record import Record
from bikes_assets.events.attempts import attempt_of
from bikes_assets.lineage.elements import COLUMN, MODEL, VERSION
from bikes_assets.tracking import registry
from bikes_assets.tracking.model_copies import copy_from_lake
from bikes_assets.tracking.names import model_name, or_none
from bikes_assets.tracking.runs import KEY, VERSION_TAGS, version_tags
from bikes_assets.tracking.version_source import is_copy, is_gone, model_id_in, model_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from bikes_assets.lineage.index import Index
    from bikes_assets.storage.lake import Lake, ModelFormat
    from bikes_assets.tracking.runs import MlflowRuns

_SHOWN = 100
"""Number of characters of a tag or source that are shown."""
ASSET = "asset"
"""Tag of a registered model: the asset of its versions, by which it is found under another name."""


@dataclass
class RegistryReconciliation:
    """What was done about one registered model.

    Attributes:
        done: what was done, in words.
        left: what could not be done, and why.
        foreign: versions that do not belong to this store, and are left alone.
        registered: address and number of each version that is registered under a number which the event log does not
            know.
    """

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    registered: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Registry:
    """A registry, and the stores from which its versions are restored.

    Attributes:
        runs: MLflow's runs.
        lake: lake with the models.
        models: how models are written.
        index: the lineage index, updated from the event log.
        removed: addresses of the versions that retention has removed: they are not restored.
    """

    runs: MlflowRuns
    lake: Lake
    models: ModelFormat
    index: Index
    removed: Collection[str]

    def reconcile(
        self, asset: str, only: Collection[int] | None = None, *, whole: bool = True
    ) -> RegistryReconciliation:
        """Make the registered versions of an asset those in the event log.

        Args:
            asset: the asset.
            only: numbers to look at, None for all; the others are known to be correct.
            whole: whether to check, too, that the logged models of all versions exist.
        """
        known: dict[int, str] = {
            int(str(item.version)): self.index.find(str(item), MODEL)[0].facts["address"]
            for item in self.index.within(MODEL, asset)
        }
        found = RegistryReconciliation()
        self._find(asset, found, create=bool(known))
        there = {int(item.version): item for item in registry.versions(self.runs.client, model_name(asset))}
        looked_at = None if only is None else {*only, *(known.keys() ^ there.keys())}
        good = {} if looked_at is None else {known[number]: number for number in sorted(there.keys() - looked_at)}
        records = {record.output.address: record for record in self._records(asset, known, there, looked_at)}
        for number, version in sorted(there.items()):
            if looked_at is not None and number not in looked_at:
                continue
            address = known.get(number) or self._adopted(asset, number, version, records, found)
            if address:
                known[number] = address
                if self._is_as_known(asset, number, version, address, records.get(address), found, whole=whole):
                    good[address] = number
        # last those whose number is taken: they get a higher one, after which MLflow assigns no lower one
        for number, address in sorted(known.items(), key=lambda item: (item[0] in there, item[0])):
            if address not in {*good, *self.removed}:
                given = self._restore(asset, number, address, max(known), found)
                if given and given != number:
                    good[address] = given
        if whole and only is None:
            self._register(asset, set(known.values()), records, found)
        return found

    def _records(
        self, asset: str, known: Mapping[int, str], there: Mapping[int, ModelVersion], looked_at: Collection[int] | None
    ) -> Iterator[Record]:
        """Yield the records of the versions to look at, or of all."""
        wanted = None
        if looked_at is not None:
            told = [known[number] for number in looked_at if number in known]
            told += [there[number].tags.get("address", "") for number in looked_at if number in there]
            wanted = {int(version) for version in (text.rpartition("@")[2] for text in told) if version.isdecimal()}
        for commit in self.lake.table(asset).commits(lambda version: wanted is None or version in wanted):
            yield Record.from_dict(commit.record).at(commit.version)

    def _find(self, asset: str, found: RegistryReconciliation, *, create: bool) -> None:
        """Find the registered model of an asset by its name, else under another one, else create it if it is known."""
        client, name = self.runs.client, model_name(asset)
        model = registry.registered_model(client, name)
        if model is None:
            renamed = [item.name for item in client.search_registered_models(f"tags.{ASSET} = '{asset}'")]
            if len(renamed) == 1:
                client.rename_registered_model(renamed[0], name)
                found.done.append(f"MLflow: registered model {renamed[0]} was renamed, and is {name} again")
            elif create:
                registry.create_registered_model(client, name, {ASSET: asset}, self.runs.note_of_model(asset))
                found.done.append(f"MLflow: registered model {name} was deleted, and is there again")
            return
        if model.tags.get(ASSET) != asset:
            client.set_registered_model_tag(name, ASSET, asset)
        if not model.description:
            client.update_registered_model(name, self.runs.note_of_model(asset))

    def _adopted(
        self,
        asset: str,
        number: int,
        version: ModelVersion,
        records: Mapping[str, Record],
        found: RegistryReconciliation,
    ) -> str | None:
        """Return the address of a version whose number the event log does not know; None if it is not ours."""
        name, address, digest = model_name(asset), version.tags.get("address", ""), version.tags.get("digest", "")
        if not _is_of(asset, version):
            found.foreign.append(
                f"MLflow: {name} version {number} is none of this store's: somebody else has registered it; it is left alone"
            )
            return None
        model, record = model_of(self.runs.client, version), records.get(address)
        there = self.index.find(address, VERSION)
        if there and model and record and record.fitted and is_copy(model, record.fitted):
            found.registered.append((address, number))
            found.done.append(
                f"{address}: is registered as {Address(asset, version=str(number))}, and the event log says so now"
            )
            return address
        if there and there[0].facts["digest"] == digest:
            found.foreign.append(
                f"MLflow: {name} version {number} is none of this store's: its tags say {address}, and it is of {_of(version)}; "
                "it is left alone"
            )
            return None
        found.left.append(
            f"MLflow: {name} version {number} is {address} with digest {digest or 'none'}, which the event log "
            "does not hold: another store has registered it, or this one before a backup was restored; delete it in MLflow, "
            "or restore what it is of"
        )
        return None

    def _is_as_known(
        self,
        asset: str,
        number: int,
        version: ModelVersion,
        address: str,
        record: Record | None,
        found: RegistryReconciliation,
        *,
        whole: bool,
    ) -> bool:
        """Return whether a version is what its number means, after correcting its tags; delete ours without a copy."""
        client, name = self.runs.client, model_name(asset)
        if record is None or not record.fitted:
            return True  # the lake has lost it, which is reported elsewhere: there is nothing to compare with
        tags = version_tags(record, record.fitted)
        model = model_of(client, version)
        if model and is_copy(model, record.fitted):
            self._put_right(name, version, registry.stated(tags, model), found)
            return True
        if is_gone(client, version):
            ours = registry.fitting(tags)
            if address in self.removed or (not whole and ours.items() <= version.tags.items()):
                return True
            if ours.items() <= version.tags.items():
                client.delete_model_version(name, str(number))
                return False
        found.left.append(
            f"MLflow: {name} version {number} is of {_of(version)}, but {Address(asset, version=str(number))} is {address}: the "
            "registered model was deleted or renamed, and somebody else has registered versions since; delete this version in "
            "MLflow, or register it under another name first"
        )
        return False

    def _put_right(
        self, name: str, version: ModelVersion, tags: Mapping[str, str], found: RegistryReconciliation
    ) -> None:
        """Write the tags of a version that differ from its record and its logged model."""
        wrong = {tag: value for tag, value in tags.items() if version.tags.get(tag) != value}
        if "manifest" in wrong:  # of the two that differ, the version's may be the right one
            try:
                registry.checked(self.runs.client, model_id_in(version))
            except LineageError as error:
                found.left.append(
                    f"MLflow: tag manifest of {name} version {version.version} cannot be put right: {error}"
                )
                del wrong["manifest"]
        for tag, value in wrong.items():
            self.runs.client.set_model_version_tag(name, version.version, tag, value)
            found.done.append(f"MLflow: tag {tag} of {name} version {version.version} is {_cut(value)} again")

    def _restore(self, asset: str, number: int, address: str, beyond: int, found: RegistryReconciliation) -> int | None:
        """Register a deleted version again, and return its number; None if it waits for its run, or cannot be."""
        _, partition, version = parse_address(address)
        what = str(Address(asset, version=str(number)))
        try:
            record = self.lake.record(asset, partition, int(str(version)))
            run = self._run_of(record)
            if run is None or not record.fitted:
                return None
            tags = version_tags(record, record.fitted)
            given = registry.register_again(
                self.runs.client,
                self._copy_of(run, record),
                run.info.run_id,
                name=model_name(asset),
                tags=tags,
                description=self.runs.note_of_version(record),
                number=number,
                beyond=beyond,
            )
        except LineageError as error:
            found.left.append(f"MLflow: {what}, {address}, was deleted and cannot be registered again: {error}")
            return None
        if given == number:
            found.done.append(f"MLflow: {what}, {address}, was deleted, and is registered again")
            return given
        found.registered.append((address, given))
        found.done.append(
            f"MLflow: {what}, {address}, was deleted, and is registered again as {Address(asset, version=str(given))}: MLflow "
            f"does not give a number twice. {what} stays another name of it"
        )
        return given

    def _register(
        self, asset: str, known: Collection[str], records: Mapping[str, Record], found: RegistryReconciliation
    ) -> None:
        """Register what was logged but has lost its number: neither MLflow nor the event log has the version now."""
        told = {str(item) for item in self.index.within(VERSION, asset)}
        for address, record in records.items():
            if not record.fitted or address in known or address in self.removed or address not in told:
                continue
            try:
                run = self._run_of(record)
                if run is None or run.info.status != "FINISHED":
                    continue
                number = self.runs.register(record, self._copy_of(run, record), run.info.run_id)
            except LineageError as error:
                found.left.append(f"MLflow: {address} is not registered, and cannot be: {error}")
                continue
            found.registered.append((address, number))
            found.done.append(
                f"MLflow: {address} was registered no more, and is {Address(asset, version=str(number))} now"
            )

    def _run_of(self, record: Record) -> Run | None:
        wanted = f"tags.{KEY} = '{attempt_of(record)}'"
        return next(iter(self.runs.client.search_runs(self.runs.experiment_ids, wanted)), None)

    def _copy_of(self, run: Run, record: Record) -> str:
        """Return the id of the complete copy of the model that a record fitted; it is logged if it is missing."""
        sha256 = record.fitted["sha256"] if record.fitted else ""
        logged = (item.model_id for item in (run.outputs.model_outputs if run.outputs else ()))
        for model_id in dict.fromkeys((*logged, record.fitted["mlflow_model_id"] if record.fitted else "")):
            if is_whole(self.runs, model_id) and self._sha256(model_id) == sha256:
                return model_id
        return copy_from_lake(self.runs.client, run.info.run_id, self.lake, self.models, record.output.address)

    def _sha256(self, model_id: str) -> str:
        return self.runs.client.get_logged_model(model_id).tags.get("sha256", "")


def models_in(index: Index, assets: Iterable[str]) -> Iterator[str]:
    """Yield the assets that hold models: those with registered versions and those of the given ones without columns."""
    found = (Address.parse(name) for name in index.names(MODEL))
    whole = (asset for asset in assets if [item.column for item in index.within(COLUMN, asset)] == [WHOLE])
    yield from dict.fromkeys((*(item.asset for item in found if item), *whole))


def is_whole(runs: MlflowRuns, model_id: str) -> bool:
    """Return whether MLflow has a logged model with the right content: not if, say, its upload never ended."""
    try:
        return bool(model_id and or_none(lambda: registry.checked(runs.client, model_id)))
    except (ModelError, DigestError):
        return False


def _is_of(asset: str, version: ModelVersion) -> bool:
    """Return whether a version has all tags that this project sets, and they name an asset."""
    if not all(version.tags.get(tag) for tag in VERSION_TAGS):
        return False
    named = Address.parse(version.tags["address"])
    return bool(named and named.asset == asset)


def _of(version: ModelVersion) -> str:
    model_id = model_id_in(version)
    return f"logged model {model_id}" if model_id else _cut(version.source or "nothing")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
