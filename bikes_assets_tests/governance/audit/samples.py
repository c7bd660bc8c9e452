"""A log with entries of every kind, and exports of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bikes_assets.governance.audit import export
from bikes_assets.governance.audit.entries import AuditFact, AuditHead, moment
from bikes_assets.governance.audit.log import AuditLog, Progress
from bikes_assets.governance.audit.signing import PrivateKey

_PEM = Ed25519PrivateKey.from_private_bytes(b"tests only".ljust(32)).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)
KEY = PrivateKey(_PEM)
"""The same in every process."""


def fact(number: int) -> AuditFact:
    """Return a fact that a commit of a table records; its reason has characters that JSON and terminals treat specially."""
    return AuditFact(
        moment(1_300_000_000 + number),
        "materialization",
        (f"features[2012-{number % 12 + 1:02}]@{number}",),
        {"digest": f"{number:032x}", "content": f"{number:032x}", "record": f"{number:064x}"},
        who="somebody",
        deployment="here",
        run=f"run-{number}",
        git_commit="c" * 40,
        reason='it is due: "\\" \u2028 \x1b[31m \ud800' if number % 3 == 0 else "",
        record=f"features/_delta_log/{number:020}.json",
    )


def settings(number: int) -> AuditFact:
    return AuditFact(moment(1_300_000_000), "settings", settings={"engine": "pandas", "seed": str(number)})


def missing(count: int) -> Callable[[Progress], Iterable[AuditFact]]:
    """Return what tells which facts of a table with so many versions have no entry yet."""

    def facts(progress: Progress) -> list[AuditFact]:
        first = [] if progress.settings else [settings(0)]
        return [*first, *map(fact, range(progress.tables.get("features", -1) + 1, count))]

    return facts


def extend(log: AuditLog, count: int, key: PrivateKey | None = KEY) -> int:
    """Bring a log up to date with a table of so many versions, and return how many entries were appended."""
    with log.extended(missing(count), key) as (_, appended):
        return appended


def exported(folder: Path, count: int = 20, key: PrivateKey | None = KEY) -> Path:
    """Return an export of a log of so many materializations."""
    log = AuditLog(folder / "audit")
    extend(log, count, key)
    signed = log.signed()
    head = log.remembered()
    export.write(folder / "export", log.file, log.file.stat().st_size, head, signed)
    assert head == AuditHead(count + 1, head.digest)
    return folder / "export"
