"""Tasks, one at a time: prepare the agent once, run it to its end, journal how it ended."""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from polysilicon import schedule
from polysilicon.errors import InputError, PolysiliconError, ToolError, printable
from polysilicon.runtime.context import Context
from polysilicon.runtime.journal import Journal, JournalError, PendingTask
from polysilicon.runtime.lengths import Lengths
from polysilicon.runtime.limit import Limit
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import Scope, TaskState
from polysilicon.runtime.setup import AgentSetup
from polysilicon.runtime.types import MAX_RESULT_BYTES, Agent, too_large
from polysilicon.runtime.watchdog import TaskBlockedError
from polysilicon.workload.record import TaskRecord

CANCELLED = "cancelled"
"""How the error of a task begins that was cancelled; exceptions begin with their type's name."""

_CANCELS = 5
_CANCEL_S = 2.0


@dataclass(slots=True)
class TaskRunner:
    """Runs tasks of one journal.

    Attributes:
        journal: where they and their steps are kept.
        resources: what their contexts share.
        folder: in which `agents/NAME` are the folders of agents.
        limit_s: seconds that a task may take, without those in which its model is loaded.
        active: the tasks under way, by id.
        lengths: what tasks took that ended.
    """

    journal: Journal
    resources: Resources
    folder: Path
    limit_s: float
    active: dict[str, TaskState] = field(default_factory=dict)
    lengths: Lengths = field(default_factory=Lengths)
    _stops: dict[str, asyncio.Future[str]] = field(default_factory=dict)

    def agent_folder(self, name: str) -> Path:
        """Return the folder of an agent, made where it is not there."""
        folder = self.folder / "agents" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def prepare(self, agent: Agent) -> None:
        """Build what an agent needs before its first task; what is there is kept.

        Raises:
            PolysiliconError: it cannot be built.
        """
        slo = self.resources.runner.policy.slo_of(agent.name)
        if slo is not None and slo.interactive:
            await self.resources.here.front.start()
        if agent.prepare is None:
            return
        try:
            await agent.prepare(
                AgentSetup(self.agent_folder(agent.name), self.resources.here.workers)
            )
        except PolysiliconError:
            raise
        except (Exception, TaskBlockedError) as error:  # foreign code may raise anything
            raise InputError(f"cannot prepare: {one_line(error)}", where=agent.name) from error

    async def run(
        self,
        agent: Agent,
        task: PendingTask,
        arrival_s: float,
        only: frozenset[str] | None = None,
    ) -> TaskRecord:
        """Run one task to its end, and journal how it ended; steps that ended are not run again.

        Args:
            agent: of the task.
            task: what was accepted.
            arrival_s: when it arrived, unless its journaled steps tell that.
            only: names of the pools that may take its steps; None for all.

        Raises:
            JournalError: the journal cannot be written.
        """
        stop = self._stops[task.task_id] = asyncio.get_running_loop().create_future()
        try:
            state, start_s = await self._begun(agent, task, arrival_s, only)
            self.active[task.task_id] = state
            return await self._ended(agent, task, state, start_s, stop)
        finally:
            del self._stops[task.task_id]
            left = self.active.pop(task.task_id, None)
            if left is not None:
                self.resources.runner.ended(left)

    async def _begun(
        self, agent: Agent, task: PendingTask, arrival_s: float, only: frozenset[str] | None
    ) -> tuple[TaskState, float]:
        """Return the state of a task that begins, and when its first step could begin."""
        resources = self.resources
        history = await self.journal.history(task.task_id)
        before = [record for record, _ in history.values()]
        arrival_s = min((r.arrival_s for r in before if r.arrival_s is not None), default=arrival_s)
        begins = (r.ready_s for r in before if r.ready_s is not None)
        start_s = min(begins, default=resources.clock())
        slo = resources.runner.policy.slo_of(task.agent)
        limit_s = slo.p99_s if slo else math.inf
        state = TaskState(
            task_id=task.task_id,
            agent=task.agent,
            arrival_s=arrival_s,
            rng=random.Random(task.task_id),  # noqa: S311 - no secret
            history=history,
            klass=schedule.INTERACTIVE if slo and slo.interactive else schedule.BATCH,
            deadline_s=time.monotonic() - resources.clock() + arrival_s + limit_s,
            data_class=agent.data_class,
            only=only,
            lengths=self.lengths,
        )
        return state, start_s

    async def _ended(
        self,
        agent: Agent,
        task: PendingTask,
        state: TaskState,
        start_s: float,
        stop: asyncio.Future[str],
    ) -> TaskRecord:
        """Run the agent, and journal how that ended."""
        resources, value = self.resources, task.input
        context = Context(resources, Scope(state), self.agent_folder(task.agent))
        limit = state.limit = Limit(self.limit_s)
        work = asyncio.create_task(_guarded(agent, context, value))
        try:
            output, error = await self._outcome(work, stop, limit)
        finally:
            limit.close()
        if resources.runner.fatal is not None:
            raise resources.runner.fatal
        record = TaskRecord(
            task_id=task.task_id,
            agent=task.agent,
            input=value,
            output=output,
            ok=error is None,
            quality=_grade(agent, value, output) if error is None else _failed(agent, value),
            error=error,
            arrival_s=state.arrival_s,
            start_s=start_s,
            end_s=resources.clock(),
        )
        await self.journal.end_task(record)
        if not stop.done():  # one that fails tells its length, too
            self.lengths.ended(task.agent, state.attained_s)
        return record

    def cancel(self, task_id: str, error: str = CANCELLED) -> bool:
        """Let a task that is under way end with an error; return whether it is under way."""
        stop = self._stops.get(task_id)
        if stop is None:
            return False
        if not stop.done():
            stop.set_result(error)
        return True

    async def end_unrun(self, task: PendingTask, arrival_s: float, error: str) -> TaskRecord:
        """Journal that a task ended with an error before it began."""
        now_s = self.resources.clock()
        record = TaskRecord(
            task_id=task.task_id, agent=task.agent, input=task.input, ok=False, error=error,
            arrival_s=arrival_s, start_s=now_s, end_s=now_s,
        )  # fmt: skip
        await self.journal.end_task(record)
        return record

    async def _outcome(
        self, work: asyncio.Task[Any], stop: asyncio.Future[str], limit: Limit
    ) -> tuple[Any, str | None]:
        """Return the agent's output as JSON types, or one line of what went wrong.

        The agent runs in a task of its own, so that one that swallows its cancellation, or cancels
        itself, ends as a failed task and no more.
        """
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait([work, stop, limit.over], return_when=first)
        except asyncio.CancelledError:
            await _cancel(work)
            raise
        if not work.done():
            await _cancel(work)
            return None, stop.result() if stop.done() else f"ran past {self.limit_s:g} s"
        if work.cancelled():
            return None, "CancelledError: the agent cancelled itself"
        error = work.exception()
        if isinstance(error, JournalError):
            raise error
        return (None, one_line(error)) if error is not None else _plain(work.result())


