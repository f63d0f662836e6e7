"""One budget of cores: what tools get while the engine computes, and tools with several threads."""

from __future__ import annotations

import asyncio
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from polysilicon import schedule
from polysilicon.catalog.fleet import Pool
from polysilicon.errors import InputError, StepError
from polysilicon.runtime import cores, gates, priority
from polysilicon.runtime.context import Context
from polysilicon.runtime.cores import Cores
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.gates import Gate
from polysilicon.runtime.here import Here
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import Scope, TaskState, Usage
from polysilicon.runtime.steps import StepRunner
from polysilicon.schedule import BATCH, INTERACTIVE


def waiter(klass: int = BATCH) -> Any:
    return SimpleNamespace(level=0, klass=klass, deadline_s=math.inf, prompts={}, queues=[])


def local(count: int, threads: int) -> RunningPool:
    """A pool whose engine computes with so many threads of this machine."""
    engine: Any = SimpleNamespace(model="m", concurrency=8, threads=threads)
    return RunningPool(Pool(name="local"), engine, count, lambda c, _s: (c, None), 1.0)


async def entering(gate: Gate, tasks: Sequence[Any], width: int = 1) -> list[asyncio.Task[None]]:
    """Let steps enter, as far as they may."""
    found = [asyncio.create_task(gate.enter(task, width)) for task in tasks]
    await asyncio.sleep(0)
    return found


def done(steps: Sequence[asyncio.Task[None]]) -> int:
    return sum(step.done() for step in steps)


@pytest.mark.parametrize(("count", "threads", "beside"), [
    (2, 2, 1), (2, 1, 1), (4, 3, 2), (16, 4, 12), (5, 5, 3), (1, 1, 1), (2, 8, 1),
])  # fmt: skip
def test_tools_get_what_the_engine_leaves_or_half(count: int, threads: int, beside: int) -> None:
    budget = Cores(count, threads)
    assert (budget.engine, budget.for_tools) == (0, count)
    budget.computes(True)
    assert (budget.engine, budget.for_tools) == (min(threads, count), beside)
    budget.computes(False)
    assert (budget.engine, budget.for_tools) == (0, count)


def test_fewer_tools_enter_while_the_engine_computes() -> None:
    async def scenario() -> None:
        pool = local(4, 4)
        engine, tools = pool.gates["engine"], pool.gates["cpu"]
        for _ in range(2):
            await engine.enter(waiter())
        steps = await entering(tools, [waiter() for _ in range(6)])
        assert (done(steps), tools.limit) == (2, 2)
        queue_s = pool.load("cpu")[2]
        engine.leave()
        await asyncio.sleep(0)
        assert done(steps) == 2  # it computes still
        engine.leave()
        await asyncio.sleep(0)
        assert (done(steps), tools.running) == (4, 4)
        assert pool.load("cpu")[2] < queue_s
        await engine.enter(waiter())  # nobody is sent out for it
        tools.leave()
        await asyncio.sleep(0)
        assert (done(steps), tools.running) == (4, 3)
        for _ in range(2):
            tools.leave()
        await asyncio.sleep(0)
        assert (done(steps), tools.running) == (5, 2)
        steps[-1].cancel()

    asyncio.run(scenario())


def test_whoever_is_waited_for_has_all_cores_beside_the_engine() -> None:
    async def scenario() -> None:
        pool = local(2, 2)
        tools = pool.gates["cpu"]
        for _ in range(2):
            await tools.enter(waiter())
        await pool.gates["engine"].enter(waiter())
        for _ in range(2):
            await asyncio.wait_for(tools.enter(waiter(INTERACTIVE)), 1.0)
        assert tools.running == 4

    asyncio.run(scenario())


