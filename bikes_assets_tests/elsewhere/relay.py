"""A relay before a server on 127.0.0.1, which can be cut: whoever is connected loses the connection, and nobody gets one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_CHUNK = 1 << 16


@dataclass
class Relay:
    """A relay; `passed` is called with the number of bytes that have gone to the server by then."""

    port: int
    target: int
    passed: Callable[[int], None] = lambda _: None
    is_cut: bool = False
    sent: int = 0
    _open: list[socket.socket] = field(default_factory=list[socket.socket])

    def cut(self) -> None:
        """Close every connection, and take no new one."""
        self.is_cut = True
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def mend(self) -> None:
        """Take connections again."""
        self.is_cut = False

    def _serve(self, client: socket.socket) -> None:
        if self.is_cut:
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self.target))
        self._open += [client, server]
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
                if sink.getpeername()[1] == self.target:
                    self.sent += len(data)
                    self.passed(self.sent)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(target: int) -> Iterator[Relay]:
    """Run a relay before a port, and yield it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Relay(listening.getsockname()[1], target)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    found._serve(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield found
        found.cut()
        listening.shutdown(socket.SHUT_RDWR)
