"""One declared table in Delta Lake: pinned, verified reads and atomic, guarded writes of one partition at a time.

Every commit's metadata carries the content digest of the partition that it publishes, the record of how it was made,
and the checksum of each file that it adds (SHA-256). So the table alone tells, for any version, which commit published
each partition, and whether its files still hold what was stored, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import uuid4

from bikes_assets.core.digest import file_digest, table_digest
from bikes_assets.core.errors import ConflictError, DigestError, LineageError, SchemaError
from bikes_assets.core.faults import away, store_fault
from bikes_assets.core.record import Version, partition_address
from bikes_assets.core.schema import schema_from
from bikes_assets.core.texts import newest
from bikes_assets.storage.commits import OF_NONE, PARTITION, Commit, Commits, commits_of, entries_in, metadata_in
from bikes_assets.storage.delta_log import flush_commit, is_table, log_file, open_table
from bikes_assets.storage.files import create_file, filesystem_of, is_remote, read_file, read_files, write_file
from bikes_assets.storage.removals import raise_if_removed
from bikes_assets.storage.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake import Schema as Types
    from deltalake.transaction import AddAction, RemoveAction

    from bikes_assets.core.schema import Schema

_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 36500 days",  # every version stays readable
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "10",  # opening a table reads the commits since the last checkpoint
}
_ATTEMPTS = 100
_LONGEST_NAME = 255
"""Longest name of a file or folder that file systems accept, in bytes."""


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
class Look:
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

    def instead_of(self, partition: str | None, known: Iterable[str | None]) -> str:
        """Return the expected state for the error that a partition was not published by the requested version.

        Args:
            partition: the partition.
            known: the partitions that were.
        """
        if own := [commit.version for commit in self.commits() if commit.partition == partition]:
            return f"one of its versions: {newest(own)}"
        return f"one of {', '.join(sorted(map(str, known))) or 'none, for nothing was published by then'}"

    def look(self) -> Look | None:
        """Return the current state of the table and whether it is as it was published; None where there is no table."""
        if not self.exists():
            return None
        table = self._open_as_it_is()
        known, published = self._commits(table), self._published(table)
        altered = {key: commit for key, by in known.altered().items() for commit in known.of([by]).values()}
        return Look(published, altered, {} if is_remote(self.uri) else self._cut_short(table, published))

    def _cut_short(self, table: DeltaTable, keys: Iterable[str | None]) -> dict[str | None, str]:
        found: dict[str | None, str] = {}
        for key, files in self._files(table, keys).items():
            for file in files:
                place = Path(f"{self.uri.removeprefix('file://')}/{unquote(file['path'])}")
                size = place.stat().st_size if place.exists() else 0
                if size != file["size_bytes"]:
                    found[key] = f"its file {place} has {size:,} bytes, expected {file['size_bytes']:,}"
        return found

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
        return self._read(self._open(version), partitions)

    def read_present(
        self, partitions: Iterable[str | None], memory: Memory
    ) -> tuple[int, dict[str | None, tuple[Version, pa.Table]]]:
        """Return the current table version, and what `read` returns for it; what `memory` holds is not read again."""
        table = self._open()
        published = self._published(table)
        wanted = {key: published[key] for key in partitions if key in published}
        known = {key: part for key, commit in wanted.items() if (part := memory.get(self.uri, commit))}
        parts = {**known, **self._read(table, [key for key in wanted if key not in known])}
        for key, commit in wanted.items():
            memory.put(self.uri, commit, parts[key])
        return table.version(), {key: parts[key] for key in wanted}

    def files_present(self, partitions: Iterable[str | None]) -> tuple[int, dict[str | None, tuple[Version, Files]]]:
        """Return the current table version, and each partition's version and files, verified by their checksums.

        At a URL only their sizes are checked: reading them would fetch everything twice.

        Raises:
            DigestError: a file is missing, not of the size that Delta's log says, or not what was stored.
        """
        table = self._open()
        published = self._published(table)
        wanted = {key: published[key] for key in partitions if key in published}
        files = {key: Files((), 0) for key in wanted}
        for key, added in self._files(table, wanted).items():
            address = partition_address(self.name, key)
            seals = wanted[key].seals or {}
            paths = tuple(self._whole_file(address, unquote(item["path"]), item["size_bytes"], seals) for item in added)
            files[key] = Files(paths, sum(file["num_records"] for file in added))
        return table.version(), {
            key: (Version(self.name, key, commit.version, commit.digest), files[key]) for key, commit in wanted.items()
        }

    @staticmethod
    def _files(table: DeltaTable, keys: Iterable[str | None]) -> dict[str | None, list[dict[str, Any]]]:
        """Return the files of each of these partitions, as Delta's log describes them."""
        import pyarrow as pa

        files: dict[str | None, list[dict[str, Any]]] = {key: [] for key in keys}
        if files:
            # read as a stream, and without timestamps, because pyarrow needs pandas for these and for anything else
            columns = [f"partition.{PARTITION}", "path", "size_bytes", "num_records"]
            actions: Any = table.get_add_actions(flatten=True)
            for action in pa.RecordBatchReader.from_stream(actions).read_all().select(columns).to_pylist():
                if action[f"partition.{PARTITION}"] in files:
                    files[action[f"partition.{PARTITION}"]].append(action)
        return files

    def _whole_file(self, address: str, path: str, size: int, seals: Mapping[str, str]) -> str:
        """Return the path or URL of a file of Delta's log, after checking its size and, in a folder, its checksum."""
        place = f"{self.uri}/{path}"
        filesystem, inside = filesystem_of(place)
        found = filesystem.size(inside) if filesystem.exists(inside) else 0
        if found != size:
            raise DigestError(f"{address}: {place} has {found:,} bytes, expected {size:,}; restore {self.uri}")
        if path in seals and not is_remote(self.uri):
            with Path(inside).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 != seals[path]:
                raise DigestError(f"{address}: {broken_seal(place, sha256, seals[path])}; restore {self.uri}")
        return place

    def _read(self, table: DeltaTable, partitions: Iterable[str | None]) -> dict[str | None, tuple[Version, pa.Table]]:
        import pyarrow as pa

        published = self._published(table)
        wanted = {key: published[key] for key in partitions if key in published}
        parts: dict[str | None, tuple[Version, pa.Table]] = {}
        for key, files in self._files(table, wanted).items():
            commit = wanted[key]
            found = Version(self.name, key, commit.version, commit.digest)
            try:
                part = self.schema.conform(self._rows(files, commit.seals or {}))
            except (pa.ArrowException, OSError, ValueError) as error:  # a damaged footer may raise anything
                if isinstance(error, FileNotFoundError):
                    raise_if_removed(self.uri.removesuffix(f"/{self.name}"), found.address)
                where = f"{partition_address(self.name, key)}: cannot be read at version {table.version()}"
                raise DigestError(f"{where}: {error}; restore {self.uri}") from error
            except SchemaError as error:  # what was published conformed to the schema
                raise DigestError(f"{found.address}: {error}; restore {self.uri}") from error
            content = table_digest(part, self.schema).table
            if content != commit.content:
                raise DigestError(
                    f"{found.address}: found content {content}, expected {commit.content}; restore {self.uri}"
                )
            parts[key] = (found, part)
        return parts

    def _rows(self, files: list[dict[str, Any]], seals: Mapping[str, str]) -> pa.Table:
        """Return the rows of some files, verified by their checksums; null for a column that a file lacks.

        Files are read as bytes, on this thread: Arrow's own threads may release a Python object after this process has
        begun to exit, which aborts it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = self.schema.arrow()
        tables = [columns.empty_table()]
        places = [f"{self.uri}/{unquote(file['path'])}" for file in files]
        for file, place, content in zip(files, places, read_files(places), strict=True):
            if len(content) != file["size_bytes"]:
                raise OSError(f"{place} has {len(content):,} bytes, expected {file['size_bytes']:,}")
            seal = seals.get(unquote(file["path"]))
            if seal and (sha256 := file_digest(content)) != seal:
                raise OSError(broken_seal(place, sha256, seal))
            found = pq.ParquetFile(pa.BufferReader(content)).read(columns.names, use_threads=False)
            arrays = [found[name] if name in found.schema.names else pa.nulls(len(found)) for name in columns.names]
            tables.append(pa.Table.from_arrays(arrays, columns.names).cast(columns))
        return pa.concat_tables(tables)

    def write(
        self,
        partition: str | None,
        rows: pa.Table,
        record: dict[str, Any],
        *,
        since: int,
        fence: Callable[[], object] = lambda: None,
        anew: bool = False,
    ) -> int:
        """Replace one partition in one atomic commit and return the table version that publishes it.

        Args:
            partition: partition key, None where the asset has no partitions.
            rows: the partition's rows, as `schema.conform` returns them.
            record: JSON-ready values for the commit's metadata; `record["output"]["digest"]` is the data version.
            since: table version when the work started.
            fence: called directly before each attempt to commit; where it raises, the partition stays as it is.
            anew: whether the table's columns are replaced by these from this version on. Earlier versions keep theirs.

        Raises:
            ConflictError: this partition was published by another writer after `since`, or the table stayed too busy.
            StoreError: the log of the table cannot be written, or its store is unreachable or busy.
            LineageError: the partition key is empty, which Delta would store as null, or cannot be encoded in UTF-8.
        """
        from deltalake import CommitProperties
        from deltalake.exceptions import CommitFailedError, DeltaError

        address = partition_address(self.name, partition)
        if partition == "":
            raise LineageError(f"{address}: found an empty partition key, expected one of at least one character")
        folder = _folder_of(self.name, partition)
        metadata = {"content": table_digest(rows, self.schema).table, "record": json.dumps(record)}
        if partition is not None:
            metadata[PARTITION] = partition
        added: list[AddAction | RemoveAction] | None = None
        for attempt in range(_ATTEMPTS):
            table = self._open_as_it_is() if anew else self._open()
            known = self._commits(table)
            newest = known.published(table.version()).get(partition, 0)
            if newest > since:
                (newer,) = known.of([newest]).values()
                run = newer.record.get("made_by", {}).get("dagster_run_id", "")
                raise ConflictError(
                    f"{address}: run {run or 'unknown'} published version {newer.version} while this one was at work from "
                    f"version {since}; its result stays, run again to replace it",
                    run,
                )
            schema = self._stored_types() if anew else self._types_to_write(table)
            if added is None:
                added, seals = self._store(partition, folder, rows)
                metadata["sha256"] = json.dumps(seals)
            flush_commit(self.uri, table.version())  # of another process, which may be about to
            fence()
            try:
                table.create_write_transaction(
                    added,
                    "overwrite",
                    schema,
                    [PARTITION],
                    [(PARTITION, "=", partition or "")],  # to Delta, an empty key is null
                    commit_properties=CommitProperties(
                        custom_metadata=metadata,
                        # so that the version is the next one, or there is no commit; if Delta retried, a commit of no
                        # rows would not conflict with one made at the same time
                        max_commit_retries=0,
                    ),
                )
            except (DeltaError, OSError) as error:
                if not self._is_committed(table.version() + 1, metadata):
                    if fault := store_fault(error, self.uri) or away(error, self.uri):
                        raise fault from error
                    if not isinstance(error, CommitFailedError):
                        raise
                    # another commit came first: check again whether it touched this partition
                    time.sleep(random.uniform(0, 0.02 * min(attempt + 1, 10)))
                    continue
            flush_commit(self.uri, table.version() + 1)
            return table.version() + 1
        raise ConflictError(f"{address}: {_ATTEMPTS} attempts met other writers' commits; run again")

    def _is_committed(self, version: int, metadata: Mapping[str, str]) -> bool:
        """Return whether a version is the commit with this metadata: a store may have kept it, but its answer be lost.

        Clients then send it again, and get the answer that it exists already.
        """
        content = read_file(log_file(self.uri, version))
        return content is not None and metadata.items() <= metadata_in(entries_in(content)).items()

    def begin_beyond(self, version: int) -> None:
        """Make the next commit get a higher version than this, by commits that publish nothing.

        A table that was deleted, or restored from a backup, would otherwise reuse the version numbers that it has lost,
        and an address with one of these would come to mean something else.
        """
        from deltalake import CommitProperties
        from deltalake.exceptions import CommitFailedError, DeltaError

        for _ in range(version + _ATTEMPTS):
            table = self._open_as_it_is()
            if table.version() >= version:
                return
            flush_commit(self.uri, table.version())
            properties = CommitProperties(custom_metadata={"lost": "true"}, max_commit_retries=0)
            try:
                table.create_write_transaction([], "append", table.schema(), [PARTITION], commit_properties=properties)
            except (DeltaError, OSError) as error:  # or it exists by now, from this writer or another one
                if fault := store_fault(error, self.uri) or away(error, self.uri):
                    raise fault from error
                if not isinstance(error, CommitFailedError):
                    raise

    def _store(
        self, partition: str | None, folder: str, rows: pa.Table
    ) -> tuple[list[AddAction | RemoveAction], dict[str, str]]:
        """Store rows in a file that no commit names yet, none for no rows; return its log entry and its checksum."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        from deltalake.transaction import AddAction

        if not len(rows):
            return [], {}
        sink = pa.BufferOutputStream()
        pq.write_table(rows.select(self.schema.names), sink)
        content = sink.getvalue().to_pybytes()
        path = f"{folder}/part-00000-{uuid4()}.parquet"
        write_file(f"{self.uri}/{path}", content)
        stats = json.dumps({"numRecords": len(rows)})
        action = AddAction(path, len(content), {PARTITION: partition}, time.time_ns() // 10**6, True, stats)
        return [action], {path: file_digest(content)}

    def _stored_types(self) -> Types:
        """Return the types that a table of this schema has in Delta."""
        import pyarrow as pa
        from deltalake import Schema as Types

        return Types.from_arrow(pa.schema([(PARTITION, pa.string()), *self.schema.arrow()]))

    def _types_to_write(self, table: DeltaTable) -> Types:
        """Return a table's types in Delta, after checking that files of this schema have these types.

        Columns that another program has added are dropped by the next commit; earlier versions keep them.
        """
        import pyarrow as pa

        stored, ours = (
            {field.name: field for field in pa.schema(types.to_arrow())}
            for types in (table.schema(), self._stored_types())
        )
        if wrong := next((name for name in ours if ours[name].type != stored[name].type), None):
            raise LineageError(
                f"{self.name}: found {wrong} of type {ours[wrong].type}, expected {stored[wrong].type}, as its table has it; "
                "give it that type, such as by astype, or declare the table's schema, for a column without a value may be of any "
                f"type; or move {self.uri} away"
            )
        return table.schema() if stored.keys() == ours.keys() else self._stored_types()

    def _open(self, version: int | None = None) -> DeltaTable:
        return self._of_this_schema(self._open_as_it_is(version))

    def _open_as_it_is(self, version: int | None = None) -> DeltaTable:
        from deltalake.exceptions import TableNotFoundError

        try:
            return open_table(self.uri, version)
        except TableNotFoundError:
            if version is not None:
                raise LineageError(f"{self.name}: there is no table at {self.uri}") from None
        self._create()
        return open_table(self.uri)

    def _of_this_schema(self, table: DeltaTable) -> DeltaTable:
        found, expected = [field.name for field in table.schema().fields], {PARTITION, *self.schema.names}
        if set(found) != expected and not (expected < set(found) and self._are_of_others(table, set(found) - expected)):
            raise LineageError(
                f"{self.uri}: found columns {', '.join(found)}, expected {PARTITION}, {', '.join(self.schema.names)}: the "
                "table was made by another version of this project; move it away, or set another BIKES_DATA"
            )
        return table

    def _are_of_others(self, table: DeltaTable, columns: Collection[str]) -> bool:
        """Return whether other programs have added these columns: no version that this project published has any."""
        ours = (commit.record.get("columns", {}) for commit in self._commits(table).all().values() if commit.content)
        return all(not set(columns) & set(known) for known in ours)

    def _create(self) -> None:
        """Create the table once, however many processes try at once: Delta itself would let two of them do so."""
        if not is_remote(self.uri):
            with _one_by_one(Path(self.uri)):
                self._create_at(self.uri)
                flush_commit(self.uri, 0)
            return
        with scratch_folder() as folder:
            self._create_at(str(folder))
            first = Path(log_file(str(folder), 0)).read_text()
        # delta-rs escapes less of a path than Python does
        first = first.replace(folder.as_uri(), self.uri).replace(f"file://{folder}", self.uri)
        create_file(log_file(self.uri, 0), first.encode())

    def _create_at(self, location: str) -> None:
        import pyarrow as pa
        from deltalake import DeltaTable

        schema = pa.schema([(PARTITION, pa.string()), *self.schema.arrow()])
        DeltaTable.create(
            location, schema, mode="ignore", partition_by=[PARTITION], configuration=_CONFIGURATION, name=self.name
        )

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


def _folder_of(asset: str, partition: str | None) -> str:
    """Return the folder of a partition's files; it is only a name, because the log holds the key.

    Raises:
        LineageError: the key holds an invalid character.
    """
    if partition is None:
        return f"{PARTITION}={OF_NONE}"
    try:
        name = f"{PARTITION}={quote(partition, safe='')}"
    except UnicodeEncodeError:
        raise LineageError(
            f"{asset}: found partition key {partition!r}, expected text that UTF-8 can hold; rename it"
        ) from None
    return name if len(name) <= _LONGEST_NAME else f"{PARTITION}={file_digest(partition.encode())}"


def broken_seal(place: str, found: str, expected: str) -> str:
    """Return the message about a file whose bytes are not those that were stored."""
    return f"{place} has SHA-256 {found}, expected {expected}"


def present_version(uri: str) -> int:
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


@contextmanager
def _one_by_one(place: Path) -> Iterator[None]:
    """Let one process of this machine at a time create a table."""
    from filelock import FileLock

    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / f".{place.name}.lock", timeout=60):
        yield
