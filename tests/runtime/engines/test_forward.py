"""Forwarding to endpoints that answer in all the ways of HTTP, and some that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from polysilicon.errors import EngineError, InputError
from polysilicon.runtime.engines.forward import Forwarder
from polysilicon.runtime.engines.openai import OpenAI

OK = b"HTTP/1.1 200 OK\r\n"


class Raw:
    """A server that gives each request the next of some answers, and closes after those marked."""

    def __init__(self, *answers: tuple[bytes, bool]) -> None:
        self._answers = list(answers)
        self.connections = 0
        self.heads: list[bytes] = []
        self.gone = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                data, closes = self._answers.pop(0)
                writer.write(data)
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        self.gone.set()
        writer.close()

    def asked(self, scenario: Callable[[Forwarder], Awaitable[Any]]) -> Any:
        """Run a scenario against the server."""

        async def main() -> Any:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            way = Forwarder(f"http://127.0.0.1:{port}/v1/", "secret")
            async with asyncio.timeout(60):
                try:
                    return await scenario(way)
                finally:
                    way.close()
                    server.close()

        return uvloop.run(main())


async def body(way: Forwarder) -> tuple[int, bytes]:
    answer = await way.post("chat", b"{}")
    try:
        return answer.status, await answer.whole(1000)
    finally:
        answer.close()


def test_a_connection_is_used_again_and_replaced_once_it_is_closed() -> None:
    whole = OK + b"Content-Length: 2\r\n\r\nhi"
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"
    raw = Raw((whole, False), (chunked, False), (whole, True), (OK + b"\r\nhi", True))

    async def scenario(way: Forwarder) -> list[tuple[int, bytes]]:
        first = [await body(way) for _ in range(3)]
        return [*first, await body(way)]

    assert raw.asked(scenario) == [(200, b"hi")] * 4
    assert raw.connections == 2
    assert raw.heads[0].startswith(b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Authorization: Bearer secret\r\n" in raw.heads[0]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "broke off"),
        (OK, "broke off"),
        (OK + b"Content-Length: 9\r\n\r\nhi", "broke off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhi", "broke off"),
        (b"220 mail.example ESMTP\r\n", "not speak HTTP"),
        (OK + b"X: " + b"a" * 70_000, "head is too long"),
        (OK + b"Content-Length: 2000\r\n\r\n" + b"a" * 2000, "over 1,000 bytes"),
    ],
)
def test_answers_that_cannot_be(answer: bytes, text: str) -> None:
    with pytest.raises(EngineError, match=text):
        Raw((answer, True)).asked(body)


def test_an_answer_that_is_closed_ends_its_connection() -> None:
    raw = Raw((OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", False))

    async def scenario(way: Forwarder) -> None:
        answer = await way.post("chat", b"{}")
        assert await answer.read() == b"hi"
        answer.close()
        await raw.gone.wait()

    raw.asked(scenario)


def test_endpoints_that_are_not_there() -> None:
    async def nobody() -> None:
        await Forwarder("http://127.0.0.1:9/v1").post("chat", b"{}")

    with pytest.raises(EngineError, match="127.0.0.1:9"):
        uvloop.run(nobody())
    for wrong in ("ftp://x/v1", "http://", "http://x:nope/v1"):
        with pytest.raises(InputError):
            Forwarder(wrong)


@pytest.mark.parametrize("client", [Forwarder, lambda at, key: OpenAI(at, "m", key=key)])
@pytest.mark.parametrize(
    ("endpoint", "key"),
    [
        ("http://x/v1", "k\r\nX-Injected: 1"),
        ("http://x/v1", "k\n"),
        ("http://x/v1", "\u2603"),
        ("http://x/v1 HTTP/1.1", "k"),
        ("http://user:sesame@x/v1", "k"),
        ("http://:sesame@x/v1", None),
    ],
)
def test_what_cannot_stand_in_a_head_is_refused(
    client: Any, endpoint: str, key: str | None
) -> None:
    with pytest.raises(InputError) as refused:
        client(endpoint, key)
    assert "sesame" not in str(refused.value)