async def _guarded(agent: Agent, context: Context, value: Any) -> Any:
    """Await the agent; `sys.exit` in it ends its task, not the run."""
    try:
        return await agent.run(context, value)
    except SystemExit as error:
        raise ToolError(f"the agent called sys.exit({error.code!r})") from error


async def _cancel(work: asyncio.Task[Any]) -> None:
    """Cancel a task, again where it swallows that, and leave it alone if it goes on."""
    for _ in range(_CANCELS):
        work.cancel()
        done, _ = await asyncio.wait([work], timeout=_CANCEL_S)
        if done:
            if not work.cancelled():
                work.exception()  # looked at, so that asyncio does not complain
            return


def _plain(output: Any) -> tuple[Any, str | None]:
    """Return an output as JSON types, or one line of why it cannot be kept."""
    try:
        plain = msgspec.json.decode(msgspec.json.encode(output))
        size_bytes = len(msgspec.msgpack.encode(plain))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return None, f"its output is not JSON: {one_line(error)}"
    if size_bytes > MAX_RESULT_BYTES:
        return None, too_large("its output", size_bytes)
    return plain, None


def one_line(error: BaseException) -> str:
    """Return an exception as one short line."""
    text = printable(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__


def _grade(agent: Agent, value: dict[str, Any], output: Any) -> float | None:
    """Return the grade of an output; None where there is none, or it cannot be told."""
    if agent.grade is None:
        return None
    try:
        return agent.grade(value, output)
    except Exception:  # noqa: BLE001 - foreign code; an output that breaks it cannot be graded
        return None


def _failed(agent: Agent, value: dict[str, Any]) -> float | None:
    """A task that failed has the wrong outcome, where its input tells what the right one is."""
    return None if agent.grade is None or "expected" not in value else 0.0
