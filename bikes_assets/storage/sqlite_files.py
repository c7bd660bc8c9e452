"""SQLite files that Dagster and MLflow own: a damaged one gives an error that names it, before they open it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from bikes_assets.core.errors import StoreError
from bikes_assets.storage.disk import flush

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def opened(file: Path, expected: str) -> Iterator[sqlite3.Connection]:
    """Yield a connection to an existing database.

    Args:
        file: the database.
        expected: what it should be, and what to do where it is damaged.

    Raises:
        StoreError: it is no database, or a damaged one.
    """
    with named_errors(file, expected), closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as store:
        store.execute("pragma page_count").fetchone()  # an error where the file is shorter than its header says
        yield store


def file_at(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path, None where there is none: what is open may have been moved away, and another be there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def named_errors(file: Path, expected: str) -> Iterator[None]:
    """Raise an error that names the file and what to do where SQLite finds no database in it, or a damaged one.

    Raises:
        StoreError: it does.
    """
    try:
        with naming(file):
            yield
    except sqlite3.DatabaseError as error:
        # text that is not UTF-8 has no error code; SQLITE_ERROR, such as a missing table, means a damaged schema
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(error, sqlite3.OperationalError) and code not in (None, sqlite3.SQLITE_ERROR):
            raise  # it is locked, or this user may not open it
        raise StoreError(f"{file}: found no SQLite database, or a damaged one ({error}), expected {expected}") from None


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Note the file on SQLite's errors, whose messages do not name it; `core.transient.store_error` reads the note.

    Raises:
        StoreError: it is a folder.
    """
    if file.is_dir():
        raise StoreError(f"{file}: a folder stands where a database is to be; move it away, then run again")
    try:
        yield
    except sqlite3.Error as error:
        error.add_note(str(file.absolute()))
        raise


def tables(store: sqlite3.Connection) -> set[str]:
    """Return the names of a database's tables."""
    return {name for (name,) in store.execute("select name from sqlite_master where type = 'table'")}


def put(file: Path, made: Path) -> None:
    """Move a complete database into the place of one that may be there; it survives a power loss."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for rest in ("-journal", "-wal", "-shm"):  # which SQLite would apply to the new one
        file.with_name(f"{file.name}{rest}").unlink(missing_ok=True)
    made.replace(file)
    flush(file, file.parent)
