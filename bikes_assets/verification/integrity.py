"""Whether everything in the lake, and each model's copy in MLflow, still is what was stored, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bikes_assets.core.address import parse_address
from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record, partition_address
from bikes_assets.core.transient import is_transient
from bikes_assets.storage.delta_files import wrong_checksum
from bikes_assets.storage.files import read_files
from bikes_assets.tracking.names import model_name, or_none

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from bikes_assets.storage.commits import Commit
    from bikes_assets.storage.delta import LakeTable
    from bikes_assets.storage.lake import Lake


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of verifying one stored thing.

    Attributes:
        name: its address, or the name of a file.
        damage: what is wrong with it, "" if nothing is.
        unchecked: whether some of its files have no recorded checksum, so that only the content digest verifies it.
        gone: whether it no longer exists, as a version that retention removed or a copy in MLflow; its record stays.
    """

    name: str
    damage: str = ""
    unchecked: bool = False
    gone: bool = False


def of_table(table: LakeTable, removed: Collection[str] = ()) -> Iterator[Inspection]:
    """Yield the result for each published version: file checksums of all, and digests of the current ones' rows.

    Args:
        table: an existing table.
        removed: addresses of the versions that retention has removed; any other missing version is damage.
    """
    present = {commit.version for commit in table.published().values()}
    for commit in table.commits():
        name = f"{partition_address(table.name, commit.partition)}@{commit.version}"
        if name in removed:
            yield Inspection(name, gone=True)
            continue
        if commit.version in present:
            yield _current(table, commit, name)
        else:
            yield _earlier(table, commit, name)


def _current(table: LakeTable, commit: Commit, name: str) -> Inspection:
    """Return the result of reading a current version: its rows' digest, and its files' checksums."""
    try:
        table.read([commit.partition])
    except LineageError as error:
        if is_transient(error):
            raise  # an unreachable store is not damage
        return Inspection(name, str(error))
    return Inspection(name, unchecked=commit.checksums is None)


def _earlier(table: LakeTable, commit: Commit, name: str) -> Inspection:
    """Return the result of verifying the checksums of an earlier version's files."""
    checksums = commit.checksums or {}
    try:
        contents = read_files([f"{table.uri}/{path}" for path in commit.added])
    except FileNotFoundError:
        return Inspection(name, f"{name}: {gone_by_others(table.uri)}")
    for path, content in zip(commit.added, contents, strict=True):
        checksum = checksums.get(path)
        if checksum and (sha256 := file_digest(content)) != checksum:
            return Inspection(
                name, f"{name}: {wrong_checksum(f'{table.uri}/{path}', sha256, checksum)}; restore {table.uri}"
            )
    return Inspection(name, unchecked=commit.checksums is None)


def gone_by_others(uri: str) -> str:
    """Return the message for a version whose rows are gone, and not by retention."""
    return (
        "its rows are not there any more, and retention has not removed them: another program has, such as by VACUUM; restore "
        f"{uri}, or materialize again what was materialized from it"
    )


def of_model_files(lake: Lake, needed: Iterable[str]) -> Iterator[Inspection]:
    """Yield the result for each model file that exists, and each that is needed.

    Args:
        lake: the lake.
        needed: SHA-256 of those that must exist.
    """
    for sha256 in sorted({*lake.model_files(), *needed}):
        try:
            lake.load_file(sha256)
        except LineageError as error:
            if is_transient(error):
                raise
            yield Inspection(f"model_files/{sha256}.skops", str(error))
        else:
            yield Inspection(f"model_files/{sha256}.skops")


def of_runs(client: MlflowClient, records: Iterable[Record]) -> Iterator[Inspection]:
    """Yield each version whose run in MLflow differs from its record; versions that MLflow does not have are skipped.

    Args:
        client: client of the tracking store.
        records: the records.

    Raises:
        MlflowException: MLflow cannot be reached.
    """
    from bikes_assets.events.attempts import attempt_of
    from bikes_assets.tracking.runs import contradictions, finished_runs

    runs = finished_runs(client)
    for record in records:
        run = runs.get(attempt_of(record))
        if run and (names := ", ".join(contradictions(run, record))):
            name = f"MLflow run of {record.output.address}"
            yield Inspection(
                name, f"{name}: {names} is not as in the record: delete run {run.info.run_id}, then bikes sync"
            )


def of_copies(client: MlflowClient, models: Mapping[str, Mapping[str, Any]]) -> Iterator[Inspection]:
    """Yield the result for MLflow's copy of each registered model version.

    Args:
        client: client of the tracking store.
        models: registered versions, such as `demand_model@3`, and the fitted version in the record of each:
            `Record.fitted`; empty without a record.

    Raises:
        MlflowException: MLflow cannot be reached.
    """
    for name, fitted in models.items():
        asset, _, number = parse_address(name)
        version = or_none(partial(client.get_model_version, model_name(asset), str(number)))
        yield _copy(client, name, version, fitted) if version else Inspection(f"MLflow {name}", gone=True)


def _copy(client: MlflowClient, name: str, version: ModelVersion, fitted: Mapping[str, Any]) -> Inspection:
    """Return the result for the copy of a registered version: the record says which one it must be."""
    from bikes_assets.tracking import registry
    from bikes_assets.tracking.version_source import is_copy, is_gone, model_of

    name, model = f"MLflow {name}", model_of(client, version)
    if is_gone(client, version):
        return Inspection(name, gone=True)
    if model is None or (fitted and not is_copy(model, fitted)):
        of = f"logged model {model.model_id}" if model else version.source
        return Inspection(
            name, f"{name}: found that it is of {of}, expected a copy of the model that was fitted; run bikes sync"
        )
    try:
        registry.checked(client, model.model_id, manifest=version.tags.get("manifest"))
    except LineageError as error:
        return Inspection(name, f"{name}: {error}")
    return Inspection(name)
