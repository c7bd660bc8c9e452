"""The audit log of a store, in a folder of this machine: appended to by one process at a time, and signed after that.

`log.ndjson` holds the entries. `progress.json` remembers how far each table's log was read when the file had some size;
what was appended since then is read from the log itself, so that a process may be killed anywhere. It can be deleted: the log
is then read from its beginning. `head.json` holds the last head that was signed.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import AuditError
from bikes_assets.governance.audit.entries import AuditEntry, AuditHead
from bikes_assets.governance.audit.signing import PublicKey
from bikes_assets.storage import disk
from bikes_assets.storage.checksums import read_memory, write_memory
from bikes_assets.storage.parsed import fields, parsed, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from bikes_assets.governance.audit.entries import AuditFact
    from bikes_assets.governance.audit.signing import PrivateKey

_SECONDS = 120
"""How long to wait for another process that appends."""
_LOG_FOLDER = "/_delta_log/"
_ADVICE = "bikes audit verify says what is wrong"


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head that was signed.

    Attributes:
        head: the head.
        signature: signature of its bytes.
        key: the key that verifies it.
        start: where the entry begins in the log, in bytes.
        size: where it ends, with its line's end.
    """

    head: AuditHead
    signature: bytes
    key: PublicKey
    start: int
    size: int

    def to_json(self) -> bytes:
        """Return it as the content of a file."""
        values = asdict(self.head) | {"signature": self.signature.hex(), "public_key": self.key.pem.decode()}
        return json.dumps(values | {"start": self.start, "size": self.size}).encode()

    @classmethod
    def from_values(cls, values: Any) -> SignedHead:
        """Return the head of a file's JSON values; raises ValueError, or KeyError, where they are none."""
        integers = dict.fromkeys(("number", "start", "size"), int)
        known = fields(values, {**integers, **dict.fromkeys(("digest", "signature", "public_key"), str)})
        head, key = AuditHead(known["number"], known["digest"]), PublicKey.parse(known["public_key"].encode())
        return cls(head, bytes.fromhex(known["signature"]), key, known["start"], known["size"])


@dataclass(slots=True)
class Progress:
    """How far the log is.

    Attributes:
        head: its last entry.
        start: where that begins in the log, in bytes.
        size: where it ends, with its line's end.
        tables: the last table version that was read, by asset.
        records: files of the lake that record holds and removals, of those that have an entry.
        settings: the settings that it holds last.
    """

    head: AuditHead = field(default_factory=AuditHead)
    start: int = 0
    size: int = 0
    tables: dict[str, int] = field(default_factory=dict[str, int])
    records: set[str] = field(default_factory=set[str])
    settings: dict[str, str] = field(default_factory=dict[str, str])

    def take(self, entry: AuditEntry) -> None:
        """Go on to an entry that follows the last one."""
        line = len(entry.line) + 1
        self.head, self.start, self.size = AuditHead(entry.number, entry.digest), self.size, self.size + line
        asset, mark, file = entry.fact.record.rpartition(_LOG_FOLDER)
        if mark:
            self.tables[asset] = max(self.tables.get(asset, -1), int(file.removesuffix(".json")))
        elif entry.fact.record:
            self.records.add(entry.fact.record)
        else:
            self.settings = dict(entry.fact.settings)

    def to_dict(self) -> dict[str, Any]:
        """Return its JSON-ready values."""
        return asdict(self) | {"records": sorted(self.records)}

    @classmethod
    def from_dict(cls, values: Any) -> Progress:
        """Return what `to_dict` returned; raises ValueError, TypeError or KeyError for anything else."""
        head = AuditHead(int(values["head"]["number"]), str(values["head"]["digest"]))
        tables = {str(asset): int(version) for asset, version in values["tables"].items()}
        records = {str(record) for record in values["records"]}
        return cls(head, int(values["start"]), int(values["size"]), tables, records, texts(values["settings"]))


