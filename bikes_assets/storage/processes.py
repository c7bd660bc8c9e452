"""Processes: their identity, which does not depend on the clock; whether one is gone; children that end with it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Process:
    """A process of a machine.

    Attributes:
        pid: its id, which another process may get later.
        birth: what tells it from those, independent of changes of the clock; "" where it is not known.
        host: its machine.
    """

    pid: int
    birth: str
    host: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process of this machine that has an id now."""
        return cls(pid, _birth(pid), socket.gethostname())

    @classmethod
    def this(cls) -> Process:
        """Return the current process."""
        return cls.of(os.getpid())

    @classmethod
    def parse(cls, text: str) -> Process | None:
        """Return the process of a text that `str` returned; None for another text."""
        pid, _, rest = text.partition("@")
        birth, _, host = rest.partition("@")
        return cls(int(pid), birth, host) if pid.isdecimal() else None

    def is_gone(self) -> bool:
        """Return whether it has ended; False where that cannot be known."""
        if self.host != socket.gethostname():
            return False
        birth = _birth(self.pid)
        return not birth or self.birth not in ("", birth)

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process of this machine, and return whether it was there."""
        try:
            handle = os.pidfd_open(self.pid)  # of this process or of a later one of its id, which is looked up now
        except ProcessLookupError:
            return False
        try:
            if self.is_gone():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def __str__(self) -> str:
        return f"{self.pid}@{self.birth}@{self.host}"


def ending_with_this(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` by which a child gets a signal from Linux once this process is gone.

    So the child ends however this process ended, even by SIGKILL. Linux watches the thread that starts the child.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # before the fork, which may hold locks

    def end_with_parent() -> None:
        if prctl:
            prctl(_PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:  # it had ended before that
                os._exit(1)

    return end_with_parent


def end_as_interrupted() -> None:
    """Make SIGTERM and SIGHUP interrupt this process as Ctrl-C does, so that it cleans up and ends its children.

    Where SIGHUP is ignored, as under nohup, it stays ignored: the process is to outlive its terminal.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background shell has it ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)  # whatever handles it now: Dagster has handlers of its own


def _birth(pid: int) -> str:
    """Return what tells a process of this machine from earlier and later ones of its id, "" where there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        if not psutil.LINUX:
            return f"{process.create_time():.2f}"
        # psutil's time is that of the clock; the kernel counts from its start
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text()[:8]}.{ticks}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return ""
