"""Which errors are transient and which are permanent: only after a transient error is a step tried again.

Transient errors may be gone at the next attempt: another writer's commit, a locked database, a lost connection, a busy
server. Every error that is not known to be transient is permanent: data, checks, settings, code, and a store that is
full or read-only.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bikes_assets.core.errors import ConflictError, DataError, LineageError, StoreError
from bikes_assets.core.secrets import scrubbed, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNOPENED = -1
"""SQLite's message for a file that it cannot open, for whatever reason."""
_LITTLE = 1 << 17
"""With less free space than this, in bytes, a database cannot go on."""
_ADVICE = {
    _UNOPENED: "it is read-only, or closed to this user; make it writable, then run again",
    errno.ENOSPC: "no space is left there; free some, then run again",
    errno.EDQUOT: "the quota is used up; free some space or have it raised, then run again",
    errno.EFBIG: "a file has reached the largest size; have the limit raised, then run again",
    errno.EROFS: "it is read-only; make it writable, then run again",
    errno.EACCES: "this user may not write there; give it the right to, then run again",
    errno.EPERM: "this user may not write there; give it the right to, then run again",
    errno.EISDIR: "a folder stands where a file is to be; move it away, then run again",
    errno.ENOTDIR: "a file stands where a folder is to be; move it away, then run again",
    errno.ENAMETOOLONG: "the name of a file there is too long; use a shorter one",
    errno.ELOOP: "links there lead in a circle; remove one of them",
    errno.EIO: "the disk reports an error; see the system's log, then run again",
}
_SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": _UNOPENED,
    "disk I/O error": errno.EIO,
}
_TRANSIENT_NUMBERS = {
    errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.EPIPE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED,
    errno.ECONNABORTED, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH,
}  # fmt: skip
_TRANSIENT_WORDS = re.compile(
    r"database is locked|(?<!_)timed? ?out|connection (was |has been |already )?(reset|refused|closed|aborted)|slow ?down"
    r"|could not (connect|receive|send)|(closed the|terminating) connection|database system is (starting|shutting|in recovery)"
    r"|server disconnected|payload is not completed|response body|reading a body|incomplete ?read|total bytes expected"
    r"|(status|code|error|returned)\D{0,40}\b(429|50[0234])\b|\b(429|50[0234])\b (too many|internal|bad|service|gateway)",
    re.IGNORECASE,
)
BUSY = frozenset((429, 500, 502, 503, 504))
"""HTTP status codes of transient errors."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RUST_NUMBER = re.compile(r"os error (\d+)|Os \{ code: (\d+)")
_PLACE = re.compile(r"(?:directory: |file |to |from |: '|-> ')(/[^\s#':]+)")
_STORES = {
    "_internal", "deltalake", "pyarrow", "fsspec", "s3fs", "gcsfs", "adlfs", "aiohttp", "botocore", "aiobotocore", "requests",
    "urllib", "urllib3", "http", "ssl", "socket", "sqlalchemy", "sqlite3", "psycopg2", "mlflow", "filelock",
}  # fmt: skip
"""Packages whose exceptions are about a store or the connection to it; only their messages are searched."""


def is_transient(error: BaseException) -> bool:
    """Return whether an error is transient: another attempt may succeed."""
    if isinstance(error, ConflictError):
        return True
    others = [item for item in chain(error) if not isinstance(item, LineageError)]  # their messages are ours
    if any(http_status(item) in BUSY for item in others):
        return True  # whatever errno a client made of it
    return not any(_number(item) in _ADVICE for item in others) and any(_looks_transient(item) for item in others)


def store_error(error: BaseException, place: str) -> StoreError | None:
    """Return the error to show for a store that cannot be written or read, None where the error is another one.

    Args:
        error: what was raised.
        place: folder or URL that was worked on; where the error itself names a place, that is used instead.
    """
    if isinstance(error, DataError):
        return None  # the message already says what is wrong with a source, which is no store
    for item in chain(error):
        number, where = _number(item), _named(item) or place
        if number in (_UNOPENED, errno.EIO):  # all that SQLite says where it cannot write beside a database
            number = _state_of(where) or number
        if number in _ADVICE:
            return StoreError(f"{where}: {_ADVICE[number]}")
    return None


def away(error: BaseException, place: str = "") -> StoreError | None:
    """Return the error to show for a store or server that is unreachable or busy, None where the error is another one.

    Args:
        error: what was raised.
        place: folder or URL that was worked on, "" where that is not known.
    """
    for item in chain(error):
        if not isinstance(item, LineageError) and _looks_transient(item):
            lines = [_COLOUR.sub("", line).strip(" \t↳|") for line in str(item).splitlines()]
            telling = (line for form in (_RUST_NUMBER, _TRANSIENT_WORDS) for line in lines if form.search(line))
            line = next(telling, lines[0] if lines else type(item).__name__)
            where = f"{shown(place)}: " if place else ""
            return StoreError(f"{where}a store or server is away or busy: {line}; look whether it runs, then try again")
    return None


@contextmanager
def at_store(place: str) -> Iterator[None]:
    """Make the error of an unreachable or busy store name the place, which the clients' own messages often do not.

    Raises:
        StoreError: the store cannot be reached or is busy; `is_transient` recognizes it by its cause.
    """
    try:
        yield
    except (LineageError, FileNotFoundError):  # the latter is an answer, whatever error is being handled meanwhile
        raise
    except Exception as error:
        if told := away(error, place):
            raise told from error
        raise


def _looks_transient(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError) or _number(error) in _TRANSIENT_NUMBERS:
        return True
    if http_status(error) in BUSY or (isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN):
        return True
    is_of_store = isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _STORES
    return is_of_store and bool(_TRANSIENT_WORDS.search(str(error)))


def _number(error: BaseException) -> int | None:
    """Return the errno of an error; Delta and SQLite give it in words."""
    if isinstance(error, LineageError | ssl.SSLError | socket.gaierror):
        return None  # of numbers of their own
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    if found := _RUST_NUMBER.search(text):
        return int(found[1] or found[2])
    if type(error).__module__.partition(".")[0] in _STORES:
        return next((number for words, number in _SQLITE.items() if words in text), None)
    return None


def _state_of(place: str) -> int | None:
    """Return the errno for a full or read-only file system, None for one that is neither, or is of another machine."""
    try:
        found = os.statvfs(place.removeprefix("sqlite:///"))
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY:
        return errno.EROFS
    return errno.ENOSPC if found.f_bavail * found.f_frsize < _LITTLE else None


def _named(error: BaseException) -> str:
    """Return the folder of the file that an error names, "" where it names none; a note may, see `sqlite_files.naming`."""
    names = [error.filename2, error.filename] if isinstance(error, OSError) else []
    names += [note for note in getattr(error, "__notes__", ()) if os.path.isabs(note)]
    file = next(
        (os.path.abspath(os.fsdecode(name)) for name in names if name and not isinstance(name, int)), ""
    ) or next(iter(_PLACE.findall(str(error))), "")
    while file and not os.path.isdir(file):
        file = os.path.dirname(file)
    return file if file not in ("", "/") else ""


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries, None where it carries none."""
    if type(error).__module__ == "aiohttp.http_exceptions":
        return None  # a response that cannot be read: its code is the client's own
    response = getattr(error, "response", None)
    told: list[object] = [getattr(error, name, None) for name in ("status", "status_code", "code")]
    told.append(getattr(response, "status_code", None))
    if isinstance(response, dict):  # of botocore
        told.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return next((status for status in told if isinstance(status, int) and 400 <= status < 600), None)


def without_secrets(error: Exception) -> Exception:
    """Return an error that can be shown: itself, or a copy without secrets where it or one of its causes holds any."""
    texts = [str(item) for item in chain(error)]
    if all(scrubbed(text) == text for text in texts):
        return error
    if isinstance(error, LineageError):  # its own message is scrubbed; its causes hold the secret
        error.__cause__, error.__suppress_context__ = None, True
        return error
    return LineageError(f"{type(error).__name__}: {texts[0]}").with_traceback(error.__traceback__)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then the errors that it was raised from or while handling."""
    seen: set[int] = set()
    item: BaseException | None = error
    while item and id(item) not in seen:
        seen.add(id(item))
        yield item
        item = item.__cause__ or item.__context__
