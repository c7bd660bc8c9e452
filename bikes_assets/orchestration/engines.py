"""Engines for tables larger than memory: they read a pinned table version's files themselves, and compute lazily."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import SettingsError
from bikes_assets.orchestration.io_managers import TableIOManager
from bikes_assets.storage.files import filesystem_of
from bikes_assets.storage.lake import to_pandas

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from bikes_assets.core.schema import Schema
    from bikes_assets.orchestration.outcome import Parts
    from bikes_assets.storage.delta import LakeTable
    from bikes_assets.storage.lake import Lake


class Engine(ABC):
    """Opens Parquet files as a lazy frame that Narwhals reads."""

    @abstractmethod
    def open(self, files: Sequence[str], columns: Sequence[str]) -> Any:
        """Return some columns of Parquet files (paths or URLs) of one schema as a lazy frame."""

    @abstractmethod
    def write(self, frame: Any, place: Path) -> None:
        """Compute a lazy frame and write it to Parquet at a new path; it need not fit into memory."""

    @abstractmethod
    def _every_hour(self, spans: Any, key: str, by: Sequence[str]) -> Any:
        """Return a row for each hour from `first` to `last` of each row of `spans`: columns `by` and `key`."""

    def on_hourly_grid(self, frame: Any, key: str, by: Sequence[str] = ()) -> Any:
        """Return a lazy frame with a row for every hour from first to last of each group; absent ones have nulls.

        Args:
            frame: a frame that this engine has opened; its rows are unique in `by` and `key`.
            key: the column with the start of the hour.
            by: columns that identify a group, such as stations.
        """
        import narwhals as nw

        rows = nw.from_native(frame)
        ends = nw.col(key).min().alias("first"), nw.col(key).max().alias("last")
        spans = rows.group_by(*by).agg(*ends) if by else rows.select(*ends)
        hours = nw.from_native(self._every_hour(spans.to_native(), key, by))
        return hours.join(rows, on=[*by, key], how="left").to_native()


@dataclass
class DuckDB(Engine):
    """DuckDB in this process; what exceeds its memory limit is spilled to files.

    Attributes:
        memory: its memory limit, such as 2GB.
        spill: folder for these files; created when it is needed.
    """

    memory: str
    spill: Path

    @cached_property
    def _connection(self) -> DuckDBPyConnection:
        import duckdb

        return duckdb.connect(
            config={
                "memory_limit": self.memory,
                "temp_directory": str(self.spill),
                "preserve_insertion_order": False,  # sorted by key where needed; keeping the order costs memory
            }
        )

    def open(self, files: Sequence[str], columns: Sequence[str]) -> Any:
        """Return the columns as a table in DuckDB, which spills to disk if it exceeds the memory limit.

        Unlike a scan of several files, a table has statistics, which save a count next to each rolling sum.
        """
        self._know(files)
        self._opened = getattr(self, "_opened", 0) + 1
        name = f"rows_{self._opened}"
        rows = self._connection.read_parquet(list(files)).select(*columns)
        self._connection.execute(f"drop table if exists rows_{self._opened - 1}")  # no longer used
        self._connection.execute(f"create temp table {name} as {rows.sql_query()}")
        return self._connection.table(name)

    def write(self, frame: Any, place: Path) -> None:
        """Write one file."""
        frame.write_parquet(str(place))

    def _every_hour(self, spans: Any, key: str, by: Sequence[str]) -> Any:
        names = ", ".join(f'"{name}"' for name in by)
        hours = f'unnest(generate_series("first", "last", interval 1 hour)) as "{key}"'
        return spans.project(f"{names}, {hours}" if names else hours)

    def _know(self, files: Sequence[str]) -> None:
        """Let DuckDB read the lake's files through fsspec: its own extensions would have to be downloaded."""
        for protocol, file in {file.partition("://")[0]: file for file in files if "://" in file}.items():
            if not self._connection.filesystem_is_registered(protocol):
                self._connection.register_filesystem(filesystem_of(file)[0])


class Spark(Engine):
    """PySpark: the active session, or a new one with the user's own configuration."""

    def open(self, files: Sequence[str], columns: Sequence[str]) -> Any:
        """Return the columns as a DataFrame."""
        from pyspark.sql import SparkSession

        return SparkSession.builder.getOrCreate().read.parquet(*files).select(*columns)

    def write(self, frame: Any, place: Path) -> None:
        """Write a folder of files."""
        frame.write.parquet(str(place))

    def _every_hour(self, spans: Any, key: str, by: Sequence[str]) -> Any:
        from pyspark.sql import functions as sf

        hours = sf.explode(sf.sequence("first", "last", sf.expr("interval 1 hour")))
        return spans.select(*by, hours.alias(key))


class EngineIOManager(TableIOManager):
    """Loads an input as a lazy frame over exactly the files of the pinned table version.

    The record is the same as always: asset, partition, table version, digest. The rows are not read here, so the digest
    is taken from the partition's commit, and the files are compared with Delta's log by size: a lost or truncated file
    is detected, one altered at the same size is not. The digest of several partitions as one dataset is computed from
    their digests.

    Args:
        lake: the lake.
        engine: opens the files.
        columns: columns to read.
    """

    def __init__(self, lake: Lake, engine: Engine, columns: Sequence[str]) -> None:
        super().__init__(lake)
        self.engine, self.columns = engine, columns

    def read(self, table: LakeTable, partitions: Sequence[str | None]) -> tuple[int, Parts]:
        """Return the current table version, and each partition's version and files."""
        return table.current_files(partitions)

    def frame(self, parts: Parts, schema: Schema) -> Any:
        """Return a lazy frame with a row for every hour; without rows, the frame of the pandas engine."""
        files = [path for _, rows in parts.values() for path in rows.paths]
        if not files:
            return to_pandas([], schema)
        *by, key = schema.key
        return self.engine.on_hourly_grid(self.engine.open(files, self.columns), key, by)


def engine_of(name: str, memory: str, spill: Path) -> Engine:
    """Return an engine by name, `duckdb` or `spark`.

    Raises:
        SettingsError: its package is not installed.
    """
    package = {"duckdb": "duckdb", "spark": "pyspark"}[name]
    if find_spec(package) is None:
        raise SettingsError(f"BIKES_ENGINE: found {name}, but no {package}; install the extra `{name}`, or set another")
    return DuckDB(memory, spill) if name == "duckdb" else Spark()
