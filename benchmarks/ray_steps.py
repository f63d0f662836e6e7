"""What Ray costs: no-op steps a second, throughput beside the local executor, and joining.

A cluster of processes of this machine, each node with one core; the journal is SQLite's, and
PostgreSQL's where there can be a server.

Throughput is that of agents whose steps compute, in worker processes that are there already, and of
the bundled agent `support` with its model, which one node with all cores serves. Turns of the local
executor and of Ray with as many cores follow each other, in one order and then in the other, and
the ratio is taken of the two that are next to each other, so that a machine which is now and then
busy counts for both. Core-seconds are those of all processes: this one, the workers, and Ray's.

    python benchmarks/ray_steps.py                  all parts
    python benchmarks/ray_steps.py steps            one part: steps, agents, engine, join
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from executor_jobs import add, add_later, spin
from polysilicon import Context, catalog
from polysilicon.catalog.fleet import OwnPrice, Pool
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.runtime.cluster.cluster import Cluster
from polysilicon.runtime.cluster.machines import Machines
from polysilicon.runtime.cluster.opening import open_pool
from polysilicon.runtime.cluster.wire import message_of
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.here import Here
from polysilicon.runtime.jobs import Call
from polysilicon.runtime.journals import open_journal
from polysilicon.runtime.loader import load_agent, sample_inputs
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.scope import Scope, TaskState
from polysilicon.runtime.steps import StepRunner
from polysilicon.workload.run_folder import RunFolder
from postgres_server import Server
from postgres_server import missing as no_postgres
from ray_nodes import Nodes

OFFER, WHOLE = "lab/box", "lab/whole"
NODES = 4
STEPS, AT_ONCE = 8000, 400
AGENT_TASKS, AGENT_STEPS, AGENT_STEP_S = 12, 6, 0.1
REPEATS, TURNS, ENGINE_TURNS = 3, 8, 4
ENGINE_TASKS = 6


def pool(units: int) -> Pool:
    """Return a pool of tools on so many machines."""
    price = OwnPrice(usd_per_hour=1.0)
    return Pool(name="box", offer=OFFER, units=units, serves=("tool:*",), price=price)


async def many(running: RunningPool, cores: int, address: str | None) -> float:
    """Run STEPS steps that do nothing, journaled, AT_ONCE tasks at once; return steps a second."""
    with tempfile.TemporaryDirectory() as name:
        journal = open_journal(Path(name), address)
        runner = StepRunner(journal, Dispatcher([running]), time.perf_counter)
        resources = Resources(runner, Here.opened(cores), "m", time.perf_counter)

        async def task(number: int) -> None:
            state = TaskState(f"t{number}", "bench", 0.0, random.Random(number))
            context = Context(resources, Scope(state), Path(name))
            for index in range(STEPS // AT_ONCE):
                assert await context.call(add_later, index) == index

        await asyncio.gather(*(task(-n) for n in range(cores)))  # what is compiled first
        begin_s = time.perf_counter()
        await asyncio.gather(*(task(n) for n in range(AT_ONCE)))
        wall_s = time.perf_counter() - begin_s
        journal.close()
        return STEPS / wall_s


def steps(nodes: Nodes) -> None:
    """Print how many steps that do nothing run a second."""
    cluster = Cluster(nodes.address, [pool(NODES)], NODES)

    async def measured() -> None:
        running, _ = await opened(cluster, NODES, NODES)
        here = RunningPool(Pool(name="local"), None, NODES, lambda c, _s: (c, None), 1.0)
        found: dict[str, list[float]] = {}
        with _postgres() as address:
            for _ in range(REPEATS):
                for where, one in (("here", here), ("Ray", running)):
                    for journal in (None, address) if address else (None,):
                        label = f"{where}, {'PostgreSQL' if journal else 'SQLite'}"
                        rate = await many(one, NODES, journal)
                        found.setdefault(label, []).append(rate)
        for label, rates in found.items():
            print(f"no-op steps/s, {label}: {np.median(rates):,.0f} (of {REPEATS})")
        await running.close()

    asyncio.run(measured())
    cluster.close()


class _postgres:  # noqa: N801 - used as a function
    """A server's address, or None and the reason."""

    def __enter__(self) -> str | None:
        reason = no_postgres()
        self._server = None if reason else Server().__enter__()
        if self._server is None:
            print(reason)
            return None
        return self._server.address()

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.__exit__()


async def opened(cluster: Cluster, units: int, machines: int) -> tuple[RunningPool, Machines]:
    """Open a pool of so many machines, and wait for some of them."""
    running = await open_pool(cluster, pool(units), local_offer(catalog.load(), detect()))
    assert isinstance(running.executor, Machines)
    await members(running.executor, machines)
    return running, running.executor


async def members(executor: Machines, count: int) -> None:
    """Wait until so many machines serve."""
    while len(executor.members) < count:  # noqa: ASYNC110 - it tells its pool alone
        await asyncio.sleep(0.02)


async def work(ctx: Context, value: dict[str, Any]) -> int:
    """Take steps that compute, three at once."""

    async def one(within: Context, _number: int) -> int:
        return int(await within.call(spin, value["seconds"]))

    return len(await ctx.map(one, range(value["steps"]), limit=3))


