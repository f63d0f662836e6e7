"""Engines on the cores of one machine: they take turns, and tools have what they leave."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from engines_beside import HERE, local, price, server, task, two
from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.policy import Policy
from polysilicon.runtime.known import Known
from polysilicon.runtime.machine import Machine, reopened
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.turns import Turns


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
    monkeypatch.setattr("polysilicon.runtime.turns.TURN_S", 0.0)

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


def test_three_have_their_turns_one_after_the_other(monkeypatch):
    monkeypatch.setattr("polysilicon.runtime.turns.TURN_S", 0.0)

    async def scenario() -> list[int]:
        pools = [local(), server("a"), server("b")]
        Turns().share(pools)
        gates, taken = [pool.gates["engine"] for pool in pools], []
        steps = [asyncio.create_task(gate.enter(task())) for _ in range(3) for gate in gates]
        for _ in steps:
            await asyncio.sleep(0)
            (computes,) = [at for at, gate in enumerate(gates) if gate.running]
            taken.append(computes)
            gates[computes].leave()
        return taken

    assert asyncio.run(scenario()) == [0, 1, 2] * 3


def machine(*pools: RunningPool) -> Machine:
    async def close() -> None:
        pass

    here: Any = SimpleNamespace(close=close, cores=2)
    return Machine(pools=list(pools), here=here, model="m", priced_as="")


def test_a_server_that_leaves_the_fleet_has_turns_until_its_last_step_has_ended(monkeypatch):
    monkeypatch.setattr("polysilicon.runtime.machine._LOOK_S", 0.0)

    async def scenario() -> list[list[bool]]:
        pools = own, old, new = local(), server("old"), server("new")
        gates = [pool.gates["engine"] for pool in pools]
        works = machine(own, old)
        await gates[0].enter(task())
        steps = [asyncio.create_task(gates[1].enter(task()))]
        await asyncio.sleep(0)
        works.take([own, new])
        steps.append(asyncio.create_task(gates[2].enter(task())))
        found = []
        for gate in gates:
            await asyncio.sleep(0)
            found.append([step.done() for step in steps])
            gate.leave()
        async with asyncio.timeout(60):
            await works.close()
        return [*found, [pool.engine.closed for pool in pools]]

    assert asyncio.run(scenario()) == [
        [False, False], [True, False], [True, True], [True, True, True],
    ]  # fmt: skip


def test_an_engine_that_is_alone_again_asks_for_no_turn():
    async def scenario() -> tuple[bool, bool]:
        own, beside = two()
        works = machine(own, beside)
        before = own.gates["engine"].turn()
        await beside.gates["engine"].enter(task())
        while_it_computes = own.gates["engine"].turn()
        beside.gates["engine"].leave()
        works.take([own])
        await works.close()
        beside.gates["engine"].running = 1
        return before and own.gates["engine"].turn(), while_it_computes

    assert asyncio.run(scenario()) == (True, False)


def test_a_reload_that_is_not_taken_leaves_the_fleet_as_it_was(tmp_path):
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(
        '[[pool]]\nname = "own"\nconcurrency = 8\n[[pool]]\nname = "other"\nengine = "openai"\n'
        f'endpoint = "{HERE}"\nmodel = "m"\nserves = ["llm:m"]\n'
    )

    async def scenario() -> None:
        own, beside = local(), server()
        works = machine(own, beside)
        opened = await reopened(works, fleet)
        assert [pool.name for pool in opened] == ["own", "other"]
        assert opened[0] is own
        assert (own.beside, beside.beside) == ((beside,), (own,))
        Known(opened, Policy())  # of a pool that is not in this fleet it wants no news
        works.take(opened)
        assert own.beside == (opened[1],)
        await works.close()
        assert beside.engine.closed  # type: ignore[union-attr]

    asyncio.run(scenario())


def test_tools_have_what_the_engine_that_computes_leaves():
    async def scenario() -> list[int]:
        own, beside = two(cores=4)
        found = []
        for gate in (own.gates["engine"], beside.gates["engine"]):
            await gate.enter(task())
            found.append(own.gates["cpu"].limit)
            gate.leave()
            found.append(own.gates["cpu"].limit)
        return found

    assert asyncio.run(scenario()) == [3, 4, 2, 4]


def test_tools_are_quick_beside_a_server_alone():
    tools = RunningPool(Pool(name="own", serves=("tool:*",)), None, 2, price, 1.0)
    assert not tools.cores.may_be_quick("agent", "tool")
    Turns().share([tools, server()])
    assert tools.cores.may_be_quick("agent", "tool")


def test_a_server_that_leaves_the_fleet_leaves_its_cores():
    own, beside = two()
    assert (own.cores.servers, own.beside) == (1, (beside,))
    Turns().share([own])
    assert (own.cores.servers, own.beside) == (0, ())
    elsewhere = Pool(name="far", engine="openai", endpoint="http://10.0.0.9:8000/v1", model="m")
    assert not elsewhere.is_here
