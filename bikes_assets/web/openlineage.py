"""`POST /api/v1/lineage`: where OpenLineage's clients send their events by default."""

from __future__ import annotations

import hmac
import sqlite3
import zlib
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bikes_assets.app.openlineage.received import received
from bikes_assets.core.errors import EventError, LineageError
from bikes_assets.core.texts import shortened
from bikes_assets.lineage.openlineage.parsed import loaded
from bikes_assets.lineage.openlineage.received import one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

    from bikes_assets.lineage.openlineage.received import Added

PATH = "/api/v1/lineage"
MOST_BYTES = 64 << 20
"""Largest request that is read: a batch may hold many events."""

_PIECE = 1 << 20
"""How much of a compressed body is read at a time: a small one may hold very much."""


class TooLargeError(EventError):
    """A request is larger than is read."""


def application(key: str = "") -> Starlette:
    """Return an application that does nothing but store events; see `routes`."""
    return Starlette(routes=routes(key), exception_handlers={ClientDisconnect: left})


async def left(_: Request, _error: Exception) -> Response:
    """Return what a server sends when whoever asked has left, which nobody reads: it is no error of the server."""
    return Response(status_code=400)


def routes(key: str = "") -> list[Route]:
    """Return the routes of requests that bring events: one, or a list of them, in each.

    A request is answered by 201 with how many were new and how many were known already. Where some are invalid, it is
    answered by 400 with what is wrong with each of them; the valid ones are stored all the same.

    Args:
        key: the key that each request must have, as `Authorization: Bearer KEY`, "" where none is needed.
    """

    async def receive(request: Request) -> Response:
        if origin := request.headers.get("origin"):  # browsers send it with each POST, clients of OpenLineage never do
            return _refusal(403, f"found a request of a web page ({shortened(origin)}), expected one of a program")
        if key and not _has_key(request, key):
            return _refusal(401, "found no key, or another one, expected Authorization: Bearer and the key")
        try:
            events = await _events(request)
        except EventError as error:
            return _refusal(413 if isinstance(error, TooLargeError) else 400, str(error))
        try:
            added = await run_in_threadpool(lambda: received().add(events))
        except (LineageError, OSError, sqlite3.Error) as error:  # so that the client sends it again
            return _refusal(503, str(error))
        return JSONResponse(_answer(added), 400 if added.refused else 201)

    return [Route(path, receive, methods=["POST"]) for path in (PATH, f"{PATH}/batch")]


async def _events(request: Request) -> list[object]:
    """Return the events in the body of a request.

    Raises:
        TooLargeError: it is too large. EventError: it is no JSON, or not encoded as it says.
    """
    body, size, inflated = list[bytes](), 0, _inflated(request)
    async for part in request.stream():
        for piece in inflated(part):
            size += len(piece)
            if size > MOST_BYTES:
                raise TooLargeError(
                    f"found a request of more than {MOST_BYTES:,} bytes, expected {MOST_BYTES:,} at most"
                )
            body.append(piece)
    values = await run_in_threadpool(lambda: loaded(b"".join(body), MOST_BYTES))  # others are answered meanwhile
    return [*one_by_one([values])]


def _inflated(request: Request) -> Callable[[bytes], Iterator[bytes]]:
    """Return what yields the content of a part of a body: OpenLineage's clients may send it as gzip.

    Raises:
        EventError: the body is encoded otherwise; or, of what is returned, it is no gzip.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return lambda part: iter([part])
    if encoding not in ("gzip", "x-gzip"):
        raise EventError(f"found Content-Encoding {shortened(encoding)!r}, expected gzip or none")
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def inflated(part: bytes) -> Iterator[bytes]:
        while part:
            try:
                yield inflater.decompress(part, _PIECE)
            except zlib.error as error:
                raise EventError(f"found a body that is no gzip ({error}), as Content-Encoding says") from None
            part = inflater.unconsumed_tail

    return inflated


def _has_key(request: Request, key: str) -> bool:
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    return hmac.compare_digest(given, f"Bearer {key}".encode())


def _answer(added: Added) -> dict[str, Any]:
    """Return what became of events, in the form of OpenLineage's answer to a batch."""
    failed = [{"index": place, "reason": why, "retriable": False} for place, why in added.refused.items()]
    done = added.stored + added.known
    return {
        "status": "success" if not failed else "partial_success" if done else "failure",
        "summary": {
            "received": done + added.invalid,
            "successful": done,
            "stored": added.stored,
            "known": added.known,
            "failed": added.invalid,
        },
        "failed_events": failed,
    }


def _refusal(status: int, why: str) -> JSONResponse:
    return JSONResponse({"status": "failure", "error": why}, status)
