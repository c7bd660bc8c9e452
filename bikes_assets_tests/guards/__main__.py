"""Take each guard of `table.GUARDS` out of a copy of the project, run its tests there, and tell which of them notice nothing.

    python -m bikes_assets_tests.guards                  all
    python -m bikes_assets_tests.guards sync "a lock"    those whose file or name holds one of these words

The exit code is 0 where every guard is noticed, else 1. The working tree is copied as it is, and stays as it is. Tests run in
forks of a process that has imported what the project needs: importing it takes longer than most of these tests.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bikes_assets_tests.guards.table import GUARDS, ROOT, Guard

IMPORTED = ("dagster", "deltalake", "hypothesis", "mlflow", "pandas", "pyarrow.parquet", "sklearn", "skops.io")
SECONDS = 900
"""How long the tests of a guard may take: what hangs without it is noticed."""
FORK = multiprocessing.get_context("fork")


def copy(folder: Path) -> None:
    """Copy what git tracks, and what it does not ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def tested(folder: Path, tests: Sequence[str], log: Path) -> None:
    """Run tests of a copy in this process, which is there for nothing else, and end with pytest's exit code."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("bikes_assets", "bikes_assets_tests")]:
        del sys.modules[name]
    for name in [name for name in os.environ if name.startswith(("BIKES_", "DAGSTER_"))]:
        del os.environ[name]
    sys.path[:] = [str(folder), *(place for place in sys.path if Path(place).absolute() != ROOT)]
    os.environ |= {"PYTHONPATH": str(folder), "TMPDIR": str(log.parent)}
    tempfile.tempdir = str(log.parent)
    os.chdir(folder)
    with log.open("w") as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
        sys.exit(pytest.main(["-q", "-x", "--durations=0", "-p", "no:cacheprovider", *tests]))


def outcome(folder: Path, tests: Sequence[str], log: Path, seconds: float) -> str:
    """Run tests of a copy, and return what is to be said of them."""
    process = FORK.Process(target=tested, args=(folder, tests, log))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return "hangs"
    return {pytest.ExitCode.OK: "passes", pytest.ExitCode.TESTS_FAILED: "fails"}.get(process.exitcode or 0, "broken")


def without(guard: Guard, folder: Path, log: Path) -> str:
    """Return what a guard's tests do in a copy without it; it is put back."""
    file = folder / guard.file
    text = file.read_text()
    # what was compiled counts as current where the size of the text and the second of its writing are the same
    compiled = Path(importlib.util.cache_from_source(str(file)))
    try:
        file.write_text(text.replace(guard.old, guard.new))
        compiled.unlink(missing_ok=True)
        return outcome(folder, guard.tests, log, SECONDS)
    finally:
        file.write_text(text)
        compiled.unlink(missing_ok=True)


def main(words: Sequence[str]) -> int:
    """Tell of each guard whether its tests notice that it is gone, and return the exit code."""
    guards = [item for item in GUARDS if not words or any(word in str(item) for word in words)]
    for name in IMPORTED:
        importlib.import_module(name)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="bikes-guards-", ignore_cleanup_errors=True) as place:
        folder, log = Path(place, "project"), Path(place, "log")
        copy(folder)
        tests = sorted({test for item in guards for test in item.tests})
        if (told := outcome(folder, tests, log, SECONDS * len(tests))) != "passes":
            print(f"{log.read_text()[-4000:]}\nWith every guard in its place: {told}, expected that all tests pass")
            return 1
        for item in guards:
            told = without(item, folder, log) if item.stands() == 1 else "stale"
            noticed = told in ("fails", "hangs")
            bad += not noticed
            print(f"{'noticed' if noticed else 'NOT NOTICED':11} ({told}) {item}", flush=True)
            if told == "broken":
                print(log.read_text()[-2000:])
    print(f"{len(guards)} guards, {bad} of them not noticed")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
