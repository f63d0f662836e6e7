"""A run: agents over inputs on the pools of this machine, journaled, resumable."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.catalog.policy import Policy, read_policy
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime.backlog import Backlog
from polysilicon.runtime.dispatch import Dispatcher, written
from polysilicon.runtime.engines.late import LOADING
from polysilicon.runtime.folder import locked
from polysilicon.runtime.journal import PendingTask, last_end_s
from polysilicon.runtime.journals import open_journal
from polysilicon.runtime.lengths import kept_lengths, lengths_path
from polysilicon.runtime.machine import Machine, open_machine
from polysilicon.runtime.models import DEFAULT_MODEL
from polysilicon.runtime.scope import TaskState
from polysilicon.runtime.steps import Counters, StepRunner
from polysilicon.runtime.tasks import TaskRunner
from polysilicon.runtime.together import together
from polysilicon.runtime.types import Agent
from polysilicon.runtime.watchdog import Watchdog
from polysilicon.workload.record import RunInfo
from polysilicon.workload.run_folder import RunFolder

_BLOCKED_LIMIT_S = 30.0


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to run.

    Attributes:
        model: model of `chat` steps that name none: a name, a `.gguf` path or a URL; None is the
            default one, or the first of the fleet.
        fleet: path of a fleet file; None is this machine alone.
        concurrency: tasks under way at once.
        task_timeout_s: limit of a task.
        blocked_limit_s: how long an agent may run without an `await`.
        policy: path of a policy file; None allows everything.
        journal: address of the database of the journal; None is a file in the run's folder.
        ray: address of a Ray cluster that has machines of the fleet, `local` for one of this
            machine; None for no cluster.
    """

    model: str | None = None
    fleet: str | None = None
    policy: str | None = None
    concurrency: int = 16
    task_timeout_s: float = 1800.0
    blocked_limit_s: float = _BLOCKED_LIMIT_S
    journal: str | None = None
    ray: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, how the user named it, and its inputs (on resumption the journal has them)."""

    agent: Agent
    given_as: str
    inputs: list[dict[str, Any]] = []


@dataclass(slots=True)
class Progress:
    """What a live view reads while the run goes on."""

    phase: str = "starting"
    tasks: int = 0
    done: int = 0
    failed: int = 0
    active: dict[str, TaskState] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    started_s: float = field(default_factory=time.monotonic)


class Run:
    """One run in one folder; made anew or from the folder of an interrupted one.

    Args:
        folder: the run's folder.
        jobs: agents with their inputs.
        options: how to run; on resumption those of the first start should be given again.
        late: without a fleet, load the model when the first step asks it, which may never be.
    """

    def __init__(
        self, folder: Path, jobs: list[Job], options: RunOptions, *, late: bool = False
    ) -> None:
        self.folder = folder
        self.progress = Progress()
        self._agents = {job.agent.name: job.agent for job in jobs}
        if len(self._agents) != len(jobs):
            raise InputError("two agents of one run have the same name")
        self._jobs = jobs
        self._options, self._late = options, late and options.fleet is None
        self._lock = locked(folder)
        self._journal = open_journal(folder, options.journal)
        self._offset_s = last_end_s(self._journal)
        self._begin_s = time.monotonic()
        self._files = RunFolder(folder)
        self._info = self._first_info()

    def _clock(self) -> float:
        """Seconds since the run began; time between an interruption and its resumption left out."""
        return time.monotonic() - self._begin_s + self._offset_s

    def _first_info(self) -> RunInfo:
        """Return what the run is; of a new one, its inputs are accepted before it has a name."""
        if (self.folder / "run.json").exists():
            return self._files.info()
        self._accept()
        info = RunInfo(
            run=self.folder.name,
            version=version("polysilicon"),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            agents={job.agent.name: job.given_as for job in self._jobs},
            model=self._options.model or DEFAULT_MODEL,
            fleet=self._options.fleet,
            policy=self._options.policy,
        )
        self._files.write_info(info)
        return info

    async def execute(self) -> RunFolder:
        """Run all tasks that have not ended, and write the run's files, also when interrupted.

        Raises:
            PolysiliconError: the run could not start, or its journal could not be written.
        """
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        if main is not None and hasattr(signal, "SIGTERM"):
            loop.add_signal_handler(signal.SIGTERM, main.cancel)
        machine = None
        policy = read_policy(Path(self._options.policy)) if self._options.policy else Policy()
        try:
            self.progress.phase = "starting workers" if self._late else LOADING
            options, agents = self._options, self._agents.values()
            machine = await open_machine(
                options.model, options.fleet, options.ray, agents, late=self._late
            )
            watchdog = Watchdog(self._options.blocked_limit_s)
            for pool in machine.pools:
                if pool.late is not None:
                    pool.late.tells = partial(self._says, watchdog)
            self._info = msgspec.structs.replace(
                self._info,
                offer=machine.priced_as,
                model=self._options.model or machine.model,
                fleet=self._options.fleet,
                policy=self._options.policy,
            )
            async with watchdog:
                await self._tasks(machine, policy)
        except BaseException:
            with suppress(PolysiliconError):  # the first failure tells more than this one would
                self._write()
            raise
        else:
            self._write()
        finally:
            if main is not None and hasattr(signal, "SIGTERM"):
                loop.remove_signal_handler(signal.SIGTERM)
            if machine is not None:
                await machine.close()
            self._journal.close()
            self._lock.close()
        return self._files

    def _says(self, watchdog: Watchdog, phase: str) -> None:
        """Say what the run is at; while the model is loaded no agent keeps the event loop."""
        self.progress.phase = phase
        watchdog.rest(resting=phase == LOADING)

    def _accept(self) -> None:
        """Journal the inputs; a task that is accepted is finished, also over a crash."""
        for job in self._jobs:
            self._journal.accept(
                PendingTask(task_id=f"{job.agent.name}-{n:05d}", agent=job.agent.name, input=value)
                for n, value in enumerate(job.inputs)
            )

    async def _tasks(self, machine: Machine, policy: Policy) -> None:
        """Run the pending tasks under the policy, and write down why steps went where they went."""
        with ExitStack() as stack:
            tell = None
            if len(machine.pools) > 1 or policy != Policy():
                tell = stack.enter_context(written(self.folder / "decisions.jsonl"))
            dispatcher = Dispatcher(machine.pools, policy, tell)
            for step in self._journal.steps() if policy.vendor_share_max else ():
                dispatcher.spend(step.offer, step.cost_usd)
            await self._run_pending(machine, dispatcher)

    async def _run_pending(self, machine: Machine, dispatcher: Dispatcher) -> None:
        """Run the pending tasks, and keep how long they took."""
        runner = StepRunner(self._journal, dispatcher, self._clock)
        self.progress.counters = runner.counters
        tasks = TaskRunner(
            self._journal,
            machine.resources(runner, self._clock),
            self.folder,
            self._options.task_timeout_s,
            self.progress.active,
            kept_lengths(lengths_path()),
        )
        try:
            await self._run_tasks(tasks)
        finally:
            tasks.lengths.keep(lengths_path())

    async def _run_tasks(self, tasks: TaskRunner) -> None:
        """Prepare the agents, then run the pending tasks, in the order of `Backlog`."""
        backlog = Backlog(self._journal.pending(), tasks.lengths, tasks.resources.runner.policy)
        pending = len(backlog)
        for name in backlog.agents:
            self.progress.phase = f"preparing {name}"
            await tasks.prepare(self._agents[name])
        ended = list(self._journal.tasks())
        self.progress.phase = "running"
        self.progress.tasks = pending + len(ended)
        self.progress.done = len(ended)
        self.progress.failed = sum(not task.ok for task in ended)
        arrival_s = self._clock()

        async def line() -> None:
            while (task := backlog.next()) is not None:
                record = await tasks.run(self._agents[task.agent], task, arrival_s)
                self.progress.done += 1
                self.progress.failed += not record.ok

        async with together() as group:
            for _ in range(min(self._options.concurrency, pending)):
                group.create_task(line())

    def _write(self) -> None:
        """Write the run's files from the journal."""
        self.progress.phase = "writing the run"
        tasks = list(self._journal.tasks())
        open_tasks = len(self._journal.pending())
        self._files.write_tasks(tasks)
        self._files.write_steps(self._journal.steps())
        self._info = msgspec.structs.replace(
            self._info,
            wall_s=self._clock(),
            tasks=len(tasks) + open_tasks,
            finished=open_tasks == 0,
        )
        self._files.write_info(self._info)
        if self._info.finished:
            self._journal.compact()