def test_quick_tools_do_not_wait_behind_those_that_yield() -> None:
    budget = Cores(2, 2)
    assert (budget.quick("a", "find"), budget.may_be_quick("a", "find")) == (False, True)
    for _ in range(3):
        budget.took("a", "find", 0.001)
        budget.took("a", "clean", 0.7)
    budget.took("a", "first", 0.7)  # it imports
    assert not budget.may_be_quick("a", "first")
    budget.took("a", "first", 0.0)
    assert [budget.quick("a", name) for name in ("find", "first", "clean")] == [True, True, False]
    assert not budget.may_be_quick("a", "clean")
    assert not Cores(2).may_be_quick("a", "find")  # no engine: none yields to any
    for _ in range(5):
        budget.took("b", "find", 0.7)  # with more to do
    assert (budget.quick("a", "find"), budget.may_be_quick("b", "find")) == (True, False)

    async def scenario() -> None:
        pool = local(2, 2)
        tools = pool.gates["cpu"]
        await pool.gates["engine"].enter(waiter())
        await tools.enter(waiter())
        late = (await entering(tools, [waiter()]))[0]
        await asyncio.wait_for(tools.enter(waiter(), quick=True), 1.0)
        third = asyncio.create_task(tools.enter(waiter(), quick=True))
        await asyncio.sleep(0)
        assert (late.done(), third.done(), tools.running) == (False, False, 2)
        late.cancel()
        third.cancel()

    asyncio.run(scenario())


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def busy_for(seconds: float) -> int:
    until_s = time.process_time() + seconds
    while time.process_time() < until_s:
        pass
    return niceness()


def breaks(seconds: float) -> None:
    busy_for(seconds)
    raise ValueError("no")


def test_tools_that_are_known_to_be_quick_do_not_yield_to_the_engine(tmp_path: Path) -> None:
    async def main() -> list[int]:
        journal, pool = SqliteJournal(tmp_path), local(1, 1)
        runner = StepRunner(journal, Dispatcher([pool]), time.monotonic)
        here = Here.opened(1, [niceness.__module__])  # else the first one of a worker is not quick
        resources = Resources(runner, here, "m", time.monotonic)
        try:
            ctx = context(resources, "task", tmp_path)
            found = [await ctx.call(niceness) for _ in range(4)]
            found += [await ctx.call(busy_for, 2 * cores.QUICK_S) for _ in range(3)]
            for name, seconds, limit_s in (
                ("long", 0.1, 9.0),
                ("short", 0.0, 9.0),
                ("late", 9, 0.1),
            ):
                with pytest.raises(StepError):
                    await ctx.call(breaks, seconds, name=name, timeout_s=limit_s)
            with pytest.raises(InputError):
                await ctx.search("missing", "x", name="wrong")
            names = ("long", "short", "late", "wrong")
            known = [pool.cores.may_be_quick("agent", name) for name in names]
            assert known == [False, True, False, False]
            return found[2:]
        finally:
            await resources.here.close()
            journal.close()

    yields = max(niceness(), priority.TOOL_NICE)
    assert asyncio.run(main()) == [niceness(), niceness(), yields, yields, yields]


def test_an_engine_elsewhere_takes_none_of_the_cores() -> None:
    async def scenario() -> None:
        engine: Any = SimpleNamespace(model="m", concurrency=8, threads=2)
        pool = RunningPool(
            Pool(name="there", engine="openai"), engine, 2, lambda c, _s: (c, None), 1.0
        )
        await pool.gates["engine"].enter(waiter())
        steps = await entering(pool.gates["cpu"], [waiter() for _ in range(3)])
        assert (done(steps), pool.cores.engine) == (2, 0)
        steps[-1].cancel()

    asyncio.run(scenario())


def test_a_tool_with_several_threads_takes_as_many_cores() -> None:
    async def scenario() -> None:
        gate = Gate(4, front=4)
        await gate.enter(waiter())
        wide = (await entering(gate, [waiter()], 4))[0]
        late = (await entering(gate, [waiter()]))[0]
        assert not wide.done()
        assert not late.done()  # else a wide one might wait for ever
        gate.leave()
        await asyncio.sleep(0)
        assert (wide.done(), late.done(), gate.running) == (True, False, 4)
        await asyncio.wait_for(gate.enter(waiter(INTERACTIVE)), 1.0)
        gate.leave(width=4)
        await asyncio.sleep(0)
        assert (late.done(), gate.running) == (True, 2)
        for _ in range(2):
            gate.leave()
        await asyncio.wait_for(gate.enter(waiter(), 9), 1.0)  # more than there are: alone
        steps = await entering(gate, [waiter(), waiter(INTERACTIVE)])
        assert done(steps) == 0
        steps[1].cancel()
        gate.leave(width=9)
        await asyncio.sleep(0)
        assert (steps[0].done(), gate.running) == (True, 1)

    asyncio.run(scenario())


def test_a_wide_step_that_is_cancelled_gives_all_of_its_room_back() -> None:
    async def scenario() -> None:
        gate = Gate(2)
        await gate.enter(waiter(), 2)
        wide = (await entering(gate, [waiter()], 2))[0]
        gate.leave(width=2)
        wide.cancel()  # its turn has come, but it does not know yet
        await asyncio.sleep(0)
        assert gate.running == 0
        await asyncio.wait_for(gate.enter(waiter(), 2), 1.0)

    asyncio.run(scenario())


