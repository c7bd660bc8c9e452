"""The code that something was materialized with, so that it can be restored: a git commit and the working tree's changes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bikes_assets.core.errors import LineageError
from bikes_assets.storage.scratch import abandoned, remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_BYTES = 2**26
"""Bytes of the largest difference that is kept: a larger one holds data, not code."""

_PATCH, _FILES = "difference.patch", "untracked/"
_LINK, _REPOSITORY = 0o120000, (0, b"")
_DIFF = (
    *("-c", "core.quotePath=true", "diff", "HEAD", "--binary", "--full-index", "--no-ext-diff", "--no-textconv"),
    # git's own format, whatever the user's configuration says
    *("--no-renames", "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0"),
)


@dataclass(frozen=True)
class WorkingTreeDiff:
    """How a working tree differs from its commit.

    Attributes:
        patch: difference of tracked files below the project's root, as `git diff --binary --relative` writes it there;
            in records of earlier versions that of the whole repository.
        files: untracked files that are not ignored, by path below the project's root: mode and bytes; of a link, its
            target. Of a repository within this one the name alone, which ends in a slash.
        dropped: digest of a difference of more than MAX_BYTES, which is all that is kept of it; "" for any other.
    """

    patch: bytes = b""
    files: Mapping[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    dropped: str = ""

    @cached_property
    def digest(self) -> str:
        """Digest of all of it, 32 hexadecimal digits; "" where there is none."""
        if self.dropped or not (self.patch or self.files):
            return self.dropped
        state = hashlib.sha256(self.patch)
        for name, (_, content) in sorted(self.files.items()):
            state.update(os.fsencode(name) + b"\0" + content)
        return state.hexdigest()[:32]

    def bounded(self) -> WorkingTreeDiff:
        """Return it, or where it is too large, its digest alone."""
        size = len(self.patch) + sum(len(content) for _, content in self.files.values())
        return self if size <= MAX_BYTES else WorkingTreeDiff(dropped=self.digest)

    def packed(self) -> bytes:
        """Return it as a tar file."""
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            for name, mode, content in (
                (_PATCH, 0o644, self.patch),
                *((f"{_FILES}{name}", *file) for name, file in sorted(self.files.items())),
            ):
                member = tarfile.TarInfo(name)
                if mode == _LINK:
                    member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(content)
                elif name.endswith("/"):
                    member.type = tarfile.DIRTYPE
                else:
                    member.mode, member.size = mode, len(content)
                archive.addfile(member, io.BytesIO(content))
        return target.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> WorkingTreeDiff:
        """Return what `packed` wrote.

        Raises:
            LineageError: it is no such file.
        """
        files: dict[str, tuple[int, bytes]] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                for member in archive:
                    name = member.name.removeprefix(_FILES)
                    if member.issym():
                        files[name] = (_LINK, os.fsencode(member.linkname))
                    elif member.isdir():
                        files[f"{name}/"] = _REPOSITORY
                    elif handle := archive.extractfile(member):
                        files[name] = (member.mode, handle.read())
        except tarfile.TarError as error:
            raise LineageError(f"found no difference of a working tree: {error}") from error
        _, patch = files.pop(_PATCH, (0, b""))
        return cls(patch, files)


@cache
def commit_of(root: Path) -> str:
    """Return the commit that a working tree is of, as it was when first asked for; "" outside git."""
    return _told(root, "rev-parse", "HEAD").decode().strip()


@cache
def difference(root: Path) -> WorkingTreeDiff:
    """Return how a working tree differs from its commit, as of the first call; an empty difference for a clean one.

    For a project in a folder of a larger repository, only differences below that folder count.
    """
    return _difference(root).bounded()


def _difference(root: Path, *, is_whole: bool = False) -> WorkingTreeDiff:
    """Return how a working tree differs from its commit, with or without the rest of the repository."""
    patch = _told(root, *_DIFF, "--no-relative" if is_whole else "--relative")
    untracked = _told(root, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
    names = sorted(os.fsdecode(name) for name in untracked if name)
    return WorkingTreeDiff(patch, {name: _file(root / name) for name in names})


@contextmanager
def checked_out(root: Path, commit: str, changed: WorkingTreeDiff, folder: Path) -> Iterator[Path]:
    """Yield the project's root as of a commit, with a difference applied, in a git worktree that is removed afterwards.

    Args:
        root: a working tree of the repository, which is left as it is.
        commit: the commit.
        changed: how the working tree differed from it.
        folder: where the worktree is created; it must not exist.

    Raises:
        LineageError: the repository has no such commit, or the difference does not fit it.
    """
    # no hook of the repository's is run
    quiet = ("-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false")
    _must(root, f"commit {commit} cannot be had", *quiet, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        place = folder / _told(root, "rev-parse", "--show-prefix").decode().strip()
        # what a repository within this one held was never part of the difference
        wanted = replace(changed, files={name: file for name, file in changed.files.items() if not name.endswith("/")})
        _apply(folder, place, commit, wanted)
        yield place
    finally:
        _told(root, "worktree", "remove", "--force", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
    """Remove the worktrees that processes left in a repository when they ended, and their temporary folders.

    No other is touched: a worktree that `git worktree prune` would remove may lie on a disk that is not mounted now.
    """
    for line in _told(root, "worktree", "list", "--porcelain").splitlines():
        place = Path(os.fsdecode(line.removeprefix(b"worktree ")))
        folder = abandoned(place) if line.startswith(b"worktree ") else None
        if folder:
            # twice: git locks a worktree while creating it, and a process killed then leaves the lock
            _told(root, "worktree", "remove", "--force", "--force", str(place))
            remove(folder)


def _apply(folder: Path, place: Path, commit: str, wanted: WorkingTreeDiff) -> None:
    """Apply a difference to a worktree, so that it differs from its commit by exactly that.

    Args:
        folder: the worktree.
        place: the project's root in it.
        commit: the commit that is checked out there.
        wanted: the difference: of what lies below the project's root, or as earlier versions recorded it, of the
            repository.

    Raises:
        LineageError: it does not fit.
    """
    told = ""
    prefix = f"--directory={place.relative_to(folder).as_posix()}"
    for is_whole in (False, True) if place != folder else (False,):
        try:
            if wanted.patch:
                what = f"the difference {wanted.digest} does not fit commit {commit}"
                where = () if is_whole or place == folder else (prefix,)
                _must(folder, what, "apply", "--index", "--whitespace=nowarn", *where, "-", given=wanted.patch)
        except LineageError as error:
            told = told or str(error)
            continue
        for name, (mode, content) in wanted.files.items():
            _write(place, name, mode, content)
        found = _difference(place, is_whole=is_whole).digest
        if found == wanted.digest:
            return
        told = (
            f"found difference {found or 'none'} from commit {commit}, expected {wanted.digest}: git shows another, as "
            "where it ignores or converts other files than it did"
        )
        _must(folder, "a worktree cannot be cleaned", "reset", "--quiet", "--hard")
        _must(folder, "a worktree cannot be cleaned", "clean", "--quiet", "-ffd")
    raise LineageError(told)


def _file(path: Path) -> tuple[int, bytes]:
    """Return mode and bytes of an untracked file; nothing for a repository within this one."""
    if path.is_symlink():
        return _LINK, os.fsencode(path.readlink())
    return (path.stat().st_mode & 0o777, path.read_bytes()) if path.is_file() else _REPOSITORY


def _write(root: Path, name: str, mode: int, content: bytes) -> None:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise LineageError(f"found {name!r} in a difference, which leaves the project's folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == _LINK:
        path.symlink_to(os.fsdecode(content))
    else:
        path.write_bytes(content)
        path.chmod(mode)


def _told(root: Path, *arguments: str) -> bytes:
    """Return git's output, nothing where git fails or is not installed."""
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return b""


def _must(root: Path, what: str, *arguments: str, given: bytes | None = None) -> None:
    """Run a git command that must succeed; `what` is the error message where it does not."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], input=given, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise LineageError(f"{what}: {error}") from error
    if done.returncode:
        raise LineageError(f"{what}: git says {done.stderr.decode(errors='replace').strip()!r}")
