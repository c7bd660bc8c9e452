"""Which request reaches an application behind the guard: of headers that are sent twice, none counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bikes_assets.web.own_pages import LOCAL, OwnPages

OWN = ("host", "127.0.0.1:5050")


def _status(*headers: tuple[str, str]) -> int:
    """Return the status of what a server answers that passes requests on to an application that answers all of them."""
    sent = list[dict[str, Any]]()

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def note(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(a.encode(), b.encode()) for a, b in headers]}
    asyncio.run(OwnPages(application, LOCAL)(scope, note, note))
    return sent[0]["status"]


def test_a_request_of_a_program_is_passed_on() -> None:
    assert _status(OWN) == 200
    assert _status(OWN, ("origin", "http://127.0.0.1:5050"), ("accept", "a"), ("accept", "b")) == 200


@pytest.mark.parametrize("other", ["evil.example", "127.0.0.1:5050"])
def test_of_two_hosts_or_origins_none_counts(other: str) -> None:
    assert _status(OWN, ("host", other)) == _status(("host", other), OWN) == 403
    origins = ("origin", "http://127.0.0.1:5050"), ("origin", f"http://{other}")
    assert _status(OWN, *origins) == _status(OWN, *origins[::-1]) == 403
