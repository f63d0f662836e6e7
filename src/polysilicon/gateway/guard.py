"""The gate before all routes: who may come in, how much they may send, and what is written down.

An outside page cannot drive the gateway: its `Host` is wrong (DNS rebinding), or its `Origin` is
another one; no answer lets another origin read it. Whatever a route raises is answered here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polysilicon.gateway.access import Caller
from polysilicon.gateway.audit import Line, cut, now
from polysilicon.gateway.errors import NOTES, ApiError, CallerLeftError, log, of_error
from polysilicon.gateway.state import Gateway

OPEN_PATHS = {"/healthz", "/readyz"}
"""What needs no key."""

CALLER = "polysilicon.caller"
"""Key of the scope: who calls."""

MOST_BODY_BYTES = 16 * 2**20
MOST_HELD_BYTES = 512 * 2**20
"""Of the bodies of all requests that are under way; where there are several keys, one of them may
have a quarter of it."""

_BODY_S = 30.0
_LEFT = 499
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

FindKey = Callable[[Headers], str | None]
"""Finds a key in a request's headers, as the value of an Authorization header."""


def bearer(headers: Headers) -> str | None:
    """Return the Authorization header."""
    return headers.get("authorization")


class Guard:
    """Middleware around the application.

    Args:
        app: what answers.
        gateway: the state.
        find_keys: where keys may be, tried in turn.
        asking: paths whose routes themselves ask whoever has no key for one.
    """

    def __init__(
        self,
        app: ASGIApp,
        gateway: Gateway,
        find_keys: tuple[FindKey, ...] = (bearer,),
        asking: Collection[str] = (),
    ) -> None:
        self._app, self._gateway, self._find_keys = app, gateway, find_keys
        self._asking = asking
        self.held_bytes = 0
        self._held_of: Counter[str] = Counter()
        self._names = {"localhost", *(name.lower() for name in gateway.settings.names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        call = _Call(self, scope, receive, send)
        try:
            headers = Headers(scope=scope)
            scope[CALLER] = call.caller = self._admitted(headers, scope["path"])
            await self._app(scope, call.receive, call.send)
        except CallerLeftError:
            call.status = _LEFT
        except asyncio.CancelledError:
            call.status = call.status or _LEFT
            raise
        except Exception as error:  # noqa: BLE001 - of no route may more come out than its answer
            await call.fail(error)
        finally:
            self._release(call.name, call.got_bytes)
            self._gateway.metrics.request(call.status or _LEFT)
            self._gateway.audit.write(call.line())

    def hold(self, name: str, size_bytes: int) -> None:
        """Count bytes of a caller's body.

        Raises:
            ApiError: 429 or 503; that is more than may be held, of which they are counted all the
                same.
        """
        self.held_bytes += size_bytes
        self._held_of[name] += size_bytes
        if self.held_bytes > MOST_HELD_BYTES:
            text = "the requests under way are as large as they may be together"
            raise ApiError(503, text, code="overloaded", retry_after_s=1)
        if self._held_of[name] > MOST_HELD_BYTES // 4 and len(self._gateway.access.callers) > 1:
            text = "the requests under way of this key are as large as they may be together"
            raise ApiError(429, text, code="overloaded", retry_after_s=1)

    def _release(self, name: str, size_bytes: int) -> None:
        """Count bytes no more that `hold` counted."""
        self.held_bytes -= size_bytes
        self._held_of[name] -= size_bytes
        if not self._held_of[name]:
            del self._held_of[name]

    def _admitted(self, headers: Headers, path: str) -> Caller | None:
        """Return who calls.

        Raises:
            ApiError: they may not come in.
        """
        host = headers.get("host", "")
        if not self._is_ours(host):
            text = "this Host is not served here; name it with --name"
            raise ApiError(421, text, code="host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise ApiError(403, "requests of other origins are refused", code="origin_not_allowed")
        if origin is None and headers.get("sec-fetch-site", "none") == "cross-site":
            raise ApiError(403, "requests of other origins are refused", code="origin_not_allowed")
        if path in OPEN_PATHS:
            return None
        found = (find(headers) for find in self._find_keys)
        try:
            return self._gateway.access.caller(next((key for key in found if key), None))
        except ApiError:
            if path in self._asking:
                return None
            raise

    def _is_ours(self, host: str) -> bool:
        """Tell whether a Host header is an address, localhost, or a name that was given."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class _Call:
    """One request and its answer, as the guard sees them."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope, self._receive, self._send = scope, receive, send
        self._begin_s = time.monotonic()
        self._body_end_s = asyncio.get_running_loop().time() + _BODY_S  # all of it, not each piece
        self.got_bytes, self._more = 0, _has_body(scope)
        self._id = f"req_{secrets.token_hex(8)}"
        self._notes: dict[str, Any] = scope.setdefault(NOTES, {"request": self._id})
        self._ended = False
        self.caller: Caller | None = None
        self.status = 0

    @property
    def name(self) -> str:
        """Name of the caller; empty where it needs no key."""
        return self.caller.name if self.caller else ""

    async def receive(self) -> Message:
        """Receive, within the limits of bytes and seconds.

        Raises:
            ApiError: 408, 413 or 503.
        """
        if not self._more:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._body_end_s):
                message = await self._receive()
        except TimeoutError as error:
            raise ApiError(408, f"the body did not come within {_BODY_S:g} s") from error
        if message["type"] == "http.request":
            self._more = message.get("more_body", False)
            size_bytes = len(message.get("body", b""))
            self.got_bytes += size_bytes
            self._guard.hold(self.name, size_bytes)
            if self.got_bytes > MOST_BODY_BYTES:
                text = f"the body is over the limit of {MOST_BODY_BYTES / 2**20:g} MiB"
                raise ApiError(413, text, code="request_too_large")
        return message

    async def send(self, message: Message) -> None:
        """Send, with the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(b"x-request-id", self._id.encode()), *_HEADERS]
            if self._more:  # what still comes of the body is not read
                own.append((b"connection", b"close"))
            message["headers"] = [*message.get("headers", ()), *own]
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answer with an error, or end an answer that has begun."""
        told = of_error(error)
        if told.status >= 500:
            log(self._id, error)
        if self._ended:
            return
        if self.status:
            self.status = told.status
            return  # the server breaks the connection off, as the answer is not complete
        headers = [(k.encode(), v.encode()) for k, v in told.headers.items()]
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(told.body)).encode()))
        start = {"type": "http.response.start", "status": told.status, "headers": headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": told.body})

    def line(self) -> Line:
        """Return the line of the audit log."""
        client = self._scope.get("client") or ("", 0)
        return Line(
            at=now(),
            caller=self.name,
            client=str(client[0]),
            method=self._scope["method"],
            path=cut(self._scope["path"]),
            status=self.status or _LEFT,
            seconds=round(time.monotonic() - self._begin_s, 6),
            **self._notes,
        )


def _has_body(scope: Scope) -> bool:
    """Tell whether a request has a body, by its head."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False
