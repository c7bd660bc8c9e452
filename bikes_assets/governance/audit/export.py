"""An export of the audit log: what somebody without the store needs to verify it, in a folder of four files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.core.errors import SettingsError
from bikes_assets.governance.audit.checking import AuditFinding, ChainCheck, unsigned
from bikes_assets.governance.audit.entries import AuditHead
from bikes_assets.governance.audit.log import complete_lines
from bikes_assets.governance.audit.signing import PublicKey
from bikes_assets.storage import disk

if TYPE_CHECKING:
    from pathlib import Path

    from bikes_assets.governance.audit.log import SignedHead

LOG, HEAD, SIGNATURE, PUBLIC_KEY = "log.ndjson", "head.json", "head.sig", "public.pem"
FILES = (LOG, HEAD, SIGNATURE, PUBLIC_KEY)
"""The files of an export, in the order in which they are written."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class KeptHead:
    """A head that somebody kept, as in an export.

    Attributes:
        name: its file.
        head: the head.
        signature: its signature, None where there is none beside it.
    """

    name: str
    head: AuditHead
    signature: bytes | None

    @classmethod
    def read(cls, file: Path) -> KeptHead:
        """Return the head of a file, with the signature in the file beside it that ends in `.sig`.

        Raises:
            SettingsError: the file holds no head.
        """
        try:
            head = AuditHead.parse(file.read_bytes())
            signature = file.with_suffix(".sig")
            return cls(str(file), head, signature.read_bytes() if signature.exists() else None)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{file}: found no head of an audit log ({error}), expected {HEAD} of an export, with {SIGNATURE} beside it"
            ) from None


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What was found of a log.

    Attributes:
        head: its last entry, or the last before one that is wrong.
        signed: number of the last entry whose head is signed; None where none is.
        key: fingerprint of the key that signed it, "" where none did.
        findings: what is wrong; nothing where the log is whole.
        appended: how many entries were missing and have been appended.
    """

    head: AuditHead
    signed: int | None
    key: str
    findings: tuple[AuditFinding, ...] = ()
    appended: int = 0


def write(folder: Path, log: Path, size: int, head: AuditHead, signed: SignedHead | None) -> None:
    """Write an export into a folder, over one that is there.

    Args:
        folder: the folder.
        log: the log's file.
        size: how much of it there is up to the head, in bytes.
        head: the head of the log.
        signed: the same head with its signature, None where it is not signed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (HEAD, SIGNATURE, PUBLIC_KEY):  # so that an export that was interrupted is none
        (folder / name).unlink(missing_ok=True)
    with disk.replaced(folder / LOG) as written:
        if size:
            with log.open("rb") as source:
                while size > 0 and (chunk := source.read(min(size, _CHUNK))):
                    size -= len(chunk)
                    written.write(chunk)
    if signed:
        disk.put(folder / SIGNATURE, signed.signature)
        disk.put(folder / PUBLIC_KEY, signed.key.pem)
    disk.put(folder / HEAD, head.content)


def verify(folder: Path, key: PublicKey | None, kept: KeptHead | None) -> AuditResult:
    """Return what is wrong with an export; no store and no settings are needed.

    Args:
        folder: the export.
        key: the key that must have signed it; None for the one in the export, which proves nothing about who signed.
        kept: a head that was kept elsewhere, which the log must hold.

    Raises:
        SettingsError: the folder holds no export.
    """
    log = folder / LOG
    if not log.is_file():
        raise SettingsError(f"{log}: found no such file, expected the log of an export; bikes audit export writes one")
    last = KeptHead.read(folder / HEAD)
    if key is None and (folder / PUBLIC_KEY).exists():
        key = public_key(folder / PUBLIC_KEY)
    heads = [(last, True), *([(kept, False)] if kept else [])]
    check = ChainCheck(frozenset(item.head.number for item, _ in heads))
    for _ in check.entries(complete_lines(log)):
        pass
    findings = [check.finding] if check.finding else []
    for item, is_last in heads:
        if not check.finding and (found := check.compare(item.head, item.name, is_last=is_last)):
            findings.append(found)
        findings += signature_findings(item, key, required=is_last and key is not None)
    if not findings and log.stat().st_size and not _ends(log):
        findings.append(AuditFinding("edited", f"something follows entry {check.head.number}", check.head.number + 1))
    is_signed = key and last.signature is not None and not any(item.how == "signature" for item in findings)
    return AuditResult(
        check.head, last.head.number if is_signed else None, key.fingerprint if key and is_signed else "", (*findings,)
    )


def signature_findings(kept: KeptHead, key: PublicKey | None, *, required: bool) -> list[AuditFinding]:
    """Return what is wrong with the signature of a head.

    Args:
        kept: the head.
        key: the key that must have signed it, None where no key is known.
        required: whether it must be signed, and not only kept where nobody changes it.
    """
    if kept.signature is None:
        told = f"{kept.name} has no signature beside it, expected one by the key that is known"
        return [AuditFinding("signature", told)] if required else []
    if key is None:
        told = f"{kept.name} is signed, and no key to verify it with was found; name it by --public-key"
        return [AuditFinding("signature", told)]
    found = unsigned(kept.head.content, kept.signature, key, kept.name)
    return [found] if found else []


def public_key(file: Path) -> PublicKey:
    """Return the key of a file.

    Raises:
        SettingsError: it holds none.
    """
    try:
        return PublicKey.parse(file.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: {error}; name the public key, as bikes audit init wrote it") from None


def _ends(log: Path) -> bool:
    """Return whether the last line of a file has an end."""
    with log.open("rb") as content:
        content.seek(-1, 2)
        return content.read() == b"\n"
