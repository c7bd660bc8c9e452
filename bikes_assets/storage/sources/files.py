"""Which files a source consists of: each entry of a folder is either a file that is read, or is refused by name.

Left out are hidden files, the markers that Spark writes beside its output, and pointers of DVC. Links are followed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

_LEFT_OUT = re.compile(r"\..*|_SUCCESS|_committed_.*|_started_.*|_metadata|_common_metadata|.*\.dvc", re.DOTALL)
_CHANGES = ("size", "mtime", "created", "LastModified", "last_modified", "Last-Modified", "ETag", "etag", "Content-MD5")
_EXPECTED = "files alone that hold CSV or Parquet; move what is no data away, or begin its name with a dot"
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that is to be read.

    Attributes:
        name: its name, without the folder.
        path: its path on its file system.
        size: bytes as stored; None where a server does not report it.
        mark: what changes with its content, such as time or ETag; only `size` where nothing else is reported.
    """

    name: str
    path: str
    size: int | None
    mark: Mapping[str, str]


def is_left_out(name: str) -> bool:
    """Return whether an entry of a folder is no data by its name: hidden, a marker of Spark, or a pointer of DVC."""
    return bool(_LEFT_OUT.fullmatch(name))


def list_files(filesystem: AbstractFileSystem, path: str, name: str, shown: str) -> list[ListedFile]:
    """Return the files of a source, in order of their names.

    Args:
        filesystem: the file system.
        path: path of a file or folder on it.
        name: name of the source, which a single file gets.
        shown: the source as people are shown it.

    Raises:
        DataError: it is neither a file nor a folder, or a folder without a file, or one with an entry that cannot be
            read.
        OSError: nothing is there, or it cannot be looked at.
    """
    look = _Local() if _is_local(filesystem) else _Remote(filesystem)
    kind, mark = look.at(path)
    if kind == "file":
        return [ListedFile(name, path, mark.get("size"), _marks(mark))]
    if kind != "directory":
        raise DataError(shown, found=kind, expected="a file, or a folder of files, that hold CSV or Parquet")
    files: list[ListedFile] = []
    refused: list[str] = []
    for entry, place, found, facts in look.inside(path):
        if is_left_out(entry):
            continue
        what = found if _is_text(entry) else "a name that is not UTF-8"
        if what == "file":
            files.append(ListedFile(entry, place, facts.get("size"), _marks(facts)))
        else:
            refused.append(f"{entry!r} ({'a folder' if what == 'directory' else what})")
    if refused:
        more = f" and {len(refused) - _MOST_NAMED} more" if len(refused) > _MOST_NAMED else ""
        raise DataError(
            shown, found=f"{', '.join(sorted(refused)[:_MOST_NAMED])}{more} in the folder", expected=_EXPECTED
        )
    if not files:
        raise DataError(shown, found="a folder without a file to read", expected="files that hold CSV or Parquet")
    return sorted(files, key=lambda file: file.name)


class _Local:
    """Inspects files of this machine; links are followed, and nothing is opened."""

    def at(self, path: str) -> tuple[str, dict[str, Any]]:
        """Return `file`, `directory` or what else lies there in words, and its facts.

        Raises:
            OSError: nothing is there, or it cannot be looked at.
        """
        try:
            state = os.stat(path)
        except OSError as error:
            if not os.path.islink(path):
                raise
            wrong = {errno.ENOENT: "which does not exist", errno.ELOOP: "which leads back to itself"}
            reason = wrong.get(error.errno or 0, f"which cannot be followed: {error.strerror}")
            return f"a link to {os.readlink(path)!r}, {reason}", {}
        facts = {"size": state.st_size, "mtime": state.st_mtime_ns, "created": state.st_ctime_ns}
        kinds = {
            stat.S_IFREG: "file",
            stat.S_IFDIR: "directory",
            stat.S_IFIFO: "a named pipe",
            stat.S_IFSOCK: "a socket",
        }
        return kinds.get(stat.S_IFMT(state.st_mode), "a device"), facts

    def inside(self, path: str) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Return name, path, kind and facts of each entry of a folder."""
        with os.scandir(path) as entries:
            return [(entry.name, entry.path, *self.at(entry.path)) for entry in entries if not is_left_out(entry.name)]


class _Remote:
    """Inspects what an fsspec file system lists."""

    def __init__(self, filesystem: AbstractFileSystem) -> None:
        self._filesystem = filesystem

    def at(self, path: str) -> tuple[str, dict[str, Any]]:
        """Return `file`, `directory` or what else lies there in words, and its facts."""
        facts: dict[str, Any] = dict(self._filesystem.info(path))
        return _kind(facts), facts

    def inside(self, path: str) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Return name, path, kind and facts of each entry of a folder."""
        listed = [dict(facts) for facts in self._filesystem.ls(path, detail=True)]
        # object stores list a folder that was made by hand as an empty object of its own name
        entries = [facts for facts in listed if facts["name"].strip("/") != path.strip("/")]
        names = [str(facts["name"]).rstrip("/").rpartition("/")[2] for facts in entries]
        return [(name, facts["name"], _kind(facts), facts) for name, facts in zip(names, entries, strict=True)]


def _kind(facts: Mapping[str, Any]) -> str:
    kind = str(facts["type"])
    return {"file": "file", "directory": "directory", "link": "a link, which is not followed there"}.get(
        kind, f"neither file nor folder: {kind}"
    )


def _is_local(filesystem: AbstractFileSystem) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _marks(facts: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(facts[key]) for key in _CHANGES if facts.get(key)}
