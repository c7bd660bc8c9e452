"""The lineage page's questions over HTTP: each is a GET with named parameters and a JSON answer, described by OpenAPI.

The picture can also be asked for by a POST, whose body says where the boxes were before.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bikes_assets.app import answers, state
from bikes_assets.app.explore import impact, panels
from bikes_assets.app.explore.export import view_of
from bikes_assets.app.explore.picture import kind_of_thing, picture
from bikes_assets.app.json_answers import items
from bikes_assets.app.openlineage.received import file as received_file
from bikes_assets.app.store import current, explained
from bikes_assets.core.errors import LineageError
from bikes_assets.core.secrets import scrubbed
from bikes_assets.events.run_log import last_end
from bikes_assets.lineage.elements import address_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from bikes_assets.web.workers import Workers

PREFIX = "/api"
MOST_BYTES = 1 << 20
"""Largest request that is read: the places of 200 boxes are a hundredth of it."""
MOST_WAYS = 50
"""Number of paths that an answer lists."""
MOST_MATCHES = 50
"""Number of matches that an answer lists."""
MOST_ADDRESSES = 50
"""Number of things that one request may count."""
_AS_OF = "time that counts, such as 2012-08-14T17:00; now without one"
_ADDRESS = "address, such as demand_features.temperature"

Values = Mapping[str, list[str]]
"""The parameters of a request: each with all its values."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A question.

    Attributes:
        name: its path.
        summary: what it answers, in a sentence.
        answer: computes the answer from the parameters.
        parameters: what each parameter means; those in `needed` must be given.
        needed: names of the parameters that must be given.
        repeated: names of the parameters that may be given several times.
        is_slow: whether it reads the lake; such a question keeps no other waiting.
        media: media type of the answer.
        body: what the body of a POST says, "" where only a GET is answered.
    """

    name: str
    summary: str
    answer: Callable[[Values], Any]
    parameters: Mapping[str, str] = field(default_factory=dict)
    needed: Collection[str] = ()
    repeated: Collection[str] = ()
    is_slow: bool = False
    media: str = "application/json"
    body: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of HTTP by which it is asked."""
        return ("GET", "POST") if self.body else ("GET",)


def _graph(values: Values, prior: Mapping[str, float] | None = None) -> dict[str, Any]:
    return picture(view_of(values), as_of=_as_of(values), prior=prior)


def _search(values: Values) -> dict[str, Any]:
    found = [
        {
            "kind": item.kind,
            "address": address_of(item),
            "text": str(item.facts.get("text", "")).partition("\n")[0],
            "of": kind_of_thing(item),
        }
        for item in answers.search(_one(values, "q"), most=MOST_MATCHES + 1)
    ]
    shown = found[:MOST_MATCHES]
    return {"total": len(found) if found == shown else None, "shown": len(shown), "items": shown}


def _path(values: Values) -> dict[str, Any]:
    count, ways = answers.paths(_one(values, "start"), _one(values, "end"), as_of=_as_of(values))
    shown = [[address_of(item) for item in way] for way in islice(ways, MOST_WAYS)]
    return {"total": count, "shown": len(shown), "items": shown}


def _counts(values: Values) -> dict[str, dict[str, int]]:
    addresses = values.get("address", [])
    if len(addresses) > MOST_ADDRESSES:
        raise LineageError(f"found {len(addresses):,} addresses, expected at most {MOST_ADDRESSES}")
    return panels.counts(addresses, as_of=_as_of(values))


def stamp() -> str:
    """Return a text that changes whenever something was materialized, a run ended, or another tool has reported."""
    received = received_file()
    return f"{last_end(current().events)}-{received.stat().st_mtime_ns if received.exists() else 0}"


def _status(values: Values) -> list[dict[str, Any]]:
    as_of = _as_of(values)
    asset = _first(values, "address")
    state.keep_plan_current()
    return panels.status_at(as_of, asset) if as_of else panels.status(asset)


