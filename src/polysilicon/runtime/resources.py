"""What the contexts of a run share: steps, and what does their jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from polysilicon.runtime.here import Here
from polysilicon.runtime.jobs import Executor
from polysilicon.runtime.meter import TOLD
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import Usage
from polysilicon.runtime.steps import StepRunner


@dataclass(slots=True)
class Resources:
    """What the contexts of a run share.

    Attributes:
        runner: does the steps.
        here: the executor of this machine.
        model: of steps that name none.
        clock: seconds of the run.
    """

    runner: StepRunner
    here: Here
    model: str
    clock: Callable[[], float]

    def executor(self, pool: RunningPool) -> Executor:
        """Return what does the jobs of a pool: this machine, unless the pool has its own."""
        return pool.executor or self.here

    @asynccontextmanager
    async def engine_cpu(
        self, pool: RunningPool, usage: Usage, *, front: bool = False
    ) -> AsyncIterator[None]:
        """Meter the core-seconds of an engine: of one in this process, or as another tells them.

        Tools that nobody waits for stand back from one here where `front`, as from tools.
        """
        if not pool.in_process:
            told = TOLD.set(usage)
            try:
                yield
            finally:
                TOLD.reset(told)
            return
        mark_s = self.here.cpu.begin()
        try:
            with self.here.ahead(front=front):
                yield
        finally:
            usage.cpu_s = (usage.cpu_s or 0.0) + self.here.cpu.end(mark_s)
            usage.cores = pool.cores.threads
