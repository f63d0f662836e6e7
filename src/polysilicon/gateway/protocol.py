"""HTTP as uvicorn speaks it, with bounds on the head of a request, and errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from polysilicon.gateway.errors import ApiError

_HEAD_S = 15.0
_MOST_HEAD_BYTES = 64 * 2**10


class BoundedHttp(HttpToolsProtocol):
    """One connection; a head that comes too slowly or is too long ends it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting."""
        self._got_head()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; of heads no more than so many."""
        super().data_received(data)
        if self._head_timer is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > _MOST_HEAD_BYTES:
            text = f"the head is over the limit of {_MOST_HEAD_BYTES // 1024} KiB"
            self._refuse(ApiError(431, text))

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        self._in_head = True
        self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, of which a body may have any number, are dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on with the request."""
        self._in_head = False
        self._got_head()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(ApiError(400, msg))

    def _await_head(self) -> None:
        self._got_head()
        self._head_timer = self.loop.call_later(_HEAD_S, self._late)

    def _got_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        if self._head_bytes == 0:
            self.transport.close()
        else:
            self._refuse(ApiError(408, f"the head did not come within {_HEAD_S:g} s"))

    def _refuse(self, error: ApiError) -> None:
        self._got_head()
        if self.transport.is_closing():
            return
        lines = (
            f"HTTP/1.1 {error.status} \r\ncontent-type: application/json\r\n"
            f"content-length: {len(error.body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(lines.encode() + error.body)
        self.transport.close()
