"""Sources whose versions DVC keeps: their pointers are recorded with what is read, to get an old version back by them.

A pointer is the file `hour.csv.dvc` beside `hour.csv`: it names the MD5 of the file that it tracks, and git keeps its
history. It is read without DVC; only `fetch` needs the extra `dvc`.
"""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import DataError, DigestError, LineageError, SettingsError
from bikes_assets.core.secrets import scrubbed, shown
from bikes_assets.storage.code.foreign_git import commit_that_wrote, has_commit
from bikes_assets.storage.files import is_remote, small_file
from bikes_assets.storage.sources.files import is_left_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Altered = Literal["refuse", "mark"]
"""What happens with a file that differs from its pointer: it is an error, or the difference is recorded."""

_SECONDS = 3600
_MOST_BRACKETS = 100
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_QUIET = {"DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Pointer:
    """The content of a pointer.

    Attributes:
        file: the pointer.
        name: name of the file or folder that it tracks, which is beside it.
        md5: MD5 of the file; of a folder, DVC's of its files' names and MD5s, with `.dir` after it.
        remote: the remote that it names, "" for the repository's default.
        unix: whether the MD5 is of the text with Unix line ends, as DVC computed it before version 3.
    """

    file: Path
    name: str
    md5: str
    remote: str
    unix: bool

    @property
    def is_folder(self) -> bool:
        """Whether it tracks a folder."""
        return self.md5.endswith(".dir")

    def of(self, content: bytes) -> str:
        """Return the MD5 of a file's content, computed as for this pointer."""
        plain = _md5(content)
        return _md5(content.replace(b"\r\n", b"\n")) if self.unix and plain != self.md5 else plain

    def facts(self) -> dict[str, Any]:
        """Return what is recorded of it: `md5`, `revision`, `remote`, `url`, `repository` and the `path` in that."""
        root = _repository(self.file)
        remote, url = _remote(root, self.remote)
        return {
            "md5": self.md5,
            "revision": commit_that_wrote(self.file, self.md5),
            "remote": remote,
            "url": url,
            "repository": str(root),
            "path": self.file.with_name(self.name).relative_to(root).as_posix(),
        }


class DvcPointers:
    """The pointers of a source, and the comparison of what is read with them.

    Args:
        pointers: the pointers, by the name of what each tracks.
        altered: what happens with a file that differs from its pointer.
    """

    def __init__(self, pointers: Mapping[str, Pointer], altered: Altered) -> None:
        self.pointers, self._altered = pointers, altered
        self._folder = next((pointer for pointer in pointers.values() if pointer.is_folder), None)
        self._found: dict[str, str] = {}

    @classmethod
    def of(cls, path: str, altered: Altered) -> DvcPointers:
        """Return the pointers of a local file or folder: its own, or those of the files in it; none for a URL.

        Args:
            path: the source.
            altered: what happens with a file that differs from its pointer.

        Raises:
            DataError: a pointer makes no sense, or the file that it tracks is missing.
        """
        if is_remote(path):
            return cls({}, altered)
        place = Path(path.removeprefix("file://"))
        own = place.parent / f"{place.name}.dvc"
        files = [own]
        if not own.is_file():
            inside = sorted(place.glob("*.dvc")) if place.is_dir() else []
            files = [file for file in inside if not is_left_out(file.name.removesuffix(".dvc"))]
        pointers = {pointer.name: pointer for pointer in map(read_pointer, files)}
        for pointer in pointers.values():
            if not (at := pointer.file.with_name(pointer.name)).exists():
                found = f"nothing, and beside it {pointer.file.name}, which says MD5 {pointer.md5}"
                raise DataError(str(at), found=found, expected="what DVC tracks there; run `dvc pull`")
        return cls(pointers, altered)

    def take(self, name: str, content: bytes) -> None:
        """Compare the content of a file with its pointer.

        Raises:
            DataError: it differs from its pointer, and is to be refused.
        """
        pointer = self._folder or self.pointers.get(name)
        if pointer:
            self._found[name] = pointer.of(content)
            if not pointer.is_folder and self._found[name] != pointer.md5:
                self._differs(pointer, self._found[name])

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return what is recorded of each pointer, including whether what was read `differs` from it.

        Raises:
            DataError: a folder differs from its pointer, and is to be refused, or holds other files than those read.
        """
        if self._folder:
            found = self._folder_md5(self._folder)
            if found != self._folder.md5:
                self._differs(self._folder, found)
            return {self._folder.name: {**self._folder.facts(), "differs": found != self._folder.md5}}
        read = {name: pointer for name, pointer in self.pointers.items() if name in self._found}
        return {
            name: {**pointer.facts(), "differs": self._found[name] != pointer.md5} for name, pointer in read.items()
        }

    def mark(self) -> str:
        """Return a cheap token that changes with the pointers and with how they are used; "" where there are none."""
        said = [pointer.facts() for pointer in self.pointers.values()]
        return repr((self._altered, said)) if said else ""

    def _folder_md5(self, pointer: Pointer) -> str:
        place = pointer.file.with_name(pointer.name)
        if other := sorted({entry.name for entry in place.iterdir()} - self._found.keys()):
            expected = "the source's files alone in a folder that DVC tracks as one; track the files, each by `dvc add`"
            raise DataError(str(place), found=", ".join(other), expected=expected)
        return _folder_md5(self._found)

    def _differs(self, pointer: Pointer, found: str) -> None:
        if self._altered == "refuse":
            raise DataError(
                str(pointer.file.with_name(pointer.name)),
                found=f"MD5 {found}",
                expected=f"{pointer.md5}, which {pointer.file.name} says; `dvc add` takes what is there, `dvc checkout` brings "
                "back what was, BIKES_DVC=mark records that it differs",
            )


def read_pointer(file: Path) -> Pointer:
    """Return the content of a pointer.

    Raises:
        DataError: it is no pointer as DVC writes one for a file or folder beside it.
    """
    import yaml

    name = file.name.removesuffix(".dvc")
    text = small_file(file)
    try:
        _check_yaml(text)
        said: Any = yaml.safe_load(text)
        out = next(out for out in said["outs"] if out["path"] == name)
        md5 = str(out["md5"])
        if not _MD5.fullmatch(md5) or "wdir" in said:
            raise ValueError(md5)
        return Pointer(file, name, md5, str(out.get("remote", "")), out.get("hash") != "md5")
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, StopIteration, RecursionError) as error:
        found = f"no MD5 of {name} ({type(error).__name__})"
        raise DataError(str(file), found=found, expected=f"what `dvc add {name}` writes; run it again") from None


def _check_yaml(text: bytes) -> None:
    """Refuse what no tool writes into a pointer: aliases, by which few lines expand to many values, and deep nesting.

    Raises:
        ValueError: the text holds either.
    """
    import yaml

    opened = 0
    for token in yaml.scan(text):
        opened += isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken)
        if isinstance(token, yaml.AliasToken) or opened > _MOST_BRACKETS:
            raise ValueError(token.id)


def fetch(origin: Mapping[str, Any], into: Path, repository: Path | None = None) -> Path:
    """Get the recorded version of a source, from its remote or DVC's cache, atomically.

    Args:
        origin: where rows came from, as `Use.source` holds it.
        into: the folder that takes the file or folder, under its own name; created where it is missing.
        repository: where the repository is now; by default where it was.

    Returns:
        Path of the file or folder.

    Raises:
        DataError: DVC did not track it, or its repository, revision, remote or content cannot be read.
        DigestError: what was fetched differs from what was recorded.
        LineageError: something of that name exists already.
        SettingsError: DVC is not installed.
    """
    name = _plain(origin["name"])
    files = {_plain(each[0]): str(each[1]) for each in origin.get("files") or [(name, origin["version"], 0)]}
    tracked: Mapping[str, Mapping[str, Any]] = origin.get("tracked") or {}
    wanted = [name] if name in tracked else [*files]
    for each in wanted:
        _fetchable(each, tracked.get(each))
    program = _program()
    if (target := into / name).exists():
        raise LineageError(f"{target}: found something there, expected a place that is free")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as folder:
        part = Path(folder) / name
        for each in wanted:
            place = part if each == name else part / each
            place.parent.mkdir(exist_ok=True)
            _get(program, each, tracked[each], place, repository)
        _check(part, files, {each: str(tracked[each]["md5"]) for each in wanted})
        part.rename(target)
    return target


def _fetchable(name: str, facts: Mapping[str, Any] | None) -> None:
    """Fail where a record does not say where a version is kept."""
    if not facts:
        raise DataError(
            name, found="a version that DVC did not track", expected="one whose record names its MD5 and revision"
        )
    if facts.get("differs"):
        found = f"a version that differed from MD5 {facts['md5']}, which its pointer names"
        raise DataError(name, found=found, expected="one that DVC has")
    if not re.fullmatch(r"[0-9a-f]{40,64}", str(facts["revision"])):
        found = f"revision {facts['revision']!r}: its pointer was not committed when it was read"
        raise DataError(
            name, found=found, expected="a git commit; restore the file of that MD5 from DVC's cache by hand"
        )


def _program() -> list[str]:
    """Return the command for DVC: that of this environment, else the one on PATH, which has its own environment.

    Raises:
        SettingsError: there is none.
    """
    if importlib.util.find_spec("dvc"):
        return [sys.executable, "-m", "dvc"]
    if found := shutil.which("dvc"):
        return [found]
    raise SettingsError(
        "found no DVC, expected the extra dvc, pip install 'bikes-assets[dvc]', or a program dvc on the path"
    )


def _get(program: Sequence[str], name: str, facts: Mapping[str, Any], place: Path, repository: Path | None) -> None:
    """Let DVC fetch a file or folder of a revision."""
    root, revision = repository or Path(facts["repository"]), str(facts["revision"])
    if not (root / ".dvc").is_dir():
        raise DataError(
            str(root), found="no repository of DVC", expected=f"the one that {name} was read from, or a clone"
        )
    if not has_commit(root, revision):
        expected = f"revision {revision}, by which {name} was recorded; `git fetch` it"
        raise DataError(str(root), found="no such commit", expected=expected)
    command = [*program, "get", "--rev", revision, "-o", str(place), "--", str(root), facts["path"]]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=os.environ | _QUIET,
            cwd=place.parent,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(name, found=f"DVC cannot be run: {error}", expected="the extra dvc, in order") from None
    if done.returncode or not place.exists():
        url = str(facts["url"])
        gone = bool(url) and not is_remote(url) and not Path(url).is_dir()
        said = "no such folder" if gone else f"DVC says {_error_line(done.stderr)!r}"
        where = f"remote {facts['remote']} ({url})" if facts["remote"] else "DVC's cache (there was no remote)"
        raise DataError(
            name, found=f"MD5 {facts['md5']} cannot be had from {where}: {said}", expected="it there: `dvc push`"
        )


def _check(part: Path, files: Mapping[str, str], md5s: Mapping[str, str]) -> None:
    """Fail where what was fetched differs from what was recorded."""
    single = part.is_file()
    came = {part.name: part} if single else {each.name: each for each in part.iterdir()}
    contents = {name: path.read_bytes() for name, path in came.items() if path.is_file()}
    if sorted(came) != sorted(files):
        raise DigestError(f"{part.name}: found {_listed(came)}, expected {_listed(files)}")
    for name, content in contents.items():
        if (found := file_digest(content)) != files[name]:
            raise DigestError(f"{name}: found SHA-256 {found}, expected {files[name]}, which was recorded")
    for name, md5 in md5s.items():
        if md5.endswith(".dir"):
            found = [_folder_md5({each: _md5(content) for each, content in contents.items()})]
        else:  # in DVC's current way, or the one before version 3
            found = [_md5(contents[name]), _md5(contents[name].replace(b"\r\n", b"\n"))]
        if md5 not in found:
            raise DigestError(f"{name}: found MD5 {found[0]}, expected {md5}, which was recorded")


def _repository(pointer: Path) -> Path:
    """Return the root of the DVC repository of a pointer.

    Raises:
        DataError: there is none above it.
    """
    for folder in pointer.absolute().parents:
        if (folder / ".dvc").is_dir():
            return folder
    raise DataError(
        str(pointer), found="no folder .dvc above it", expected="a pointer in a repository of DVC; `dvc init`"
    )


def _remote(root: Path, name: str) -> tuple[str, str]:
    """Return name and URL, without secrets, of a remote or of the default one; "" where there is none."""
    known = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        for file in ("config", "config.local"):
            known.read_string(small_file(root / ".dvc" / file).decode())
    except (configparser.Error, UnicodeDecodeError) as error:
        plain = type(error).__name__  # its message may hold a line with a password
        raise DataError(
            str(root / ".dvc"), found=f"{plain} in its config", expected="what `dvc config` writes"
        ) from None
    name = name or known.get("core", "remote", fallback="")
    url = known.get(f"'remote \"{name}\"'", "url", fallback="") or ""
    if url and "://" not in url:
        url = os.path.normpath(root / ".dvc" / url)
    return name, shown(url)


def _folder_md5(md5s: Mapping[str, str]) -> str:
    """Return DVC's MD5 of a folder: of the list of its files, in order of their names, as JSON."""
    listed = [{"md5": md5s[name], "relpath": name} for name in sorted(md5s)]
    return _md5(json.dumps(listed, sort_keys=True).encode()) + ".dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _plain(name: str) -> str:
    """Return the name of a file after checking that it leads to no other folder.

    Raises:
        DataError: it does.
    """
    if not name or name in (".", "..") or Path(name).name != name:
        raise DataError(
            repr(name), found="a path or query", expected="the name of a file or folder, as a record holds it"
        )
    return name


def _error_line(text: str) -> str:
    """Return the line of DVC's error output that says what was wrong, without secrets."""
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    found = " ".join(wrong)
    return scrubbed(found, *re.findall(r"\S+://\S+", found))[:500]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
