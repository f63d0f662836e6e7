"""The line between the driver and an actor: frames both ways, over one connection.

A call of an actor that comes alone costs a millisecond of a core and more at each end, a frame a
tenth of that. So through Ray goes what is rare: an actor's begin, its first word, large results.

The actor listens; it takes the one who has a key, which only the driver is told. Where Ray encrypts
(`RAY_USE_TLS`), so does the line, with the same certificates.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

CONNECT_S = 10.0
"""Connecting, and telling the key, may take so long."""

MOST_BYTES = 2**20
"""Of a frame from an actor, whose large results come by another way."""

_WELCOME = b"polysilicon"
"""What a listener says to who has the key."""

_KEY_BYTES = 16
_SIZE_BYTES = 8
_READ_BYTES = 2**20


class NotTakenError(ConnectionError):
    """What listens there has another key, or takes what is said for nothing: it encrypts, maybe."""


class Line:
    """One end of a line; `opened` makes the driver's, and `Listener` the actor's.

    Args:
        reader: of the connection.
        writer: of it.
        most_bytes: of a frame that comes; None for any number.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        most_bytes: int | None = None,
    ) -> None:
        self._reader, self._writer, self._most_bytes = reader, writer, most_bytes

    @classmethod
    async def opened(cls, address: str, key: str) -> Line:
        """Return a line to a listener that has taken this end.

        Raises:
            OSError: it cannot be reached, or does not take it.
        """
        host, _, port = address.rpartition(":")
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), limit=_READ_BYTES, ssl=tls(ssl.Purpose.SERVER_AUTH)
            )
            try:
                writer.write(bytes.fromhex(key))
                await _welcomed(reader)
            except BaseException:
                writer.close()
                raise
        return cls(reader, writer, MOST_BYTES)

    def send(self, frame: bytes) -> None:
        """Send a frame; whether it comes there is not told."""
        self._writer.write(len(frame).to_bytes(_SIZE_BYTES, "big"))
        self._writer.write(frame)

    async def read(self) -> bytes:
        """Return the next frame.

        Raises:
            EOFError: the other end is gone.
            OSError: the connection broke, or the frame is too large.
        """
        size = int.from_bytes(await self._reader.readexactly(_SIZE_BYTES), "big")
        if self._most_bytes is not None and size > self._most_bytes:
            raise ConnectionError(f"a frame of {size:,} bytes")
        return await self._reader.readexactly(size)

    def close(self) -> None:
        """End it."""
        self._writer.close()


class Listener:
    """Listens on one address of this machine until who has the key is there; `opened` makes it.

    Attributes:
        address: host and port.
        key: 128 bits, hexadecimal.
    """

    def __init__(self, serve: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
        self.address, self.key = "", secrets.token_hex(_KEY_BYTES)
        self._serve = serve
        self._server: asyncio.Server | None = None

    @classmethod
    async def opened(
        cls, node: str, serve: Callable[[Line], Coroutine[Any, Any, None]]
    ) -> Listener:
        """Return one that listens.

        Args:
            node: address of this machine in the cluster.
            serve: is given the line, once.
        """
        found = cls(serve)
        found._server = await asyncio.start_server(
            found._met, node, 0, limit=_READ_BYTES, ssl=tls(ssl.Purpose.CLIENT_AUTH)
        )
        port = found._server.sockets[0].getsockname()[1]
        found.address = f"[{node}]:{port}" if ":" in node else f"{node}:{port}"
        return found

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve who has the key, if that is the first one."""
        key = b""
        with suppress(OSError, EOFError):
            async with asyncio.timeout(CONNECT_S):
                key = await reader.readexactly(_KEY_BYTES)
        if self._server is None or not hmac.compare_digest(key, bytes.fromhex(self.key)):
            writer.close()
            return
        self.close()
        writer.write(_WELCOME)
        await self._serve(Line(reader, writer))

    def close(self) -> None:
        """Listen no more; a line that there is stays."""
        if self._server is not None:
            self._server.close()
            self._server = None


async def _welcomed(reader: asyncio.StreamReader) -> None:
    """Wait until the listener has taken this end.

    Raises:
        OSError: it does not.
    """
    try:
        found = await reader.readexactly(len(_WELCOME))
    except (EOFError, ConnectionError):  # it may end the connection before it has read the key
        found = b""
    if found != _WELCOME:
        raise NotTakenError("what listens there does not take the driver")


def encrypts() -> bool:
    """Tell whether Ray encrypts what goes between nodes, by the rule of its own `tls_utils`."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def tls(purpose: ssl.Purpose) -> ssl.SSLContext | None:
    """Return how Ray encrypts what goes between nodes; None where it does not.

    Source: Ray's documentation, "Configuring Ray", "TLS authentication".
    """
    if not encrypts():
        return None
    authority = os.environ.get("RAY_TLS_CA_CERT") or None
    context = ssl.create_default_context(purpose, cafile=authority)
    context.check_hostname = False  # whoever has a certificate of that authority is of the cluster
    context.verify_mode = ssl.CERT_REQUIRED if authority else ssl.CERT_NONE
    # Python sets it from 3.13 on, and Ray does not: many an authority of one's own is refused so.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    return context