def test_a_slot_of_the_engine_stays_free_for_who_may_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        gate = Gate(3, reserve=1)
        for _ in range(3):
            await asyncio.wait_for(gate.enter(waiter()), 1.0)  # nobody has come
        person = (await entering(gate, [waiter(INTERACTIVE)]))[0]
        steps = await entering(gate, [waiter() for _ in range(2)])
        gate.leave()
        await asyncio.sleep(0)
        assert (person.done(), done(steps)) == (True, 0)
        gate.leave()
        await asyncio.sleep(0)
        assert (gate.running, done(steps)) == (2, 0)
        await asyncio.wait_for(gate.enter(waiter(INTERACTIVE)), 1.0)
        gate.leave()
        monkeypatch.setattr(gates, "RECENT_S", 0.0)
        gate.leave()
        await asyncio.sleep(0)
        assert (gate.running, done(steps)) == (3, 2)

    asyncio.run(scenario())


def test_an_engine_of_one_slot_serves_all() -> None:
    async def scenario() -> None:
        gate = Gate(1, reserve=1)
        await gate.enter(waiter(INTERACTIVE))
        gate.leave()
        await asyncio.wait_for(gate.enter(waiter()), 1.0)
        assert gate.running == 1

    asyncio.run(scenario())


def imported(name: str) -> bool:
    return name in sys.modules


def test_workers_import_before_they_are_called() -> None:
    async def main() -> list[bool]:
        workers = Workers(1, modules=("wave", "no_module_of_that_name"))
        try:
            found = [await workers.call(imported, (n,), {}, 60.0) for n in ("wave", "tabnanny")]
            return [msgspec.msgpack.decode(one.data) for one in found]
        finally:
            await workers.close()

    assert asyncio.run(main()) == [True, False]


def threads_of(seconds: float) -> dict[str, Any]:
    begin_s = time.monotonic()
    time.sleep(seconds)
    return {"tokens": 1, "begin_s": begin_s, "end_s": time.monotonic()}


def test_training_with_all_threads_has_the_cores_to_itself(tmp_path: Path) -> None:
    async def main() -> list[dict[str, Any]]:
        journal = SqliteJournal(tmp_path)
        pool = RunningPool(Pool(name="local"), None, 2, lambda c, _s: (c, None), 1.0)
        runner = StepRunner(journal, Dispatcher([pool]), time.monotonic)
        resources = Resources(runner, Here.opened(2), "none", time.monotonic)
        try:
            ctx = [context(resources, f"task{n}", tmp_path) for n in range(3)]
            return await asyncio.gather(
                ctx[0].call(threads_of, 0.05),
                ctx[1].train(threads_of, 0.05, model="m", threads=2),
                ctx[2].call(threads_of, 0.05),
            )
        finally:
            await resources.here.close()
            journal.close()

    before, training, after = asyncio.run(main())
    assert before["end_s"] <= training["begin_s"]
    assert training["end_s"] <= after["begin_s"]


def context(resources: Resources, task_id: str, folder: Path) -> Context:
    task = TaskState(task_id, "agent", 0.0, random.Random(1), klass=schedule.BATCH)
    return Context(resources, Scope(task), folder)


@pytest.mark.skipif(
    not priority._may_come_back(), reason="this system lets no process come back from SCHED_IDLE"
)
def test_tools_stand_back_from_an_answer_that_somebody_waits_for(tmp_path: Path) -> None:
    async def main() -> None:
        pool, here = local(1, 1), Here.opened(1)
        journal = SqliteJournal(tmp_path)
        runner = StepRunner(journal, Dispatcher([pool]), time.monotonic)
        resources, usage = Resources(runner, here, "m", time.monotonic), Usage()
        try:
            await here.workers.call(imported, ("sys",), {}, 60.0)
            (pid,) = here.workers.processes()
            async with resources.engine_cpu(pool, usage):
                assert os.sched_getscheduler(pid) == os.SCHED_OTHER
            async with resources.engine_cpu(pool, usage, front=True):
                assert os.sched_getscheduler(pid) == os.SCHED_IDLE
            assert usage.cores == 1
        finally:
            await here.close()
            journal.close()

    asyncio.run(main())
