"""Dagster's SQLite storages with one SQLAlchemy engine each, for dagster.yaml to name.

Dagster's own make an engine for every statement: each compiles its SQL anew, and closing the connection writes SQLite's
log back into the file. What they override is not public; a test pins it.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from watchdog.events import PatternMatchingEventHandler
from watchdog.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy
    from dagster._serdes import ConfigurableClassData


class _OneEngine:
    _conn_string: str

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        import sqlalchemy

        # the webserver's threads each hold a connection or two: none is to wait for another's
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


class EventLogStorage(_OneEngine, ConsolidatedSqliteEventLogStorage):
    """Dagster's event log: one SQLite file for all runs."""

    def _connect(self) -> Any:
        return self._begun()

    def watch(self, run_id: str, cursor: str | None, callback: Callable[..., Any]) -> None:
        """Have a function called with each event of a run as it is written: a run's page shows them live.

        Dagster's own looks at the database's file, which changes when a connection is closed; here they stay open, and what
        is written goes to the log beside it.
        """
        if not self._obs:
            self._obs = Observer()
            self._obs.schedule(_Written(self), self._base_dir)
            self._obs.start()
        self._watchers[run_id][callback] = cursor


class _Written(PatternMatchingEventHandler):
    def __init__(self, storage: EventLogStorage) -> None:
        super().__init__(patterns=[storage.get_db_path(), f"{storage.get_db_path()}-wal"])
        self._storage = storage

    def on_modified(self, event: object) -> None:
        del event
        self._storage.on_modified()


class RunStorage(_OneEngine, SqliteRunStorage):
    """Dagster's runs: one SQLite file."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> RunStorage:
        """Return the storage of the runs under DAGSTER_HOME, where Dagster keeps them when it is told nothing."""
        return cls.from_local(f"{config_value['base_dir']}/history", inst_data)

    def connect(self) -> Any:
        """Return a connection in a transaction, as a context."""
        return self._begun()
