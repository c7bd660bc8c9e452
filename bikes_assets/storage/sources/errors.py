"""Errors of a file system, server or database when a source cannot be read, in words and without secrets.

The original error stays in the chain, so that `core.transient.is_transient` recognizes transient errors.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bikes_assets.core.errors import DataError, LineageError, SettingsError
from bikes_assets.core.secrets import scrubbed, shown
from bikes_assets.core.transient import BUSY, chain, http_status

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOTHING = ("nothing there", "a file or folder that can be read; look at the path or URL")
_MOST_SHOWN = 500
_AGAIN = "look whether the server runs and whether the address is right, then try again"


def unusable(source: str, error: Exception, expected: str) -> SettingsError:
    """Return the error of a source whose setting makes no sense, whatever is there."""
    return SettingsError(f"source {shown(source)}: {scrubbed(str(error), source)}; expected {expected}")


@contextmanager
def reporting(source: str, name: str, expected: str) -> Iterator[None]:
    """Turn whatever a file system or database raises into a DataError without secrets.

    Args:
        source: the source as it is set, whose secrets are left out.
        name: file, URL or query that the error names.
        expected: what is expected there, where the error does not say it better.
    """
    try:
        yield
    except LineageError:
        raise
    except Exception as error:  # noqa: BLE001 - drivers and file systems may raise anything
        place = name
        if told := _told(error):
            found, expected = told
            place = shown(source) if name in shown(source) else f"{shown(source)}, {name}"
        else:
            plain = getattr(error, "orig", None) or error  # the driver's message, without SQLAlchemy's additions
            found = f"{type(plain).__name__}: {' '.join(scrubbed(str(plain), source).split())}"[:_MOST_SHOWN]
        raise DataError(place, found=found, expected=expected) from None  # the cause may hold a password


def _told(error: Exception) -> tuple[str, str] | None:
    """Return what was found and what is expected at an unreadable place; None where the error itself says it best."""
    errors = [*chain(error)]
    status = next((status for status in map(http_status, errors) if status), None)
    if isinstance(error, PermissionError) or status in (401, 403):
        answer = f" (HTTP {status})" if status else ""
        return (
            f"access denied{answer}",
            "the right to read it; look at permissions, credentials, or the URL's signature",
        )
    if status:
        return _of_status(status)
    for item in errors:
        if isinstance(item, ssl.SSLError):
            reasons = (getattr(of, name, "") for of in errors for name in ("verify_message", "reason"))
            reason = next((text for text in reasons if text), "it cannot be created")
            return f"no TLS connection: {reason}", "a server whose certificate this machine trusts; look at the address"
        if isinstance(item, socket.gaierror):
            return f"no address of that host ({item.strerror})", "the name of a host that is known; " + _AGAIN
        if isinstance(item, TimeoutError):
            return "no answer in time", "an answer; " + _AGAIN
        if isinstance(item, ConnectionRefusedError) or "onnection refused" in str(item):
            return "connection refused", "a server that answers; " + _AGAIN
        if isinstance(item, ConnectionError) or type(item).__name__ in (
            "ServerDisconnectedError",
            "ClientPayloadError",
        ):
            return "a connection that was lost", "a whole answer; " + _AGAIN
    return _NOTHING if isinstance(error, FileNotFoundError | NotADirectoryError) else None


def _of_status(status: int) -> tuple[str, str]:
    phrase = http.client.responses.get(status, "unknown")
    if status in (404, 410):
        return _NOTHING
    if status in BUSY:
        return f"HTTP {status} {phrase}", "an answer; the server is busy or out of order, try again later"
    return f"HTTP {status} {phrase}", "an answer that holds the file; look at the URL"
