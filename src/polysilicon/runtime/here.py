"""The executor of this machine: worker processes, sandboxes, threads, open indexes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.errors import InputError, ToolError, nearest
from polysilicon.runtime.engines.lexical import embed as embed_words
from polysilicon.runtime.executor import Workers, importable_name, packed
from polysilicon.runtime.jobs import Await, Call, Code, Done, Job, Search, Words
from polysilicon.runtime.keepers import Keepers
from polysilicon.runtime.meter import SharedCpu
from polysilicon.runtime.priority import StandingBack
from polysilicon.runtime.sandboxes import open_sandbox
from polysilicon.runtime.search import Index, open_index
from polysilicon.runtime.types import EmbedResult, Sandbox


@dataclass(slots=True)
class Here:
    """The executor `local`.

    Jobs that somebody waits for, and quick ones, have workers and sandboxes of their own, which do
    not yield: those of the others may all be taken.

    Attributes:
        cores: of this machine, hence jobs that compute at once.
        cpu: divides this process's core-seconds among the steps of its engine.
        workers: for functions that nobody waits for.
        front: for the others.
        keepers: for those functions that nobody waits for and that keep what they loaded.
        sandboxes: those that were used, by name and whether somebody waits.
        indexes: those that were searched.
    """

    cores: int
    cpu: SharedCpu
    workers: Workers
    front: Workers
    keepers: Keepers
    sandboxes: dict[tuple[str, bool], Sandbox] = field(default_factory=dict)
    indexes: dict[Path, Index] = field(default_factory=dict)
    _others: StandingBack = field(init=False)

    def __post_init__(self) -> None:
        self._others = StandingBack(self._in_the_back)

    @classmethod
    def opened(cls, cores: int, modules: Sequence[str] = ()) -> Here:
        """Return one whose processes start when first used; its workers import modules then."""
        front = Workers(cores, yields=False, modules=modules)
        workers, keepers = Workers(cores, modules=modules), Keepers(modules)
        return cls(cores, SharedCpu(), workers, front, keepers)

    async def run(self, job: Job, *, front: bool = False, quick: bool = False) -> Done:
        """Do a job; see `Executor.run`. Those that nobody waits for stand back where `front`.

        A `quick` one does not yield either, but nothing stands back for it.
        """
        if isinstance(job, Await):
            return await _awaited(job)
        if isinstance(job, Call):
            module, name = importable_name(job.fn)
            what = (module, name, packed(job.args, job.kwargs), job.timeout_s)
            return await self.named(*what, front=front, quick=quick, keeps=job.keeps)
        with self.ahead(front=front):
            return await self._computed(job, front=front or quick)

    def ahead(self, *, front: bool) -> AbstractContextManager[None]:
        """Let those that nobody waits for stand back meanwhile, where somebody does."""
        return self._others.while_this_runs() if front else nullcontext()

    async def named(
        self,
        module: str,
        name: str,
        arguments: bytes,
        timeout_s: float,
        *,
        front: bool,
        quick: bool = False,
        keeps: bool = False,
    ) -> Done:
        """Do what a `Call` asks, told by the function's name; see `Workers.call_named`."""
        workers = self.front if front or quick else self.keepers if keeps else self.workers
        with self.ahead(front=front):
            found = await workers.call_named(module, name, arguments, timeout_s)
        data, waited_s = msgspec.Raw(found.data), found.wait_s
        return Done(data, found.cpu_s, waited_s, found.begin_s, found.end_s)

    async def _computed(self, job: Code | Search | Words, *, front: bool) -> Done:
        match job:
            case Code():
                return await self._code(job, front=front)
            case Search():
                index = self.index(job.folder)
                return await self._in_thread(lambda: index.search(job.query, job.k))
            case Words():
                return await self._in_thread(lambda: EmbedResult(vectors=embed_words(job.texts)))

    async def _code(self, job: Code, *, front: bool) -> Done:
        result = await self.sandbox(job.sandbox, front=front).run(job.code, job.inputs, job.limits)
        return Done(
            result,
            result.cpu_s,
            startup_s=result.startup_s,
            memory_bytes=result.memory_bytes,
        )

    def _in_the_back(self) -> Iterator[int]:
        """Yield the processes that do work which nobody waits for."""
        yield from self.workers.processes()
        yield from self.keepers.processes()
        for (_, front), sandbox in self.sandboxes.items():
            if not front:
                yield from getattr(sandbox, "processes", ())

    async def _in_thread(self, work: Callable[[], Any]) -> Done:
        """Do a tool's work in a thread of this process, and meter it."""

        def metered() -> Done:
            begin_s, cpu_begin_s = time.monotonic(), time.thread_time()
            result = work()
            cpu_s = time.thread_time() - cpu_begin_s
            return Done(result, cpu_s, begin_s=begin_s, end_s=time.monotonic())

        done = await asyncio.to_thread(metered)
        self.cpu.exclude(done.cpu_s)
        return done

    def sandbox(self, name: str, *, front: bool = False) -> Sandbox:
        """Return the sandbox `name`, opened at its first use; `front` for whom somebody waits."""
        key = name, front
        if key not in self.sandboxes:
            self.sandboxes[key] = open_sandbox(name, self.cores, yields=not front)
        return self.sandboxes[key]

    def index(self, folder: Path) -> Index:
        """Return the index in `folder`, opened at its first use.

        Raises:
            InputError: there is none.
        """
        if folder not in self.indexes:
            if not folder.is_dir():
                known = [path.name for path in folder.parent.glob("*")]
                raise InputError(
                    f"there is no index {folder.name!r}", mend=nearest(folder.name, known)
                )
            self.indexes[folder] = open_index(folder)
        return self.indexes[folder]

    async def close(self) -> None:
        """End workers and sandboxes; one that fails to end does not keep the others."""
        ending = [sandbox.close() for sandbox in self.sandboxes.values()]
        workers = [self.workers.close(), self.front.close(), self.keepers.close()]
        await asyncio.gather(*ending, *workers, return_exceptions=True)


async def _awaited(job: Await) -> Done:
    """Await an `async def` tool in this process."""
    try:
        return Done(await job.fn(*job.args, **job.kwargs), 0.0)
    except Exception as error:
        raise ToolError(f"{type(error).__name__}: {error}") from error
