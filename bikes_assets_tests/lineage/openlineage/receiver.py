"""An OpenLineage receiver on 127.0.0.1, on good days and on bad ones."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BAD = ("500", "503", "silent", "killed", "cut off", "cut short", "trickling", "moved")
"""What a receiver may do in which it is not known to have taken an event; of `cut off` it has."""
GOOD = ("fine", "slow")


@dataclass
class Receiver:
    """A server that keeps the events that it takes; `mode` says what it does with them.

    Attributes:
        mode: one of GOOD or BAD.
        events: what it took, in order.
        requests: how many requests came.
    """

    mode: str = "fine"
    events: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: int = 0
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def keys(self) -> set[tuple[str, str]]:
        return {key_of(event) for event in self.events}

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        return Counter(key_of(event) for event in self.events)

    def set(self, mode: str) -> None:
        """Be as `mode` says from now on."""
        if self.mode == "killed" and mode != "killed":
            self._start()
        elif mode == "killed" and self.mode != "killed":
            self._stop()
        self.mode = mode

    def _start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.requests += 1
                with suppress(OSError):
                    receiver._answer(self)

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _stop(self) -> None:
        assert self._server
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        mode, length = self.mode, int(handler.headers["Content-Length"])
        handler.close_connection = mode not in (*GOOD, "moved")
        if mode == "cut short":  # half of the event arrives
            handler.rfile.read(length // 2)
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        event = json.loads(handler.rfile.read(length))
        if mode == "silent":
            time.sleep(3)
        elif mode == "trickling":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(300):
                handler.wfile.write(b"X: y\r\n")
                time.sleep(0.1)
        elif mode in ("500", "503"):
            handler.send_error(int(mode), "On fire")
        elif mode == "moved":
            handler.send_response(302)
            handler.send_header("Location", "/login?token=abcdefgh")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            if mode == "slow":
                time.sleep(0.1)
            self.events.append(event)
            self.headers.append(dict(handler.headers))
            content = b"cut" if mode == "cut off" else b"0123456789"
            handler.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n" + content)


def key_of(event: dict[str, Any]) -> tuple[str, str]:
    return event["run"]["runId"], event["eventType"]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Yield a receiver that takes what comes."""
    made = Receiver()
    made._start()
    try:
        yield made
    finally:
        if made.mode != "killed":
            made._stop()
