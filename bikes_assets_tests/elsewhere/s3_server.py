"""moto's S3 on 127.0.0.1: `python -m bikes_assets_tests.elsewhere.s3_server PORT`."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from bikes_assets_tests.elsewhere.servers import CARELESS, FAULTS, Fault


class Store:
    """moto's application, careless about one bucket, and faulty where it is told to be."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.fault = Fault()
        self.requests: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == FAULTS:
            return self._be_told(environ, start_response)
        if path.startswith(f"/{CARELESS}/"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        number = len(self.requests)
        self.requests.append(f"{environ['REQUEST_METHOD']} {path}")
        if not self.fault.first <= number < self.fault.first + self.fault.times:
            return self.moto(environ, start_response)
        return self._fail(self.fault.kind, environ, start_response)

    def _be_told(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Take the next fault, and tell of the requests since the last one."""
        told = json.dumps(self.requests).encode()
        self.fault = Fault(**json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        self.requests = []
        start_response("200 OK", [("Content-Length", str(len(told)))])
        return [told]

    def _fail(self, kind: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if kind == "503 before":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _busy(start_response)
        if kind == "slow":
            time.sleep(1)
            return self.moto(environ, start_response)
        if kind == "cut short":
            return _half(self.moto(environ, start_response))
        list(self.moto(environ, lambda *_: None))
        if kind == "503 after":
            return _busy(start_response)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)  # no answer
        start_response("200 OK", [])
        return []


def _busy(start_response: Any) -> Iterable[bytes]:
    content = b"<Error><Code>ServiceUnavailable</Code><Message>later</Message></Error>"
    start_response("503 Service Unavailable", [("Content-Length", str(len(content)))])
    return [content]


def _half(answer: Iterable[bytes]) -> Iterator[bytes]:
    content = b"".join(answer)
    yield content[: len(content) // 2]


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # one request at a time: moto looks whether an object is there and stores it in two steps
    make_server("127.0.0.1", int(sys.argv[1]), Store(), threaded=False).serve_forever()
