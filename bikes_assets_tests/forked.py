"""Python processes that cost their own work alone: forked from one that has imported the libraries, but nothing of this project.

Half of what a command costs is the import of Dagster, MLflow and scikit-learn. A test whose subject is what is imported, or how
an interpreter begins, starts one itself.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

_LIBRARIES = (
    "alembic.command",
    "dagster._core.execution.api",
    "dagster_mlflow",
    "deltalake",
    "fsspec.implementations.local",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "narwhals._arrow.dataframe",
    "narwhals._pandas_like.dataframe",
    "PIL.PngImagePlugin",
    "psutil",
    "pyarrow.csv",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "scipy.stats",
    "skops.io",
    "sklearn.ensemble",
)


def run(
    arguments: tuple[str, ...], *, environment: Mapping[str, str], folder: str | Path, seconds: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run `python -c program ...` or `python -m module ...` in a process of its own, and return how it ended and what it printed.

    Args:
        arguments: what follows `python`.
        environment: its variables; PYTHONPATH alone is heard of those that Python itself reads.
        folder: where it is started.
        seconds: after which it is killed, which is a failure.
    """
    with tempfile.TemporaryDirectory(prefix="bikes-forked-") as place:
        printed = {name: Path(place) / name for name in ("out", "err")}
        order = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
        status = _zygote().run(order | {name: str(path) for name, path in printed.items()}, seconds)
        texts = [path.read_text() if path.exists() else "" for path in printed.values()]
    return subprocess.CompletedProcess([sys.executable, *arguments], os.waitstatus_to_exitcode(status), *texts)


class _Zygote:
    """The process that forks; it ends with this one, for it reads what this one writes."""

    def __init__(self) -> None:
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_", "MLFLOW_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean, text=True
        )
        self.lock = threading.Lock()
        atexit.register(self.process.kill)

    def run(self, order: dict[str, Any], seconds: float) -> int:
        with self.lock:
            assert self.process.stdin
            assert self.process.stdout
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            pid = int(self.process.stdout.readline())
            too_long = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
            too_long.start()
            status = int(self.process.stdout.readline())
            too_long.cancel()
        return status


@cache
def _zygote() -> _Zygote:
    return _Zygote()


# --- in the process that forks


def _serve() -> None:
    """Read orders from stdin, and answer each with the id of its process, and how that has ended."""
    import gc
    import importlib
    import warnings

    gc.set_threshold(50_000, 20, 20)  # as the command line has it
    sys.path.pop(0)  # this file's folder
    sys.modules["bikes_assets"] = None  # type: ignore[assignment] - which MLflow imports as a plugin; orders name other copies of it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _LIBRARIES:
            importlib.import_module(name)
    del sys.modules["bikes_assets"]
    gc.freeze()
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for line in orders:
        pid = os.fork()
        if not pid:
            orders.close()
            answers.close()
            _begin(json.loads(line))
        answers.write(f"{pid}\n")
        answers.flush()
        answers.write(f"{os.waitpid(pid, 0)[1]}\n")
        answers.flush()


def _begin(order: dict[str, Any]) -> NoReturn:
    """Be the process that an order asks for; its end is that of an interpreter."""
    import random
    import runpy
    import types

    import numpy as np

    random.seed()
    np.random.seed()  # else it is the same in each fork
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process's life
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    path = order["environment"].get("PYTHONPATH", "")
    sys.path[:] = ["", *filter(None, path.split(os.pathsep)), *(item for item in sys.path if item not in inherited)]
    kind, what, *arguments = order["arguments"]
    if kind == "-m":
        sys.argv = [what, *arguments]
        sys.path[0] = os.getcwd()
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)
    sys.exit()


if __name__ == "__main__":
    _serve()
