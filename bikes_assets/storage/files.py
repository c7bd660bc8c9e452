"""Files in a folder or at a URL of object storage: each is written atomically and durably.

Credentials of a store are read from the environment (`AWS_ACCESS_KEY_ID`, ...) by the libraries that need them; nothing
here keeps them.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from bikes_assets.core.errors import DataError, SettingsError, StoreError
from bikes_assets.core.secrets import shown
from bikes_assets.core.transient import at_store
from bikes_assets.storage import disk
from bikes_assets.storage.parsed import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

_SILENT_SECONDS = 60
_MOST_OF_SMALL = 1 << 16
"""Largest file that is read of those that people or a tool write by the line, in bytes."""


def is_remote(location: str) -> bool:
    """Return whether a location is a URL, not a folder of this machine."""
    return "://" in location and not location.startswith("file://")


def base_name(location: str) -> str:
    """Return the last part of a path or URL, without a URL's query string or the inner parts of a chained URL."""
    if not is_remote(location):
        return Path(os.path.abspath(location.removeprefix("file://"))).name or "/"
    first, _, rest = shown(location).partition("::")
    name = first.partition("://")[2].partition("?")[0].rstrip("/").rpartition("/")[2]
    return name or (base_name(rest) if rest else location)


def file_location(location: str, name: str) -> str:
    """Return the location of a file in a folder or below a URL."""
    first, chained, rest = location.partition("::") if is_remote(location) else (location, "", "")
    return f"{first.rstrip('/')}/{name}{chained}{rest}"


def is_of_this_user(location: str) -> bool:
    """Return whether a location is a folder of this machine that only this user, or their own group, can write to."""
    if is_remote(location):
        return False
    state = Path(location.removeprefix("file://")).stat()
    by_group = bool(state.st_mode & stat.S_IWGRP) and state.st_gid != os.getgid()
    return state.st_uid == os.getuid() and not by_group and not state.st_mode & stat.S_IWOTH


def filesystem_of(location: str) -> tuple[Any, str]:
    """Return fsspec's file system of a folder or URL, and the path on it.

    Raises:
        ImportError: the package for this kind of URL is not installed.
        ValueError: there is no such kind of URL.
    """
    from fsspec.core import url_to_fs

    if "://" not in location:  # in a path, `::` chains nothing
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem(), str(Path.cwd() / location)
    options: dict[str, Any] = {}
    if location.startswith(("http://", "https://")):
        import aiohttp

        # a large file may take long, a silent server may not
        patience = aiohttp.ClientTimeout(total=None, sock_connect=_SILENT_SECONDS, sock_read=_SILENT_SECONDS)
        options["client_kwargs"] = {"timeout": patience}
    region = os.environ.get("AWS_REGION")  # boto knows only AWS_DEFAULT_REGION, Delta Lake both
    if _is_s3(location) and region:
        options["client_kwargs"] = {"region_name": region}
    return url_to_fs(location, **options)


def delta_options(location: str) -> dict[str, str]:
    """Return Delta Lake's options for a location beyond the environment: that its endpoint is plain HTTP."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return {"allow_http": "true"} if _is_s3(location) and endpoint.startswith("http://") else {}


def read_files(locations: Sequence[str]) -> list[bytes]:
    """Return the contents of files of one store; from a URL all are fetched at once.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    if not locations:
        return []
    filesystem, _ = filesystem_of(locations[0])
    with at_store(locations[0]):
        return filesystem.cat_ranges(list(locations), None, None, on_error="raise")


def read_file(location: str) -> bytes | None:
    """Return the content of a file as it is now, None where there is none."""
    try:
        if "://" not in location:  # fsspec takes longer to import than a file to read
            with at_store(location):
                return Path(location).read_bytes()
        filesystem, path = filesystem_of(location)
        filesystem.invalidate_cache()  # another process may have written there since
        with at_store(location):
            return filesystem.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def names_in(location: str) -> list[str]:
    """Return the names of a folder's .json files; none where there is no folder."""
    filesystem, folder = filesystem_of(location)
    filesystem.invalidate_cache()  # another process may have written there since
    with at_store(location):
        paths = filesystem.ls(folder, detail=False) if filesystem.exists(folder) else ()
    return sorted(path.rpartition("/")[2] for path in paths if path.endswith(".json"))


