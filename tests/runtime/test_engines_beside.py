"""Two engines on the cores of one machine: which of them takes a step, and what tools are left."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from polysilicon.catalog.fleet import Pool
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.machine import share_cores
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import StepCall, TaskState

CALL = StepCall(kind="llm", name="chat", model="m", resource="engine", timeout_s=5.0)
HERE = "http://127.0.0.1:8100/v1"


def price(_cpu_s: float | None, service_s: float) -> tuple[float, None]:
    return service_s, None


def two(own: int = 8, server: int = 32) -> tuple[RunningPool, RunningPool]:
    """The local engine with tools on two cores, and a server beside it, with so many slots."""
    engine: Any = SimpleNamespace(model="m", threads=1)
    given = Pool(name="own", concurrency=own)
    beside = Pool(name="server", engine="openai", endpoint=HERE, model="m", concurrency=server,
                  serves=("llm:m",))  # fmt: skip
    pools = RunningPool(given, engine, 2, price, 1.0), RunningPool(beside, engine, 0, price, 1.0)
    share_cores(pools)
    return pools


def task(number: int = 0) -> TaskState:
    return TaskState(f"t{number}", "agent", 0.0, random.Random(1))


async def served(pool: RunningPool, times_s: list[float]) -> None:
    for time_s in times_s:
        await pool.gates["engine"].enter(task())
        pool.gates["engine"].leave(time_s, "chat")


def chosen(dispatcher: Dispatcher) -> str:
    found = dispatcher.choose(CALL, task())
    assert found is not None
    return found.pool.name


@pytest.mark.parametrize(("own_s", "server_s"), [(0.2, 0.5), (0.5, 0.2), (3.0, 2.0)])
def test_each_is_tried_and_then_the_faster_one_takes_steps(own_s, server_s):
    async def scenario() -> list[str]:
        pools = two()
        dispatcher, taken = Dispatcher(pools), []
        for _ in range(10):
            name = chosen(dispatcher)
            taken.append(name)
            await served(next(p for p in pools if p.name == name),
                         [own_s if name == "own" else server_s])  # fmt: skip
        return taken

    taken = asyncio.run(scenario())
    assert taken[:6] == ["own"] * 3 + ["server"] * 3
    assert set(taken[6:]) == {"own" if own_s < server_s else "server"}


def test_with_more_at_once_the_one_that_does_more_of_them_together():
    async def scenario() -> tuple[str, str]:
        own, server = pools = two()
        dispatcher = Dispatcher(pools)
        await served(own, [4.0] * 3)  # eight of them at once: two a second
        await served(server, [11.0] * 3)  # thirty-two at once: three a second
        alone = chosen(dispatcher)
        for number in range(31):  # eight of them enter
            asyncio.get_running_loop().create_task(own.gates["engine"].enter(task(number)))
        await asyncio.sleep(0)
        return alone, chosen(dispatcher)

    assert asyncio.run(scenario()) == ("own", "server")


def test_one_trial_at_a_time():
    async def scenario() -> list[str]:
        own, server = pools = two()
        dispatcher = Dispatcher(pools)
        await served(own, [0.1] * 3)
        names = [chosen(dispatcher)]
        await server.gates["engine"].enter(task())
        return [*names, chosen(dispatcher)]

    assert asyncio.run(scenario()) == ["server", "own"]


def test_one_of_them_computes_at_a_time_and_tools_have_what_it_leaves():
    async def scenario() -> tuple[list[bool], list[int]]:
        own, server = two()
        tools, gates = own.gates["cpu"], [own.gates["engine"], server.gates["engine"]]
        await gates[0].enter(task())
        waits = asyncio.create_task(gates[1].enter(task(1)))
        more = asyncio.create_task(gates[0].enter(task(2)))
        await asyncio.sleep(0)
        entered, left = [waits.done(), more.done()], [tools.limit]
        for _ in range(2):
            gates[0].leave()
        await asyncio.sleep(0)
        entered.append(waits.done())
        left.append(tools.limit)
        gates[1].leave()
        return entered, [*left, tools.limit]

    assert asyncio.run(scenario()) == ([False, True, True], [1, 1, 2])


def test_after_its_turn_an_engine_lets_the_other_one_compute(monkeypatch):
    monkeypatch.setattr("polysilicon.runtime.cores.TURN_S", 0.0)

    async def scenario() -> list[bool]:
        own, server = (pool.gates["engine"] for pool in two())
        await own.enter(task())
        await own.enter(task(1))  # nobody waits for the other one
        steps = [asyncio.create_task(gate.enter(task(2))) for gate in (server, own)]
        await asyncio.sleep(0)
        found = [step.done() for step in steps]
        own.leave()
        await asyncio.sleep(0)
        found += [step.done() for step in steps]
        own.leave()
        await asyncio.sleep(0)
        found += [step.done() for step in steps]
        server.leave()
        await asyncio.sleep(0)
        return [*found, steps[1].done()]

    none, other = [False, False], [True, False]
    assert asyncio.run(scenario()) == [*none, *none, *other, True]


def test_a_server_that_leaves_the_fleet_leaves_its_cores():
    own, server = two()
    assert own.cores.threads == 2
    assert own.beside == (server,)
    share_cores([own])
    assert own.cores.threads == 1
    assert own.beside == ()
    elsewhere = Pool(name="far", engine="openai", endpoint="http://10.0.0.9:8000/v1", model="m")
    assert not elsewhere.is_here
