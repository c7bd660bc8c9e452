"""MLflow servers as they are on bad days: killed, silent, failing, slow. All on 127.0.0.1."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and content."""
GONE: Answer = (0, {}, b"")
"""No answer: the connection is closed."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@dataclass
class MlflowServer:
    """A real MLflow server over SQLite in a folder: `kill` it at any moment, `start` it again on the same port.

    Attributes:
        folder: where store, artifacts and log lie.
        zygote: starts it as a fork of a process that has imported it, in a fraction of a second; None runs `mlflow server`.
    """

    folder: Path
    zygote: Zygote | None = None
    port: int = field(default_factory=free_port)
    pid: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        return self.folder / "mlflow.db"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        uri, artifacts = f"sqlite:///{self.store}", (self.folder / "artifacts").as_uri()
        if self.zygote:
            self.pid = self.zygote.fork(uri, artifacts, self.port)
        else:
            command = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
            command += ["--backend-store-uri", uri, "--artifacts-destination", artifacts]
            with (self.folder / "server.log").open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "mlflow", *command],
                    env=os.environ | ENVIRONMENT,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.pid = self._process.pid
        self._wait()

    def kill(self) -> None:
        """Kill -9 the server and what it started, whatever it is doing."""
        if not self.pid:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._process:
            self._process.wait()
        elif self.zygote:
            self.zygote.reap(self.pid)
        self.pid = 0

    def _wait(self) -> None:
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                # its first answer opens the store, which takes longer than a client waits
                place = f"{self.url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
                with urllib.request.urlopen(place, timeout=30) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        raise AssertionError(f"no MLflow server at {self.url}, see {self.folder}/server.log")


class Zygote:
    """A process that has imported MLflow's server and forks one when asked: the same application, without its imports."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from bikes_assets_tests.fire.servers import serve_forks; serve_forks()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | ENVIRONMENT,
                text=True,
                start_new_session=True,
            )

    def fork(self, uri: str, artifacts: str, port: int) -> int:
        return int(self._ask(f"start {uri} {artifacts} {port}"))

    def reap(self, pid: int) -> None:
        self._ask(f"reap {pid}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def _ask(self, order: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the zygote has died, see {self.log}"
        return answer


def serve_forks() -> None:
    """Run a zygote: read orders from stdin, answer each with one line."""
    import uvicorn

    os.environ["_MLFLOW_SERVER_FILE_STORE"] = "sqlite://"  # the application wants one when it is imported
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"
    from mlflow.server import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )
    from mlflow.server.fastapi_app import app

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order, *arguments = line.split()
        if order == "start":
            uri, artifacts, port = arguments
            pid = os.fork()
            if not pid:
                os.setsid()
                os.close(0)
                os.environ |= {
                    BACKEND_STORE_URI_ENV_VAR: uri,
                    ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
                    ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
                    SERVE_ARTIFACTS_ENV_VAR: "true",
                }
                uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
                os._exit(0)
            answers.write(f"{pid}\n")
        else:
            os.waitpid(int(arguments[0]), 0)
            answers.write("reaped\n")
        answers.flush()


@dataclass
class BadServer:
    """A server that gives no good answer, and counts the requests that came."""

    port: int
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def black_hole() -> Iterator[BadServer]:
    """Yield a server that accepts connections and never answers."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        server = BadServer(listener.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                server.requests.append("")

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for connection in connections:
        connection.close()


@contextmanager
def failing(status: int = 500) -> Iterator[BadServer]:
    """Yield a server that answers everything with one HTTP status."""

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> Answer:
        return status, {"Content-Type": "text/plain"}, b"no"

    with _serving(answer) as server:
        yield server


@contextmanager
def cut(target: str, after: int, *, lost: bool) -> Iterator[BadServer]:
    """Yield a proxy to a server that takes some requests and then is gone.

    Args:
        target: the server.
        after: number of requests that are answered.
        lost: whether the next request still reaches the server, and its answer alone is lost.
    """
    count = itertools.count()

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        number = next(count)
        answered = _forwarded(target, handler, body) if number < after or (lost and number == after) else GONE
        return answered if number < after else GONE

    with _serving(answer) as server:
        yield server


@contextmanager
def slow(target: str, seconds: float) -> Iterator[BadServer]:
    """Yield a proxy to a server that delays each answer."""

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        time.sleep(seconds)
        return _forwarded(target, handler, body)

    with _serving(answer) as server:
        yield server


def _forwarded(target: str, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
    headers = {key: value for key, value in handler.headers.items() if key.lower() not in {"host", "connection"}}
    request = urllib.request.Request(target + handler.path, body or None, headers, method=handler.command)
    try:
        with closing(urllib.request.urlopen(request, timeout=60)) as found:
            return found.status, dict(found.headers), found.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()
    except OSError:
        return GONE


@contextmanager
def _serving(answer: Any) -> Iterator[BadServer]:
    known: list[BadServer] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known[0].requests.append(f"{self.command} {self.path}")
            status, headers, content = answer(self, body)
            if not status:
                self.close_connection = True
                return
            try:
                self.send_response(status)
                for key, value in headers.items():
                    if key.lower() in {"content-type", "content-encoding", "location"}:
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # the client did not wait

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        known.append(BadServer(httpd.server_address[1]))
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield known[0]
        httpd.shutdown()
        thread.join(5)
