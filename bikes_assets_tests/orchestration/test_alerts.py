"""Alerts: delivered to a real server and a real command, and given up in time whatever the other side does."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from bikes_assets.core import secrets
from bikes_assets.orchestration.alerts import send

MESSAGE = {"text": 'a run failed: ügly "quotes"\nand lines', "run_id": "1-2"}


@dataclass
class Hook:
    """A server that takes messages, and what it has got."""

    url: str
    got: list[tuple[str, str, Any]] = field(default_factory=list)


@contextmanager
def hook(status: int = 200, headers: dict[str, str] | None = None) -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known = Hook(f"http://127.0.0.1:{server.server_port}/services/T0/S3CR3TPATH")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()


def python(program: str, *arguments: str) -> str:
    """Return the command that runs a program."""
    return shlex.join([sys.executable, "-c", program, *arguments])


def test_a_webhook_gets_the_message_as_json() -> None:
    with hook() as known:
        assert send(known.url, MESSAGE) == ""
    assert known.got == [("/services/T0/S3CR3TPATH", "application/json", MESSAGE)]


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (500, {}, "found answer 500 Internal Server Error, expected 2xx"),
        (404, {}, "found answer 404 Not Found, expected 2xx"),
        (302, {"Location": "/elsewhere"}, "found answer 302 Found, expected 2xx"),
    ],
)
def test_a_webhook_that_does_not_take_it_is_told(status: int, headers: dict[str, str], told: str) -> None:
    with hook(status, headers) as known:
        assert send(known.url, MESSAGE) == told
    assert len(known.got) == 1  # no redirection is followed


def test_a_server_that_is_away_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert "Connection refused" in send(f"http://127.0.0.1:{port}/x", MESSAGE)


@contextmanager
def dripping() -> Iterator[str]:
    """Run a server that answers a byte at a time, without end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not ended.wait(0.1):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
        ended.set()
        thread.join(5)


def test_a_server_that_never_ends_its_answer_is_given_up_in_time() -> None:
    with dripping() as url:
        begun = time.monotonic()
        assert send(url, MESSAGE, seconds=1.0) == "no answer within 1 s"
        assert time.monotonic() - begun < 3


def test_a_command_reads_the_message_from_its_input_and_no_shell_reads_its_arguments(tmp_path: Path) -> None:
    file = tmp_path / "got"
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read() + sys.argv[2])"
    assert send(python(program, str(file), "; touch $HOME"), MESSAGE) == ""
    text = file.read_text()
    assert text.endswith("; touch $HOME")
    assert json.loads(text.removesuffix("; touch $HOME")) == MESSAGE


def test_a_command_that_fails_is_told_by_its_last_line() -> None:
    told = send(python("import sys; print('one'); sys.exit('no such channel')"), MESSAGE)
    assert told == "found exit code 1, expected 0: no such channel"


def test_a_command_that_does_not_exist_is_told() -> None:
    assert send("no-such-program --now", MESSAGE).startswith("FileNotFoundError: ")


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_command_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    program = (
        "import subprocess, sys, os, time, pathlib\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(60)"
    )
    begun = time.monotonic()
    told = send(python(program, str(file)), MESSAGE, seconds=3.0)
    assert told == "the command did not end within 3 s and was killed"
    assert time.monotonic() - begun < 8
    while left := [pid for pid in map(int, file.read_text().split()) if is_running(pid)]:
        assert time.monotonic() - begun < 8, left
        time.sleep(0.1)


def test_what_a_command_leaves_running_is_not_waited_for() -> None:
    begun = time.monotonic()
    assert send(python("import subprocess; subprocess.Popen(['sleep', '8'])"), MESSAGE) == ""
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/services/T0/B0/tok en",
        "http://127.0.0.1:1/services/T0/B0/tok\ten",
        "http://127.0.0.1:1/services/T0/B0/tok\u00e9n",
        "http://127.0.0.1:port/services/T0/B0/tok",
        "http://127.0.0.1:99999/services/T0/B0/tok",
        "http://[/services/T0/B0/tok",
        "http:///services/T0/B0/tok",
        "http://ho st/services/T0/B0/tok",
        "http:// /services/T0/B0/tok",
        f"http://{'x' * 70}.example/services/T0/B0/tok",
        "HTTP://127.0.0.1:1/services/T0/B0/tok",
    ],
)
def test_why_a_webhook_was_not_reached_holds_nothing_of_its_path(url: str) -> None:
    told = send(url, MESSAGE)
    assert told
    assert not [part for part in ("services", "T0", "B0", "tok") if part in told]


def test_what_a_server_repeats_of_the_path_is_not_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for reply in (b"HTTP/1.1 400 no /services/T0/S3CR3TPATH\r\n\r\n", b"/services/T0/S3CR3TPATH\r\n\r\n"):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/services/T0/S3CR3TPATH"
        assert [send(url, MESSAGE), send(url, MESSAGE)] == [
            "found answer 400 Bad Request, expected 2xx",
            "BadStatusLine",
        ]
        thread.join(5)


def test_what_a_command_repeats_of_a_webhook_is_not_told() -> None:
    url = "https://hooks.example.com/services/T0/S3CR3TPATH"
    told = send(python("import sys; sys.exit('no ' + sys.argv[1] + ' at /services/T0/S3CR3TPATH')", url), MESSAGE)
    assert told == "found exit code 1, expected 0: no https://hooks.example.com/*** at /***"


def test_a_webhooks_path_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_learned", {})
    url = "https://hooks.example.com/services/T0/B0/abcdefSECRET"
    secrets.learn_webhooks(f"curl -d @- {url} --silent")
    for text in (
        url,
        f"found {url}",
        "POST /services/T0/B0/abcdefSECRET HTTP/1.1",
        "services%2FT0%2FB0%2FabcdefSECRET",
    ):
        assert "abcdefSECRET" not in secrets.scrubbed(text)
    assert secrets.scrubbed(f"could not reach {url}") == "could not reach https://hooks.example.com/***"
    secrets._pattern.cache_clear()
