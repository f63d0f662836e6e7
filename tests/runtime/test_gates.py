"""What a gate lets in: slots that are kept, batches that pay, and whoever is waited for."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from polysilicon import schedule
from polysilicon.runtime import gates
from polysilicon.runtime.batches import Batch
from polysilicon.runtime.gates import Gate
from polysilicon.schedule import BATCH, INTERACTIVE


def waiter(klass: int = BATCH, prompt: int = 0) -> Any:
    return SimpleNamespace(
        level=0, klass=klass, deadline_s=math.inf, prompts={"p": prompt}, queues=[]
    )


async def returns(gate: Gate, pause_s: float) -> Any:
    """Let a task do a step, pause, and do the next; return the task, which paused again."""
    task = waiter(prompt=1000)
    await gate.enter(task)
    gate.leave(0.01, "plan", task)
    await asyncio.sleep(pause_s)
    await gate.enter(task)
    return task


@pytest.mark.parametrize(("saved_s", "first"), [(60.0, "paused"), (0.0, "other")])
def test_a_slot_is_kept_for_who_returns_at_once(saved_s: float, first: str) -> None:
    async def scenario() -> tuple[list[str], int]:
        gate, order = Gate(1, lambda prompts: saved_s * (prompts["p"] > 0), holds=True), []

        async def step(name: str, task: Any) -> None:
            await gate.enter(task)
            order.append(name)
            gate.leave(0.01, name, task)

        task = await returns(gate, 0.001)
        other = asyncio.create_task(step("other", waiter()))
        await asyncio.sleep(0)
        gate.leave(0.01, "plan", task)
        await asyncio.sleep(0.001)
        await step("paused", task)
        await asyncio.wait_for(other, 60.0)
        return order, gate.held

    order, held = asyncio.run(scenario())
    assert order[0] == first
    assert held == (1 if saved_s else 0)


def test_a_slot_is_not_kept_for_longer_than_it_saves() -> None:
    async def scenario() -> float:
        gate = Gate(1, lambda _prompts: 0.05, holds=True)
        task = await returns(gate, 0.0)
        other = asyncio.create_task(gate.enter(waiter()))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        gate.leave(0.01, "plan", task)
        await other
        return loop.time() - begin_s

    assert asyncio.run(scenario()) >= 0.04


def noted(batch: Batch, fixed_s: float, each_s: float, *, disturbed: float = 0.0) -> None:
    rng = np.random.default_rng(2)
    for n in range(64):
        sequences = 1 + n % 12
        slow = 6.0 if rng.random() < disturbed else 1.0
        batch.noted(11, 10 * slow * (fixed_s + each_s * sequences), sequences)


def test_the_batch_grows_only_while_it_pays() -> None:
    """9 x fixed / each is the batch up to which doubling makes a tenth more of the tokens."""
    batch = Batch(64)
    assert batch.most == 64
    noted(batch, 0.02, 0.02)
    assert batch.most == 9
    noted(batch, 0.02, 0.02, disturbed=0.2)
    assert 7 <= batch.most <= 11
    noted(batch, 0.02, 0.0)
    assert batch.most == 64


def test_a_batch_that_stays_at_one_does_not_forget_the_others() -> None:
    batch = Batch(16)
    for sequences in [*range(40, 100), 8] * 8 + [1] * 16:  # of sizes that came last some are kept
        batch.noted(11, 0.1 * sequences, sequences)
    assert batch.most == 1
    for _ in range(1000):
        batch.noted(11, 0.1, 1)
    assert batch.most == 1


def test_short_answers_say_nothing_of_a_batch() -> None:
    batch = Batch(8)
    for n in range(64):
        batch.noted(3, float(n % 5), n % 5)
    assert batch.most == 8


def test_a_gate_keeps_to_the_batch_that_pays() -> None:
    async def scenario() -> int:
        batch, most = Batch(64), 0
        noted(batch, 0.02, 0.02)
        gate = Gate(64, None, batch)

        async def step() -> None:
            nonlocal most
            await gate.enter(waiter())
            most = max(most, gate.running)
            await asyncio.sleep(0)
            gate.leave(0.01)

        await asyncio.gather(*(step() for _ in range(40)))
        return most

    assert asyncio.run(scenario()) == 9


def test_whoever_is_waited_for_does_not_wait_for_batch_work() -> None:
    async def scenario() -> None:
        gate = Gate(2, front=2)
        for _ in range(2):
            await gate.enter(waiter())
        late = asyncio.create_task(gate.enter(waiter()))
        await asyncio.sleep(0)
        for _ in range(2):
            await asyncio.wait_for(gate.enter(waiter(INTERACTIVE)), 1.0)
        third = asyncio.create_task(gate.enter(waiter(INTERACTIVE)))
        await asyncio.sleep(0)
        assert (gate.running, gate.waiting) == (4, 2)  # of them, too, only so many
        gate.leave()
        await asyncio.wait_for(third, 60.0)
        assert not late.done()
        for _ in range(3):  # batch work goes on when there is room below the cap
            assert not late.done()
            gate.leave()
        await asyncio.wait_for(late, 60.0)

    asyncio.run(scenario())


def saving(slots: int = 1) -> Gate:
    """A gate where a prefix cache saves a minute."""
    return Gate(slots, lambda prompts: 60.0 * (prompts["p"] > 0), holds=True)


def test_no_slot_is_kept_from_whoever_is_waited_for() -> None:
    async def scenario() -> None:
        gate = saving()
        task = await returns(gate, 0.0)
        one = asyncio.create_task(gate.enter(waiter(INTERACTIVE)))
        await asyncio.sleep(0)
        gate.leave(0.01, "plan", task)  # it waits already
        await asyncio.wait_for(one, 60.0)
        gate.leave()
        await gate.enter(task)
        gate.leave(0.01, "plan", task)  # it comes later
        assert not gate.has_room(waiter())
        await asyncio.wait_for(gate.enter(waiter(INTERACTIVE)), 1.0)
        assert gate.held == 0

    asyncio.run(scenario())


def test_who_starves_goes_before_a_task_that_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        gate = saving()
        task = await returns(gate, 0.0)
        other = asyncio.create_task(gate.enter(waiter()))
        await asyncio.sleep(0)
        gate.leave(0.01, "plan", task)
        assert not other.done()
        monkeypatch.setattr(schedule, "STARVE_S", 0.02)
        await asyncio.sleep(0.03)
        again = asyncio.create_task(gate.enter(task))
        await asyncio.wait_for(other, 60.0)
        assert not again.done()
        gate.leave()
        await asyncio.wait_for(again, 60.0)

    asyncio.run(scenario())


def test_no_slot_is_kept_for_a_task_whose_next_steps_wait_already() -> None:
    async def scenario() -> None:
        gate = saving()
        task = await returns(gate, 0.0)
        more = asyncio.create_task(gate.enter(task))
        await asyncio.sleep(0)
        gate.leave(0.01, "plan", task)
        await asyncio.wait_for(more, 60.0)
        assert gate.held == 0

    asyncio.run(scenario())


def test_a_task_that_ended_keeps_nothing() -> None:
    async def scenario() -> None:
        gate = saving()
        task = await returns(gate, 0.0)
        other = asyncio.create_task(gate.enter(waiter()))
        await asyncio.sleep(0)
        gate.leave(0.01, "plan", task)
        gate.ended(task)
        await asyncio.wait_for(other, 60.0)
        assert (gate.held, gate.running) == (0, 1)

    asyncio.run(scenario())


def test_batch_work_goes_on_beside_steady_interactive_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        gate = Gate(1, front=1)
        await gate.enter(waiter(INTERACTIVE))
        late = asyncio.create_task(gate.enter(waiter()))
        await asyncio.sleep(0)
        await asyncio.wait_for(gate.enter(waiter(INTERACTIVE)), 1.0)
        monkeypatch.setattr(schedule, "STARVE_S", 0.0)
        steady = asyncio.create_task(gate.enter(waiter(INTERACTIVE)))
        await asyncio.sleep(0)
        gate.leave()
        await asyncio.sleep(0)
        assert (late.done(), steady.done()) == (False, False)
        gate.leave()
        await asyncio.wait_for(late, 60.0)
        await asyncio.wait_for(steady, 60.0)

    asyncio.run(scenario())


def test_room_that_a_batch_gains_is_taken_at_once() -> None:
    async def scenario() -> None:
        batch = Batch(64)
        noted(batch, 0.02, 0.2)
        gate = Gate(64, None, batch)
        await gate.enter(waiter())
        late = asyncio.create_task(gate.enter(waiter()))
        await asyncio.sleep(0)
        for n in range(64):
            gate.noted(11, 0.2, 1 + n % 12)
        await asyncio.wait_for(late, 60.0)
        assert gate.running == 2

    asyncio.run(scenario())


def test_a_gate_that_grows_lets_in_who_waits() -> None:
    async def scenario() -> tuple[int, int, int]:
        gate = Gate(1, front=1)
        entering = [asyncio.create_task(gate.enter(waiter())) for _ in range(4)]
        await asyncio.sleep(0)
        before = gate.running
        gate.resize(3)
        grown = gate.running
        gate.resize(1)
        gate.leave()
        await asyncio.sleep(0)
        for task in entering:
            task.cancel()
        return before, grown, gate.running

    assert asyncio.run(scenario()) == (1, 3, 2)


def test_a_step_wider_than_the_cap_enters_when_it_is_alone() -> None:
    async def scenario() -> None:
        gate = Gate(2, front=2)
        await gate.enter(waiter())
        wide = asyncio.create_task(gate.enter(waiter(), 4))
        await asyncio.sleep(0)
        assert not wide.done()
        gate.leave()
        await asyncio.wait_for(wide, 60.0)
        assert gate.running == 4

    asyncio.run(scenario())


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("less", [{"front": 4, "room": lambda: 2}, {"reserve": 2}])
def test_who_starves_goes_before_those_that_may_take_more(
    monkeypatch: pytest.MonkeyPatch, less: dict[str, Any], quick: bool
) -> None:
    async def scenario() -> None:
        now_s = 1000.0
        monkeypatch.setattr(gates, "time", SimpleNamespace(monotonic=lambda: now_s))
        gate = Gate(4, **less)
        await gate.enter(waiter(INTERACTIVE))
        gate.leave()
        for _ in range(3):
            await gate.enter(waiter(BATCH if quick else INTERACTIVE), quick=quick)
        late = asyncio.create_task(gate.enter(waiter()))
        await asyncio.sleep(0)
        more = waiter(BATCH if quick else INTERACTIVE)
        for _ in range(50):
            now_s += 1.0
            await asyncio.wait_for(gate.enter(more, quick=quick), 1.0)
            gate.leave()
        assert not late.done()
        now_s += 10.0
        assert not gate.has_room(more, quick=quick)
        others = [asyncio.create_task(gate.enter(more, quick=quick)) for _ in range(3)]
        for _ in range(2):
            gate.leave()
        await asyncio.wait_for(late, 60.0)
        for other in others:
            other.cancel()

    asyncio.run(scenario())


def test_quick_steps_stay_below_the_cap() -> None:
    async def scenario() -> None:
        gate = Gate(4, front=4, room=lambda: 2)
        for _ in range(4):
            await asyncio.wait_for(gate.enter(waiter(), quick=True), 1.0)
        assert not gate.has_room(waiter(), quick=True)
        assert gate.has_room(waiter(INTERACTIVE))

    asyncio.run(scenario())


def test_a_kept_slot_is_no_obstacle_beside_a_reserved_one() -> None:
    async def scenario() -> None:
        gate = Gate(4, lambda prompts: 30.0, holds=True, reserve=1)
        task = await returns(gate, 0.001)
        for _ in range(2):
            await gate.enter(waiter())
        await gate.enter(waiter(INTERACTIVE))
        gate.leave(0.01, "plan", task)  # a slot is kept, three are taken
        await asyncio.wait_for(gate.enter(waiter(INTERACTIVE)), 1.0)
        assert gate.running == 4

    asyncio.run(scenario())
