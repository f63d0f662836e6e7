"""The MCP server: over HTTP at `/mcp`, behind the gateway's own gate, and over stdio."""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from starlette.requests import Request

from polysilicon.errors import PolysiliconError, visible
from polysilicon.gateway.access import Caller
from polysilicon.gateway.errors import of_error
from polysilicon.gateway.guard import CALLER
from polysilicon.gateway.mcp.tools import TYPES, call
from polysilicon.gateway.settings import Settings
from polysilicon.gateway.state import Gateway, opened
from polysilicon.gateway.tasks.routes import serving_tasks
from polysilicon.gateway.traces.outgoing import sending_traces

_INSTRUCTIONS = (
    "Runs code in a sandbox, searches documents, and estimates and places the work of AI agents "
    "on CPUs, GPUs and ASICs."
)
_MOST_BODY_BYTES = 4 * 2**20


def listed_tools() -> list[Tool]:
    """Return the tools, described by the types that they take."""
    return [
        Tool(name=name, description=(kind.__doc__ or "").strip(), input_schema=_schema(kind))
        for name, kind in TYPES.items()
    ]


def _schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON schema of a type, with the type itself at its root."""
    schema = msgspec.json.schema(kind)
    definitions = schema.pop("$defs", {})
    root: dict[str, Any] = definitions.pop(schema.pop("$ref").rpartition("/")[2])
    return root | {"$defs": definitions} if definitions else root


def make_server(gateway: Gateway) -> Server[Any]:
    """Return the server of a gateway's tools."""

    async def on_list_tools(
        _context: ServerRequestContext[Any], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=listed_tools())

    async def on_call_tool(
        context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        caller = _caller(gateway, context.request)
        try:
            result = await call(gateway, caller, params.name, params.arguments or {})
        except PolysiliconError as error:
            told = visible(str(of_error(error) if _is_ours(error) else error))
            return CallToolResult(content=[TextContent(text=told)], is_error=True)
        text = msgspec.json.encode(result).decode()
        return CallToolResult(content=[TextContent(text=text)], structured_content=result)

    return Server(
        "polysilicon",
        version=version("polysilicon"),
        instructions=_INSTRUCTIONS,
        on_list_tools=on_list_tools,
        on_call_tool=on_call_tool,
    )


def _is_ours(error: PolysiliconError) -> bool:
    """Tell whether an error is the gateway's own trouble, of which no caller is told the cause."""
    return of_error(error).status >= 500 and type(error) is not PolysiliconError


def _caller(gateway: Gateway, request: object) -> Caller:
    """Return who calls; over stdio that is whoever started this process."""
    if isinstance(request, Request):
        caller: Caller = request.scope[CALLER]
        return caller
    return gateway.access.nobody


def make_manager(gateway: Gateway) -> StreamableHTTPSessionManager:
    """Return what serves the tools of a gateway over HTTP."""
    return StreamableHTTPSessionManager(
        make_server(gateway),
        json_response=True,
        stateless=True,  # no session of a client that is gone takes memory
        max_request_body_size=_MOST_BODY_BYTES,
    )


async def serve_stdio(settings: Settings) -> None:
    """Serve the tools on stdin and stdout until stdin ends.

    Raises:
        InputError: a file is wrong, or another process has the folder.
    """
    async with opened(settings) as gateway, AsyncExitStack() as stack:
        for service in (sending_traces, serving_tasks):
            await stack.enter_async_context(service(gateway))
        server = make_server(gateway)
        read, write = await stack.enter_async_context(stdio_server())
        await server.run(read, write, server.create_initialization_options())
