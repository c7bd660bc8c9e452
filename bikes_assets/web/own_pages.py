"""Which requests a server answers: those of programs and of its own pages, and none that another page in a browser sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names by which a browser reaches this machine; any other may be a foreign name that resolves to it."""
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^\s\[\]:/?#@,\\]+))(?::\d*)?", re.IGNORECASE)
"""What stands in `Host`: a name and a port, and nothing that a URL could have besides."""


def refusal(method: str, path: str, headers: Mapping[str, str], names: Collection[str] = LOCAL) -> str:
    """Return why a request is refused, "" if it is not.

    Programs send neither `Origin` nor `Sec-Fetch-Site`; a browser sends `Origin` with whatever may change something,
    and `Sec-Fetch-Site` always. A link on another page may open one of Dagster's pages, but never its GraphQL, which
    executes the query in the URL.

    Args:
        method: GET, POST, ...
        path: path of the URL.
        headers: by lower-case name.
        names: names of this server.
    """
    host = headers.get("host", "")
    named = _HOST.fullmatch(host)
    if not named or (named["ipv6"] or named["name"]).lower() not in {name.lower() for name in names}:
        return f"found the name {host!r}, expected {' or '.join(names)}"
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        return f"found a request of {origin!r}, expected one of this server's own pages"
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return ""
    is_link = (method, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("GET", "navigate", "document")
    if is_link and path.rstrip("/") != "/graphql":
        return ""
    return f"found a {site} request, expected one of this server's own pages"


class OwnPages:
    """ASGI middleware that refuses requests from other origins.

    Args:
        app: the application behind it.
        names: names of this server.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], names: Collection[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answer a refused request with 403, and pass on any other."""
        if scope["type"] in ("http", "websocket"):
            headers = dict[str, str]()
            for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]):
                headers[name] = f"{headers[name]}, {value}" if name in headers else value  # two hosts are none
            if why := refusal(scope.get("method", "GET"), scope["path"], headers, self.names):
                await self._refuse(scope["type"], why, send)
                return
        await self.app(scope, receive, send)

    @staticmethod
    async def _refuse(kind: str, why: str, send: Callable[..., Any]) -> None:
        if kind == "websocket":  # before it is accepted: the server answers 403
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": f"refused: {why}\n".encode()})
