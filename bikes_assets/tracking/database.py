"""MLflow's store in a SQLite file, prepared before use: created atomically, checked for damage, fitted to its place.

Its tables and columns are not a public interface: tests compare what is assumed about them here with MLflow itself.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from bikes_assets.core.errors import StoreError
from bikes_assets.storage.sqlite_files import opened, put, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = "bikes_assets.app.store"
"""Tag of an experiment: id of the store whose materializations it shows."""
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns that hold the locations of artifacts, as absolute URLs."""
_AGAIN = "restore it from a backup, or move it away: bikes sync writes it again, but for what people logged there"
_VERSION = "alembic_version"
_FIRST = {"experiments", "runs", "metrics", "params", "tags"}
"""Tables that MLflow creates first."""


def artifacts_of(file: Path) -> str:
    """Return the URL of the folder of artifacts, which is beside a store."""
    return (file.parent / "artifacts").as_uri()


def ready(file: Path) -> None:
    """Create the store where there is none, and set its artifacts' location beside it; the caller holds the lock.

    A store that was moved or copied with its folder holds absolute URLs of its previous location. A copy serves no
    store until it is used for one.

    Raises:
        StoreError: it is damaged, or of another version of MLflow.
    """
    if not _is_in_use(file):
        _create(file)
        return
    with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as store:
        for place in _previous_folders(store, file):
            _relocate(store, place, file)


def revisions() -> tuple[str, set[str]]:
    """Return the newest revision of MLflow's tables that this MLflow knows, and all of them."""
    spec = find_spec("mlflow")
    folder = Path(str(spec.origin if spec else "")).parent / "store" / "db_migrations" / "versions"
    found: dict[str, str] = {}
    for script in folder.glob("*.py"):
        text = script.read_text(encoding="utf-8")
        names = dict(re.findall(r"^(revision|down_revision) = [\"'](\w+)[\"']", text, re.MULTILINE))
        if "revision" in names:
            found[names["revision"]] = names.get("down_revision", "")
    (newest,) = found.keys() - {*found.values()}
    return newest, set(found)


def _is_in_use(file: Path) -> bool:
    """Return whether there is a store; one whose creation was cut short is empty, and does not count.

    Raises:
        StoreError: it is damaged, or of another version of MLflow.
    """
    if not file.exists() or not file.stat().st_size:
        return False
    with opened(file, f"MLflow's store; {_AGAIN}") as store:
        known = tables(store)
        # MLflow's first use ends with an experiment, Default
        is_used = "experiments" in known and bool(store.execute("select 1 from experiments limit 1").fetchone())
        versions = store.execute("select version_num from alembic_version").fetchall() if _VERSION in known else []
    if known - {_VERSION} and not known & _FIRST:
        names = ", ".join(sorted(known)[:3])
        raise StoreError(
            f"{file}: found a database of something else, with tables {names}, expected MLflow's store; set "
            "BIKES_MLFLOW_TRACKING_URI to another file"
        )
    if is_used:
        _check_revision(file, versions[0][0] if versions else "")
    return is_used


def _check_revision(file: Path, found: str) -> None:
    newest, all_known = revisions()
    if found == newest:
        return
    if found and found not in all_known:
        raise StoreError(
            f"{file}: found MLflow's store of revision {found}, which this MLflow does not know, expected {newest}: a newer "
            "MLflow wrote it; install that, or set BIKES_MLFLOW_TRACKING_URI to another store"
        )
    raise StoreError(
        f"{file}: found MLflow's store of revision {found or 'none'}, expected {newest}: an older MLflow wrote it, or an upgrade "
        f"was interrupted; back it up and run mlflow db upgrade 'sqlite:///{file}'; where that fails, {_AGAIN}"
    )


def _create(file: Path) -> None:
    """Create a store atomically: first under another name, because MLflow takes seconds and many steps."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in file.parent.glob(f".{file.name}.*.new*"):  # of killed processes: the caller holds the lock
        old.unlink(missing_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.new")
    _build(part, artifacts_of(file))
    put(file, part)


def _build(file: Path, artifacts: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{file}"
    SqlAlchemyStore(uri, artifacts).engine.dispose()
    SqlAlchemyStore._engine_map.pop(uri, None)  # pyright: ignore[reportPrivateUsage] - it keeps engines by URL


def _previous_folders(store: sqlite3.Connection, file: Path) -> Iterator[Path]:
    """Yield the other folders in which a store was, by its own content: its file is still there, or nothing is."""
    for (location,) in store.execute("select distinct artifact_location from experiments").fetchall():
        parts = urlsplit(location or "")
        place = Path(unquote(parts.path))
        if parts.scheme != "file" or place.name != "artifacts" or place.parent == file.parent:
            continue
        was = place.parent / file.name
        if not place.parent.exists() or (was.exists() and not was.samefile(file)):
            yield place.parent


def _relocate(store: sqlite3.Connection, place: Path, file: Path) -> None:
    """Atomically change the locations of artifacts from another folder to the store's own."""
    old, new = (place / "artifacts").as_uri(), artifacts_of(file)
    store.execute("begin immediate")
    try:
        for table, column in LOCATIONS:
            store.execute(
                f"update {table} set {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608
                f"where {column} = :old or substr({column}, 1, length(:old) + 1) = :old || '/'",
                {"old": old, "new": new},
            )
        if place.exists():  # the copy was not written by the original's store
            store.execute("delete from experiment_tags where key = ?", [STORE])
        store.execute("commit")
    except BaseException:
        store.execute("rollback")
        raise
