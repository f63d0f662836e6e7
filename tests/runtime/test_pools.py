from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace

import pytest

from polysilicon import schedule
from polysilicon.catalog.fleet import Pool
from polysilicon.runtime.gates import Gate
from polysilicon.runtime.pools import RunningPool
from polysilicon.schedule import BATCH, INTERACTIVE


def _task(attained_s: float) -> SimpleNamespace:
    level = schedule.doublings(attained_s)
    return SimpleNamespace(level=level, klass=BATCH, deadline_s=math.inf, queues=[])


def test_the_waiting_step_with_least_service_enters_first() -> None:
    async def scenario() -> list[str]:
        gate, order = Gate(1), []

        async def step(name: str, attained_s: float) -> None:
            await gate.enter(_task(attained_s))
            order.append(name)
            await asyncio.sleep(0)
            gate.leave()

        async with asyncio.TaskGroup() as group:
            for name, attained_s in (("first", 0.0), ("old", 9.0), ("new", 1.0), ("newer", 0.5)):
                group.create_task(step(name, attained_s))
        assert gate.running == 0
        return order

    assert asyncio.run(scenario()) == ["first", "newer", "new", "old"]


def test_never_more_than_the_cap() -> None:
    async def scenario() -> int:
        gate, most = Gate(3), 0

        async def step() -> None:
            nonlocal most
            await gate.enter(_task(0.0))
            most = max(most, gate.running)
            await asyncio.sleep(0.001)
            gate.leave(0.001)

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(step())
        return most

    assert asyncio.run(scenario()) == 3


def test_a_cancelled_waiter_gives_its_turn_back() -> None:
    async def scenario() -> None:
        gate = Gate(1)
        await gate.enter(_task(0.0))
        waiter = asyncio.create_task(gate.enter(_task(0.0)))
        granted = asyncio.create_task(gate.enter(_task(1.0)))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.sleep(0)
        assert gate.waiting == 1
        gate.leave()
        granted.cancel()  # its turn has come, but it is cancelled before it could take it
        with pytest.raises(asyncio.CancelledError):
            await granted
        assert gate.running == 0
        await gate.enter(_task(0.0))
        assert gate.running == 1

    asyncio.run(scenario())


def test_waiters_cancelled_together_leave_no_slot_taken() -> None:
    async def scenario() -> int:
        gate = Gate(2)

        async def step() -> None:
            await gate.enter(_task(0.0))
            try:
                await asyncio.sleep(10)
            finally:
                gate.leave()

        steps = [asyncio.create_task(step()) for _ in range(8)]
        await asyncio.sleep(0)
        for one in steps:
            one.cancel()
        ends = await asyncio.gather(*steps, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}
        assert gate.waiting == 0
        return gate.running

    assert asyncio.run(scenario()) == 0


def test_mean_service_is_smoothed() -> None:
    gate = Gate(1)
    for service_s in (1.0, 2.0):
        gate.running += 1
        gate.leave(service_s)
    assert gate.mean_s == pytest.approx(1.1)


def test_what_a_pool_serves() -> None:
    engine = SimpleNamespace(model="m1")
    pool = Pool(name="p", serves=("llm:*", "tool:search"))
    running = RunningPool(pool, engine, 2, lambda cpu_s, service_s: (None, None), 1.0)
    assert running.serves("llm", "m1", "engine")
    assert not running.serves("llm", "m2", "engine")
    assert running.serves("tool", "search", "cpu")
    assert not running.serves("tool", "code", "cpu")
    assert running.region == "local"
    assert running.load("cpu") == (0.5, 1.0, 0.0)  # nothing served yet: a second stands in
    running.gates["cpu"].running = 3
    running.gates["cpu"].mean_s = 4.0
    assert running.load("cpu") == (0.5, 4.0, 4.0)
    endpoint = RunningPool(pool, engine, 0, lambda cpu_s, service_s: (None, None), 1.0)
    assert not endpoint.serves("tool", "search", "cpu")


def test_steps_of_a_name_have_a_mean_of_their_own() -> None:
    gate = Gate(1)
    assert gate.service_s("chat") == 1.0  # nothing served yet: a second stands in
    for name, service_s in (("chat", 4.0), ("plan", 0.5)):
        gate.running += 1
        gate.leave(service_s, name)
    assert (gate.service_s("chat"), gate.service_s("plan")) == (4.0, 0.5)
    assert gate.service_s("other") == gate.mean_s


def test_somebody_who_waits_goes_first_and_then_who_would_be_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr("polysilicon.runtime.gates.time.monotonic", lambda: now_s)

    async def scenario() -> list[str]:
        gate, order = Gate(1), []

        async def step(name: str, klass: int, deadline_s: float) -> None:
            nonlocal now_s
            await gate.enter(
                SimpleNamespace(level=0, klass=klass, deadline_s=deadline_s, queues=[])
            )
            order.append(name)
            await asyncio.sleep(0)
            now_s += 1.0
            gate.leave()

        async with asyncio.TaskGroup() as group:
            for name, klass, deadline_s in (
                ("first", BATCH, math.inf), ("batch", BATCH, math.inf), ("due", BATCH, 3.5),
                ("person", INTERACTIVE, math.inf),
            ):  # fmt: skip
                group.create_task(step(name, klass, deadline_s))
        return order

    assert asyncio.run(scenario()) == ["first", "person", "due", "batch"]


def test_the_prefix_cache_saves_what_the_prompt_took() -> None:
    engine = SimpleNamespace(model="m1")
    pool = RunningPool(Pool(name="p"), engine, 2, lambda cpu_s, service_s: (None, None), 1.0)
    assert pool.saved_s({"p": 500}) == 0.0
    pool.prefilled(100, 0.5)
    pool.prefilled(0, 0.5)  # all of it cached: tells nothing
    assert pool.saved_s({"p": 500, "q": 9}) == pytest.approx(2.5)
    assert pool.saved_s({"q": 9}) == 0.0


def test_a_dual_price_of_a_placement_is_the_pools_price() -> None:
    engine = SimpleNamespace(model="m")
    for told, usd_per_s in ((None, 0.5), (0.125, 0.125)):
        pool = Pool(name="gpu", engine="openai", model="m", concurrency=4, usd_per_s=told)
        running = RunningPool(pool, engine, 0, lambda cpu_s, service_s: (None, None), 2.0)
        assert running.load("engine")[0] == usd_per_s
