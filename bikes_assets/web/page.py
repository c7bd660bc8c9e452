"""The lineage page: one application that serves it, answers its questions, and takes other tools' events."""

from __future__ import annotations

import hmac
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bikes_assets.app import state
from bikes_assets.core.errors import LineageError
from bikes_assets.web import api, live, openlineage
from bikes_assets.web.own_pages import LOCAL, OwnPages
from bikes_assets.web.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

STATIC = Path(__file__).with_name("static")
COOKIE = "bikes_token"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: scripts and styles are files of this server, and nothing else is loaded or connected to."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def application(*, names: Collection[str] = LOCAL, token: str = "", key: str = "") -> Starlette:
    """Return the application.

    Args:
        names: names of this server; requests to others are refused.
        token: what everybody needs to see anything, "" where the machine's own users are trusted. `/?token=...` opens
            the page and leaves a cookie; programs send `Authorization: Bearer ...`.
        key: the key of those that send events; see `openlineage.application`.
    """
    workers = Workers()
    with suppress(LineageError):  # a source that cannot be read now can be later
        state.loaded_stamp()

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    receiving = openlineage.routes(key)
    guarded = [
        Route("/", page),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route(f"{api.PREFIX}/news", live.news(workers)),
        *api.routes(workers),
    ]
    middleware = [Middleware(OwnPages, names=names), Middleware(_Headers)]
    if token:
        middleware.append(Middleware(_Token, token=token, free=[route.path for route in receiving] if key else []))
    return Starlette(
        routes=[*guarded, *receiving], middleware=middleware, exception_handlers={ClientDisconnect: openlineage.left}
    )


class _Headers:
    """ASGI middleware that sends the security headers with each answer."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = message | {"headers": [*message.get("headers", []), *own]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class _Token:
    """ASGI middleware that answers only who has the token, by a cookie or as a bearer.

    Args:
        app: the application behind it.
        token: the token.
        free: paths that have a key of their own.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], token: str, free: Collection[str]) -> None:
        self.app, self.token, self.free = app, token, free

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http" or scope["path"] in self.free:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        given = request.query_params.get("token", "")
        if request.method == "GET" and self._is_it(given):
            rest = [item for item in request.query_params.multi_items() if item[0] != "token"]
            path = f"/{scope['path'].lstrip('/')}"  # one with two at its beginning would lead to another server
            found: Response = RedirectResponse(path + (f"?{urlencode(rest)}" if rest else ""), 303)
            found.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            await found(scope, receive, send)
            return
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_it(request.cookies.get(COOKIE, "")) or self._is_it(bearer):
            await self.app(scope, receive, send)
            return
        refused = PlainTextResponse("found no token, or another one; open /?token=... with the token\n", 401)
        await refused(scope, receive, send)

    def _is_it(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())
