"""What is wrong with an audit log: its chain, and whether it goes as far as a head says and holds that entry.

Reading stops at the first entry that is wrong: what follows it hangs on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bikes_assets.governance.audit.entries import AuditEntry, AuditHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bikes_assets.governance.audit.signing import PublicKey

Wrong = Literal["edited", "removed", "moved", "inserted", "cut", "signature", "record", "unlogged"]
"""How something is wrong: entries were edited, removed, moved, inserted, or cut off at the end; a signature does not hold;
an entry and the store's own record differ; a record has no entry."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """Something that is wrong.

    Attributes:
        how: in which way.
        what: in words.
        number: the first entry that is wrong, None where it is about no single one.
    """

    how: Wrong
    what: str
    number: int | None = None


@dataclass(slots=True)
class ChainCheck:
    """Reads a log from its beginning and remembers what has to be compared later.

    Attributes:
        wanted: numbers of the entries whose digests are asked for later.
        digests: digest of each of these.
        head: the last entry that was read.
        finding: what is wrong, None where nothing is.
    """

    wanted: frozenset[int] = frozenset()
    digests: dict[int, str] = field(default_factory=dict[int, str])
    head: AuditHead = field(default_factory=AuditHead)
    finding: AuditFinding | None = None

    def entries(self, lines: Iterable[bytes]) -> Iterator[AuditEntry]:
        """Yield the entries of a log up to the first that is wrong.

        Args:
            lines: the lines of the log, without their ends.
        """
        rest = iter(lines)
        for line in rest:
            try:
                entry = AuditEntry.parse(line)
            except ValueError as error:
                number = self.head.number + 1
                self.finding = AuditFinding("edited", f"entry {number} was edited: {error}", number)
                return
            if (entry.number, entry.before) != (self.head.number + 1, self.head.digest):
                self.finding = _misplaced(self.head, entry, rest)
                return
            self.head = AuditHead(entry.number, entry.digest)
            if entry.number in self.wanted:
                self.digests[entry.number] = entry.digest
            yield entry

    def compare(self, head: AuditHead, name: str, *, is_last: bool = False) -> AuditFinding | None:
        """Return how a log that was read to its end differs from what a head says, None where it does not.

        Args:
            head: the head; its number was `wanted`.
            name: what it is, in words.
            is_last: whether nothing may follow it.
        """
        if head.number > self.head.number:
            begin = self.head.number + 1
            told = f"entries {begin} to {head.number} are gone: {name} names the last one"
            return AuditFinding(
                "cut", told if begin < head.number else f"entry {begin} is gone: {name} names it", begin
            )
        if self.digests.get(head.number, "") != head.digest:
            told = f"entry {head.number} is another one than {name} names: it or entries before it were replaced"
            return AuditFinding("edited", told, head.number)
        if is_last and self.head.number > head.number:
            told = f"entry {head.number + 1} was added: {name} names the one before as the last"
            return AuditFinding("inserted", told, head.number + 1)
        return None


def unsigned(head: bytes, signature: bytes, key: PublicKey, name: str) -> AuditFinding | None:
    """Return what is wrong with the signature of a head, None where nothing is.

    Args:
        head: the bytes of the head.
        signature: its signature.
        key: the key that must have signed it.
        name: what the head is, in words.
    """
    if key.verifies(head, signature):
        return None
    told = f"the signature of {name} is not one of these bytes by the key {key.fingerprint[:16]}"
    return AuditFinding("signature", f"{told}: the head, the signature or the key is another one")


def _misplaced(head: AuditHead, entry: AuditEntry, rest: Iterator[bytes]) -> AuditFinding:
    """Return how an entry that is whole by itself is wrong where it stands."""
    number = head.number + 1
    if entry.number == number:
        told = f"entry {number} does not name the digest of the one before: it was inserted, or the one before replaced"
        return AuditFinding("inserted", told, number)
    if entry.number < number:
        return AuditFinding("inserted", f"entry {number}: found number {entry.number} a second time", number)
    if number in _numbers(rest):
        return AuditFinding("moved", f"entry {number} was moved: found number {entry.number} in its place", number)
    missing = f"entries {number} to {entry.number - 1} were" if entry.number > number + 1 else f"entry {number} was"
    return AuditFinding("removed", f"{missing} removed: found number {entry.number} after {head.number}", number)


def _numbers(lines: Iterable[bytes]) -> Iterator[int]:
    for line in lines:
        try:
            yield AuditEntry.parse(line).number
        except ValueError:
            continue
