"""The key that signs the audit log's head: from a file or the environment, and a new one."""

from __future__ import annotations

from pathlib import Path

from bikes_assets.app.settings import settings
from bikes_assets.core.errors import SettingsError
from bikes_assets.governance.audit.signing import PrivateKey, PublicKey, new_key
from bikes_assets.storage import disk

KEY_FILE, KEY = "BIKES_AUDIT_KEY_FILE", "BIKES_AUDIT_PRIVATE_KEY"


def signing_key() -> PrivateKey | None:
    """Return the key that the settings name, None where they name none.

    Raises:
        SettingsError: they name two, the file cannot be read, or there is no such key in it.
    """
    known = settings()
    text, file = known.audit_private_key.get_secret_value(), known.audit_key_file
    if text and file:
        raise SettingsError(f"found both {KEY_FILE} and {KEY}, expected one of them; unset the other")
    if not text and not file:
        return None
    try:
        # an environment variable often has one line, with `\n` for its ends
        content = Path(file).read_bytes() if file else text.replace("\\n", "\n").encode()
    except OSError as error:
        raise SettingsError(
            f"{KEY_FILE}: {file}: {error.strerror}; name the private key that bikes audit init wrote"
        ) from None
    try:
        return PrivateKey(content)
    except ValueError as error:
        raise SettingsError(f"{f'{KEY_FILE}: {file}' if file else KEY}: {error}") from None


def write_new(file: Path) -> tuple[Path, PublicKey]:
    """Write a new private key to a file that this user alone may read, and the public key beside it; return these.

    Raises:
        SettingsError: one of the files is there already, or cannot be written.
    """
    beside = file.with_name(f"{file.stem}.public.pem")
    content = new_key()
    public = PrivateKey(content).public
    try:
        for place in (file, beside):
            if place.exists() or place.is_symlink():
                raise SettingsError(
                    f"{place}: found a file there, expected none: a key is never replaced; name another"
                )
        if not disk.create(file, content, 0o600) or not disk.create(beside, public.pem):
            raise SettingsError(f"{file}: found a file there, or beside it, that came meanwhile; name another")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a file in a folder that this user may write to") from None
    return beside, public
