"""The process that answers agents: `python -m bikes_assets.web.worker`, a question and an answer on a line each.

It imports the project, so it answers by the code as it was when it began. Whoever asks starts another one as soon as
the code or the settings have changed: `AnsweringProcess` does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

from bikes_assets.app import state, store
from bikes_assets.app.settings import ROOT
from bikes_assets.core import secrets
from bikes_assets.core.errors import LineageError
from bikes_assets.web.tools import Reply, asked

if TYPE_CHECKING:
    from collections.abc import Mapping

_END_SECONDS = 5


class AnsweringProcess:
    """Answers questions in a process of its own, which begins with the first one; one thread at a time may ask."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stamp: object = None

    def ask(self, name: str, values: Mapping[str, Any]) -> Reply:
        """Return the answer to a question.

        Args:
            name: name of the tool.
            values: its arguments.
        """
        if answer := _exchange(self._current(), {"name": name, "values": values}):
            return Reply(**json.loads(answer))
        told = f"found that the process that answers has ended with {self.close()}; see the server's log, and ask again"
        return Reply(told, is_error=True)

    def close(self) -> int | None:
        """End the process, and return the code that it has ended with; None where there is none."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(OSError):
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        try:
            return process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _current(self) -> subprocess.Popen[str]:
        """Return the process: another one where code or settings have changed since it began."""
        stamp = _stamp()
        if self._process is None or stamp is None or stamp != self._stamp:
            self.close()
            command = [sys.executable, "-m", "bikes_assets.web.worker"]
            self._process, self._stamp = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, encoding="utf-8"), stamp
            _exchange(self._process, {"project": store.used(), "path": sys.path})
        return self._process


def _exchange(process: subprocess.Popen[str], order: Mapping[str, Any]) -> str:
    """Return the line by which a process answers one, "" where it has ended."""
    if not process.stdin or not process.stdout:
        return ""
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
    except OSError:
        return ""
    return process.stdout.readline()


def _stamp() -> object:
    """Return what changes with the code and with .env; None where they are being changed, or were removed."""
    file = ROOT / ".env"
    try:
        kept = (file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else ()
        return state.code_stamp(), kept
    except (OSError, ImportError, LineageError):
        return None


def main() -> None:
    """Answer the questions on standard input, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends whoever asks, and standard input with that
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    secrets.guard()
    for line in sys.stdin:
        order = json.loads(line)
        if "project" in order:
            sys.path[:] = order["path"]
            store.use(order["project"])
            reply = Reply("")
        else:
            reply = asked(order["name"], order["values"])
        replies.write(json.dumps(asdict(reply)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
