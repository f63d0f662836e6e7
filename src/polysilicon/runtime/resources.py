"""What the contexts of a run share: steps, workers, sandboxes, indexes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from polysilicon.errors import InputError, nearest
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.meter import SharedCpu
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.sandboxes import open_sandbox
from polysilicon.runtime.scope import TaskState, Usage
from polysilicon.runtime.search import Index, open_index
from polysilicon.runtime.steps import StepRunner
from polysilicon.runtime.types import Sandbox


@dataclass(slots=True)
class Resources:
    """What the contexts of a run share; `indexes` of an agent lie in its folder.

    Tools of tasks that somebody waits for have workers and sandboxes of their own, which start when
    first used and do not yield: those of the others may all be taken.
    """

    runner: StepRunner
    workers: Workers
    front: Workers
    cpu: SharedCpu
    model: str
    cores: int
    clock: Callable[[], float]
    sandboxes: dict[tuple[str, bool], Sandbox]
    indexes: dict[Path, Index]

    def sandbox(self, name: str, *, front: bool = False) -> Sandbox:
        """Return the sandbox `name`, opened at its first use; `front` for whom somebody waits."""
        key = name, front
        if key not in self.sandboxes:
            self.sandboxes[key] = open_sandbox(name, self.cores, yields=not front)
        return self.sandboxes[key]

    def workers_for(self, task: TaskState) -> Workers:
        """Return the worker processes for a task's functions."""
        return self.front if task.waited_for else self.workers

    @asynccontextmanager
    async def engine_cpu(self, pool: RunningPool, usage: Usage) -> AsyncIterator[None]:
        """Meter the core-seconds of an engine that computes in this process, and of no other."""
        if not pool.in_process:
            yield
            return
        mark_s = self.cpu.begin()
        try:
            yield
        finally:
            usage.cpu_s = (usage.cpu_s or 0.0) + self.cpu.end(mark_s)
            usage.cores = self.cores

    def index(self, folder: Path) -> Index:
        """Return the index in `folder`, opened at its first use."""
        if folder not in self.indexes:
            if not folder.is_dir():
                known = [path.name for path in folder.parent.glob("*")]
                raise InputError(
                    f"there is no index {folder.name!r}", mend=nearest(folder.name, known)
                )
            self.indexes[folder] = open_index(folder)
        return self.indexes[folder]
