"""Dagster's SQLite storages with one SQLAlchemy engine each, for dagster.yaml to name.

Dagster's own create an engine for every statement: each compiles its SQL again, and closing the connection writes
SQLite's log back into the file. What these classes override is not public; a test pins it.
"""

from __future__ import annotations

import os
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

    @contextmanager
    def _begun(self) -> Iterator[sqlalchemy.Connection]:
        with self._engine.begin() as connection:
            yield connection

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