async def agents_once(running: RunningPool, here: Here) -> tuple[float, float]:
    """Run the tasks of `work`; return seconds, and core-seconds of all processes."""
    with tempfile.TemporaryDirectory() as name:
        journal = open_journal(Path(name))
        runner = StepRunner(journal, Dispatcher([running]), time.perf_counter)
        resources = Resources(runner, here, "m", time.perf_counter)
        value = {"steps": AGENT_STEPS, "seconds": AGENT_STEP_S}

        async def task(number: int) -> None:
            state = TaskState(f"t{number}", "bench", 0.0, random.Random(number))
            context = Context(resources, Scope(state), Path(name))
            assert await work(context, value) == AGENT_STEPS

        begin_s, cpu_begin_s = time.perf_counter(), core_seconds()
        await asyncio.gather(*(task(n) for n in range(AGENT_TASKS)))
        found = time.perf_counter() - begin_s, core_seconds() - cpu_begin_s
        journal.close()
        return found


def core_seconds() -> float:
    """Return core-seconds of this process and of all that it has started, up to now."""
    me, total = psutil.Process(), 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # children that have ended among them
    return total


def agents(nodes: Nodes) -> None:
    """Print tasks a minute on Ray, beside the local executor with as many cores."""
    cores = detect().cores
    cluster = Cluster(nodes.address, [pool(cores)], cores)
    seconds: dict[str, list[float]] = {"here": [], "Ray": []}
    used: dict[str, list[float]] = {"here": [], "Ray": []}

    async def measured() -> None:
        on_ray, _ = await opened(cluster, cores, cores)
        local = RunningPool(Pool(name="local"), None, cores, lambda c, _s: (c, None), 1.0)
        here = Here.opened(cores)
        pools = {"here": local, "Ray": on_ray}
        for turn in range(-1, TURNS):
            for where in ("here", "Ray") if turn % 2 else ("Ray", "here"):
                wall_s, cpu_s = await agents_once(pools[where], here)
                if turn >= 0:  # the first one starts the workers
                    seconds[where].append(wall_s)
                    used[where].append(cpu_s)
        await here.close()
        await on_ray.close()

    asyncio.run(measured())
    cluster.close()
    work_s = AGENT_TASKS * AGENT_STEPS * AGENT_STEP_S
    print(_beside("agents that compute", AGENT_TASKS, seconds))
    for where, found in used.items():
        print(f"  {where}: {np.median(found):.2f} core-seconds for {work_s:g} of work")


def _beside(what: str, tasks: int, seconds: dict[str, list[float]]) -> str:
    ratios = np.array(seconds["here"]) / np.array(seconds["Ray"])
    low, high = np.quantile(ratios, [0.25, 0.75])
    return (f"{what}, tasks/min: {tasks * 60 / np.median(seconds['here']):,.0f} here and "
            f"{tasks * 60 / np.median(seconds['Ray']):,.0f} on Ray; ratio {np.median(ratios):.3f} "
            f"(median of {len(ratios)}; quartiles {low:.3f} and {high:.3f})")  # fmt: skip


def engine(nodes: Nodes) -> None:
    """Print tasks a minute of `support`, with its model on one node, beside the local executor."""
    cores = detect().cores
    whole = nodes.add(WHOLE, cores)
    seconds: dict[str, list[float]] = {"here": [], "Ray": []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        given: dict[str, dict[str, Any]] = {
            "here": {"fleet": fleet(root, "local")},
            "Ray": {"fleet": fleet(root, WHOLE), "ray": nodes.address},
        }
        for turn in range(ENGINE_TURNS):
            for where in ("here", "Ray") if turn % 2 else ("Ray", "here"):
                done = supported(root / f"{where}{turn}", given[where])
                found = list(done.workload().steps())
                span_s = max(step.end_s for step in found) - min(step.start_s for step in found)
                seconds[where].append(span_s)
    nodes.kill(whole)
    print(_beside("support with its model", ENGINE_TASKS, seconds))


def supported(folder: Path, options: dict[str, Any]) -> RunFolder:
    """Run tasks of `support` to their end."""
    folder.mkdir(parents=True)
    agent = load_agent("support")
    job = Job(agent=agent, given_as="support", inputs=sample_inputs(agent)[:ENGINE_TASKS])
    done = asyncio.run(Run(folder, [job], RunOptions(**options)).execute())
    assert all(task.ok for task in done.tasks())
    return done


def fleet(folder: Path, offer: str) -> str:
    """Write a fleet file with everything on one machine of an offer."""
    price = "price = { usd_per_hour = 1.0 }\n" if offer != "local" else ""
    path = folder / f"{offer.replace('/', '-')}.toml"
    path.write_text(f'[[pool]]\nname = "box"\noffer = "{offer}"\nserves = ["*"]\n{price}')
    return str(path)


def join(nodes: Nodes) -> None:
    """Print how long it takes from a node's start to its first step."""
    cluster = Cluster(nodes.address, [pool(NODES)], NODES)

    async def measured() -> None:
        running, executor = await opened(cluster, NODES + REPEATS, NODES)
        times_s = []
        for turn in range(REPEATS):
            begin_s = time.monotonic()
            nodes.add(OFFER)
            started_s = time.monotonic() - begin_s
            await members(executor, NODES + turn + 1)
            message = message_of(executor.number(), Call(add, (1,), {}, 30.0), front=False)
            await executor.members[-1].ask(message, "cpu")
            times_s.append(f"{time.monotonic() - begin_s:.1f} ({started_s:.1f} to start Ray)")
        print(f"from a node's start to its first step, s: {', '.join(times_s)}")
        await running.close()

    asyncio.run(measured())
    cluster.close()


PARTS = {"steps": steps, "agents": agents, "engine": engine, "join": join}


def main() -> None:
    """Measure what was asked for, or all."""
    with Nodes() as nodes:
        for _ in range(NODES):
            nodes.add(OFFER)
        for name, part in PARTS.items():
            if name in sys.argv[1:] or not sys.argv[1:]:
                part(nodes)


if __name__ == "__main__":
    main()
