"""The audit log of this project's store: appending what is missing, verifying, exporting and reading it."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from bikes_assets.app.audit.keys import signing_key
from bikes_assets.app.settings import settings
from bikes_assets.app.store import assets, current, lake
from bikes_assets.core.address import Address
from bikes_assets.core.errors import AuditError, LineageError, SettingsError, StoreError
from bikes_assets.core.record import parse_address
from bikes_assets.core.secrets import scrubbed, shown
from bikes_assets.governance.audit import export as exports
from bikes_assets.governance.audit import facts
from bikes_assets.governance.audit.checking import AuditFinding, ChainCheck
from bikes_assets.governance.audit.comparing import differences
from bikes_assets.governance.audit.entries import AuditFact, AuditHead, moment
from bikes_assets.governance.audit.export import AuditResult, KeptHead
from bikes_assets.governance.audit.log import AuditLog, Progress
from bikes_assets.storage.code.environment import user
from bikes_assets.storage.code.working_tree import commit_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bikes_assets.governance.audit.entries import AuditEntry
    from bikes_assets.governance.audit.signing import PublicKey

_PAGES = ("lineage_url", "dagster_url", "mlflow_url")
"""Settings that only links depend on; `bikes ui` sets them for its own processes."""


def log() -> AuditLog:
    """Return the log of this project's store."""
    return AuditLog(current().data / "audit")


@contextmanager
def extended() -> Iterator[tuple[Progress, int]]:
    """Append what is missing, sign the head, and yield how far the log is and how many entries were appended.

    Raises:
        AuditError: the log is not as it was written.
        StoreError: a record cannot be read, or another process appends for too long.
        SettingsError: the key cannot be used.
    """
    from filelock import Timeout

    key, known, stored = signing_key(), lake(), assets()

    def missing(progress: Progress) -> list[AuditFact]:
        values = settings_shown()
        changed = [] if values == progress.settings else [_of_settings(values)]
        return [*changed, *facts.missing(known, stored, progress)]

    try:
        with log().extended(missing, key) as state:
            yield state
    except Timeout:
        raise StoreError(
            f"{log().file}: found another process that appends for minutes, expected none; end it, or run again later"
        ) from None


def bring_up_to_date() -> int:
    """Append what is missing, sign the head, and return how many entries were appended; see `extended`."""
    with extended() as (_, appended):
        return appended


def problem() -> str:
    """Bring the log up to date after something was written, and return why that failed, "" where it did not.

    What was written stands whatever comes of this, and the next process appends what is missing.
    """
    try:
        bring_up_to_date()
    except (LineageError, OSError) as error:
        return f"the audit log was not brought up to date: {error}"
    return ""


def verify(key: PublicKey | None, kept: KeptHead | None) -> AuditResult:
    """Return what is wrong with the log of this store, after appending what is missing where its chain is whole.

    Args:
        key: the key that must have signed its head; None for that of the settings, or else the one that is named there.
        kept: a head that was kept elsewhere, which the log must hold.

    Raises:
        StoreError: the store is unreachable or busy.
        SettingsError: the key of the settings cannot be used.
    """
    named = key or ((own := signing_key()) and own.public)
    before = _chain(named, kept, is_required=key is not None)
    if before.findings:
        return before
    appended = bring_up_to_date()
    while different := _differences():
        new = bring_up_to_date()  # another process may have published meanwhile
        appended += new
        if not new:
            break
    whole = _chain(named, kept, is_required=key is not None)
    return replace(whole, findings=(*whole.findings, *different), appended=appended)


def export(folder: Path) -> AuditResult:
    """Write the log, after appending what is missing, into a folder for somebody without the store; see `exports`.

    Raises:
        AuditError: the log is not as it was written.
        SettingsError: the folder cannot be written to.
    """
    if folder.resolve() == log().file.parent.resolve():
        raise SettingsError(f"{folder}: found the log's own folder, expected another one to export to")
    with extended() as (progress, appended):
        signed = log().signed()
        of_head = signed if signed and signed.head == progress.head else None
        try:
            exports.write(folder, log().file, progress.size, progress.head, of_head)
        except OSError as error:
            raise SettingsError(f"{folder}: {error.strerror}; name a folder that this user may write to") from error
    key = of_head.key.fingerprint if of_head else ""
    return AuditResult(progress.head, progress.head.number if of_head else None, key, appended=appended)


def entries(address: str | None) -> tuple[list[AuditEntry], AuditFinding | None]:
    """Return the entries about an address, all by default, oldest first, up to the first that is wrong, and how that is.

    Raises:
        LineageError: the text is no address, or one of a column.
    """
    wanted = parse_address(address) if address else None
    check = ChainCheck()
    found = [entry for entry in check.entries(log().lines()) if wanted is None or _is_about(entry, wanted)]
    return found, check.finding


def settings_shown() -> dict[str, str]:
    """Return the settings of this process as the log holds them: each as text, without secrets.

    Of a secret it says only whether there is one. Places are those that count, whichever setting names them.
    """
    known, project = settings(), current()
    places = {
        "source": known.source_location,
        "data": str(project.data),
        "lake": project.lake.location,
        "home": str(project.dagster_home),
        "mlflow_tracking_uri": project.mlflow,
        "experiment": project.name,
    }
    values = {name: value for name, value in known if name not in _PAGES} | places
    return {name: _shown(value) for name, value in sorted(values.items())}


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "set" if value.get_secret_value() else ""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, sort_keys=True)
    return scrubbed(shown(text))


def _of_settings(values: Mapping[str, str]) -> AuditFact:
    return AuditFact(
        moment(time.time()),
        "settings",
        who=user(),
        deployment=settings().deployment,
        git_commit=commit_of(current().lake.root),
        settings=values,
    )


def _differences() -> list[AuditFinding]:
    check = ChainCheck()
    return differences(lake(), assets(), check.entries(log().lines()))


def _chain(key: PublicKey | None, kept: KeptHead | None, *, is_required: bool) -> AuditResult:
    """Return what is wrong with the log by itself: its chain, its signed head, and heads that are known from elsewhere."""
    store = log()
    try:
        signed, remembered = store.signed(), store.remembered()
    except AuditError as error:
        return AuditResult(AuditHead(), None, "", (AuditFinding("signature", str(error)),))
    heads = [
        *([(kept.name, kept.head)] if kept else []),
        *([("the signed head", signed.head)] if signed else []),
        ("this machine", remembered),
    ]
    check = ChainCheck(frozenset(head.number for _, head in heads))
    for _ in check.entries(store.lines()):
        pass
    known = key or (signed.key if signed else None)
    # what one head shows, the others show too
    wrong = check.finding or next(filter(None, (check.compare(head, name) for name, head in heads)), None)
    findings = [wrong] if wrong else []
    own = KeptHead(str(store.file), signed.head if signed else AuditHead(), signed.signature if signed else None)
    findings += exports.signature_findings(own, known, required=is_required)
    findings += exports.signature_findings(kept, known, required=False) if kept else []
    by = signed.key.fingerprint if signed and known and signed.key.fingerprint == known.fingerprint else ""
    return AuditResult(check.head, signed.head.number if signed and by else None, by, (*findings,))


def _is_about(entry: AuditEntry, wanted: tuple[str, str | None, str | None]) -> bool:
    """Return whether one of an entry's subjects is what an address names, or a version or partition of it."""
    parts = (Address.parse(subject) for subject in entry.fact.subjects)
    return any(
        part
        and all(
            want in (None, has) for want, has in zip(wanted, (part.asset, part.partition, part.version), strict=True)
        )
        for part in parts
    )
