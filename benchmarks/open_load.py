"""Tasks that arrive one by one, on this machine: shared by `agents.py` and `mixed.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from polysilicon import Agent
from polysilicon.catalog.policy import Policy
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.journal import PendingTask
from polysilicon.runtime.journals import open_journal
from polysilicon.runtime.lengths import kept_lengths, lengths_path
from polysilicon.runtime.machine import cores, open_machine
from polysilicon.runtime.steps import StepRunner
from polysilicon.runtime.tasks import TaskRunner


class Load:
    """Runs tasks as they come, journaled, scheduled and metered as those of any run.

    Args:
        folder: for the journal, and what the agents prepare.
        agents: that tasks may be of.
        policy: what is wanted.
    """

    def __init__(self, folder: Path, agents: Sequence[Agent], policy: Policy) -> None:
        self._folder, self._agents, self._policy = folder, agents, policy
        self._number = 0
        self.cores = cores()

    async def __aenter__(self) -> Self:
        self._machine = await open_machine(None, None, agents=self._agents)
        self._journal = open_journal(self._folder, None)
        begin_s = time.monotonic()
        self._clock = lambda: time.monotonic() - begin_s
        runner = StepRunner(
            self._journal, Dispatcher(self._machine.pools, self._policy), self._clock
        )
        resources = self._machine.resources(runner, self._clock)
        self._tasks = TaskRunner(
            self._journal, resources, self._folder, 3600.0, lengths=kept_lengths(lengths_path())
        )
        for agent in self._agents:
            await self._tasks.prepare(agent)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._machine.close()
        self._journal.close()

    async def task(self, agent: Agent, value: dict[str, Any]) -> float:
        """Run a task that arrives now; return for how long it was there."""
        self._number += 1
        given = PendingTask(task_id=f"{agent.name}-{self._number}", agent=agent.name, input=value)
        self._journal.accept([given])
        arrival_s = self._clock()
        record = await self._tasks.run(agent, given, arrival_s)
        assert record.ok, record.error
        return self._clock() - arrival_s

    async def arriving(
        self, agent: Agent, values: Iterable[dict[str, Any]], gaps_s: Iterable[float]
    ) -> list[float]:
        """Run tasks, each a gap after the one before; return for how long each was there."""
        under_way = []
        at_s = time.monotonic()
        for value, gap_s in zip(values, gaps_s, strict=True):
            at_s += gap_s
            await asyncio.sleep(at_s - time.monotonic())
            under_way.append(asyncio.create_task(self.task(agent, value)))
        return await asyncio.gather(*under_way)
