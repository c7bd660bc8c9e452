"""Atomic creation of Dagster's databases in DAGSTER_HOME, which Dagster itself creates in many steps."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bikes_assets.storage.disk import locked
from bikes_assets.storage.sqlite_files import opened, put, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASES = {"event_log.db": "event_logs", "history/runs.db": "runs", "schedules/schedules.db": "jobs"}
"""Dagster's databases by their path in DAGSTER_HOME, each with its main table."""
_STORAGES = ("bikes_assets.events.sqlite_storage", "bikes_assets.adapters.storage")
_NEW = ".new-"


def create_databases(home: Path) -> None:
    """Create Dagster's SQLite databases where they are missing, or are empty because their creation was cut short.

    They are created in a neighbouring folder, and each is renamed into place when complete. Where dagster.yaml names
    other storages than ours, creating them is left to Dagster.

    Args:
        home: DAGSTER_HOME, which has a dagster.yaml.

    Raises:
        StoreError: one is damaged.
    """
    text = (home / "dagster.yaml").read_text(encoding="utf-8")
    if not any(name in text for name in _STORAGES) or not _missing(home):
        return
    with locked(home / ".bikes_store.lock", seconds=120):
        for old in home.glob(f"{_NEW}*"):
            shutil.rmtree(old, ignore_errors=True)  # of a process that was killed
        if not _missing(home):
            return
        with tempfile.TemporaryDirectory(prefix=_NEW, dir=home, ignore_cleanup_errors=True) as folder:
            _create(home, Path(folder))
            for name in _missing(home):
                made, place = Path(folder) / name, home / name
                if made.exists():
                    put(place, made)


def _create(home: Path, folder: Path) -> None:
    import dagster as dg

    shutil.copy(home / "dagster.yaml", folder)
    with _home_is(folder), dg.DagsterInstance.from_config(str(folder)) as instance:
        # each creates its database when accessed
        _ = instance.run_storage, instance.event_log_storage, instance.schedule_storage
    for name in DATABASES:
        if (folder / name).exists():
            with opened(folder / name, "what was created just now") as store:
                store.execute("pragma wal_checkpoint(truncate)")


def _missing(home: Path) -> list[str]:
    """Return the databases that do not exist, or are empty because their creation was cut short."""
    return [name for name, table in DATABASES.items() if not _is_complete(home / name, table)]


def _is_complete(file: Path, table: str) -> bool:
    if not file.exists() or not file.stat().st_size:
        return False
    home = file.parent if file.parent.name not in ("history", "schedules") else file.parent.parent
    expected = (
        "a database of Dagster's; restore it from a backup, or where there is none, move "
        f"{home} away: bikes sync writes the event log again from the lake"
    )
    with opened(file, expected) as store:
        known = tables(store)
        if table in known and store.execute(f"select 1 from {table} limit 1").fetchone():  # noqa: S608 - a constant
            return True
        # Dagster's last step is to stamp the version of the tables
        return {table, "alembic_version"} <= known and bool(store.execute("select 1 from alembic_version").fetchone())


@contextmanager
def _home_is(folder: Path) -> Iterator[None]:
    """Temporarily set DAGSTER_HOME, which dagster.yaml refers to, to another folder."""
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("DAGSTER_HOME")
        if before is not None:
            os.environ["DAGSTER_HOME"] = before