class AuditLog:
    """The log in a folder.

    Args:
        folder: the folder; it is created when something is appended.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self._head = folder / "log.ndjson", folder / "head.json"
        self._progress, self._lock = folder / "progress.json", folder / ".lock"

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """Yield the lines of the log from a place on, without their ends; one that was cut short in a crash is left out."""
        if self.file.exists():
            yield from complete_lines(self.file, start)

    def signed(self) -> SignedHead | None:
        """Return the last head that was signed, None where none was.

        Raises:
            AuditError: its file holds no head.
        """
        if not self._head.exists():
            return None
        try:
            return parsed(self._head.read_bytes(), SignedHead.from_values)
        except ValueError as error:
            raise AuditError(
                f"{self._head}: found no signed head ({error}), expected the last one; restore the file, or where it is lost, "
                "remove it: nothing then shows that entries before were cut off, except heads that are kept elsewhere"
            ) from None

    def remembered(self) -> AuditHead:
        """Return the last entry that this machine remembers; number 0 where it remembers none."""
        return (read_memory(self._progress, Progress.from_dict) or Progress()).head

    @contextmanager
    def extended(
        self, facts: Callable[[Progress], Iterable[AuditFact]], key: PrivateKey | None
    ) -> Iterator[tuple[Progress, int]]:
        """Append what is missing, sign the head, and yield how far the log is and how many entries were appended.

        No other process appends meanwhile.

        Args:
            facts: returns what has no entry yet, in order, and notes in the progress what it has read.
            key: the key to sign with, None to sign nothing.

        Raises:
            AuditError: the log is not as it was written.
            filelock.Timeout: another process appends for too long.
        """
        with disk.locked(self._lock, _SECONDS):
            remembered = read_memory(self._progress, Progress.from_dict)
            known = remembered and remembered.to_dict()
            progress = self._caught_up(remembered or Progress())
            before = progress.size
            signed = self._signed_in(progress, key)
            entries = list[AuditEntry]()
            for fact in facts(progress):
                last = progress.head
                entries.append(AuditEntry.after(last.number, last.digest, fact))
                progress.take(entries[-1])
            if entries:
                self._append(before, b"".join(entry.line + b"\n" for entry in entries))
            if progress.to_dict() != known:
                write_memory(self._progress, progress.to_dict())
            if key and progress.head.number and (not signed or signed.head != progress.head):
                content = SignedHead(
                    progress.head, key.sign(progress.head.content), key.public, progress.start, progress.size
                ).to_json()
                disk.put(self._head, content)
            yield progress, len(entries)

    def _caught_up(self, progress: Progress) -> Progress:
        """Return how far the log is: what was appended since then is taken into what is remembered.

        Raises:
            AuditError: the log does not hold what is remembered, or an entry after it cannot be read.
        """
        if progress.size and not self._holds(progress.head, progress.start, progress.size):
            raise AuditError(
                f"{self.file}: found another log than that with entry {progress.head.number}, which was the last; {_ADVICE}"
            )
        for line in self.lines(progress.size):
            try:
                entry = AuditEntry.parse(line)
            except ValueError as error:
                raise AuditError(f"{self.file}: entry {progress.head.number + 1}: {error}; {_ADVICE}") from None
            if (entry.number, entry.before) != (progress.head.number + 1, progress.head.digest):
                raise AuditError(f"{self.file}: entry {progress.head.number + 1} does not follow the last; {_ADVICE}")
            progress.take(entry)
        return progress

    def _signed_in(self, progress: Progress, key: PrivateKey | None) -> SignedHead | None:
        """Return the last signed head, None where none was.

        Raises:
            AuditError: the log does not hold its entry, or another key has signed it: to sign another head would hide that.
        """
        signed = self.signed()
        if signed and key and not key.public.verifies(signed.head.content, signed.signature):
            raise AuditError(
                f"{self._head}: found a head that another key has signed, expected {key.public.fingerprint[:16]}; set that key, "
                "or where it was replaced, keep an export of the log with that head, and remove the file"
            )
        if signed and (signed.size > progress.size or not self._holds(signed.head, signed.start, signed.size)):
            raise AuditError(
                f"{self.file}: found no longer entry {signed.head.number}, whose head was signed; {_ADVICE}"
            )
        return signed

    def _holds(self, head: AuditHead, start: int, size: int) -> bool:
        """Return whether the log has an entry at a place."""
        if not self.file.exists():
            return False
        with self.file.open("rb") as log:
            log.seek(start)
            line = log.read(max(0, size - start))
        try:
            entry = AuditEntry.parse(line.removesuffix(b"\n"))
        except ValueError:
            return False
        return line.endswith(b"\n") and AuditHead(entry.number, entry.digest) == head

    def _append(self, size: int, content: bytes) -> None:
        """Write to the end of the log, in the place of a line that was cut short in a crash, and flush it."""
        is_new = not self.file.exists()
        with os.fdopen(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as log:
            log.truncate(size)
            log.seek(size)
            log.write(content)
            log.flush()
            os.fsync(log.fileno())
        if is_new:
            disk.flush(self.file.parent)


def complete_lines(file: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of a file from a place on, without their ends; a last one without an end is left out."""
    with file.open("rb") as log:
        log.seek(start)
        for line in log:
            if line.endswith(b"\n"):
                yield line[:-1]
