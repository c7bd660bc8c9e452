"""What a computation ran in: git commit, lock file, Python and library versions."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "dagster",
    "deltalake",
    "mlflow",
    "narwhals",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skops",
)


@cache
def environment(root: Path) -> dict[str, Any]:
    """Return the environment of this process, as it was when first asked for.

    Args:
        root: the project's root, a git checkout or not.

    Returns:
        git_commit ("" outside git), git_diff (digest of what differs from the commit, untracked files included; "" when clean),
        lock (SHA-256 of requirements.lock), python, machine, and one version per library.
    """
    lock = root / "requirements.lock"
    return {
        "git_commit": _git(root, "rev-parse", "HEAD").decode().strip(),
        "git_diff": _difference(root),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _difference(root: Path) -> str:
    """Return the digest of the working tree's difference from its commit; "" when there is none, or no commit."""
    changes = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv")
    state = hashlib.sha256(changes)
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
    names = sorted(os.fsdecode(name) for name in untracked if name)
    for name in names:
        state.update(os.fsencode(name) + b"\0" + _content(root / name))
    return state.hexdigest()[:32] if changes or names else ""


def _content(path: Path) -> bytes:
    """Return what stands at an untracked path: a file's bytes, a link's target, nothing for a repository within this one."""
    if path.is_symlink():
        return os.fsencode(path.readlink())
    return path.read_bytes() if path.is_file() else b""


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
