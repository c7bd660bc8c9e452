"""Server-sent events: a page learns that something was materialized, that a run ended, or that another tool reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

from bikes_assets.app.openlineage.received import file
from bikes_assets.app.store import current
from bikes_assets.core.errors import LineageError
from bikes_assets.events.run_log import last_end

if TYPE_CHECKING:
    from starlette.requests import Request

    from bikes_assets.web.api import Workers

_SECONDS = 2.0
"""How often the log is looked at."""
_QUIET = 15.0
"""After how many seconds without news a comment is sent, so that nobody in between closes the connection."""


def changes(workers: Workers) -> Callable[[Request], Any]:
    """Return the endpoint that sends an event `changed` whenever there is news, with the number of the last event."""

    async def endpoint(request: Request) -> StreamingResponse:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_news(request, workers), media_type="text/event-stream", headers=headers)

    return endpoint


async def _news(request: Request, workers: Workers) -> AsyncIterator[str]:
    loop, quiet = asyncio.get_running_loop(), 0.0
    known: tuple[int, int] | None = None
    yield "retry: 3000\n\n"
    while not await request.is_disconnected():
        try:
            state = await workers.run(loop, _state, is_slow=False)
        except (LineageError, OSError):  # the storage is away for a while
            state = known
        if known and state and state != known:
            yield f"event: changed\ndata: {json.dumps({'event': state[0]})}\n\n"
            quiet = 0.0
        elif quiet >= _QUIET:
            yield ": nothing new\n\n"
            quiet = 0.0
        known = state
        await asyncio.sleep(_SECONDS)
        quiet += _SECONDS


def _state() -> tuple[int, int]:
    """Return the number of the last event that may change what a page shows, and when another tool last reported."""
    received = file()
    return last_end(current().events), received.stat().st_mtime_ns if received.exists() else 0
