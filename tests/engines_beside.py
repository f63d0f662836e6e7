"""Engines on the cores of one machine, for tests: the local one, and servers beside it."""

from __future__ import annotations

import random
from typing import Any

from polysilicon.catalog.fleet import Pool
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import StepCall, TaskState
from polysilicon.runtime.turns import Turns
from polysilicon.runtime.types import ChatRequest, ChatResult

CALL = StepCall(kind="llm", name="chat", model="m", resource="engine", timeout_s=5.0)
HERE = "http://127.0.0.1:8100/v1"


def price(_cpu_s: float | None, service_s: float) -> tuple[float, None]:
    return service_s, None


class Answering:
    """An engine that computes with one thread, and counts what it is asked."""

    model, threads = "m", 1

    def __init__(self) -> None:
        self.asked, self.closed = 0, False

    async def chat(self, _request: ChatRequest, _on_token: Any) -> ChatResult:
        self.asked += 1
        return ChatResult(text="yes", finish_reason="stop", prompt_tokens=3, output_tokens=1)

    async def close(self) -> None:
        self.closed = True


def local(slots: int = 8, cores: int = 2) -> RunningPool:
    engine: Any = Answering()
    return RunningPool(Pool(name="own", concurrency=slots), engine, cores, price, 1.0, 100.0)


def server(name: str = "server", slots: int = 32) -> RunningPool:
    engine: Any = Answering()
    given = Pool(name=name, engine="openai", endpoint=HERE, model="m", concurrency=slots,
                 serves=("llm:m",))  # fmt: skip
    return RunningPool(given, engine, 0, price, 1.0, 100.0)


def two(cores: int = 2) -> tuple[RunningPool, RunningPool]:
    """The local engine with tools, and a server beside it, with 8 and 32 slots."""
    pools = local(cores=cores), server()
    Turns().share(pools)
    return pools


def task(number: int = 0) -> TaskState:
    return TaskState(f"t{number}", "agent", 0.0, random.Random(1))
