"""The commits of a Delta table: each is read from the log; which of them published what is cached in a small file.

So a question about the current state reads only the commits that published it and those that are newer than the file,
however many there were before. The file can be deleted: it is rebuilt. It is valid as long as the last commit that it
knows equals the one in the log, which is not so after a backup was restored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import RecordError, StoreError
from bikes_assets.core.record import Record, record_digest
from bikes_assets.storage.checksums import read_memory, write_memory
from bikes_assets.storage.delta_log import (
    OF_NONE,
    PARTITION,
    entries_in,
    flush_commit,
    is_there,
    log_file,
    metadata_in,
)
from bikes_assets.storage.files import read_file, read_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

_FEW = 16
"""Number of new commits that every process reads for itself before they are added to the file."""
_MOST = 1_000
"""Number of commits of a table that a process caches."""
_AT_ONCE = 500
"""Number of log files that are read at once."""

_Row: TypeAlias = tuple[bool, str | None, tuple[str | None, ...]]
"""Of a commit: whether it published a partition, which one, and otherwise the partitions whose rows it changed."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one Delta commit published: a partition and its record.

    `partition` is None where the asset has no partitions. `digest` is that of what the rows represent (for a model, its
    fitted state); `content` is that of the rows themselves, "" for a commit that published none, such as the table's
    creation; `time` is when it was written, Unix seconds. `checksums` is the SHA-256 of each file that it added, by path in
    the table; None for a commit from before file checksums were recorded. `added` is the size in bytes of each of these
    files, according to the log. `touched` are the partitions of which it added or removed rows, and `operation` is its
    name in Delta's log. `sha256` is that of its file in that log.
    """

    version: int
    partition: str | None
    digest: str
    content: str
    record: dict[str, Any]
    time: float = 0.0
    checksums: Mapping[str, str] | None = None
    added: Mapping[str, int] = field(default_factory=dict[str, int])
    touched: frozenset[str | None] = frozenset()
    operation: str = ""
    sha256: str = ""


class Commits:
    """The commits of a table, as far as they were asked for.

    Args:
        uri: folder or URL of the table.
        table_id: Delta's id of it: another table may be at that place later.
        memory: file of this machine that caches which commit published what; None for none.
    """

    def __init__(self, uri: str, table_id: str, memory: Path | None = None) -> None:
        self.uri, self._id, self._memory = uri, table_id, memory
        self._lock = RLock()  # Dagster's code server looks at a table from several threads
        self._read: dict[int, Commit] = {}
        self._rows, self._last = (memory and read_memory(memory, self._kept)) or ([], "")
        self._saved = len(self._rows)

    def extend(self, version: int) -> None:
        """Read what is new in the log, up to a version at least.

        The log may be a different one with the same versions: one that was restored from a backup and went on from
        there. The last known commit then differs.
        """
        with self._lock:
            if self._rows and not self._is_of_this_log():
                self._rows, self._last, self._read, self._saved = [], "", {}, 0
            while new := range(len(self._rows), min(version + 1, len(self._rows) + _AT_ONCE)):
                for number, content in zip(new, self._contents(new), strict=True):
                    commit = self._read[number] = _commit(number, content)
                    is_ours = bool(commit.content)
                    touched = () if is_ours else tuple(sorted(commit.touched, key=str))
                    self._rows.append((is_ours, commit.partition, touched))
                    self._last = file_digest(content)
                self._forget()
            if self._memory and len(self._rows) - self._saved >= _FEW:
                write_memory(self._memory, {"table": self._id, "last": self._last, "rows": self._rows})
                self._saved = len(self._rows)

    def published(self, version: int) -> dict[str | None, int]:
        """Return which commit published each partition, as of a version that was read."""
        rows = self._rows[: version + 1]
        return {partition: number for number, (is_ours, partition, _) in enumerate(rows) if is_ours}

    def publishing(self) -> list[int]:
        """Return the versions that published a partition, oldest first."""
        return [number for number, (is_ours, *_) in enumerate(self._rows) if is_ours]

    def altered(self) -> dict[str | None, int]:
        """Return the published partitions whose rows another program has changed, each with the last such commit."""
        found: dict[str | None, int] = {}
        published = set[str | None]()
        for number, (is_ours, partition, touched) in enumerate(self._rows):
            if is_ours:
                published.add(partition)
                found.pop(partition, None)
            elif touched:
                found |= dict.fromkeys(published.intersection(touched), number)
        return found

    def of(self, versions: Iterable[int]) -> dict[int, Commit]:
        """Return some commits by their version, oldest first."""
        wanted = sorted(versions)
        with self._lock:
            known = {number: self._read[number] for number in wanted if number in self._read}
            new = [number for number in wanted if number not in known]
            known |= {
                number: _commit(number, content) for number, content in zip(new, self._contents(new), strict=True)
            }
            self._read |= known
            self._forget()
        return {number: known[number] for number in wanted}

    def all(self) -> dict[int, Commit]:
        """Return every commit that was read, oldest first."""
        return self.of(range(len(self._rows)))

    def _contents(self, versions: Collection[int]) -> list[bytes]:
        # by their names, for `DeltaTable.history` numbers commits wrongly when the log holds newer ones than was opened
        return read_files([log_file(self.uri, version) for version in versions])

    def _is_of_this_log(self) -> bool:
        try:
            (content,) = self._contents([len(self._rows) - 1])
        except FileNotFoundError:
            return False
        return file_digest(content) == self._last

    def _forget(self) -> None:
        """Forget the commits that were read first, as a daemon would otherwise keep more and more."""
        for number in list(self._read)[: max(0, len(self._read) - _MOST)]:
            del self._read[number]

    def _kept(self, values: Any) -> tuple[list[_Row], str]:
        if values["table"] != self._id:
            raise ValueError("of another table")
        rows = [(bool(is_ours), partition, tuple(touched)) for is_ours, partition, touched in values["rows"]]
        return rows, str(values["last"])


_known: dict[tuple[str, str], Commits] = {}


def commits_of(uri: str, table_id: str, memory: Path | None) -> Commits:
    """Return the commits of a table; those that this process has read before are not read again."""
    key = (uri, table_id)
    if key not in _known:
        _known[key] = Commits(uri, table_id, memory)
    return _known[key]


def forget() -> None:
    """Forget what this process has read of any table, as if it had just started."""
    _known.clear()


def read_commit(uri: str, version: int) -> Commit | None:
    """Return a commit of a table as its file in the log says, without opening the table; None where there is no such file.

    Raises:
        StoreError: the file holds no commit.
    """
    place = log_file(uri, version)
    content = read_file(place)
    if content is None:
        return None
    try:
        return _commit(version, content)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{place}: found what cannot be read ({error}), expected a commit; restore the file") from None


def new_commits(uri: str, since: int) -> list[Commit]:
    """Return the commits of a table after a version, oldest first, without opening it; all are flushed to disk.

    Raises:
        StoreError: a file of the log holds no commit, or the store is unreachable or busy.
    """
    if not is_there(uri, since + 1):
        return []
    found = list[Commit]()
    while commit := read_commit(uri, since + 1 + len(found)):
        found.append(commit)
    if found:
        flush_commit(uri, found[-1].version)  # of another process, which may be about to; those before it are
    return found


def _commit(version: int, content: bytes) -> Commit:
    """Return the commit that a file of Delta's log describes."""
    entries = entries_in(content)
    info = metadata_in(entries)
    record = _record_in(info)
    return Commit(
        version,
        info.get(PARTITION),
        record.get("output", {}).get("digest", ""),
        info.get("content", ""),
        record,
        info.get("timestamp", 0) / 1000,
        json.loads(info.get("sha256", "null")),
        {unquote(entry["add"]["path"]): entry["add"]["size"] for entry in entries if "add" in entry},
        frozenset(_partition_of(entry) for entry in entries if _changes_rows(entry)),
        f"{info.get('operation', 'unknown')} by {info.get('engineInfo', 'unknown')}",
        file_digest(content),
    )


