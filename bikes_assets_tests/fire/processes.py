"""Processes that execute Dagster runs, forked from one that has imported everything, to be interrupted and killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bikes_assets_tests.fire.project import Place, warm_module

SOAK = os.environ.get("BIKES_SOAK") == "1"
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload([warm_module()])


def turns(whole: int) -> range:
    """Return the turns of a campaign: all of them in a soak, a tenth of them otherwise, one at least."""
    return range(whole if SOAK else max(1, whole // 10))


@dataclass
class Worker:
    """A process that executes a Dagster run; use it from the moment at which it begins.

    Attributes:
        process: the process.
        told: what it says when it is through: whether the run succeeded, and its seconds.
    """

    process: Any
    told: Any

    @classmethod
    def of_launcher(cls, place: Place, run_id: str) -> Worker:
        """Return a process that executes a run that was created, as Dagster's launcher has it done."""
        return cls._begun(_launched, place, run_id)

    @classmethod
    def of_command(
        cls,
        place: Place,
        partitions: Sequence[str],
        orders: Mapping[str, str] | None = None,
        assets: Sequence[str] | None = None,
    ) -> Worker:
        """Return a process that executes a run for each partition, one after the other, as a command line does."""
        return cls._begun(_commanded, place, list(partitions), dict(orders or {}), assets)

    @classmethod
    def _begun(cls, function: Any, *arguments: Any) -> Worker:
        ready, (told, tell) = FORK.Event(), FORK.Pipe(duplex=False)
        process = FORK.Process(target=function, args=(*arguments, ready, tell))
        process.start()
        tell.close()
        assert ready.wait(120), "the process did not begin"
        return cls(process, told)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def outcome(self, seconds: float = 120) -> list[tuple[bool, float]]:
        """Return success and seconds of each run, as far as the process got; fail when it does not end."""
        self.process.join(seconds)
        ended = not self.process.is_alive()
        if not ended:
            self.process.kill()
            self.process.join()
        assert ended, f"a process did not end within {seconds} s"
        found: list[tuple[bool, float]] = []
        try:
            while self.told.poll():
                found.append(self.told.recv())
        except EOFError:
            pass
        return found


def _launched(place: Place, run_id: str, ready: Any, tell: Any) -> None:
    start = time.monotonic()
    place.execute(run_id, ready.set)
    tell.send((True, time.monotonic() - start))


def _commanded(
    place: Place,
    partitions: Sequence[str],
    orders: Mapping[str, str],
    assets: Sequence[str] | None,
    ready: Any,
    tell: Any,
) -> None:
    with place.instance() as instance:
        place.job()
        ready.set()
        for partition in partitions:
            start = time.monotonic()
            result = place.run(instance, partition, orders, assets)
            tell.send((result.success, time.monotonic() - start))
