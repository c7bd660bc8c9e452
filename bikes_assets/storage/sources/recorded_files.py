"""Where the files that a source was read from are now: they are recognized by their SHA-256, wherever they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import DataError, LineageError
from bikes_assets.core.secrets import shown
from bikes_assets.storage.files import file_location, filesystem_of, is_remote
from bikes_assets.storage.sources.errors import reporting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NOTHING = "nothing there"
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file that was read.

    Attributes:
        name: its name.
        uri: address at which it was read, without secrets.
        sha256: of what was read.
        size: bytes that were read.
        kept: what DVC has of it, in words; "" where it did not track it, or something else was there.
    """

    name: str
    uri: str
    sha256: str
    size: int
    kept: str = ""


@dataclass(frozen=True, slots=True)
class FileState:
    """What is at an address now.

    Attributes:
        address: the address.
        sha256: of the file there, "" where none was read.
        why: why none was read, "" where one was.
    """

    address: str
    sha256: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"{shown(self.address)}: {f'SHA-256 {self.sha256[:12]}' if self.sha256 else self.why}"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """Where a recorded file is now.

    Attributes:
        file: the file.
        location: an address at which a file with its SHA-256 is, "" where none was found.
        looks: where it was looked for, the recorded address first, and what was found there.
    """

    file: RecordedFile
    location: str
    looks: tuple[FileState, ...]


def recorded_files(origin: Mapping[str, Any]) -> list[RecordedFile]:
    """Return the files of a source according to a record; none where it was a database.

    Args:
        origin: where rows came from, as `Use.source` holds it.
    """
    if origin.get("kind") in (None, "sql"):
        return []
    files = origin.get("files") or [(origin["name"], origin["version"], origin["size"])]
    one = len(files) == 1 and files[0][0] == origin["name"]
    tracked: Mapping[str, Mapping[str, Any]] = origin.get("tracked") or {}
    return [
        RecordedFile(
            name,
            origin["uri"] if one else file_location(origin["uri"], name),
            sha256,
            size,
            _kept(tracked.get(name) or tracked.get(origin["name"])),
        )
        for name, sha256, size in files
    ]


class Places:
    """Where files are looked for: at the recorded address, in the source that is set now, in the project's folder.

    Args:
        source: path or URL of the file or folder that is the source now, "" for none.
        root: the project's folder.
    """

    def __init__(self, source: str, root: Path) -> None:
        self._source, self._root = source, root
        self._digests: dict[tuple[str, str], str] = {}

    def find(self, file: RecordedFile) -> FoundFile:
        """Return where a file is now."""
        looks: list[FileState] = []
        for address in self._addresses(file):
            looks.append(self._look(address))
            if looks[-1].sha256 == file.sha256:
                return FoundFile(file, address, tuple(looks))
        return FoundFile(file, "", tuple(looks))

    def copy(self, file: RecordedFile, target: Path) -> FoundFile:
        """Return where a file is now, after copying it from there.

        Raises:
            DataError: it changed while it was copied, or cannot be read.
        """
        found = self.find(file)
        if found.location:
            filesystem, path = filesystem_of(found.location)
            digest = hashlib.sha256()
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                reporting(found.location, shown(found.location), "a file that can be read"),
                filesystem.open(path, "rb") as source,
                target.open("wb") as copied,
            ):
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    copied.write(chunk)
            if digest.hexdigest() != file.sha256:
                expected = f"{file.sha256}, which lay there a moment ago; try again"
                raise DataError(shown(found.location), found=f"SHA-256 {digest.hexdigest()}", expected=expected)
        return found

    def _addresses(self, file: RecordedFile) -> Iterator[str]:
        """Yield the addresses at which a file may be, each once."""
        # a folder may have the name of its only file
        addresses = [file_location(file.uri, file.name) if Path(_path(file.uri)).is_dir() else file.uri]
        if self._source:
            if not Path(_path(self._source)).is_dir():
                addresses.append(self._source)
            if not Path(_path(self._source)).is_file():
                addresses.append(file_location(self._source, file.name))
        if not is_remote(file.uri):
            parts = Path(_path(file.uri)).parts[1:]
            inside = (self._root.joinpath(*parts[place:]) for place in range(len(parts)))
            addresses += [str(path) for path in inside if path.is_file()]
        known: set[str] = set()
        for address in addresses:
            if _path(address) not in known:
                known.add(_path(address))
                yield address

    def _look(self, address: str) -> FileState:
        """Return what is at an address; only regular files are opened, because opening a pipe would block."""
        if "***" in address:
            return FileState(address, why="not checked, for its secrets are not on record")
        try:
            with reporting(address, shown(address), "a file that can be read"):
                filesystem, path = filesystem_of(address)
                info: dict[str, Any] = filesystem.info(path)
                if info["type"] != "file":
                    return FileState(address, why=NOTHING if info["type"] == "directory" else "no file")
                mark = (address, str(sorted((str(key), str(value)) for key, value in info.items())))
                if mark not in self._digests:
                    digest = hashlib.sha256()
                    with filesystem.open(path, "rb") as file:
                        while chunk := file.read(_CHUNK):
                            digest.update(chunk)
                    self._digests[mark] = digest.hexdigest()
        except DataError as error:
            return FileState(address, why=str(error.found))
        except LineageError as error:
            return FileState(address, why=str(error))
        return FileState(address, self._digests[mark])


def _path(address: str) -> str:
    """Return a local address as a path, any other as it is."""
    return address.removeprefix("file://")


def _kept(facts: Mapping[str, Any] | None) -> str:
    if not facts or facts["differs"] or not facts["revision"]:
        return ""
    return f"DVC, MD5 {facts['md5']}, revision {facts['revision'][:12]}"