def read_folder(location: str) -> dict[str, bytes]:
    """Return the current contents of a folder's .json files, by name; nothing where there is no folder."""
    filesystem, folder = filesystem_of(location)
    filesystem.invalidate_cache()  # another process may have written there since
    with at_store(location):
        if not filesystem.exists(folder):
            return {}
        paths = sorted(path for path in filesystem.ls(folder, detail=False) if path.endswith(".json"))
        return {path.rpartition("/")[2]: content for path, content in filesystem.cat(paths).items()} if paths else {}


def read_json(content: bytes, place: str, of: Callable[[Any], T], expected: str) -> T:
    """Return what `of` makes of the JSON values of a file of a store.

    Args:
        content: the file's.
        place: the file's location, for the error.
        of: takes the values, and may raise anything where they are not as expected.
        expected: what the file should hold, and what to do where it does not.

    Raises:
        StoreError: it holds something else.
    """
    try:
        return parsed(content, of)
    except ValueError as error:
        raise StoreError(f"{place}: found what cannot be read ({error}), expected {expected}") from None


def small_file(path: Path) -> bytes:
    """Return the content of a small, untrusted file of this machine, nothing where there is none.

    Raises:
        DataError: it is no regular file, or too large.
    """
    if not path.exists():
        return b""
    if not path.is_file():
        raise DataError(str(path), found="no plain file", expected="one; move what is there away")
    with path.open("rb") as handle:
        content = handle.read(_MOST_OF_SMALL + 1)
    if len(content) > _MOST_OF_SMALL:
        raise DataError(str(path), found="a large file", expected=f"at most {_MOST_OF_SMALL} bytes")
    return content


def remove_files(locations: Sequence[str]) -> None:
    """Remove files of one store; from a URL many at once. One that is gone already is no error."""
    if not locations:
        return
    filesystem, _ = filesystem_of(locations[0])
    paths = [filesystem_of(location)[1] for location in locations]
    if is_remote(locations[0]):
        with at_store(locations[0]):
            filesystem.rm(paths)
        return
    for path in paths:
        Path(path).unlink(missing_ok=True)


def new_name() -> str:
    """Return a unique file name; names sort by the time at which they were created."""
    return f"{time.time_ns() // 10**6}-{uuid4().hex[:8]}"


def write_file(location: str, content: bytes) -> None:
    """Store a file atomically, replacing one that may be there; it survives a power loss."""
    filesystem, path = filesystem_of(location)
    if is_remote(location):
        with at_store(location):
            filesystem.pipe_file(path, content)
        return
    disk.put(Path(path), content)


def write_files(contents: Mapping[str, bytes]) -> None:
    """Store several files of one store, each atomically, in their order; at a URL all at once."""
    if contents and is_remote(next(iter(contents))):
        places = {location: filesystem_of(location) for location in contents}
        filesystem = next(iter(places.values()))[0]
        with at_store(next(iter(contents))):
            filesystem.pipe({path: contents[location] for location, (_, path) in places.items()})
        return
    for location, content in contents.items():
        write_file(location, content)


def create_file(url: str, content: bytes) -> bool:
    """Store a file at a URL if there is none, and return whether it was stored: of many writers at once, one succeeds.

    Args:
        url: where it is to be.
        content: what no other writer would store there: it identifies the file as this writer's own after a lost
            answer.

    Raises:
        SettingsError: the store replaces an existing file, so of two writers' commits one would be lost.
        StoreError: the store is unreachable or busy.
    """
    filesystem, path = filesystem_of(url)
    try:
        with at_store(url):
            filesystem.pipe_file(path, content, mode="create")
    except (OSError, StoreError):  # stores word their refusal differently
        there = read_file(url)
        if there is None:
            raise
        if there != content:
            return False
    try:
        filesystem.pipe_file(path, content, mode="create")
    except OSError:
        return True
    filesystem.rm_file(path)
    raise SettingsError(
        f"{url}: found a store that replaces a file where it is asked to create one, expected conditional writes "
        "(If-None-Match), for two writers would lose each other's commits; choose another store"
    )


def _is_s3(location: str) -> bool:
    return location.startswith(("s3://", "s3a://"))
