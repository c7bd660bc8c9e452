"""Questions of many, and of those who leave: each is computed once for all who wait, and none for nobody. A real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bikes_assets.core.errors import LineageError
from bikes_assets.web.openlineage import left
from bikes_assets.web.workers import Workers
from bikes_assets_tests.web.opened import eventually

SLOW = 2
"""Number of slow questions that are computed side by side."""


class Asked:
    """A server of questions whose work takes until it is told to end."""

    def __init__(self) -> None:
        self.workers, self.begun, self.requests = Workers(), list[str](), list[str]()
        self.may_end = threading.Event()
        self.ended, self.reported = 0, list[str]()
        app = Starlette(
            routes=[Route("/{pace}/{question}", self._endpoint)],
            exception_handlers={ClientDisconnect: left},
        )
        options = {"port": 0, "log_config": None, "lifespan": "off", "http": "h11", "timeout_graceful_shutdown": 1}
        self.server = uvicorn.Server(uvicorn.Config(app, **options))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        eventually(lambda: self.server.started)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    async def _endpoint(self, request: Request) -> Response:
        import asyncio

        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.reported.append(context["message"]))
        pace, question = request.path_params["pace"], request.path_params["question"]
        self.requests.append(question)
        try:
            answer = await self.workers.answer(
                question, lambda: self._work(question), request.receive, is_slow=pace == "slow"
            )
        except LineageError as error:
            return PlainTextResponse(str(error), 404)
        return PlainTextResponse(answer)

    def _work(self, question: str) -> str:
        self.begun.append(question)
        if question != "at once":
            self.may_end.wait(60)
        self.ended += 1
        if question.startswith("wrong"):
            raise LineageError(f"found {question}")
        return f"answer to {question}"

    def ask(self, question: str, pace: str = "slow") -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/{pace}/{question.replace(' ', '%20')}", timeout=60) as answer:
            return answer.read().decode()

    def connected(self, question: str) -> socket.socket:
        """Return a connection on which a question was asked."""
        before = len(self.requests)
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(f"GET /slow/{question} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        eventually(lambda: len(self.requests) > before)
        return connection


@pytest.fixture
def asked() -> Iterator[Asked]:
    """Return a server."""
    found = Asked()
    yield found
    found.may_end.set()
    found.server.should_exit = True
    found.thread.join(60)


def test_what_many_ask_meanwhile_is_computed_once(asked: Asked) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(asked.ask, "trace") for _ in range(10)]
        eventually(lambda: len(asked.requests) == 10)
        asked.may_end.set()
        assert {answer.result(60) for answer in answers} == {"answer to trace"}
    assert asked.begun == ["trace"]
    # and once more, when it is asked later
    asked.ask("trace")
    assert asked.begun == ["trace", "trace"]


def test_what_was_not_begun_when_its_only_client_left_is_never_computed(asked: Asked) -> None:
    # Given all threads at work, and many questions behind them
    busy = [asked.connected(f"busy{number}") for number in range(SLOW)]
    eventually(lambda: len(asked.begun) == SLOW)
    impatient = [asked.connected(f"click{number}") for number in range(10)]
    impatient += [asked.connected("shared"), asked.connected("shared")]
    # When their clients leave, but one of two who ask the same
    for connection in impatient[:-1]:
        connection.close()
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(asked.ask, "last")
        eventually(lambda: "last" in asked.requests)
        eventually(lambda: sum(item.waiting for item in asked.workers._asked.values()) == SLOW + 2)
        asked.may_end.set()
        # Then none of them was begun
        assert last.result(60) == "answer to last"
    assert impatient[-1].recv(1_000).endswith(b"answer to shared")
    assert {*asked.begun} == {"busy0", "busy1", "shared", "last"}
    for connection in [*busy, impatient[-1]]:
        connection.close()


def test_who_asks_again_what_was_begun_for_somebody_who_left_has_its_answer(asked: Asked) -> None:
    asked.connected("trace").close()
    eventually(lambda: asked.begun == ["trace"])
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(asked.ask, "trace")
        eventually(lambda: len(asked.requests) == 2)
        asked.may_end.set()
        assert again.result(60) == "answer to trace"
    assert asked.begun == ["trace"]


def test_slow_questions_keep_no_quick_one_waiting(asked: Asked) -> None:
    connections = [asked.connected(f"busy{number}") for number in range(10)]
    assert asked.ask("at once", "quick") == "answer to at once"
    assert asked.ended == 1
    for connection in connections:
        connection.close()


def test_an_error_is_told_to_all_who_wait_and_is_none_of_the_server_where_nobody_does(asked: Asked) -> None:
    alone, first, second = asked.connected("wrong0"), asked.connected("wrong1"), asked.connected("wrong1")
    eventually(lambda: len(asked.begun) == SLOW)
    alone.close()
    eventually(lambda: sum(item.waiting for item in asked.workers._asked.values()) == 2)
    asked.may_end.set()
    for connection in (first, second):
        assert connection.recv(1_000).endswith(b"found wrong1")
        connection.close()
    eventually(lambda: not asked.workers._asked)
    assert asked.reported == []


def test_a_server_that_ends_begins_nothing_more_and_tells_no_error(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    connections = [asked.connected(f"busy{number}") for number in range(SLOW + 5)]
    eventually(lambda: len(asked.begun) == SLOW)
    asked.server.should_exit = True
    asked.thread.join(60)
    asked.may_end.set()
    eventually(lambda: asked.ended == SLOW)
    assert len(asked.begun) == SLOW
    assert [record for record in caplog.records if record.exc_info] == []
    for connection in connections:
        connection.close()
