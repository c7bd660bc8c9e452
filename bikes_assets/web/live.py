"""Server-sent events: a page learns that something was materialized, that a run ended, or that another tool reported."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from bikes_assets.core.errors import LineageError
from bikes_assets.web.api import stamp

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from bikes_assets.web.workers import Workers

_SECONDS = 2.0
"""How often the log is looked at."""
_QUIET = 15.0
"""After how many seconds without news a comment is sent, so that nobody in between closes the connection."""


def news(workers: Workers) -> Callable[[Request], Any]:
    """Return the endpoint that sends an event `stamp` at the beginning and whenever there is news; see `api.stamp`."""

    async def endpoint(request: Request) -> StreamingResponse:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Stream(_stamps(request, workers), media_type="text/event-stream", headers=headers)

    return endpoint


class _Stream(StreamingResponse):
    """An answer whose reader may leave at any time: a page is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientDisconnect):  # there is nobody left to answer
            await super().__call__(scope, receive, send)


async def _stamps(request: Request, workers: Workers) -> AsyncIterator[str]:
    known, quiet = "", 0.0
    yield "retry: 3000\n\n"
    while not await request.is_disconnected():
        try:
            now = await workers.answer(stamp, stamp, is_slow=False)
        except (LineageError, OSError, sqlite3.Error):  # the storage is away for a while
            now = known
        if now != known:
            yield f"event: stamp\ndata: {now}\n\n"
            known, quiet = now, 0.0
        elif quiet >= _QUIET:
            yield ": nothing new\n\n"
            quiet = 0.0
        await asyncio.sleep(_SECONDS)
        quiet += _SECONDS
