"""Whether an engine is up, asked by the gateway itself where a call that failed leaves that open.

Whatever a caller sends may make an engine answer with an error, be late, or break off. That alone
must not take the engine from the other callers; so it is asked for one token, and its health goes
by what comes of that. Each such question is a step as any other: metered, recorded, and paid for.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial

import msgspec

from polysilicon.errors import EngineError, PolysiliconError, StepError
from polysilicon.gateway.chat import refusal
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.health import FAILURES
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import CHECK, Scope, StepCall, TaskState, Usage
from polysilicon.workload.record import Kind

AGENT = "gateway"
"""Agent of the step records of checks."""

_LIMIT_S = 30.0
_PAUSE_S = 5.0
_MOST_BYTES = 2**20
_WORDS = "hi"


class Checks:
    """Asks the engines of a gateway; one question at a time for each.

    Args:
        gateway: the state.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._running: dict[str, asyncio.Task[None]] = {}
        self._not_before_s: dict[str, float] = {}

    def watch(self) -> None:
        """Hear of doubts about the engines that there are now."""
        for pool in self._gateway.machine.pools:
            if "engine" in pool.gates:
                pool.gates["engine"].health.on_doubt = partial(self._doubted, pool)

    def _doubted(self, pool: RunningPool) -> None:
        """Begin to ask, unless that is under way, or the engine has just answered."""
        now_s = asyncio.get_running_loop().time()
        if pool.name in self._running or now_s < self._not_before_s.get(pool.name, 0.0):
            return
        task = self._running[pool.name] = asyncio.create_task(self._check(pool))
        task.add_done_callback(lambda _: self._running.pop(pool.name, None))

    async def _check(self, pool: RunningPool) -> None:
        """Ask until it answers, be it that it refuses, or is drained for not doing so."""
        health = pool.gates["engine"].health
        try:
            for _ in range(FAILURES):
                try:
                    await self._ask(pool)
                except StepError as error:
                    if health.drained or (isinstance(error, EngineError) and error.of_request):
                        return
                else:
                    return
        except PolysiliconError:  # it is no more in the fleet, or nothing can be journaled
            return
        finally:
            self._not_before_s[pool.name] = asyncio.get_running_loop().time() + _PAUSE_S

    async def _ask(self, pool: RunningPool) -> None:
        """Ask an engine for one token, or one vector.

        Raises:
            StepError: it gave none.
        """
        gateway, engine = self._gateway, pool.engine
        assert engine is not None
        chats = pool.serves("llm", engine.model, "engine")
        kind: Kind = "llm" if chats else "embed"
        asked = {"messages": [{"role": "user", "content": _WORDS}], "max_tokens": 1}
        body = {"model": engine.model} | (asked if chats else {"input": _WORDS})
        path = "chat/completions" if chats else "embeddings"

        async def work(pool: RunningPool, usage: Usage) -> None:
            metered, data = gateway.resources.engine_cpu(pool, usage), msgspec.json.encode(body)
            async with metered, gateway.forwarder(engine) as forwarder:
                with closing(await forwarder.post(path, data)) as answer:
                    if answer.status != 200:
                        raise await refusal(answer)
                    await answer.whole(_MOST_BYTES)

        task_id = f"check-{secrets.token_hex(8)}"
        rng = random.Random(task_id)  # noqa: S311 - no secret
        task = TaskState(task_id=task_id, agent=AGENT, arrival_s=gateway.clock(), rng=rng)
        limit_s = min(gateway.settings.timeout_s, _LIMIT_S)
        call = StepCall(kind=kind, name=CHECK, model=engine.model, resource="engine",
                        timeout_s=limit_s, only=frozenset([pool.name]), once=True)  # fmt: skip
        await gateway.runner.run(Scope(task), call, work, None)

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def checking(gateway: Gateway) -> AsyncIterator[None]:
    """Find out about doubts while the gateway serves."""
    checks = Checks(gateway)
    checks.watch()
    gateway.on_fleet.append(checks.watch)
    try:
        yield
    finally:
        await checks.close()
