"""`bikes mcp`: agents ask about lineage over the Model Context Protocol, on standard input and output."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import anyio
from anyio.to_thread import run_sync
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolResult, ListToolsResult, TextContent, ToolAnnotations
from mcp.types import Tool as ListedTool

from bikes_assets.app import store
from bikes_assets.web.tools import TOOLS
from bikes_assets.web.worker import AnsweringProcess

if TYPE_CHECKING:
    from mcp.server import ServerRequestContext
    from mcp.types import CallToolRequestParams, PaginatedRequestParams

_INTERRUPTED = 130
_INSTRUCTIONS = """\
Lineage of {name}: which data, code, settings and models each table, column, partition, version and value was computed \
from, what depends on it, what is stale, and why versions differ. All tools only read.

Every answer is one JSON document of at most 25 kB: `total` items, of which `shown` are in `items`; where it is `truncated`, \
the same question with `next` goes on. `as_of` is the time of the last event that the answer knows. `shortened` names lists \
that were cut within an item, with their lengths. Answers print the addresses that tools take.
"""


def server(answering: AnsweringProcess) -> Server[Any]:
    """Return the server of the tools.

    Args:
        answering: who answers.
    """
    in_turn = anyio.CapacityLimiter(1)

    async def listed(_: ServerRequestContext[Any], _page: PaginatedRequestParams | None) -> ListToolsResult:
        hints = ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        )
        return ListToolsResult(
            tools=[
                ListedTool(
                    name=name,
                    description=tool.description(),
                    input_schema=tool.schema_of_arguments(),
                    annotations=hints,
                )
                for name, tool in TOOLS.items()
            ]
        )

    async def called(_: ServerRequestContext[Any], question: CallToolRequestParams) -> CallToolResult:
        reply = await run_sync(answering.ask, question.name, question.arguments or {}, limiter=in_turn)
        return CallToolResult(content=[TextContent(type="text", text=reply.text)], is_error=reply.is_error)

    return Server(
        "bikes",
        instructions=_INSTRUCTIONS.format(name=store.current().name),
        on_list_tools=listed,
        on_call_tool=called,
    )


def serve() -> None:
    """Answer on standard input and output until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    answering = AnsweringProcess()
    try:
        anyio.run(_serve, server(answering))
    finally:
        answering.close()


async def _serve(known: Server[Any]) -> None:
    async with stdio_server() as (questions, replies):
        await known.run(questions, replies, known.create_initialization_options())


def _end(*_: object) -> None:
    """End this process at once: it writes nothing, and the thread that waits for standard input cannot be interrupted."""
    os._exit(_INTERRUPTED)
