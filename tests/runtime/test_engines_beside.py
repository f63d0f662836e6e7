"""Engines on the cores of one machine: which of them takes a step, and what it costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines_beside import CALL, HERE, task, two
from polysilicon import catalog, schedule
from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.policy import Policy
from polysilicon.errors import EngineError, InputError, StepError
from polysilicon.runtime.context import Context
from polysilicon.runtime.dispatch import Decision, Dispatcher
from polysilicon.runtime.here import Here
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.runtime.known import Known
from polysilicon.runtime.machine import _open_server
from polysilicon.runtime.meter import SharedCpu
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import Scope, StepCall, Usage
from polysilicon.runtime.steps import StepRunner
from polysilicon.workload.record import StepRecord


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


Work = Callable[[RunningPool, Usage], Awaitable[Any]]


def run(
    folder: Path,
    pools: list[RunningPool],
    work: Work,
    *,
    steps: int = 1,
    call: StepCall = CALL,
    tell: Callable[[Decision], None] | None = None,
) -> list[StepRecord]:
    """Run steps one after the other, without a retry; return their records."""

    async def main() -> None:
        runner = StepRunner(journal, Dispatcher(pools, tell=tell), time.monotonic)
        for number in range(steps):
            with suppress(StepError):
                await runner.run(Scope(task(number)), call, work, str)

    journal = SqliteJournal(folder)
    try:
        asyncio.run(main())
        return list(journal.steps())
    finally:
        journal.close()


def test_what_a_server_refuses_is_sent_to_it_as_a_trial_only(tmp_path):
    asked: list[str] = []

    async def work(of: RunningPool, _usage: Usage) -> str:
        asked.append(of.name)
        if of.name == "server":
            raise EngineError("HTTP 400: the prompt is too long", of_request=True)
        return of.name

    pools = list(two())
    records = run(tmp_path, pools, work, steps=8)
    assert [(record.pool, record.outcome) for record in records] == [("own", "ok")] * 8
    assert asked.count("server") == 3
    assert pools[1].load("engine", "another")[1] == 0.0  # names for themselves


def test_what_no_engine_was_asked_for_tells_nothing_of_one(tmp_path):
    """As a call of the gateway whose key has no money left."""
    asked: list[str] = []

    async def work(of: RunningPool, _usage: Usage) -> str:
        asked.append(of.name)
        failure = EngineError("the call was refused", of_request=True)
        failure.unasked = True
        raise failure

    pools = list(two())
    records = run(tmp_path, pools, work, steps=8)
    assert [record.outcome for record in records] == ["error"] * 8
    assert len(asked) == 8  # none was sent to another one
    assert all(pool.would_try("chat") for pool in pools)


@pytest.mark.parametrize(("once", "outcomes"), [(False, {"ok"}), (True, {"ok", "timeout"})])
def test_a_trial_that_takes_too_long_costs_no_step_that_may_be_begun_anew(tmp_path, once, outcomes):
    async def work(of: RunningPool, _usage: Usage) -> str:
        if of.name == "server":
            await asyncio.Event().wait()
        return of.name

    call = replace(CALL, timeout_s=0.05, once=once)
    records = run(tmp_path, list(two()), work, steps=7, call=call)
    assert {record.outcome for record in records} == outcomes


def test_what_is_refused_by_an_engine_that_is_known_fails(tmp_path):
    """Only trials are for others: what one is sent that was chosen for its speed is its own."""
    asked: list[str] = []

    async def work(of: RunningPool, _usage: Usage) -> str:
        asked.append(of.name)
        if len(asked) > 7:
            raise EngineError("HTTP 400: no such field", of_request=True)
        await asyncio.sleep(0.001 if of.name == "server" else 0.1)
        return of.name

    records = run(tmp_path, list(two()), work, steps=8)
    assert [record.outcome for record in records] == ["ok"] * 7 + ["error"]
    assert asked[7:] == ["server"]


def test_one_that_lost_is_tried_again_now_and_then():
    async def scenario() -> tuple[list[str], list[str]]:
        own, server = pools = two()
        dispatcher, taken = Dispatcher(pools), list[str]()

        async def steps(count: int, own_s: float, server_s: float) -> list[str]:
            found = []
            for _ in range(count):
                name = chosen(dispatcher)
                found.append(name)
                pool, service_s = (own, own_s) if name == "own" else (server, server_s)
                await served(pool, [service_s])
                pool.tried("chat", refused=False)
                for other in pool.beside:
                    other.passed_by("chat", service_s)
            return found

        taken = await steps(6 + 500, 1.0, 2.0)
        return taken[6:], await steps(1000, 1.0, 0.1)

    lost, faster = asyncio.run(scenario())
    assert lost.count("server") == 500 // 65  # each as long as two of 64 steps of the other
    assert faster[-100:].count("server") > 90


def test_one_that_lost_is_tried_again_only_while_no_other_computes():
    async def scenario() -> list[bool]:
        own, server = two()
        for _ in range(3):
            server.tried("chat", refused=False)
        await served(server, [0.5] * 3)
        for _ in range(32):
            server.passed_by("chat", 1.0)
        found = [server.would_try("chat")]
        await own.gates["engine"].enter(task())
        found.append(server.would_try("chat"))
        own.gates["engine"].leave()
        found.append(server.would_try("chat"))
        server.tried("chat", refused=False)
        return [*found, server.would_try("chat")]

    assert asyncio.run(scenario()) == [True, False, True, False]


def test_decisions_tell_which_steps_were_trials(tmp_path):
    async def work(of: RunningPool, _usage: Usage) -> str:
        await asyncio.sleep(0.001 if of.name == "own" else 0.1)
        return of.name

    told: list[Decision] = []
    run(tmp_path, list(two()), work, steps=8, tell=told.append)
    assert [decision.trial for decision in told] == [True] * 6 + [False] * 2


def test_a_server_that_is_not_there_yet_is_tried_later(tmp_path):
    async def work(of: RunningPool, _usage: Usage) -> str:
        if of.name == "server":
            raise EngineError("connection refused", down=True)
        return of.name

    pools = list(two())
    run(tmp_path, pools, work, steps=8)
    assert pools[1].gates["engine"].health.drained
    assert pools[1].load("engine", "chat")[1] == 0.0


def test_names_beyond_those_that_are_kept_are_not_tried(monkeypatch):
    monkeypatch.setattr("polysilicon.runtime.pools._MOST_KNOWN", 2)
    _, beside = two()
    for name in ("a", "b", "c"):
        beside.tried(name, refused=False)
    found = [beside.load("engine", name)[1] for name in ("a", "c", "d")]
    assert found == [0.0, schedule.UNKNOWN_S, schedule.UNKNOWN_S]


def test_chats_with_an_adapter_are_offered_to_the_local_engine_only(tmp_path):
    async def main() -> list[StepRecord]:
        own, beside = pools = two()
        await served(own, [0.1] * 3)  # now others would be tried beside it
        assert chosen(Dispatcher(pools)) == "server"
        here = Here.opened(2)
        runner = StepRunner(journal, Dispatcher(pools), time.monotonic)
        resources = Resources(runner=runner, here=here, model="m", clock=time.monotonic)
        asked = [{"role": "user", "content": "?"}]
        try:
            await Context(resources, Scope(task()), tmp_path).chat(asked, adapter="a.gguf")
        finally:
            await here.close()
        with pytest.raises(InputError, match="with an adapter"):
            Dispatcher([beside]).choose(replace(CALL, adapter=True), task())
        return list(journal.steps())

    journal = SqliteJournal(tmp_path)
    try:
        (record,) = asyncio.run(main())
    finally:
        journal.close()
    assert (record.pool, record.outcome) == ("own", "ok")
    assert record.cores == 1  # of two: a server beside it gives it no more threads


def test_a_servers_seconds_are_divided_among_the_steps_that_it_has(tmp_path):
    offer = catalog.load().offer("aws/m8g.2xlarge")
    given = Pool(name="server", engine="openai", endpoint=HERE, model="m", concurrency=32)
    now_s, there = [0.0], list[str]()

    async def alone(_of: RunningPool, _usage: Usage) -> str:
        now_s[0] += 10.0
        return ""

    async def main() -> None:
        both = asyncio.Event()

        async def beside(of: RunningPool, _usage: Usage) -> str:
            there.append(of.name)
            if len(there) == 2:
                now_s[0] += 8.0
                both.set()
            await both.wait()
            return ""

        runner = StepRunner(journal, Dispatcher([pool]), time.monotonic)
        await runner.run(Scope(task()), CALL, alone, str)
        await asyncio.gather(*(runner.run(Scope(task(n)), CALL, beside, str) for n in (1, 2)))

    pool = _open_server(given, 8, offer)
    pool.seconds = SharedCpu(lambda: now_s[0])
    journal = SqliteJournal(tmp_path)
    try:
        asyncio.run(main())
        records = list(journal.steps())
    finally:
        journal.close()
    seconds, watts = pytest.approx([10.0, 4.0, 4.0]), pool.watts
    assert watts is not None
    assert [record.cost_usd / pool.usd_per_s for record in records] == seconds  # type: ignore[operator]
    assert [record.energy_j / watts for record in records] == seconds  # type: ignore[operator]


def test_the_power_of_a_step_is_its_share_of_what_is_there():
    pools = two()
    known = Known(pools, Policy())
    assert known.watts_a_slot("engine").tolist() == [100.0, 100.0]
    for pool in pools:
        pool.beside = ()
    assert known.watts_a_slot("engine").tolist() == [100.0 / 8, 100.0 / 32]


def test_who_waits_for_a_turn_is_estimated_with_all_slots():
    async def scenario() -> float:
        pools = two()
        own, beside = (pool.gates["engine"] for pool in pools)
        own.mean_s, beside.mean_s = 2.0, 10.0
        await own.enter(task())
        waiting = [asyncio.create_task(beside.enter(task(n))) for n in range(3)]
        await asyncio.sleep(0)
        found = pools[1].load("engine", "chat")[2]
        own.leave()
        await asyncio.gather(*waiting)
        return found

    assert asyncio.run(scenario()) == 2.0
