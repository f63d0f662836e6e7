"""`/mcp`: the server of MCP's tools, which is imported and started when it is first asked.

It takes as long to import as all else of the gateway, and most gateways are never asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from polysilicon.gateway.bodies import body_of

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from polysilicon.gateway.state import Gateway

_MODULE = "polysilicon.gateway.mcp.server"


class Sessions:
    """The sessions of `/mcp`.

    Args:
        gateway: the state.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._starting, self._ending = asyncio.Lock(), asyncio.Event()
        self._manager: StreamableHTTPSessionManager | None = None
        self._task: asyncio.Task[None] | None = None

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        async with self._starting:
            manager = self._manager or await self._start()
        await manager.handle_request(scope, receive, send)

    async def _start(self) -> StreamableHTTPSessionManager:
        """Start the server, in a task of its own: it must end in the one in which it began."""
        server = await asyncio.to_thread(import_module, _MODULE)
        manager: StreamableHTTPSessionManager = server.make_manager(self._gateway)
        ready = asyncio.Event()

        async def run() -> None:
            async with manager.run():
                ready.set()
                await self._ending.wait()

        self._task = asyncio.create_task(run())
        await ready.wait()
        self._manager = manager
        return manager

    async def close(self) -> None:
        """End all sessions."""
        self._ending.set()
        if self._task is not None:
            await self._task


class Endpoint:
    """`/mcp`; a class, for Starlette takes functions to be of its own kind."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its body is looked at before the server of MCP reads it."""
        body = await body_of(receive)
        told = False

        async def again() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await scope["app"].state.gateway.mcp.handle_request(scope, again, send)


@asynccontextmanager
async def serving_mcp(gateway: Gateway) -> AsyncIterator[None]:
    """Serve the tools over HTTP while the gateway serves; Host and Origin its gate has checked."""
    sessions = gateway.mcp = Sessions(gateway)
    try:
        yield
    finally:
        await sessions.close()


# No GET: without sessions there is nothing that the server would send by itself.
ROUTES = (Route("/mcp", Endpoint(), methods=["POST"]),)
