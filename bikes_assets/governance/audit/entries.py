"""Entries of the audit log: what each holds, and the one way in which it is written, from which its digest is computed.

An entry is one line of JSON, with sorted keys, without spaces, in ASCII. Its digest is the SHA-256 of that line without the
field `digest`, and includes the digest of the entry before: who changes an entry has to change all that follow.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from bikes_assets.core.digest import file_digest
from bikes_assets.storage.parsed import fields, parsed, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["settings", "materialization", "promotion", "pin", "lift", "hold", "release", "removal", "withdrawal"]
"""What an entry is about; a withdrawal is that of a removal, before anything was deleted."""
_TYPES = {
    **dict.fromkeys(("time", "kind", "who", "deployment", "run", "git_commit", "reason", "record"), str),
    **dict.fromkeys(("before", "digest"), str),
    "number": int,
    "subjects": list,
    "digests": dict,
    "settings": dict,
}


@dataclass(frozen=True, slots=True)
class AuditFact:
    """Something that happened, as the log tells of it.

    Attributes:
        time: when, in UTC with microseconds; "" where its record does not say.
        kind: what.
        subjects: addresses of what it happened to, such as the version that was materialized.
        digests: `record`: SHA-256 of the file that records it; of a materialization also `digest` and `content`, the digests
            of what was published, and `model`, the SHA-256 of the model file that was fitted; of a removal, the SHA-256
            of each model file, by the version in which it was fitted.
        who: the user.
        deployment: name of the deployment, such as production.
        run: Dagster's run.
        git_commit: commit of the code.
        reason: why, where a reason is recorded.
        record: file that records it, as a path in the lake; "" for settings, which this log alone records.
        settings: the settings, without secrets, each as text; empty but for the kind `settings`.
    """

    time: str
    kind: Kind
    subjects: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    who: str = ""
    deployment: str = ""
    run: str = ""
    git_commit: str = ""
    reason: str = ""
    record: str = ""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry.

    Attributes:
        number: its place, from 1.
        fact: what it tells of.
        before: digest of the entry before, "" in the first.
        digest: its own.
    """

    number: int
    fact: AuditFact
    before: str
    digest: str

    @classmethod
    def after(cls, number: int, digest: str, fact: AuditFact) -> AuditEntry:
        """Return the entry of a fact that follows the one with this number and digest."""
        content = canonical({**asdict(fact), "number": number + 1, "before": digest})
        return cls(number + 1, fact, digest, file_digest(content))

    @classmethod
    def parse(cls, line: bytes) -> AuditEntry:
        """Return the entry of a line.

        Raises:
            ValueError: it is no entry, is written in another way than entries are, or has another digest than its content.
        """
        found = parsed(line, _entry)
        if found.line != line:
            raise ValueError("it is not written as entries are")
        content = canonical({name: value for name, value in found.to_dict().items() if name != "digest"})
        if file_digest(content) != found.digest:
            raise ValueError("its digest is not that of its content")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return its JSON-ready values."""
        return {**asdict(self.fact), "number": self.number, "before": self.before, "digest": self.digest}

    @property
    def line(self) -> bytes:
        """The line that it is in the log, without its end."""
        return canonical(self.to_dict())


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The last entry of a log at some time, which fixes all before it.

    Attributes:
        number: number of the entry, 0 for an empty log.
        digest: its digest, "" for an empty log.
    """

    number: int = 0
    digest: str = ""

    @property
    def content(self) -> bytes:
        """The bytes that are signed."""
        return canonical({"number": self.number, "digest": self.digest})

    @classmethod
    def parse(cls, content: bytes) -> AuditHead:
        """Return the head of these bytes.

        Raises:
            ValueError: they are none.
        """
        found = parsed(content, lambda values: cls(**fields(values, {"number": int, "digest": str})))
        if found.content != content:
            raise ValueError("it is not written as heads are")
        return found


def canonical(values: Mapping[str, Any]) -> bytes:
    """Return JSON values in the one way in which the log writes them."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def moment(seconds: object) -> str:
    """Return a time in UTC from Unix seconds; "" for what is none."""
    try:
        return datetime.fromtimestamp(float(str(seconds)), UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return ""


def _entry(values: Any) -> AuditEntry:
    known = fields(values, _TYPES)
    number, before, digest = (known.pop(name) for name in ("number", "before", "digest"))
    subjects = known.pop("subjects")
    if known["kind"] not in get_args(Kind) or not all(isinstance(item, str) for item in subjects):
        raise ValueError("expected an entry of a known kind, about addresses")
    known["digests"], known["settings"] = texts(known["digests"]), texts(known["settings"])
    return AuditEntry(number, AuditFact(subjects=tuple(subjects), **known), before, digest)
