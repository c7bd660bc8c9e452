"""The project itself over four months: a store that is made once, copied for each round, and worked on by forks of one process.

That process has imported everything and loaded the definitions, so that a round costs its own work. Its settings name one
folder; each round fills it anew. A fork does one order and ends, or is stopped or killed on its way.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MODULES = (
    "bikes_assets_tests.fire.warm",
    "bikes_assets.cli.commands",
    "bikes_assets.demand.plots",
    "bikes_assets.cli.runner",
    "bikes_assets.cli.runs",
    "matplotlib.pyplot",
    "narwhals._arrow.dataframe",
    "narwhals._pandas_like.dataframe",
    "PIL.PngImagePlugin",
    "pyarrow.csv",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.ensemble",
)
MONTHS = ("2011-01", "2011-04")
PIN = ["pin", "demand_model[2011-03]", "--month", "2011-04", "--reason", "a campaign"]
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
"""A library that shifts the clock of a process, where it is installed."""
SECONDS = 120
"""After which a fork that has not ended is a failure."""


@dataclass(frozen=True)
class Point:
    """Where a fork stops or kills itself: at the so-and-so-many-th call of a function.

    Attributes:
        call: number of the call, from 1.
        window: whether calls count only from the beginning of a table's write to the storing of its event.
        gap: True counts only calls between the last look at the run and the end of the commit, False waits until they are over.
        delay: seconds after that call, so that it may be in the midst of a library's own code.
        number: SIGKILL or SIGSTOP.
    """

    call: int
    window: bool = False
    gap: bool | None = None
    delay: float = 0.0
    number: int = int(signal.SIGKILL)


@dataclass
class Zygote:
    """A process that has imported everything and forks those that do orders.

    Attributes:
        folder: where it leaves what it prints.
        environment: its variables.
    """

    folder: Path
    environment: dict[str, str]
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        with (self.folder / "zygote.log").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from bikes_assets_tests.fire.history import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment,
                text=True,
                start_new_session=True,
            )

    def ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the zygote has died, see {self.folder}/zygote.log"
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Fork:
    """A process that does an order.

    Attributes:
        pid: its id.
        zygote: the process that it was forked from.
        folder: where it leaves what it has to say and what it printed.
    """

    pid: int
    zygote: Zygote
    folder: Path
    status: int | None = None

    def is_at_work(self) -> bool:
        if self.status is None and (answer := self.zygote.ask(f"poll {self.pid}")) != "at work":
            self.status = os.waitstatus_to_exitcode(int(answer))
        return self.status is None

    def wait(self, *, stopped: bool = False) -> int:
        """Return how it ended: exit code, or minus the signal; with `stopped`, also that it was stopped."""
        end = time.monotonic() + SECONDS
        while self.status is None:
            answer = self.zygote.ask(f"poll {self.pid}")
            if answer != "at work":
                code = int(answer)
                if os.WIFSTOPPED(code):
                    if stopped:
                        return -int(signal.SIGSTOP)
                else:
                    self.status = os.waitstatus_to_exitcode(code)
                    break
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"a fork did not end within {SECONDS} s; it printed: {self.printed()}")
            time.sleep(0.005)
        return self.status

    def signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def told(self) -> dict[str, Any]:
        """Return what it had to say; fail where it did not end well."""
        assert self.wait() == 0, self.printed()
        return json.loads((self.folder / "told").read_text())

    def printed(self) -> str:
        return (self.folder / "printed").read_text()


@dataclass
class History:
    """The store of a round, and the processes that fork its workers.

    Attributes:
        folder: of everything; the store is under `data`, as it is made once under `sound`.
        settings: variables besides those that name the store.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    zygotes: dict[str, Zygote] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Given a store in which everything is made
        first = self.begin("command", arguments=["run"])
        assert first.wait() == 0, first.printed()
        self.data.rename(self.folder / "sound")

    def zygote(self, clock: str) -> Zygote:
        """Return the process that forks those whose clock is off by so much, such as `-2d`; "" for none."""
        if clock not in self.zygotes:
            inherited = {
                key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "MLFLOW_TRACKING"))
            }
            own = {
                "BIKES_DATA": str(self.data),
                "DAGSTER_HOME": str(self.home),
                "BIKES_FIRST_MONTH": MONTHS[0],
                "BIKES_LAST_MONTH": MONTHS[1],
                "MLFLOW_LOGGING_LEVEL": "WARNING",
                "RUST_BACKTRACE": "0",
            }
            shifted = (
                {"LD_PRELOAD": str(FAKETIME), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"} if clock else {}
            )
            self.zygotes[clock] = Zygote(self.folder, inherited | own | self.settings | shifted)
        return self.zygotes[clock]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def home(self) -> Path:
        return self.data / "dagster"

    @property
    def lake(self) -> Path:
        return self.data / "lake"

    @property
    def store(self) -> Path:
        return self.data / "mlflow"

    def renew(self) -> None:
        """Fill the store as it was made, into folders that may be mounted."""
        for part in ("dagster", "lake", "mlflow", ""):
            place = self.data / part
            for item in place.iterdir() if place.exists() else ():
                if item.is_dir() and not os.path.ismount(item):
                    shutil.rmtree(item)
                elif item.is_file():
                    item.unlink()
        shutil.copytree(self.folder / "sound", self.data, dirs_exist_ok=True)

    def begin(self, order: str, point: Point | None = None, *, clock: str = "", **details: Any) -> Fork:
        """Fork a process that does an order: `make` an asset, `command`, `sync`, `mend`, `runs`, `end`, `said`, `call`."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        values = {"order": order, "folder": str(folder), "point": vars(point) if point else None, **details}
        zygote = self.zygote(clock)
        return Fork(int(zygote.ask(json.dumps(values))), zygote, folder)

    def mend(self, asset: str, month: str) -> dict[str, Any]:
        """Do what people do after something went wrong: `bikes sync`, and the asset's month again."""
        if asset == "pin":
            return {**self.begin("sync").told(), "success": self.begin("command", arguments=PIN).wait() == 0}
        return self.begin("mend", asset=asset, month=month).told()

    def sync(self) -> dict[str, Any]:
        return self.begin("sync").told()

    def start(self, asset: str, month: str, point: Point | None = None) -> Fork:
        """Begin to make an asset's month, or to pin a model."""
        if asset == "pin":
            return self.begin("command", point, arguments=PIN)
        return self.begin("make", point, asset=asset, month=month)

    def is_held(self) -> bool:
        """Return whether somebody holds a lock: of a database, or of a file."""
        for file in (self.home / "event_log.db", self.home / "history" / "runs.db", self.store / "mlflow.db"):
            with closing(sqlite3.connect(file, timeout=0)) as database:
                try:
                    database.execute("begin immediate")
                except sqlite3.OperationalError:
                    return True
        for file in self.data.rglob("*.lock"):
            with file.open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    def close(self) -> None:
        for zygote in self.zygotes.values():
            zygote.close()


# --- in the process that forks


def serve() -> None:
    """Read orders from stdin, and answer each with one line."""
    import gc
    import importlib

    from bikes_assets.core.code_version import code_version

    gc.set_threshold(50_000, 20, 20)  # as the command line has it
    for name in _MODULES:
        importlib.import_module(name)
    code_version("bikes_assets.demand.column_lineage", "features_evidence")  # reads many files, once a process
    job = importlib.import_module("bikes_assets.definitions").defs().resolve_implicit_global_asset_job_def()
    gc.collect()
    gc.freeze()  # else each fork copies what its own collections look at
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        if line.startswith("poll "):
            pid, status = os.waitpid(int(line.split()[1]), os.WNOHANG | os.WUNTRACED)
            answers.write(f"{status if pid else 'at work'}\n")
        else:
            pid = os.fork()
            if not pid:
                _work(json.loads(line), job)
            answers.write(f"{pid}\n")
        answers.flush()


def _work(order: dict[str, Any], job: Any) -> None:
    folder, code = Path(order["folder"]), 1
    with (folder / "printed").open("ab") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    os.close(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        counted = _counted(order["point"])
        orders = {
            "make": _make,
            "command": _command,
            "sync": _sync,
            "mend": _mend,
            "end": _end,
            "runs": _runs,
            "said": _said,
            "call": _call,
        }
        told = orders[order["order"]]({**order, "job": job})
        sys.settrace(None)
        (folder / "told").write_text(json.dumps({**told, "calls": counted}))
        code = told.get("code", 0)
    except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent
        import traceback

        from bikes_assets.app.settings import settings
        from bikes_assets.core.transient import store_error

        sys.settrace(None)
        traceback.print_exc()
        print(store_error(error, str(settings().dagster_home)))  # noqa: T201 - as the command line does
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _counted(point: dict[str, Any] | None) -> dict[str, int]:
    """Count calls, all and those between a table's write and the storing of its event, and act at the point."""
    from bikes_assets.storage.delta import LakeTable

    calls = {"all": 0, "window": 0}
    if point is None:
        return calls
    kind, write = "window" if point["window"] else "all", LakeTable.write
    state: set[str] = set()
    acted: list[bool] = []

    def count(frame: Any, event: str, argument: Any) -> Any:
        name = frame.f_code.co_name
        in_gap = "gap" in state
        if frame.f_code is write.__code__:
            state.add("window")
        if point["gap"] is not True or in_gap:
            calls["all"] += 1
            calls["window"] += "window" in state
        if calls[kind] >= point["call"] > 0 and not acted and not (in_gap and point["gap"] is False):
            acted.append(True)
            act()
        if name == "store_asset_event":
            state.add("storing")
        return ends if name in ("store_event", "_still_at_work", "create_write_transaction") else None

    def ends(frame: Any, event: str, argument: Any) -> Any:
        name = frame.f_code.co_name
        if event == "return" and name == "_still_at_work" and "committed" not in state:
            state.add("gap")
        elif event == "return" and name == "create_write_transaction":
            state.discard("gap")
            state.add("committed")
        elif event == "return" and name == "store_event" and "storing" in state:
            state.discard("window")
            if kind == "window":
                sys.settrace(None)
        return ends

    def counted_write(*arguments: Any, **keywords: Any) -> int:
        sys.settrace(count)
        return write(*arguments, **keywords)

    def act() -> None:
        if point["delay"]:
            threading.Thread(target=later, daemon=True).start()
        else:
            os.kill(os.getpid(), point["number"])

    def later() -> None:
        time.sleep(point["delay"])
        os.kill(os.getpid(), point["number"])

    if kind == "window":
        LakeTable.write = counted_write
    else:
        sys.settrace(count)
    return calls


def _instance() -> Any:
    import dagster as dg

    return dg.DagsterInstance.get()


def _make(order: dict[str, Any]) -> dict[str, Any]:
    import dagster as dg

    from bikes_assets.events.attempts import what_failed
    from bikes_assets.events.workers import WORKER
    from bikes_assets.storage.processes import Process

    with _instance() as instance:
        result = order["job"].execute_in_process(
            instance=instance,
            partition_key=order["month"],
            asset_selection=[dg.AssetKey(order["asset"])],
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={WORKER: str(Process.this())},
            raise_on_error=False,
        )
        return {
            "success": result.success,
            "failed": "" if result.success else what_failed(instance, result.dagster_run),
            "digests": [
                event.materialization.tags["dagster/data_version"]
                for event in result.get_asset_materialization_events()
            ],
            "run": result.run_id,
        }


def _command(order: dict[str, Any]) -> dict[str, Any]:
    from bikes_assets.cli import main
    from bikes_assets.events import identity

    identity._checked.clear()  # the command is a process of its own, which looks itself

    try:
        main(order["arguments"])
    except SystemExit as end:
        return {"code": int(end.code or 0)}
    return {"code": 0}


def _sync(order: dict[str, Any]) -> dict[str, Any]:
    from bikes_assets.app.reconciliation import pipeline
    from bikes_assets.orchestration.reconcile import sync

    with _instance() as instance:
        done = sync(pipeline(instance))
        return {"done": done.done, "left": done.left}


def _mend(order: dict[str, Any]) -> dict[str, Any]:
    return {**_sync(order), **_make(order)}


def _call(order: dict[str, Any]) -> dict[str, Any]:
    """Call a function of a module with an instance and what else was given, and return what it returns."""
    from importlib import import_module

    module, _, name = order["function"].partition(":")
    with _instance() as instance:
        return getattr(import_module(module), name)(instance, **order["given"]) or {}


def _said(order: dict[str, Any]) -> dict[str, Any]:
    """Return what the newest run warned of, and what failed in it."""
    from bikes_assets.events.attempts import what_failed

    with _instance() as instance:
        (run,) = instance.get_runs(limit=1)
        warnings = [entry.user_message for entry in instance.all_logs(run.run_id) if entry.level == 30]
        return {"said": [*warnings, what_failed(instance, run) if run.is_failure else ""]}


def _runs(order: dict[str, Any]) -> dict[str, Any]:
    import dagster as dg

    with _instance() as instance:
        return {
            "at work": [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))]
        }


def _end(order: dict[str, Any]) -> dict[str, Any]:
    """End every run that is at work, as somebody does who takes its worker for dead."""
    import dagster as dg

    with _instance() as instance:
        runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        for run in runs:
            report: Callable[..., Any] = (
                instance.report_run_canceled if order.get("cancel") else instance.report_run_failed
            )
            report(run)
        return {"ended": [run.run_id for run in runs]}
