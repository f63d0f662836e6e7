"""What Ray costs: no-op steps a second, throughput beside the local executor, joins, and kills.

A cluster of processes of this machine, each node with one core; the journal is SQLite's, and
PostgreSQL's where there can be a server. Any broken promise ends the benchmark.

    python benchmarks/ray_steps.py               all parts, 20 kills
    python benchmarks/ray_steps.py steps         one part: steps, agents, join, kills
    python benchmarks/ray_steps.py kills 200     so many kills
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from executor_jobs import add, add_later, notes, spin
from polysilicon import Agent, Context, catalog
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
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.scope import Scope, TaskState
from polysilicon.runtime.steps import StepRunner
from polysilicon.workload.run_folder import RunFolder
from postgres_server import Server
from postgres_server import missing as no_postgres
from ray_nodes import Nodes

OFFER = "lab/box"
NODES = 4
STEPS, AT_ONCE = 8000, 400
AGENT_TASKS, AGENT_STEPS, AGENT_STEP_S = 12, 6, 0.1
REPEATS = 3
KILLS = 20


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


def run(folder: Path, agent: Any, inputs: list[dict[str, Any]], **options: Any) -> RunFolder:
    """Run an agent to its end."""
    folder.mkdir(parents=True)
    job = Job(agent=Agent(name=agent.__name__, run=agent), given_as="-", inputs=inputs)
    return asyncio.run(Run(folder, [job], RunOptions(**options)).execute())


def fleet(folder: Path, offer: str, units: int) -> str:
    """Write a fleet file with tools on an offer."""
    price = "price = { usd_per_hour = 1.0 }\n" if offer != "local" else ""
    path = folder / f"{offer.replace('/', '-')}.toml"
    path.write_text(f'[[pool]]\nname = "box"\noffer = "{offer}"\nunits = {units}\n'
                    f'serves = ["tool:*"]\n{price}')  # fmt: skip
    return str(path)


def agents(nodes: Nodes) -> None:
    """Print tasks a minute on Ray, beside the local executor with as many cores."""
    cores = detect().cores
    ratios, rates = [], []
    inputs = [{"steps": AGENT_STEPS, "seconds": AGENT_STEP_S} for _ in range(AGENT_TASKS)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for turn in range(REPEATS):
            seconds = []
            for offer, units, more in (("local", 1, {}), (OFFER, cores, {"ray": nodes.address})):
                told = fleet(root, offer, units)
                done = run(root / f"{turn}{units}{len(more)}", work, inputs, fleet=told, **more)
                steps = list(done.workload().steps())
                assert len(steps) == AGENT_TASKS * AGENT_STEPS
                seconds.append(max(s.end_s for s in steps) - min(s.start_s for s in steps))
            ratios.append(seconds[0] / seconds[1])
            rates.append(AGENT_TASKS * 60 / seconds[1])
    print(f"agents, tasks/min on Ray: {np.median(rates):,.0f}; "
          f"{np.median(ratios):.3f} x the local executor's, {cores} cores each")  # fmt: skip


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


def kills(nodes: Nodes, machines: list[Any], wanted: int) -> None:
    """Kill nodes of a run, one after the other, and check that it keeps its promises."""
    rng = random.Random(wanted)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        path = root / "notes"
        path.touch()
        killed = 0

        def lines() -> int:
            return path.read_text().count("\n")

        def break_it() -> None:
            nonlocal killed
            try:
                while killed < wanted:
                    before = lines()
                    while lines() < before + 10:
                        time.sleep(0.02)
                    time.sleep(rng.uniform(0.0, 0.3))
                    nodes.kill(machines.pop(rng.randrange(len(machines))))
                    killed += 1
                    machines.append(nodes.add(OFFER))
                    print(f"{killed} of {wanted} nodes killed", file=sys.stderr, flush=True)
            finally:
                Path(f"{path}.stop").touch()

        breaking = threading.Thread(target=break_it)
        breaking.start()
        begin_s = time.monotonic()
        inputs = [{"path": str(path), "seconds": 0.05} for _ in range(2 * NODES)]
        told = fleet(root, OFFER, NODES)
        done = run(root / "run", notes, inputs, fleet=told, ray=nodes.address, task_timeout_s=1e5)
        breaking.join()
        again = checked(done, path)
        wall_s = time.monotonic() - begin_s
    print(f"{killed} nodes killed in {wall_s:.0f} s: {len(inputs)} tasks accepted and finished, "
          f"no finished step again; {again} steps that were cut off were tried again")  # fmt: skip


def checked(done: RunFolder, path: Path) -> int:
    """Check a run of `notes`; return how many steps were begun more than once."""
    tasks = {task.task_id: task for task in done.tasks()}
    assert len(tasks) == 2 * NODES
    assert all(task.ok for task in tasks.values()), [t.error for t in tasks.values()]
    steps = list(done.workload().steps())
    wanted = {f"{t.task_id}:{number}" for t in tasks.values() for number in range(t.output)}
    assert len(steps) == len({(s.task_id, s.step_id) for s in steps}) == len(wanted)
    assert all(step.outcome == "ok" for step in steps)
    begun = [line.split() for line in path.read_text().splitlines()]
    last: Counter[str] = Counter()
    for label, _, _ in begun:  # a task's steps follow each other, so that none may come back
        task, _, number = label.partition(":")
        assert int(number) >= last[task], f"{label} began again after it had ended"
        last[task] = int(number)
    assert {label for label, _, _ in begun} == wanted
    assert len({(label, key) for label, _, key in begun}) == len(wanted)
    return len(begun) - len(wanted)


def main() -> None:
    """Measure what was asked for, or all."""
    words = [word for word in sys.argv[1:] if not word.isdigit()]
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), KILLS)
    with Nodes() as nodes:
        machines = [nodes.add(OFFER) for _ in range(NODES)]
        for name, part in (("steps", steps), ("agents", agents)):
            if not words or name in words:
                part(nodes)
        if not words or "kills" in words:
            kills(nodes, machines, count)
        if not words or "join" in words:
            join(nodes)


if __name__ == "__main__":
    main()
