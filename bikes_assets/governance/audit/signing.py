"""Signatures of the audit log's head: Ed25519, over exactly the bytes of the head, so that `openssl` can verify them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.core.digest import file_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_EXPECTED = "an Ed25519 key in PEM, as bikes audit init writes it"


@dataclass(frozen=True, slots=True, repr=False)
class PublicKey:
    """A key that verifies signatures.

    Attributes:
        pem: the key as it is written to files.
    """

    pem: bytes

    @classmethod
    def parse(cls, pem: bytes) -> PublicKey:
        """Return the key of a file.

        Raises:
            ValueError: it holds none.
        """
        _public(pem)
        return cls(pem)

    @property
    def fingerprint(self) -> str:
        """What people compare: SHA-256 of the key itself (DER), whatever surrounds it in its file."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return file_digest(_public(self.pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def verifies(self, content: bytes, signature: bytes) -> bool:
        """Return whether a signature is one of these bytes by this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            _public(self.pem).verify(signature, content)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """A key that signs; it is shown nowhere.

    Args:
        pem: the key in PEM, PKCS8, without a password.

    Raises:
        ValueError: it is none; the message repeats nothing of it.
    """

    def __init__(self, pem: bytes) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key: Any = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"found no such key, or one with a password, expected {_EXPECTED}")
        self._key: Ed25519PrivateKey = key

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return PublicKey(self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, content: bytes) -> bytes:
        """Return the signature of these bytes: 64 bytes."""
        return self._key.sign(content)


def new_key() -> bytes:
    """Return a new private key in PEM, PKCS8."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(pem: bytes) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key: Any = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"found no public key, expected {_EXPECTED}")
    return key
