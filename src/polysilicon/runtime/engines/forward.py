"""Sends requests to an HTTP endpoint and gives its answer as it comes, byte for byte.

For whoever passes answers on: one parse of HTTP in C, no copy of the body, no task of its own.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections import deque
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

from polysilicon.errors import EngineError, InputError, UnreachedError

_CONNECT_S = 10.0
_KEEP_S = 2.0  # servers close idle connections after five seconds or more
_MOST_BUFFERED_BYTES = 256 * 2**10
_MOST_HEAD_BYTES = 64 * 2**10
_WORD = re.compile("[\\x21-\\x7e]+")


class Answer:
    """An endpoint's answer: its status, and its body in pieces. Close it, or read it to its end."""

    def __init__(
        self, connection: _Connection, status: int, headers: Mapping[bytes, bytes]
    ) -> None:
        self.status, self.headers = status, headers
        self._connection = connection

    async def read(self) -> bytes:
        """Return what has come of the body since; empty at its end.

        Raises:
            EngineError: the answer broke off.
        """
        return await self._connection.read()

    async def whole(self, most_bytes: int) -> bytes:
        """Return the rest of the body.

        Raises:
            EngineError: it broke off, or is larger than `most_bytes`.
        """
        pieces, size = [], 0
        while piece := await self.read():
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise EngineError(f"the endpoint's answer is over {most_bytes:,} bytes")
        return b"".join(pieces)

    def close(self) -> None:
        """Be done with it; where it has not ended the endpoint hears of that at once."""
        self._connection.release()


class _Connection(asyncio.Protocol):
    """One connection; `Forwarder` gives it one request at a time."""

    def __init__(self, home: Forwarder) -> None:
        self._home = home
        self.transport: asyncio.Transport
        self.idle_since_s = 0.0
        self.lost = False
        self.reset()

    def reset(self) -> None:
        """Be ready for an answer."""
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._head_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._paused = self._reusable = False
        self._failure = ""
        self._waiter: asyncio.Future[None] | None = None
        self.begun = self.headed = self.complete = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by shape only

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.complete:
            # A body without a length ends with its connection.
            bounded = b"content-length" in self._headers or b"transfer-encoding" in self._headers
            if self.headed and not bounded and exc is None:
                self.complete = True
            else:
                self._failure = self._failure or "the answer broke off"
        self._home.forget(self)
        self._wake()

    def data_received(self, data: bytes) -> None:
        self.begun = True
        if not self.headed:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._failure = "the endpoint does not speak HTTP"
            self.transport.abort()
            return
        if not self.headed and self._head_bytes > _MOST_HEAD_BYTES:
            self._failure = "the endpoint's head is too long"
            self.transport.abort()
        elif self._buffered_bytes > _MOST_BUFFERED_BYTES and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; called by the parser, as those below."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Take the end of the head."""
        if self._parser.get_status_code() >= 200:
            self.headed = True
            self._wake()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(body)
        self._buffered_bytes += len(body)
        self._wake()

    def on_message_complete(self) -> None:
        """Take the end of the answer."""
        if self.headed:
            self.complete = True
            self._reusable = self._parser.should_keep_alive()  # it forgets that afterwards
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def head(self) -> Answer:
        """Wait for the head of the answer.

        Raises:
            EngineError: the connection ended before.
        """
        while not self.headed:
            if self._failure:
                raise EngineError(self._failure)
            await self._wait()
        return Answer(self, self._parser.get_status_code(), self._headers)

    async def read(self) -> bytes:
        """Return what came; see `Answer.read`."""
        while not self._pieces:
            if self.complete:
                return b""
            if self._failure:
                raise EngineError(self._failure)
            await self._wait()
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered_bytes = 0
        if self._paused:
            self._paused = False
            if not self.lost:
                self.transport.resume_reading()
        return data

    def release(self) -> None:
        """Give the connection back; one in the middle of an answer is closed."""
        if self.lost:
            return
        if self._reusable and not self._paused and not self._pieces:
            self._home.keep(self)
        else:
            self.transport.abort()


def check_endpoint(endpoint: str, key: str | None) -> None:
    """Raise `InputError` where an address or its key cannot stand in a request's head.

    A password in an address would be logged, and is not sent here.
    """
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"an endpoint is no address: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise InputError("an endpoint names no user and no password", mend="give it a key")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InputError("an endpoint begins with http:// or https://", where=endpoint)
    if not _WORD.fullmatch(endpoint) or (key and not _WORD.fullmatch(key)):
        raise InputError("an endpoint and its key are ASCII without blanks", where=parts.hostname)


class Forwarder:
    """Connections to one endpoint.

    Args:
        endpoint: base URL with `/v1`.
        key: API key, sent to this endpoint only.

    Raises:
        InputError: the endpoint is no HTTP address, or cannot stand in a request with its key.
    """

    def __init__(self, endpoint: str, key: str | None = None) -> None:
        check_endpoint(endpoint, key)
        parts = urlsplit(endpoint)
        port = parts.port
        self._host = parts.hostname or ""
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/")
        name = f"[{self._host}]" if ":" in self._host else self._host
        lines = f"Host: {name}{f':{port}' if port else ''}\r\n"
        self._head = lines + (f"Authorization: Bearer {key}\r\n" if key else "")
        self._idle: list[_Connection] = []
        self._closed = False

    async def post(self, path: str, body: bytes, kind: str = "application/json") -> Answer:
        """Send a request, and wait for the head of the answer.

        A kept connection that the server has closed meanwhile is no failure: the request is sent
        again, on a new one, as nothing has come back yet.

        Args:
            path: that follows the endpoint's.
            body: what is sent.
            kind: its media type.

        Raises:
            UnreachedError: the endpoint cannot be reached.
            EngineError: it broke off.
        """
        own = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        head = f"POST {self._path}/{path} HTTP/1.1\r\n{self._head}{own}\r\n"
        while True:
            connection = self._kept()
            kept = connection is not None
            connection = connection or await self._connected()
            try:
                connection.transport.writelines((head.encode(), body))
                return await connection.head()
            except EngineError:
                if not kept or connection.begun:
                    raise
            except BaseException:
                connection.release()
                raise

    def _kept(self) -> _Connection | None:
        """Return a connection that is open still; the last used one, as it is the likeliest."""
        now_s = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost and now_s - connection.idle_since_s < _KEEP_S:
                connection.reset()
                return connection
            connection.transport.abort()
        return None

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), self._host, self._port, ssl=self._ssl
                )
        except TimeoutError as error:
            raise UnreachedError(f"{where}: no connection within {_CONNECT_S:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise UnreachedError(f"{where}: {error.strerror or error}") from error
        return connection

    def keep(self, connection: _Connection) -> None:
        """Take a connection back that is free."""
        if self._closed:
            connection.transport.abort()
            return
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """Take note that a connection is no more."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close the connections that are free; the others as they become it."""
        self._closed = True
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()
