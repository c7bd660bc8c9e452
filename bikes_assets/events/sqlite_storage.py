"""Dagster's SQLite storages with one SQLAlchemy engine each, for dagster.yaml to name.

Dagster's own create an engine for every statement: each compiles its SQL again, and closing the connection writes
SQLite's log back into the file. Here an event is one transaction, and so are the events that plan a run. What these
classes override is not public; a test pins it.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.event_log.polling_event_watcher import SqlPollingEventWatcher
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

from bikes_assets.events.webserver import correct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy
    from dagster import EventLogEntry
    from dagster._serdes import ConfigurableClassData

correct()  # the webserver imports this module whatever starts it


class _OneEngine:
    _conn_string: str

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        import sqlalchemy

        # the webserver's threads each hold a connection or two: none must wait for another's
        return sqlalchemy.create_engine(
            self._conn_string, max_overflow=-1, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
        )

    @cached_property
    def _of_thread(self) -> threading.local:
        return threading.local()

    @contextmanager
    def _begun(self) -> Iterator[sqlalchemy.Connection]:
        if (shared := getattr(self._of_thread, "connection", None)) is not None:
            yield shared
            return
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what this thread stores in the block in one transaction: all of it or, after an error, nothing.

        The block must write before it reads: SQLite lets no transaction that began with a read wait for another writer.
        """
        with self._begun() as connection:
            outer = getattr(self._of_thread, "connection", None)
            self._of_thread.connection = connection
            try:
                yield
            finally:
                self._of_thread.connection = outer

    def dispose(self) -> None:
        """Close the connections."""
        super().dispose()  # pyright: ignore[reportAttributeAccessIssue] - of the storage that this is mixed into
        self._engine.dispose()


def _folder(config_value: Any) -> str:
    """Return the folder that dagster.yaml names; `~` is the home folder, as in DAGSTER_HOME itself."""
    return os.path.expanduser(config_value["base_dir"])


class EventLogStorage(_OneEngine, ConsolidatedSqliteEventLogStorage):
    """Dagster's event log: one SQLite file for all runs."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> EventLogStorage:
        """Return the event log under DAGSTER_HOME."""
        return cls(_folder(config_value), inst_data)

    def _connect(self) -> Any:
        return self._begun()

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, with what is looked up of its asset or check: Dagster's own would commit up to four times."""
        with self.together():
            super().store_event(event)

    @cached_property
    def _tables(self) -> set[str]:
        return set()

    def has_table(self, table_name: str) -> bool:
        """Return whether the database has a table; one that it has is looked for once, not for each event of a check."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    @cached_property
    def _event_watcher(self) -> SqlPollingEventWatcher:
        return SqlPollingEventWatcher(self)

    def watch(self, run_id: str, cursor: str | None, callback: Callable[..., Any]) -> None:
        """Call a function with each event of a run, as a run's page requests to show them live.

        Events are polled, as with PostgreSQL. Dagster's own storage waits until the database's file changes, which
        happens when a connection is closed; here connections stay open, and writes are in the log beside the file.
        """
        self._event_watcher.watch_run(run_id, cursor, callback)

    def end_watch(self, run_id: str, handler: Callable[..., Any]) -> None:
        """Stop calling a function."""
        self._event_watcher.unwatch_run(run_id, handler)

    def dispose(self) -> None:
        """Stop polling for events, and close the connections."""
        self._event_watcher.close()
        super().dispose()


class RunStorage(_OneEngine, SqliteRunStorage):
    """Dagster's runs: one SQLite file."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> RunStorage:
        """Return the storage of the runs under DAGSTER_HOME, in Dagster's default place."""
        return cls.from_local(f"{_folder(config_value)}/history", inst_data)

    def connect(self) -> Any:
        """Return a connection in a transaction, as a context."""
        return self._begun()
