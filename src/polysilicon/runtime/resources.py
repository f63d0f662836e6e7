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
from polysilicon.runtime.scope import Usage
from polysilicon.runtime.search import Index, open_index
from polysilicon.runtime.steps import StepRunner
from polysilicon.runtime.types import Sandbox


@dataclass(slots=True)
class Resources:
    """What the contexts of a run share; `indexes` of an agent lie in its folder."""

    runner: StepRunner
    workers: Workers
    cpu: SharedCpu
    model: str
    cores: int
    clock: Callable[[], float]
    sandboxes: dict[str, Sandbox]
    indexes: dict[Path, Index]

    def sandbox(self, name: str) -> Sandbox:
        """Return the sandbox `name`, opened at its first use."""
        if name not in self.sandboxes:
            self.sandboxes[name] = open_sandbox(name, self.cores)
        return self.sandboxes[name]

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
