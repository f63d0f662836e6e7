"""Load for the gateway: a fast endpoint, and clients that measure, each in a process of its own.

python benchmarks/gateway_load.py endpoint PORT     answers, as fast as it can, or in streams
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import cast

import httptools
import numpy as np
import uvloop

from polysilicon.runtime.engines.forward import Forwarder

TOKENS, EVERY_S, IDLE_S = 100, 0.02, 30.0


class EndpointHttp(asyncio.Protocol):
    """One connection of the endpoint: a body at once, or tokens that tell when they were sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""
        self.streaming: asyncio.Task[None] | None = None

    def connection_lost(self, _exc: Exception | None) -> None:
        """End a stream that nobody reads."""
        if self.streaming is not None:
            self.streaming.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Take a part of a request."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer."""
        asked, self.body = json.loads(self.body or b"{}"), b""
        if asked.get("stream"):
            self.streaming = asyncio.get_running_loop().create_task(self._stream(asked["model"]))
            return
        message = {"role": "assistant", "content": "It is 18 degrees and sunny in Paris."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fast",
            "choices": [choice],
            "usage": {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21},
        }).encode()  # fmt: skip
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + body)

    async def _stream(self, model: str) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        self.transport.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(EVERY_S * np.random.default_rng().random())
        next_s = time.monotonic()
        every_s = EVERY_S if model == "fast" else IDLE_S
        for _ in range(TOKENS):
            self._event({"index": 0, "delta": {"content": f"{time.monotonic():.6f} "}})
            next_s += every_s
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
        self._event({"index": 0, "delta": {}, "finish_reason": "stop"})
        usage = {"prompt_tokens": 12, "completion_tokens": TOKENS, "total_tokens": 12 + TOKENS}
        self._chunk(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        self._chunk(b"data: [DONE]\n\n")
        self.transport.write(b"0\r\n\r\n")

    def _event(self, choice: dict[str, object]) -> None:
        value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                 "model": "fast", "choices": [choice]}  # fmt: skip
        self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.transport.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def endpoint(port: int) -> None:
    """Serve the endpoint until the process ends."""
    server = await asyncio.get_running_loop().create_server(EndpointHttp, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def request(model: str, *, stream: bool) -> bytes:
    """Return a request's body."""
    messages = [
        {"role": "system", "content": "You answer questions of travellers, in one sentence."},
        {"role": "user", "content": "What is the weather in Paris today?"},
    ]
    body = {"model": model, "messages": messages, "max_tokens": TOKENS}
    return json.dumps(body | ({"stream": True} if stream else {})).encode()


async def requests_per_s(
    way: Forwarder, model: str, at_once: int, seconds: float
) -> tuple[float, Sequence[float]]:
    """Ask for whole answers, `at_once` at a time: requests a second, and seconds of each."""
    body, times, end_s = request(model, stream=False), [], time.monotonic() + seconds

    async def line() -> None:
        while (begin_s := time.monotonic()) < end_s:
            answer = await way.post("chat/completions", body)
            content = await answer.whole(1 << 20)
            answer.close()
            if answer.status != 200:
                raise SystemExit(f"HTTP {answer.status}: {content[:300]!r}")
            times.append(time.monotonic() - begin_s)

    begin_s = time.monotonic()
    await asyncio.gather(*(line() for _ in range(at_once)))
    return len(times) / (time.monotonic() - begin_s), times


async def delays_s(way: Forwarder, model: str, streams: int) -> Sequence[float]:
    """Read streams of stamped tokens at once: seconds on the way of each token."""
    found: list[float] = []

    async def line(number: int) -> None:
        await asyncio.sleep(number / streams)  # they come over one second
        answer = await way.post("chat/completions", request(model, stream=True))
        rest = b""
        while data := await answer.read():
            now_s = time.monotonic()
            *whole, rest = (rest + data).split(b"\n\n")
            for event in whole:
                _, _, stamp = event.partition(b'"content":')
                if stamp:
                    found.append(now_s - float(stamp.split(b'"')[1]))
        answer.close()

    await asyncio.gather(*(line(number) for number in range(streams)))
    return found


async def tokens_per_s(way: Forwarder, model: str, streams: int, tokens: int) -> float:
    """Let a real model write `tokens` in each of so many streams: tokens a second in all."""
    count = 0

    async def line(number: int) -> None:
        nonlocal count
        messages = [{"role": "user", "content": f"Tell a long story about the number {number}."}]
        body = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True,
                "temperature": 0}  # fmt: skip
        answer = await way.post("chat/completions", json.dumps(body).encode())
        while data := await answer.read():
            count += data.count(b'"content":"')
        answer.close()

    begin_s = time.monotonic()
    await asyncio.gather(*(line(number) for number in range(streams)))
    return count / (time.monotonic() - begin_s)


if __name__ == "__main__" and sys.argv[1:2] == ["endpoint"]:
    uvloop.run(endpoint(int(sys.argv[2])))
