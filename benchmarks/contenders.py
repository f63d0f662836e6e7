"""Who runs the tasks of `agents.py`: this runtime, or a pool of processes on the same engine."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plain
from open_load import Load
from polysilicon.catalog.policy import Policy
from polysilicon.runtime import assets
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.engines.native.choice import chosen
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.lengths import lengths_path
from polysilicon.runtime.loader import load_agent, sample_inputs
from polysilicon.runtime.machine import cores
from polysilicon.runtime.models import DEFAULT_MODEL
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.setup import AgentSetup

SLOTS = 8
"""Of the engine, for whoever asks it."""

BEFORE = 16
"""Tasks that ran here before those that are measured, where these are to be known."""

Task = tuple[str, dict[str, Any]]
"""How an agent is named, and an input of it."""


def tasks_of(agents: Sequence[str], count: int) -> list[Task]:
    """Return tasks, the agents taking turns, each over its own inputs again and again."""
    inputs = {given: list(sample_inputs(load_agent(given))) for given in agents}
    return [
        (given, inputs[given][n // len(agents) % len(inputs[given])])
        for n, given in zip(range(count), list(agents) * count, strict=False)
    ]


class Ran(NamedTuple):
    """Seconds from the arrival of each task to its end; its core-seconds, empty where unknown."""

    each_s: list[float]
    core_s: list[float]


def ours(
    tasks: Sequence[Task], gaps_s: Sequence[float] | None = None, *, known: bool = True
) -> Ran:
    """Run tasks in this runtime.

    Args:
        tasks: what is run; with gaps, all of one agent.
        gaps_s: from one arrival to the next; None where all are there at t = 0.
        known: tasks of these agents ran here before, so that it is known whose are short.
    """
    if not known:
        lengths_path().unlink(missing_ok=True)
    elif not lengths_path().exists():
        ours(tasks_of(list(dict.fromkeys(given for given, _ in tasks)), BEFORE), known=False)
    with tempfile.TemporaryDirectory() as folder:
        if gaps_s is not None:
            return Ran(asyncio.run(_arriving(Path(folder), tasks, gaps_s)), [])
        by_agent: dict[str, list[dict[str, Any]]] = {}
        for given, value in tasks:
            by_agent.setdefault(given, []).append(value)
        jobs = [
            Job(agent=load_agent(given), given_as=given, inputs=values)
            for given, values in by_agent.items()
        ]
        run = asyncio.run(Run(Path(folder), jobs, RunOptions()).execute())
        done, core_s = run.tasks(), defaultdict[str, float](float)
        for step in run.workload().steps():
            core_s[step.task_id] += step.cpu_s or 0.0
    assert all(task.ok for task in done), next(task.error for task in done if not task.ok)
    return Ran(
        [task.end_s - task.arrival_s for task in done], [core_s[task.task_id] for task in done]
    )


async def _arriving(folder: Path, tasks: Sequence[Task], gaps_s: Sequence[float]) -> list[float]:
    agent = load_agent(tasks[0][0])
    async with Load(folder, [agent], Policy()) as load:
        return await load.arriving(agent, [value for _, value in tasks], gaps_s)


class Pool:
    """Processes that each run one task after the other.

    Args:
        agents: that tasks may be of.
        processes: how many.
    """

    def __init__(self, agents: Sequence[str], processes: int) -> None:
        path = assets.fetch(DEFAULT_MODEL)
        self._llama = LlamaCpp(path, concurrency=SLOTS, setup=chosen(path, cores()).setup)
        self._engine = plain.Engine(self._llama.address, self._llama.key, DEFAULT_MODEL)
        self._scratch = tempfile.TemporaryDirectory()
        self._folder = Path(self._scratch.name)
        asyncio.run(self._prepared(agents))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["plain", "search_agent", "polysilicon.runtime.context"])
        self._workers = context.Pool(processes, plain.warm, (list(agents),))
        self._workers.map(time.sleep, [0.2] * processes, chunksize=1)  # not before all are there

    async def _prepared(self, agents: Sequence[str]) -> None:
        workers = Workers(cores())
        for given in agents:
            agent = load_agent(given)
            folder = self._folder / "agents" / agent.name
            folder.mkdir(parents=True)
            if agent.prepare is not None:
                await agent.prepare(AgentSetup(folder, workers))
        await workers.close()

    def run(self, tasks: Sequence[Task], gaps_s: Sequence[float] | None = None) -> list[float]:
        """Run tasks; seconds from the arrival of each to its end. Then end the pool."""
        begin_s, asked = time.monotonic(), []
        at_s = begin_s
        for number, (given, value) in enumerate(tasks):
            if gaps_s is not None:
                at_s += gaps_s[number]
                time.sleep(max(0.0, at_s - time.monotonic()))
            arguments = (given, self._engine, self._folder, f"t{number}", value)
            asked.append((at_s, self._workers.apply_async(plain.task, arguments)))
        try:
            return [result.get() - arrival_s for arrival_s, result in asked]
        finally:
            self._workers.terminate()
            self._workers.join()
            asyncio.run(self._llama.close())
            self._scratch.cleanup()
