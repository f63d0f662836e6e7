"""Lets other machines of the cluster reach an engine's endpoint that listens on loopback alone.

Bytes as they come, both ways; the endpoint still asks for its key.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

from polysilicon.runtime.engines.native.slots import Slots
from polysilicon.runtime.types import Engine

_READ_BYTES = 64 * 2**10


class Relay:
    """A listener on one address of this machine; `opened` makes it."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._host, self._port, self._path = host, port, path
        self._server: asyncio.Server | None = None
        self._slots: Slots | None = None
        self.address = ""

    @classmethod
    async def opened(cls, engine: Engine, node: str) -> Relay:
        """Return a relay to an engine's endpoint; one without an address where it has none.

        Nor has it one where the endpoint asks for no key: others must not reach that.

        Args:
            engine: of this machine.
            node: address of this machine in the cluster.
        """
        address: str | None = getattr(engine, "address", None)
        if address is None or not getattr(engine, "key", None):
            return cls("", 0, "")
        parts = urlsplit(address)
        relay = cls(parts.hostname or "127.0.0.1", parts.port or 80, parts.path)
        relay._slots = getattr(engine, "slots", None)
        relay._server = await asyncio.start_server(relay._serve, node, 0)
        port = relay._server.sockets[0].getsockname()[1]
        relay.address = f"http://{node}:{port}{parts.path}"
        return relay

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._slots is not None:
            self._slots.leave()  # what comes this way is of other machines, which know of none
        try:
            there = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copied(reader, there[1]), _copied(there[0], writer))

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand bytes on until either end closes."""
    with suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()
