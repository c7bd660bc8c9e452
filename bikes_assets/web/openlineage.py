"""`POST /api/v1/lineage`: where OpenLineage's clients send their events by default."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from bikes_assets.app.openlineage.received import received
from bikes_assets.core.errors import EventError, LineageError
from bikes_assets.lineage.openlineage.parsed import loaded
from bikes_assets.lineage.openlineage.received import one_by_one

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from bikes_assets.lineage.openlineage.received import Added

PATH = "/api/v1/lineage"
MOST_BYTES = 64 << 20
"""Largest request that is read: a batch may hold many events."""


def application(key: str = "") -> Starlette:
    """Return the application that stores events: one, or a list of them, in each request.

    It answers 201 with how many were new and how many were known already. Where some are invalid, it answers 400 and
    says what is wrong with each of them; the valid ones are stored all the same.

    Args:
        key: the key that each request must have, as `Authorization: Bearer KEY`, "" where none is needed.
    """

    async def receive(request: Request) -> Response:
        if key and not _has_key(request, key):
            return _refusal(401, "found no key, or another one, expected Authorization: Bearer and the key")
        try:
            events = await _events(request)
        except EventError as error:
            return _refusal(413 if _is_too_large(request) else 400, str(error))
        try:
            added = await run_in_threadpool(lambda: received().add(events))
        except LineageError as error:  # so that the client sends it again
            return _refusal(503, str(error))
        return JSONResponse(_answer(added), 400 if added.refused else 201)

    return Starlette(routes=[Route(path, receive, methods=["POST"]) for path in (PATH, f"{PATH}/batch")])


async def _events(request: Request) -> list[object]:
    """Return the events in the body of a request.

    Raises:
        EventError: it is too large, or no JSON.
    """
    body, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise EventError(f"found a request of more than {MOST_BYTES:,} bytes, expected {MOST_BYTES:,} at most")
        body.append(part)
    request.state.size = size
    return [*one_by_one([loaded(b"".join(body), MOST_BYTES)])]


def _is_too_large(request: Request) -> bool:
    return not hasattr(request.state, "size")


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
            "received": done + len(failed),
            "successful": done,
            "stored": added.stored,
            "known": added.known,
            "failed": len(failed),
        },
        "failed_events": failed,
    }


def _refusal(status: int, why: str) -> JSONResponse:
    return JSONResponse({"status": "failure", "error": why}, status)
