"""The project that this process works on: its definitions, its tables in the lake, and the identity of its store."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.app.settings import settings
from bikes_assets.core.errors import LineageError, SettingsError, StoreError
from bikes_assets.core.staleness import Plan
from bikes_assets.core.transient import away, store_error
from bikes_assets.events import identity
from bikes_assets.orchestration import project
from bikes_assets.orchestration.project import Project
from bikes_assets.storage.checksums import read_memory
from bikes_assets.storage.lake import MODEL_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagster as dg
    from mlflow import MlflowClient

    from bikes_assets.core.schema import Schema
    from bikes_assets.storage.delta import LakeTable
    from bikes_assets.storage.lake import Lake
    from bikes_assets.tracking.runs import MlflowRuns

OWN = "bikes_assets.project:project"
"""The project if none is named: the bikes' own."""
_name = OWN


def use(name: str) -> None:
    """Have this process work on the project of a name from now on; see `orchestration.project.named`."""
    global _name
    _name = name


def used() -> str:
    """Return the name of the project that this process works on."""
    return _name


def current() -> Project:
    """Return the project that this process works on.

    Raises:
        SettingsError: there is no such project.
    """
    known = _named(_name)
    known = known() if callable(known) else known
    if not isinstance(known, Project):
        raise SettingsError(f"project {_name!r}: found a {type(known).__name__}, expected a Project")
    return known


_named = cache(project.named)


def is_own() -> bool:
    """Return whether this process works on the bikes' own project."""
    return _name == OWN


def lake() -> Lake:
    """Return the project's lake.

    Raises:
        SettingsError: the project's event log belongs to another store.
    """
    current_identity()
    return current().lake


def assets() -> Mapping[str, Schema | None]:
    """Return the assets that have a table in the lake, and its columns; None for those that are stored with it."""
    known = current()
    return known.assets or _assets(known.definitions)


@cache
def _assets(_definitions: str) -> Mapping[str, Schema | None]:
    plan = last_plan()
    if plan is None:  # Dagster is imported only then
        from bikes_assets.orchestration import plan as plans

        plan = plans.plan_of(definitions().resolve_asset_graph())
    return {asset: current().lake.schemas.get(asset) for asset in plan.nodes}


def definitions() -> dg.Definitions:
    """Return the project's definitions, as Dagster loads them.

    Raises:
        SettingsError: they cannot be imported, or are something else.
    """
    found = project.named(current().definitions)
    found: Any = found() if callable(found) else found
    if not hasattr(found, "resolve_asset_graph"):
        raise SettingsError(f"{current().definitions}: found a {type(found).__name__}, expected Dagster's Definitions")
    return found


def last_plan() -> Plan | None:
    """Return the last remembered plan, whatever its code and settings; None without one."""
    return stored_plan()[0]


def stored_plan() -> tuple[Plan | None, str]:
    """Return the last remembered plan, None without one, and the stamp of what it depends on."""
    known = read_memory(plan_memory(), lambda values: (Plan.from_dict(values["plan"]), str(values["stamp"])))
    return known or (None, "")


def plan_memory() -> Path:
    """Return the file that the plan is remembered in."""
    return current().data / "plan.json"


def table(asset: str) -> LakeTable:
    """Return the table of an asset."""
    return lake().table(asset, assets().get(asset))


def is_table(asset: str) -> bool:
    """Return whether an asset's table holds rows, and not models."""
    known = assets()
    return asset in known and current().lake.table(asset, known[asset]).schema is not MODEL_ROWS


def columns() -> Mapping[str, Schema]:
    """Return the declared columns of every dataset, including external ones."""
    known = current()
    return {**{asset: format_.schema for asset, (_, format_) in known.sources.items()}, **known.lake.schemas}


def source_files() -> str:
    """Return the project's source if it is a file or folder, "" if it is a database, or there is none."""
    from bikes_assets.storage.sources.readers import FileReader

    readers = (reader() for reader, _ in current().sources.values())
    return next((reader.source for reader in readers if isinstance(reader, FileReader)), "")


def current_identity() -> identity.Identity:
    """Return the project's store; its id is "" for a new one, and for a copy that was never written to.

    Raises:
        SettingsError: its lake and its event log belong to two stores.
    """
    known = current()
    return identity.check(known.lake.location, known.events, assets)


def claim(instance: dg.DagsterInstance) -> str:
    """Write the store's id to the lake and to an instance's event log before anything else, and return it.

    A lost event log is marked so that `bikes sync` writes it again. An instance in memory keeps nothing.

    Raises:
        SettingsError: they belong to two stores.
    """
    from bikes_assets.events.workers import is_of_one_machine
    from bikes_assets.tracking.resource import mark_backlog

    if instance.is_ephemeral:
        return current_identity().store
    known = current()
    storage = instance.root_directory if is_of_one_machine(instance) else known.events

    def say(text: str) -> None:
        instance.daemon_cursor_storage.set_cursor_values({identity.KEY: text})

    claimed = identity.claim(known.lake.location, storage, assets, say, Path(instance.root_directory))
    if claimed.is_log_lost:
        mark_backlog(instance)
    return claimed.store


def mlflow_client() -> MlflowClient:
    """Return the client of MLflow's store.

    Raises:
        SettingsError: it belongs to another store.
    """
    from bikes_assets.tracking.client import client_of_store

    return client_of_store(current().mlflow, current_identity().store)


def mlflow_runs(store: str, restored: list[str] | None = None) -> MlflowRuns:
    """Return the writer of MLflow's runs.

    Args:
        store: id of the store that they are of.
        restored: where given, an experiment that was deleted or renamed is restored, and that is logged here.

    Raises:
        SettingsError: MLflow is in use by another store.
        TrackingError: MLflow cannot be reached.
    """
    from bikes_assets.tracking.resource import connect

    known, pages = current(), (settings().mlflow_url, settings().dagster_url)
    page = settings().lineage_url
    return connect(known.mlflow, known.name, *pages, columns(), store, restored, known.compared, page)


def explained(error: Exception) -> LineageError | None:
    """Return our own error that says what an error means and what to do; None for one that nobody foresaw."""
    own: BaseException | None = error
    while own and not isinstance(own, LineageError):
        own = own.__cause__  # Dagster wraps errors while it loads definitions
    return own or _no_folder(error) or store_error(error, _home()) or away(error)


def _home() -> str:
    """Return the folder to name when an error of the file system names none itself."""
    try:
        return str(current().dagster_home)
    except LineageError:
        return "a folder"


def _no_folder(error: Exception) -> LineageError | None:
    """Return the message for a missing folder for temporary files, None for any other error."""
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return StoreError(f"TMPDIR: {error.strerror}; set it to a folder that this user may write to")
    return None
