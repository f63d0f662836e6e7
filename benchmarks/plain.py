"""Agents without a runtime: the same functions and engine, one task at a time in a process."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from polysilicon.runtime import search
from polysilicon.runtime.engines.lexical import embed
from polysilicon.runtime.engines.llamacpp import compact_grammar, request_body
from polysilicon.runtime.engines.native.call import parse_json
from polysilicon.runtime.executor import IDEMPOTENCY_KEY, has_effects
from polysilicon.runtime.loader import load_agent
from polysilicon.runtime.sandboxes import open_sandbox
from polysilicon.runtime.types import ChatRequest, ChatResult, CodeResult, Hit, Limits, Sandbox

_TIMEOUT_S = 1800.0


class Engine:
    """How a process asks the engine: its address and key."""

    def __init__(self, address: str, key: str, model: str) -> None:
        self.address, self.key, self.model = address, key, model


@lru_cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@lru_cache
def _box() -> Sandbox:
    return open_sandbox("monty", 1)


@lru_cache
def _index(folder: Path) -> search.Index:
    return search.open_index(folder)


class Plain:
    """What an agent calls, done at once and in this process; as `Context`, without its promises."""

    def __init__(self, engine: Engine, folder: Path, task_id: str, agent: str) -> None:
        self._engine = engine
        self.folder, self.task_id, self.agent = folder, task_id, agent
        self.rng = random.Random(f"{task_id}/")

    async def chat(
        self,
        messages: Sequence[dict[str, str]],
        *,
        name: str = "chat",  # noqa: ARG002
        **options: Any,
    ) -> ChatResult:
        """Ask the engine over its endpoint, as its own client in the runtime's process does."""
        request = ChatRequest(messages=tuple(messages), **options)
        body = request_body(request, self._engine.model)
        del body["stream"], body["stream_options"]
        if request.schema is not None:
            del body["response_format"]
            body["grammar"] = compact_grammar(request.schema)
        reply = httpx.post(  # noqa: ASYNC210 - nothing else runs in this process
            f"{self._engine.address}/chat/completions", json=body, timeout=_TIMEOUT_S,
            headers={"Authorization": f"Bearer {self._engine.key}"},
        )  # fmt: skip
        reply.raise_for_status()
        text = reply.json()["choices"][0]["message"]["content"] or ""
        return ChatResult(text=text, data=parse_json(text) if request.schema is not None else None)

    async def embed(self, texts: Sequence[str], **_named: Any) -> list[list[float]]:
        """Return vectors of texts."""
        return embed(texts)

    async def run_code(
        self,
        code: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        **_named: Any,
    ) -> CodeResult:
        """Run code in this process's sandbox."""
        return await _box().run(code, inputs or {}, limits or Limits())

    async def search(self, index: str, query: str, *, k: int = 5, name: str = "") -> list[Hit]:  # noqa: ARG002
        """Search an index that was prepared."""
        return _index(self.folder / "indexes" / index).search(query, k)

    async def call(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
        """Call a function here."""
        for of_the_step in ("name", "timeout_s", "retries"):
            named.pop(of_the_step, None)
        if has_effects(fn):
            named[IDEMPOTENCY_KEY] = self.task_id
        return fn(*args, **named)

    async def map(self, fn: Callable[..., Any], items: Iterable[Any], **_named: Any) -> list[Any]:
        """Await the function for one item after the other."""
        return [await fn(self, item) for item in items]


def task(given: str, engine: Engine, folder: Path, task_id: str, value: dict[str, Any]) -> float:
    """Run a task in a process of a pool; return when it ended, by `time.monotonic`."""
    agent = load_agent(given)
    of = folder / "agents" / agent.name
    _loop().run_until_complete(agent.run(Plain(engine, of, task_id, agent.name), value))  # type: ignore[arg-type]
    return time.monotonic()


def warm(agents: Sequence[str]) -> None:
    """Load what tasks of agents need, before the first comes."""
    sys.setrecursionlimit(3000)
    for given in agents:
        load_agent(given)
