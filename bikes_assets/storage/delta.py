"""One declared table in Delta Lake: pinned, verified reads and atomic, guarded writes of one partition at a time.

Every commit's metadata carries the content digest of the partition that it publishes, the record of how it was materialized,
and the checksum of each file that it adds (SHA-256). So the table alone tells, for any version, which commit published
each partition, and whether its files still hold what was stored, to the last bit.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.core.digest import table_digest
from bikes_assets.core.errors import ConflictError, DigestError, LineageError, SchemaError
from bikes_assets.core.record import Version, partition_address
from bikes_assets.core.schema import schema_from
from bikes_assets.storage import delta_files, delta_log
from bikes_assets.storage.commits import Commit, Commits, commits_of
from bikes_assets.storage.delta_log import PARTITION, is_table, open_table
from bikes_assets.storage.files import is_remote
from bikes_assets.storage.removals import raise_if_removed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake import Schema as Types
    from deltalake.transaction import AddAction, RemoveAction

    from bikes_assets.core.schema import Schema

_ATTEMPTS = 100


class Memory:
    """A cache of partitions that were read and checked, the latest that fit: what a commit published never changes."""

    def __init__(self, most_bytes: int = 2**28) -> None:
        self._most, self.bytes = most_bytes, 0
        self._parts: dict[tuple[str, int, str], tuple[Version, pa.Table]] = {}

    def get(self, uri: str, commit: Commit) -> tuple[Version, pa.Table] | None:
        """Return what a commit to a table published, None when it is not cached."""
        return self._parts.get((uri, commit.version, commit.content))

    def put(self, uri: str, commit: Commit, part: tuple[Version, pa.Table]) -> None:
        """Cache what a commit published as the latest, and drop the oldest that no longer fit."""
        key = (uri, commit.version, commit.content)
        self.bytes += part[1].nbytes if self._parts.pop(key, None) is None else 0
        self._parts[key] = part
        while self.bytes > self._most:
            _, rows = self._parts.pop(next(iter(self._parts)))
            self.bytes -= rows.nbytes


@dataclass(frozen=True, slots=True)
class Files:
    """Rows of a partition that are left in their Parquet files: paths or URLs, and the number of rows."""

    paths: tuple[str, ...]
    rows: int

    def __len__(self) -> int:
        return self.rows


@dataclass(frozen=True, slots=True)
class TableState:
    """The current state of a table.

    Attributes:
        published: the commit that published each partition.
        altered: the partitions whose rows another program has changed since, each with the commit that did so last.
            What only puts rows into other files, such as compaction, changes none.
        cut_short: partitions of a table in a folder with a file not as long as Delta's log says, and which file.
    """

    published: dict[str | None, Commit]
    altered: dict[str | None, Commit]
    cut_short: dict[str | None, str]


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A table of the lake.

    Attributes:
        name: asset that owns it.
        uri: folder or URL of the Delta table.
        schema: its columns; each partition holds rows of it. Rows without one are stored under the partition null.
        memory: file of this machine that caches which commit published what; None for none.
    """

    name: str
    uri: str
    schema: Schema
    memory: Path | None = None

    def version(self) -> int:
        """Return the table's current version; the table is created when there is none."""
        return self._open().version()

    def published(self, version: int | None = None) -> dict[str | None, Commit]:
        """Return the commit that published each partition, as of a table version (default: the current one)."""
        return self._published(self._open(version))

    def latest(self, partition: str | None) -> Commit | None:
        """Return the last commit that published a partition, whatever columns it had; None where there is none."""
        if not self.exists():
            return None
        table = self._open_as_it_is()
        known = self._commits(table)
        number = known.published(table.version()).get(partition)
        return None if number is None else known.of([number])[number]

    def commits(self, wanted: Callable[[int], bool] = lambda _: True) -> list[Commit]:
        """Return the commits that published a partition, oldest first; nothing where there is no table.

        Args:
            wanted: whether a version is wanted, all by default.
        """
        if not self.exists():
            return []
        known = self._commits(self._open())
        return list(known.of(filter(wanted, known.publishing())).values())

    def look(self) -> TableState | None:
        """Return the current state of the table and whether it is as it was published; None where there is no table."""
        if not self.exists():
            return None
        table = self._open_as_it_is()
        known, published = self._commits(table), self._published(table)
        altered = {key: commit for key, by in known.altered().items() for commit in known.of([by]).values()}
        return TableState(published, altered, {} if is_remote(self.uri) else self._cut_short(table, published))

    def _cut_short(self, table: DeltaTable, keys: Iterable[str | None]) -> dict[str | None, str]:
        described = ((key, file) for key, files in delta_files.of_partitions(table, keys).items() for file in files)
        return {key: f"its file {wrong}" for key, file in described if (wrong := delta_files.damage(self.uri, file))}

    def added(self) -> dict[int, Mapping[str, int]]:
        """Return the files that each commit added, by table version: path in the table, and bytes; empty without a table.

        Commits that published nothing, such as the restoring of a version by another program, are among them.
        """
        if not self.exists():
            return {}
        return {version: commit.added for version, commit in self._commits(self._open_as_it_is()).all().items()}

    def exists(self) -> bool:
        """Return whether there is a table."""
        return is_table(self.uri)

    def read(
        self, partitions: Iterable[str | None], version: int | None = None
    ) -> dict[str | None, tuple[Version, pa.Table]]:
        """Return each partition's version and rows (in key order) as of one table version, digests checked.

        Args:
            partitions: partition keys, [None] where there are none; those that the table lacks are left out of the
                result.
            version: table version to read; default is the current one, the same for all partitions.

        Raises:
            DigestError: rows differ from what their commit says was published, or cannot be read.
        """
        table = self._open(version)
        return self._read(table, self._wanted(table, partitions))

    def read_current(
        self, partitions: Iterable[str | None], memory: Memory
    ) -> tuple[int, dict[str | None, tuple[Version, pa.Table]]]:
        """Return the current table version, and what `read` returns for it; what `memory` holds is not read again."""
        table = self._open()
        wanted = self._wanted(table, partitions)
        known = {key: part for key, commit in wanted.items() if (part := memory.get(self.uri, commit))}
        parts = known | self._read(table, {key: commit for key, commit in wanted.items() if key not in known})
        for key, commit in wanted.items():
            memory.put(self.uri, commit, parts[key])
        return table.version(), {key: parts[key] for key in wanted}

    def current_files(self, partitions: Iterable[str | None]) -> tuple[int, dict[str | None, tuple[Version, Files]]]:
        """Return the current table version, and each partition's version and files, verified by their checksums.

        At a URL only their sizes are checked: reading them would fetch everything twice.

        Raises:
            DigestError: a file is missing, not of the size that Delta's log says, or not what was stored.
        """
        table = self._open()
        wanted = self._wanted(table, partitions)
        parts: dict[str | None, tuple[Version, Files]] = {}
        for key, files in delta_files.of_partitions(table, wanted).items():
            commit = wanted[key]
            for file in files:
                if wrong := delta_files.damage(self.uri, file, commit.checksums):
                    raise DigestError(f"{partition_address(self.name, key)}: {wrong}; restore {self.uri}")
            paths = tuple(delta_files.place_of(self.uri, file) for file in files)
            version = Version(self.name, key, commit.version, commit.digest)
            parts[key] = (version, Files(paths, sum(file["num_records"] for file in files)))
        return table.version(), parts

    def _wanted(self, table: DeltaTable, partitions: Iterable[str | None]) -> dict[str | None, Commit]:
        published = self._published(table)
        return {key: published[key] for key in partitions if key in published}

    def _read(
        self, table: DeltaTable, wanted: Mapping[str | None, Commit]
    ) -> dict[str | None, tuple[Version, pa.Table]]:
        parts: dict[str | None, tuple[Version, pa.Table]] = {}
        for key, files in delta_files.of_partitions(table, wanted).items():
            version = Version(self.name, key, wanted[key].version, wanted[key].digest)
            parts[key] = (version, _checked_rows(self, version, wanted[key], files, table.version()))
        return parts

    def write(
        self,
        partition: str | None,
        rows: pa.Table,
        record: dict[str, Any],
        *,
        since: int,
        fence: Callable[[], object] = lambda: None,
        replace_schema: bool = False,
    ) -> int:
        """Replace one partition in one atomic commit and return the table version that publishes it.

        Args:
            partition: partition key, None where the asset has no partitions.
            rows: the partition's rows, as `schema.conform` returns them.
            record: JSON-ready values for the commit's metadata; `record["output"]["digest"]` is the data version.
            since: table version when the work started.
            fence: called directly before each attempt to commit; where it raises, the partition stays as it is.
            replace_schema: whether the table's columns are replaced by these from this version on. Earlier versions
                keep theirs.

        Raises:
            ConflictError: this partition was published by another writer after `since`, or the table stayed too busy.
            StoreError: the log of the table cannot be written, or its store is unreachable or busy.
            LineageError: the partition key is empty, which Delta would store as null, or cannot be encoded in UTF-8.
        """
        address = partition_address(self.name, partition)
        if partition == "":
            raise LineageError(f"{address}: found an empty partition key, expected one of at least one character")
        folder = delta_files.folder_of(self.name, partition)
        metadata = {"content": table_digest(rows, self.schema).table, "record": json.dumps(record)}
        if partition is not None:
            metadata[PARTITION] = partition
        added: list[AddAction | RemoveAction] | None = None
        for attempt in range(_ATTEMPTS):
            table = self._open_as_it_is() if replace_schema else self._open()
            self._raise_if_overtaken(table, partition, since)
            types = delta_log.types_of(self.schema) if replace_schema else _types_to_write(table, self)
            if added is None:
                added, checksums = delta_files.store_rows(self.uri, folder, partition, rows.select(self.schema.names))
                metadata["sha256"] = json.dumps(checksums)
            replaced = [(PARTITION, "=", partition or "")]  # to Delta, an empty key is null
            if delta_log.commit_next(self.uri, table, added, metadata, types=types, replaced=replaced, fence=fence):
                return table.version() + 1
            # another commit came first: check again whether it touched this partition
            time.sleep(random.uniform(0, 0.02 * min(attempt + 1, 10)))
        raise ConflictError(f"{address}: {_ATTEMPTS} attempts met other writers' commits; run again")

    def _raise_if_overtaken(self, table: DeltaTable, partition: str | None, since: int) -> None:
        """Raise a ConflictError if another writer has published a partition after a table version."""
        known = self._commits(table)
        newest = known.published(table.version()).get(partition, 0)
        if newest > since:
            (newer,) = known.of([newest]).values()
            run = newer.record.get("made_by", {}).get("dagster_run_id", "")
            raise ConflictError(
                f"{partition_address(self.name, partition)}: run {run or 'unknown'} published version {newer.version} while this "
                f"one was at work from version {since}; its result stays, run again to replace it",
                run,
            )

    def begin_beyond(self, version: int) -> None:
        """Make the next commit get a higher version than this, by commits that publish nothing.

        A table that was deleted, or restored from a backup, would otherwise reuse the version numbers that it has lost,
        and an address with one of these would come to mean something else.
        """
        for _ in range(version + _ATTEMPTS):
            table = self._open_as_it_is()
            if table.version() >= version:
                return
            delta_log.commit_next(self.uri, table, [], {"lost": "true"}, types=table.schema())

    def _open(self, version: int | None = None) -> DeltaTable:
        return self._of_this_schema(self._open_as_it_is(version))

    def _open_as_it_is(self, version: int | None = None) -> DeltaTable:
        from deltalake.exceptions import TableNotFoundError

        try:
            return open_table(self.uri, version)
        except TableNotFoundError:
            if version is not None:
                raise LineageError(f"{self.name}: there is no table at {self.uri}") from None
        delta_log.create_table(self.uri, self.name, self.schema)
        return open_table(self.uri)

    def _of_this_schema(self, table: DeltaTable) -> DeltaTable:
        found, expected = [field.name for field in table.schema().fields], {PARTITION, *self.schema.names}
        if set(found) != expected and not (expected < set(found) and self._are_of_others(table, set(found) - expected)):
            raise LineageError(
                f"{self.uri}: found columns {', '.join(found)}, expected {PARTITION}, {', '.join(self.schema.names)}: the "
                "table was created by another version of this project; move it away, or set another BIKES_DATA"
            )
        return table

    def _are_of_others(self, table: DeltaTable, columns: Collection[str]) -> bool:
        """Return whether other programs have added these columns: no version that this project published has any."""
        ours = (commit.record.get("columns", {}) for commit in self._commits(table).all().values() if commit.content)
        return all(not set(columns) & set(known) for known in ours)

    def _published(self, table: DeltaTable) -> dict[str | None, Commit]:
        known = self._commits(table)
        published = known.published(table.version())
        commits = known.of(published.values())
        return {partition: commits[number] for partition, number in published.items()}

    def _commits(self, table: DeltaTable) -> Commits:
        """Return the commits, read up to the table's version at least."""
        known = commits_of(self.uri, str(table.metadata().id), self.memory)
        known.extend(table.version())
        return known


