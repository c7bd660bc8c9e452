"""What a computation ran in: git commit, lock file, Python and library versions."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bikes_assets.storage.code.working_tree import commit_of, difference

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


def user() -> str:
    """Return who runs this process: the name of the user, or the number where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


@cache
def environment(root: Path) -> dict[str, Any]:
    """Return the environment of this process, as it was when first asked for.

    Args:
        root: the project's root, a git checkout or not.

    Returns:
        git_commit ("" outside git), git_diff (digest of what differs from the commit, untracked files included; "" when
        clean), lock (SHA-256 of requirements.lock), python, machine, and one version per library.
    """
    lock = root / "requirements.lock"
    return {
        "git_commit": commit_of(root),
        "git_diff": difference(root).digest,
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
