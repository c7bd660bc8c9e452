"""Environments of other tools, built from lock files of their own, beside that of the tests."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]


def environment_of(name: str, lock: Path, *options: str) -> Path:
    """Return a tool's environment, which is kept until its lock file or Python changes.

    It has what the lock file asks for in other versions than the tests', or what they have not; it sees the rest in theirs.

    Args:
        name: of the tool; the folder is `.venv-NAME-tests`, since `.venv-NAME` is what people make.
        lock: its lock file, with hashes.
        options: of pip, such as `--no-deps`.
    """
    place = ROOT / f".venv-{name}-tests"
    asked = f"{lock.read_text()}{sys.version}{sys.prefix}{place}{''.join(options)}"
    made_of = hashlib.sha256(asked.encode()).hexdigest()
    with FileLock(f"{place}.lock"):
        stamp = place / "made-of"
        if not stamp.exists() or stamp.read_text() != made_of:
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", place], check=True)
            own = Path(sysconfig.get_path("purelib", "venv", {"base": str(place)}))
            (own / "of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
            pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "--quiet"]
            always = ("--disable-pip-version-check", "--no-compile", "--require-hashes", "--requirement", str(lock))
            done = subprocess.run([*pip, *options, *always], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            stamp.write_text(made_of)
    return place