def _record_in(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record in a commit's metadata; nothing where it is invalid, which the event log's copy shows."""
    try:
        record = json.loads(info.get("record", "{}"))
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("output", {}), dict) else {}


def _changes_rows(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry of Delta's log adds or removes rows, rather than only moving them to another file."""
    return any(entry[kind].get("dataChange", True) for kind in ("add", "remove") if kind in entry)


def _partition_of(entry: Mapping[str, Any]) -> str | None:
    """Return the partition of the file in an entry of Delta's log; some programs write it only in the path."""
    action = entry.get("add") or entry["remove"]
    values = action.get("partitionValues")
    if values:
        return values.get(PARTITION)
    folder = unquote(action["path"]).split("/")[0].removeprefix(f"{PARTITION}=")
    return None if folder == OF_NONE else unquote(folder)


def differing(record: Record, commit: Commit | None, uri: str) -> str:
    """Return a message where the lake's commit of a version does not hold the same record as its event, else "".

    Args:
        record: the event's record.
        commit: the commit of its version, None where the lake does not hold it.
        uri: location of the table.
    """
    address = record.output.address
    if commit is None:
        return f"{address}: the event log names it, and the lake does not hold it; restore {uri}"
    try:
        stored = Record.from_dict(commit.record).at(commit.version)
    except RecordError as error:
        return f"{address}: its commit holds another record than its event: {error}; restore {uri}"
    if stored == record:
        return ""
    one, other = stored.to_dict(), record.to_dict()
    names = ", ".join(name for name in one if record_digest({name: one[name]}) != record_digest({name: other[name]}))
    return names and (
        f"{address}: its commit and its event hold records that differ in {names}: one was changed; restore {uri}, or Dagster's "
        "event log"
    )
