"""Alerts: a message to a webhook or a command. An alert never raises an error, and never waits for long."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bikes_assets.core.secrets import learn_webhooks, scrubbed
from bikes_assets.core.texts import plain, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECONDS = 10.0
"""Longest time that an alert may take, whatever the receiver does."""
_MOST_OF_OUTPUT = 2_000


def is_webhook(target: str) -> bool:
    """Return whether a target is the URL of a webhook, rather than a command."""
    return target.lower().startswith(("http://", "https://"))


def send(target: str, message: Mapping[str, Any], seconds: float = SECONDS) -> str:
    """Send a message to a webhook, as the JSON body of a POST, or to a command, as JSON on its standard input.

    A command is run without a shell. A webhook must answer 2xx: redirects are not followed, since the body would be
    lost.

    Args:
        target: an http(s) URL, or a command with its arguments, quoted as in a shell.
        message: JSON-ready values.
        seconds: timeout; a command is then killed with all its child processes.

    Returns:
        Why it was not delivered, "" if it was. It contains no secret.
    """
    body = json.dumps(message).encode()
    learn_webhooks(target)  # a command may have them among its arguments
    try:
        told = (
            _within(seconds, lambda: _post(target, body, seconds))
            if is_webhook(target)
            else _run(target, body, seconds)
        )
    except Exception as error:  # noqa: BLE001 - an error in an alert must not become one of its subject
        told = f"{type(error).__name__}: {error}"
    return plain(shortened(scrubbed(told), 300))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:  # noqa: ARG002
        return None


def _post(url: str, body: bytes, seconds: float) -> str:
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http(s), see is_webhook
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds):
            return ""
    except urllib.error.HTTPError as error:
        known = {status.value: f" {status.phrase}" for status in HTTPStatus}
        return f"found answer {error.code}{known.get(error.code, '')}, expected 2xx"
    except Exception as error:  # noqa: BLE001 - reported by the waiting caller
        return _reason(error)


def _reason(error: Exception) -> str:
    """Return why a webhook was not reached, in the words of the operating system: other messages may repeat the URL."""
    cause = getattr(error, "reason", error)
    cause = cause if isinstance(cause, Exception) else error
    told = cause.strerror if isinstance(cause, OSError) else None
    return f"{type(cause).__name__}: {told}" if told else type(cause).__name__


def _within(seconds: float, call: Callable[[], str]) -> str:
    """Return a call's result within a time limit; a server that answers a byte at a time would block it forever."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:g} s"


def _run(command: str, body: bytes, seconds: float) -> str:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
        # files, not pipes: a process that the command leaves behind may keep a pipe open
        given.write(body)
        given.seek(0)
        process = subprocess.Popen(
            shlex.split(command), stdin=given, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"the command did not end within {seconds:g} s and was killed"
        if not code:
            return ""
        printed.seek(0)
        lines = printed.read(_MOST_OF_OUTPUT).decode(errors="replace").strip().splitlines()
        return f"found exit code {code}, expected 0" + (f": {lines[-1]}" if lines else "")
