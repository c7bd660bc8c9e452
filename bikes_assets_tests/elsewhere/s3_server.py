"""moto's S3 on 127.0.0.1: `python -m bikes_assets_tests.elsewhere.s3_server PORT`."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from bikes_assets_tests.elsewhere.servers import CARELESS, FAULTS, Fault


class Store:
    """moto's application, careless about one bucket, and faulty where it is told to be.

    Attributes:
        refuses_for: seconds for which connections are to be refused from now on.
    """

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.refuses_for = 0.0
        self._began: dict[Fault, tuple[int, float]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == FAULTS:
            return self._be_told(environ, start_response)
        if path.startswith(f"/{CARELESS}/"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        self.requests.append(f"{environ['REQUEST_METHOD']} {path}")
        fault = next((fault for fault in self.faults if self._meets(fault)), None)
        return self._fail(fault, environ, start_response) if fault else self.moto(environ, start_response)

    def _meets(self, fault: Fault) -> bool:
        """Return whether the latest request meets a fault."""
        number, now = len(self.requests) - 1, time.monotonic()
        if fault not in self._began:
            counted = sum(bool(re.search(fault.like, request)) for request in self.requests)
            if counted <= fault.first or not (fault.times or fault.seconds):
                return False
            self._began[fault] = number, now
        first, began = self._began[fault]
        return number < first + fault.times or now < began + fault.seconds

    def _be_told(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Take the next faults, and tell of the requests since the last ones."""
        told = json.dumps(self.requests).encode()
        self.faults = [Fault(**item) for item in json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))]
        self.requests, self._began = [], {}
        start_response("200 OK", [("Content-Length", str(len(told)))])
        return [told]

    def _fail(self, fault: Fault, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        kind = fault.kind
        if kind == "503 before":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _busy(environ, start_response)
        if kind == "slow":
            time.sleep(1)
            return self.moto(environ, start_response)
        if kind == "cut short":
            return _half(self.moto(environ, start_response))
        if kind == "refused":
            self.refuses_for = fault.seconds
        else:
            list(self.moto(environ, lambda *_: None))
        if kind == "503 after":
            return _busy(environ, start_response)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)  # no answer
        start_response("200 OK", [])
        return []


def _busy(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    content = b"<Error><Code>ServiceUnavailable</Code><Message>later</Message></Error>"
    start_response("503 Service Unavailable", [("Content-Length", str(len(content)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]


def _half(answer: Iterable[bytes]) -> Iterator[bytes]:
    content = b"".join(answer)
    yield content[: len(content) // 2]


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = Store()
    while True:
        # one request at a time: moto looks whether an object is there and stores it in two steps
        server = make_server("127.0.0.1", int(sys.argv[1]), store, threaded=False)
        while not store.refuses_for:
            server.handle_request()
        server.server_close()
        time.sleep(store.refuses_for)
        store.refuses_for = 0.0