OPERATIONS = (
    Operation(
        "graph",
        "The picture of a view: boxes, lines and where they go.",
        _graph,
        {
            "focus": _ADDRESS,
            "show": "selector of what was expanded, such as 1+demand_model or demand_model+",
            "open": "name of a box that is opened into its columns",
            "column": "address of the column whose path is followed",
            "until": "address of the column at which that path ends; all that is upstream and downstream without one",
            "only": "1: only what is on that path",
            "rows": "how many columns a box shows, such as demand_features:20",
            "find": "what the columns that a box shows contain, such as demand_features:lag",
            "as_of": _AS_OF,
        },
        ("focus",),
        ("show", "open", "rows", "find"),
        body="how far down each box is in the picture before, by its name, so that the boxes keep their order",
    ),
    Operation("start", "What a page opens on.", lambda values: panels.start(as_of=_as_of(values)), {"as_of": _AS_OF}),
    Operation(
        "overview",
        "What a dataset or job is: documentation, owners, columns, code, models.",
        lambda values: panels.overview(_one(values, "address"), as_of=_as_of(values)),
        {"address": _ADDRESS, "as_of": _AS_OF},
        ("address",),
    ),
    Operation(
        "counts",
        "How many things are upstream and downstream of each address, in all.",
        _counts,
        {"address": _ADDRESS, "as_of": _AS_OF},
        ("address",),
        ("address",),
    ),
    Operation(
        "versions",
        "The versions of a partition, newest first: when, why, and what changed.",
        lambda values: panels.versions(_one(values, "address")),
        {"address": "address of a partition, such as demand_features[2012-08]"},
        ("address",),
        is_slow=True,
    ),
    Operation(
        "rows",
        "The first rows of a partition or version, and the share of missing values of each column.",
        lambda values: panels.rows(_one(values, "address")),
        {"address": "address of a partition or version, such as demand_features[2012-08]@20"},
        ("address",),
        is_slow=True,
    ),
    Operation(
        "metrics",
        "The metrics of each partition of an asset, and the plots of the latest one.",
        lambda values: panels.metrics(_one(values, "address")),
        {"address": "name of an asset"},
        ("address",),
        is_slow=True,
    ),
    Operation(
        "status",
        "The state of each partition, and why it is not fresh; at a past time which ones were materialized.",
        _status,
        {"address": "name of an asset; all without one", "as_of": _AS_OF},
        is_slow=True,
    ),
    Operation(
        "edge",
        "What a line says: how one thing contributes to another, by which code, and what was observed.",
        lambda values: panels.edge(_one(values, "source"), _one(values, "target"), as_of=_as_of(values)),
        {"source": _ADDRESS, "target": _ADDRESS, "as_of": _AS_OF},
        ("source", "target"),
        is_slow=True,
    ),
    Operation(
        "impact",
        "Everything downstream, most severe first.",
        lambda values: impact.impact(_one(values, "address"), as_of=_as_of(values)),
        {"address": _ADDRESS, "as_of": _AS_OF},
        ("address",),
    ),
    Operation(
        "impact.csv",
        "Everything downstream as CSV, most severe first.",
        lambda values: impact.as_csv(_one(values, "address"), as_of=_as_of(values)),
        {"address": _ADDRESS, "as_of": _AS_OF},
        ("address",),
        media="text/csv",
    ),
    Operation(
        "search",
        f"Assets, columns, models and tags whose names or meanings have all words: the best {MOST_MATCHES}. `total` is null "
        "where more match.",
        _search,
        {"q": "words, or how they begin"},
        ("q",),
    ),
    Operation(
        "path",
        "The paths from one thing downstream to another.",
        _path,
        {"start": _ADDRESS, "end": _ADDRESS, "as_of": _AS_OF},
        ("start", "end"),
    ),
    Operation(
        "trace",
        "Where one row's values came from, down to raw rows and files.",
        lambda values: items.trace(_one(values, "address"))[0],
        {"address": "address of a row, such as demand_predictions[2012-08]#2012-08-14T17:00"},
        ("address",),
        is_slow=True,
    ),
    Operation(
        "diff",
        "How two versions of one asset differ, and why.",
        lambda values: items.diff(_one(values, "a"), _one(values, "b"))[0],
        {"a": "address of a version, such as demand_model@3", "b": "address of the other"},
        ("a", "b"),
        is_slow=True,
    ),
    Operation("waste", "What nobody reads, and where the time goes.", lambda _: items.waste()[0], is_slow=True),
    Operation("moments", "The times at which something was materialized.", lambda _: panels.moments()),
    Operation(
        "changes",
        "What is another text than before whenever other answers may have changed.",
        lambda _: {"stamp": stamp()},
    ),
)


def routes(workers: Workers) -> list[Route]:
    """Return the routes of all questions, and of their description."""

    async def describe(_: Request) -> Response:
        return JSONResponse(description())

    found = [Route(f"{PREFIX}/openapi.json", describe)]
    for operation in OPERATIONS:
        methods = [*operation.methods]
        found.append(Route(f"{PREFIX}/{operation.name}", _endpoint(operation, workers), methods=methods))
    return found