def _checked_rows(
    table: LakeTable, version: Version, commit: Commit, files: Sequence[Mapping[str, Any]], at: int
) -> pa.Table:
    """Return a partition's rows from its files, after comparing them with their commit; `at` is the version that is read."""
    import pyarrow as pa

    try:
        rows = table.schema.conform(
            delta_files.read_rows(table.uri, files, table.schema.arrow(), commit.checksums or {})
        )
    except (pa.ArrowException, OSError, ValueError) as error:  # a damaged footer may raise anything
        if isinstance(error, FileNotFoundError):
            raise_if_removed(table.uri.removesuffix(f"/{table.name}"), version.address)
        where = f"{partition_address(table.name, version.partition)}: cannot be read at version {at}"
        raise DigestError(f"{where}: {error}; restore {table.uri}") from error
    except SchemaError as error:  # what was published conformed to the schema
        raise DigestError(f"{version.address}: {error}; restore {table.uri}") from error
    content = table_digest(rows, table.schema).table
    if content != commit.content:
        raise DigestError(f"{version.address}: found content {content}, expected {commit.content}; restore {table.uri}")
    return rows


def _types_to_write(table: DeltaTable, of: LakeTable) -> Types:
    """Return a table's types in Delta, after checking that files of the declared schema have these types.

    Columns that another program has added are dropped by the next commit; earlier versions keep them.
    """
    import pyarrow as pa

    types = delta_log.types_of(of.schema)
    stored, ours = (
        {field.name: field.type for field in pa.schema(schema.to_arrow())} for schema in (table.schema(), types)
    )
    if wrong := next((name for name in ours if ours[name] != stored[name]), None):
        raise LineageError(
            f"{of.name}: found {wrong} of type {ours[wrong]}, expected {stored[wrong]}, as its table has it; "
            "give it that type, such as by astype, or declare the table's schema, for a column without a value may be of any "
            f"type; or move {of.uri} away"
        )
    return table.schema() if stored.keys() == ours.keys() else types


def current_version(uri: str) -> int:
    """Return the current version of the table at a place; 0, that of its creation, where there is none yet."""
    from deltalake.exceptions import TableNotFoundError

    try:
        return open_table(uri).version()
    except TableNotFoundError:
        return 0


def stored_schema(name: str, uri: str, version: int | None = None) -> Schema | None:
    """Return the columns of the table at a place as of a table version (default: the current); None without a table."""
    import pyarrow as pa
    from deltalake.exceptions import TableNotFoundError

    try:
        table = open_table(uri, version)
    except TableNotFoundError:
        return None
    columns = [field for field in pa.schema(table.schema().to_arrow()) if field.name != PARTITION]
    return schema_from(pa.schema(columns).empty_table(), name)
