"""An OpenAI-compatible endpoint whose answers a test chooses, as a real HTTP server in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Reply = dict[str, Any]
"""`content`, `tool_calls` [(name, arguments)], `status` and `body` of errors, `pause_s`, `cut`.

`held` is an event that an answer waits for; one that is streamed waits after its first piece.
"""


class Endpoint:
    """The server; `requests` has what it was asked, `live` how many answers are under way.

    Args:
        reply: gives the answer to a request.
        key: the key that it asks for; empty for none.
    """

    def __init__(self, reply: Callable[[Reply], Reply], *, key: str = "") -> None:
        self.reply, self.key = reply, key
        self.requests: list[Reply] = []
        self.live = 0
        self.most_live = 0
        self.address = ""

    async def _chat(self, request: Request) -> Response:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "no key"}}, 401)
        asked = await request.json()
        self.requests.append(asked)
        told = self.reply(asked)
        if "status" in told:
            return JSONResponse(
                told.get("body", {"error": {"message": "scripted"}}), told["status"]
            )
        if asked.get("stream"):
            return StreamingResponse(self._events(asked, told), media_type="text/event-stream")
        await _let_go(told)
        await asyncio.sleep(told.get("pause_s", 0))
        message = {"role": "assistant", "content": told.get("content")}
        if told.get("tool_calls"):
            message["tool_calls"] = _calls(told)
        finish = "tool_calls" if told.get("tool_calls") else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return JSONResponse(_head(asked, "chat.completion")
                            | {"choices": [choice], "usage": _usage(told)})  # fmt: skip

    async def _events(self, asked: Reply, told: Reply) -> AsyncIterator[bytes]:
        head = _head(asked, "chat.completion.chunk")
        self.live += 1
        self.most_live = max(self.live, self.most_live)
        try:
            for delta in _deltas(told):
                yield _event(head | {"choices": [{"index": 0, "delta": delta}]})
                await _let_go(told)
                await asyncio.sleep(told.get("pause_s", 0))
            if told.get("cut"):
                raise ConnectionAbortedError
            finish = "tool_calls" if told.get("tool_calls") else "stop"
            last = {"index": 0, "delta": {}, "finish_reason": finish}
            yield _event(head | {"choices": [last]})
            if (asked.get("stream_options") or {}).get("include_usage"):
                yield _event(head | {"choices": [], "usage": _usage(told)})
            yield b"data: [DONE]\n\n"
        finally:
            self.live -= 1

    async def _embed(self, request: Request) -> Response:
        asked = await request.json()
        self.requests.append(asked)
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        rows = [{"object": "embedding", "index": n, "embedding": [float(len(str(text))), 1.0]}
                for n, text in enumerate(texts)]  # fmt: skip
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return JSONResponse({"object": "list", "data": rows, "model": "m", "usage": usage})

    @contextmanager
    def served(self, port: int = 0) -> Iterator[Endpoint]:
        """Serve on a port of loopback, a free one by default."""
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._chat, methods=["POST"]),
            Route("/v1/embeddings", self._embed, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        config = uvicorn.Config(app, port=port, log_config=None, lifespan="off",
                                timeout_graceful_shutdown=1)  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            thread.join(0.01)
        self.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join()


async def _let_go(told: Reply) -> None:
    """Wait until an answer that is held is so no more."""
    held = told.get("held")
    while held is not None and not held.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.01)


def _head(asked: Reply, kind: str) -> Reply:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": asked.get("model")}


def _calls(told: Reply) -> list[Reply]:
    return [
        {"index": n, "id": f"call_{n}", "type": "function",
         "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(told["tool_calls"])
    ]  # fmt: skip


def _deltas(told: Reply) -> list[Reply]:
    if told.get("tool_calls"):
        return [{"role": "assistant", "tool_calls": _calls(told)}]
    words = (told.get("content") or "").split(" ")
    texts = [word if n == 0 else f" {word}" for n, word in enumerate(words)]
    return [{"role": "assistant", "content": ""}, *({"content": text} for text in texts)]


def _usage(told: Reply) -> Reply:
    output = len((told.get("content") or "").split()) or 5
    return {"prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output}


def _event(value: Reply) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