def description() -> dict[str, Any]:
    """Return the description of all questions, by OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lineage", "version": "1", "description": "Questions of lineage; nothing is changed by any."},
        "paths": {
            f"{PREFIX}/{operation.name}": {
                method.lower(): _described(operation, method) for method in operation.methods
            }
            for operation in OPERATIONS
        },
    }


def _described(operation: Operation, method: str) -> dict[str, Any]:
    """Return what OpenAPI says of a question; one that is a POST also has a body."""
    is_post = method == "POST"
    found: dict[str, Any] = {
        "operationId": f"{operation.name}.post" if is_post else operation.name,
        "summary": operation.summary,
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in operation.needed,
                "description": f"{about}; may be repeated" if name in operation.repeated else about,
                "schema": {"type": "array", "items": {"type": "string"}}
                if name in operation.repeated
                else {"type": "string"},
            }
            for name, about in operation.parameters.items()
        ],
        "responses": {
            "200": {"description": "The answer.", "content": {operation.media: {}}},
            "400": {"description": "A parameter is missing or unknown; `error` says which are expected."},
            "404": {"description": "There is nothing of that name; `error` says what there is."},
            "503": {"description": "The store cannot be read; `error` says why."},
        },
    }
    if is_post:
        schema = {"type": "object", "additionalProperties": {"type": "number"}, "example": {"demand_features": 120.0}}
        found["requestBody"] = {
            "description": f"{operation.body}; at most {MOST_BYTES:,} bytes",
            "required": False,
            "content": {"application/json": {"schema": schema}},
        }
    return found


def _endpoint(operation: Operation, workers: Workers) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            values, prior = await _asked(operation, request)
        except LineageError as error:
            return refusal(400, error)

        def work() -> Any:
            return operation.answer(values) if prior is None else _graph(values, prior)

        try:
            question: Hashable = object()
            if operation.is_slow:  # its answer is shared, as long as nothing is materialized meanwhile
                question = operation.name, request.url.query, await workers.answer(stamp, stamp, is_slow=False)
            found = await workers.answer(question, work, request.receive, is_slow=operation.is_slow)
        except LineageError as error:
            return refusal(404, error)
        except (OSError, sqlite3.Error) as error:
            return refusal(503, explained(error) or error)
        if operation.media == "application/json":
            return JSONResponse(found, headers={"Cache-Control": "no-store"})
        name = {"Content-Disposition": f'attachment; filename="{operation.name}"'}
        return Response(found, media_type=operation.media, headers={"Cache-Control": "no-store", **name})

    return answer


async def _asked(operation: Operation, request: Request) -> tuple[Values, Mapping[str, float] | None]:
    """Return the parameters of a request, and the places of an earlier picture that it brings.

    Raises:
        LineageError: a parameter is missing, unknown or no text of a name; or the places are none.
    """
    values = dict[str, list[str]]()
    for name, value in request.query_params.multi_items():
        if name not in operation.parameters:
            raise LineageError(f"found parameter {name!r}, expected one of {', '.join(operation.parameters) or 'none'}")
        values.setdefault(name, []).append(value)
    for name in operation.needed:
        if not values.get(name):
            raise LineageError(f"found no parameter {name!r}, expected {operation.parameters[name]}")
    if request.method != "POST":
        return values, None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise LineageError(f"found a request of more than {MOST_BYTES:,} bytes, expected the places of boxes")
    try:
        places = json.loads(bytes(body) or b"{}")
        found = {str(name): float(place) for name, place in places.items()}
        if not all(map(isfinite, found.values())):
            raise ValueError
        return values, found
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise LineageError("found a body that is none, expected a JSON object: how far down each box was") from None


def refusal(status: int, error: object) -> JSONResponse:
    """Return an answer that says why there is none; secrets are removed from it."""
    return JSONResponse({"error": scrubbed(str(error))}, status, {"Cache-Control": "no-store"})


def _one(values: Values, name: str) -> str:
    found = _first(values, name)
    if not found.strip():
        raise LineageError(f"found no {name}, expected some text")
    return found


def _first(values: Values, name: str) -> str:
    return next(iter(values.get(name, [])), "")


def _as_of(values: Values) -> str | None:
    return _first(values, "as_of") or None
