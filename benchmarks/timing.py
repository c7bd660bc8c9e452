"""What whole processes cost, and tables of it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
"""How often each thing is measured; what is printed are medians."""

BIKES = [sys.executable, "-c", "from bikes_assets.cli import main; main()"]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU (user and system, with that of children that were waited for) and wall time in seconds, and peak memory in MB."""

    cpu: float
    wall: float
    peak: float


def cost(command: Sequence[str], env: dict[str, str] | None = None) -> Cost:
    """Run a command and return its cost.

    Raises:
        RuntimeError: it failed; what it printed last is told.
    """
    with tempfile.TemporaryFile("w+") as output:
        start = time.monotonic()
        process = subprocess.Popen(
            command, cwd=HERE.parent, env={**os.environ, **(env or {})}, stdout=output, stderr=output
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output.read()[-2000:]}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def medians(measures: Sequence[Callable[[], Cost]], rounds: int = ROUNDS) -> list[Cost]:
    """Return the median cost of each of several things, measured in turns so that a busy machine is busy for all."""
    found = [[measure() for measure in measures] for _ in range(rounds)]
    return [
        Cost(*(statistics.median(getattr(item, name) for item in row) for name in ("cpu", "wall", "peak")))
        for row in zip(*found, strict=True)
    ]


@contextmanager
def fresh_store() -> Iterator[dict[str, str]]:
    """Give the environment of a store that holds nothing, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="bikes-bench-") as folder:
        yield {
            "BIKES_DATA": folder,
            "BIKES_LAKE": f"{folder}/lake",
            "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
            "DAGSTER_HOME": f"{folder}/dagster",
        }


def bare(folder: str | Path) -> list[str]:
    """Return the command of the bare script."""
    return [sys.executable, str(HERE / "bare.py"), str(folder)]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print("| " + " | ".join(header) + " |")
    print("|" + "|".join("---" if column == 0 else "--:" for column in range(len(header))) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
