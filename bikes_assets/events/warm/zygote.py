"""The zygote: a process that has imported the libraries, opens nothing, and forks a process for each run.

    python -m bikes_assets.events.warm.zygote SOCKET FILE

SOCKET is the number of an inherited socket, by which the launcher sends orders: the id of a run and the instance it
belongs to, with a pipe. Each is answered with the id of the forked process, or with why none was forked. The forked
process waits at the pipe until the launcher lets the run begin; where the launcher or the zygote ends before that, it
ends without having done anything, so that no run is executed twice.

A project's own code is imported by the forked process alone, so a run has the code that lies on disk. Which libraries
are imported beforehand is learned from the runs, and remembered in FILE: what one imports, the next ones find imported.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.events.warm.libraries import library_modules, remember, remembered
from bikes_assets.events.warm.loaded_files import LoadedFiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess

MOST_BYTES = 150_000
"""Size of an order, which is one packet of the socket."""


@dataclass
class _ForkedRun:
    """A run's process: its order, and the file in memory in which it reports what it has imported when it ends."""

    order: dict[str, str]
    process: BaseProcess
    report: int
    handle: int


class _Zygote:
    """Forks runs as ordered, until the launcher is gone and the last run has ended."""

    def __init__(self, orders: socket.socket, memory: Path) -> None:
        self._orders: socket.socket | None = orders
        self._memory = memory
        self._files = LoadedFiles()
        self._forking = multiprocessing.get_context("fork")
        self._runs: dict[int, _ForkedRun] = {}
        self._known: set[str] = set()

    def serve(self) -> None:
        """Import what is remembered; then obey orders, and see runs end."""
        self._learn(remembered(self._memory))
        while self._orders or self._runs:
            for source in wait([*self._runs, *([self._orders] if self._orders else [])]):
                if isinstance(source, socket.socket):
                    self._obey(source)
                elif isinstance(source, int):
                    self._end(self._runs.pop(source))

    def _obey(self, orders: socket.socket) -> None:
        """Answer one order; stop taking any when the launcher is gone."""
        try:
            message, pipes, _, _ = socket.recv_fds(orders, MOST_BYTES, 1)
        except OSError:
            message, pipes = b"", []
        if not message:
            orders.close()
            self._orders = None
            return
        answer: dict[str, Any] = {"why": self._why_not()}
        if not answer["why"]:
            try:
                answer = {"pid": self._fork(json.loads(message), pipes[0])}
            except OSError as error:
                answer = {"why": f"no process could be forked: {error}"}
        for pipe in pipes:
            os.close(pipe)
        try:
            orders.send(json.dumps(answer).encode())
        except OSError:
            return  # the launcher is gone, which is the next to be read

    def _why_not(self) -> str:
        """Return why no run may be forked, "" if one may."""
        if changed := self._files.changed():
            return f"{changed[0]} has changed since it was loaded, one of {len(changed)}"
        if others := [item.name for item in threading.enumerate() if item is not threading.main_thread()]:
            return f"a library has started threads when it was imported: {', '.join(others)}"
        return ""

    def _fork(self, order: dict[str, str], pipe: int) -> int:
        """Fork the process of a run, and return its id.

        Raises:
            OSError: there is no memory for it, or there are too many processes.
        """
        report = os.memfd_create("report")
        process = self._forking.Process(target=self._be_run, args=(order, pipe, report))
        try:
            return self._begin(order, process, report)
        except OSError:
            os.close(report)
            raise

    def _begin(self, order: dict[str, str], process: BaseProcess, report: int) -> int:
        process.start()
        assert process.pid is not None  # noqa: S101 - it is started
        handle = os.pidfd_open(process.pid)
        self._runs[handle] = _ForkedRun(order, process, report, handle)
        return process.pid

    def _end(self, run: _ForkedRun) -> None:
        """Reap a process that has ended, and learn what it imported, or have its crash reported."""
        os.close(run.handle)
        run.process.join()
        with os.fdopen(run.report, "rb") as file:
            file.seek(0)
            report = file.read()
        if report:
            self._learn(json.loads(report))
        elif run.order:
            self._have_crash_reported(run)

    def _have_crash_reported(self, run: _ForkedRun) -> None:
        process = self._forking.Process(target=self._report_crash, args=(run.order, run.process.exitcode))
        with suppress(OSError):  # then the sensor `mlflow_sync` or the next `bikes sync` ends the run
            self._begin({}, process, os.memfd_create("report"))

    def _learn(self, names: Sequence[str]) -> None:
        """Import modules of libraries that are not yet known, and remember those that can be imported by themselves."""
        new = [name for name in names if name not in self._known]
        if not new or not self._orders:
            return
        self._known.update(new)
        for name in new:
            if self._is_launcher_gone():
                return
            with suppress(Exception):  # a program may have created it, or it needs what the run will have
                importlib.import_module(name)
        self._files.note([*sys.modules])
        gc.collect()
        gc.freeze()  # so that the pages of what is loaded stay shared
        remember(self._memory, library_modules())

    def _is_launcher_gone(self) -> bool:
        try:
            return not (self._orders and self._orders.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _be_run(self, order: dict[str, str], pipe: int, report: int) -> None:
        """Be the process of a run."""
        self._be_forked()
        if not os.read(pipe, 1):  # the launcher has given it up
            os.write(report, b"[]")
            return
        from dagster import DagsterRunStatus
        from dagster._core.instance import DagsterInstance, InstanceRef
        from dagster._serdes import deserialize_value
        from dagster._utils.interrupts import capture_interrupts

        with capture_interrupts():
            from dagster._cli.api import _execute_run_command_body  # pyright: ignore[reportPrivateUsage]

            with DagsterInstance.from_ref(deserialize_value(order["instance"], InstanceRef)) as instance:
                run = instance.get_run_by_id(order["run"])
                if run and run.status == DagsterRunStatus.CANCELING:  # Dagster would fail it, as one that began twice
                    instance.report_run_canceled(run, "It was terminated before it began.")
                else:  # what `dagster api execute_run` does, which the launchers of containers start
                    _execute_run_command_body(order["run"], instance, lambda _: None, set_exit_code_on_failure=False)
        os.write(report, json.dumps(library_modules()).encode())

    def _report_crash(self, order: dict[str, str], exit_code: int) -> None:
        """Be a process that ends a run whose own process ended before its time."""
        self._be_forked()
        from dagster._core.instance import DagsterInstance, InstanceRef
        from dagster._serdes import deserialize_value

        from bikes_assets.events.workers import report_crash

        with DagsterInstance.from_ref(deserialize_value(order["instance"], InstanceRef)) as instance:
            report_crash(instance, order["run"], exit_code)

    def _be_forked(self) -> None:
        """Undo what is the zygote's alone."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._orders:
            self._orders.close()  # else the launcher would not see the zygote's end
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed()  # else it is the same in each fork; Python's own generator sees to that itself
        importlib.invalidate_caches()


def _stop(orders: socket.socket) -> None:
    """Have the zygote read that there are no more orders."""
    with suppress(OSError):  # it has read that before
        orders.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Be the zygote."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    orders.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the runs and to the launcher, too
    signal.signal(signal.SIGTERM, lambda *_: _stop(orders))
    _Zygote(orders, Path(sys.argv[2])).serve()
    os._exit(0)  # without tidying up thousands of modules


if __name__ == "__main__":
    main()
