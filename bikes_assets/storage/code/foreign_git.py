"""The git history of an untrusted folder, such as an unpacked archive: none of its configuration takes effect.

A repository's configuration names programs that git runs (`gpg.program`, `core.fsmonitor`, `diff.external`, ...), and
no option of git leaves it out. So git is given a repository of ours, without configuration, whose objects and refs are
links to theirs.
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bikes_assets.storage.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 60
_MOST = 1 << 16
"""Bytes that are read of a repository's own small files."""
_LINKED = ("objects", "refs", "packed-refs", "shallow")
_SHA_256 = re.compile(rb"^\s*objectformat\s*=\s*sha256\s*$", re.IGNORECASE | re.MULTILINE)
_CONFIG = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = {}\n"
_QUIET = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",  # a file may be called `*`
    "GIT_NO_LAZY_FETCH": "1",
}


def commit_that_wrote(file: Path, text: str) -> str:
    """Return the newest commit that put a text into a file, "" where none did, or outside git."""
    options = ("--format=commit %H", "-p", "-U0", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color")
    commit = ""
    with _seen(file.parent) as (root, seen):
        if root is None:
            return ""
        name = file.absolute().relative_to(root).as_posix()
        told = _told(seen, "log", *options, f"-S{text}", "--", name)
    for line in told.decode(errors="replace").splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line.startswith("+") and text in line:
            return commit
    return ""


def has_commit(root: Path, commit: str) -> bool:
    """Return whether the repository that a folder is in holds a commit."""
    with _seen(root) as (found, seen):
        wanted = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
        return bool(found and commit) and bool(_told(seen, *wanted))


@contextmanager
def _seen(folder: Path) -> Iterator[tuple[Path | None, Path]]:
    """Give the root of a folder's working tree, and a repository of ours that sees its history; None outside git."""
    with scratch_folder() as ours:
        root, theirs = _found(folder.absolute())
        if root is None:
            yield None, ours
            return
        common = theirs / _line(theirs / "commondir")  # of a linked worktree that of its repository
        (ours / "HEAD").write_bytes(_start(theirs / "HEAD"))
        for name in _LINKED:
            (ours / name).symlink_to(common / name)
        kind = "sha256" if _SHA_256.search(_start(common / "config")) else "sha1"
        (ours / "config").write_text(_CONFIG.format(kind), encoding="utf-8")
        yield root, ours


def _found(folder: Path) -> tuple[Path | None, Path]:
    """Return the root of the working tree that a folder is in and its repository, None where there is none."""
    for root in (folder, *folder.parents):
        place = root / ".git"
        if place.is_dir():
            return root, place
        if place.is_file():  # of a linked worktree or a submodule
            return root, root / _line(place).removeprefix("gitdir: ")
    return None, folder


def _line(file: Path) -> str:
    return os.fsdecode(_start(file)).strip().replace("\0", "")


def _start(file: Path) -> bytes:
    """Return the first bytes of a file, nothing unless it is a regular file: reading a pipe would block."""
    if not file.is_file():
        return b""
    with file.open("rb") as handle:
        return handle.read(_MOST)


def _told(repository: Path, *arguments: str) -> bytes:
    """Return git's output for a repository of ours, nothing where git fails or is not installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _QUIET
    command = ["git", "--git-dir", str(repository), *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, check=True, timeout=_SECONDS, cwd=repository, env=environment
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
