"""Tasks at work: accepted into a bounded queue, run, followed, cancelled, gone on with.

Accepted is in the register, then in the journal, then the caller is told. A gateway that starts
puts what has not ended in the queue again; the journal gives the results of steps that ended.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import msgspec

from polysilicon.errors import PolysiliconError
from polysilicon.gateway.access import Access, Caller
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.feed import Feed
from polysilicon.gateway.tasks.live import Live, encoded_input
from polysilicon.gateway.tasks.register import End, Entry, Register, digest_of
from polysilicon.gateway.tasks.types import Status, TaskEvent, TaskRequest, TaskView
from polysilicon.runtime.journal import JournalError, PendingTask
from polysilicon.runtime.tasks import CANCELLED, TaskRunner, one_line
from polysilicon.runtime.types import Agent
from polysilicon.workload.record import StepRecord, TaskRecord

_PAGE = 1000
_FIRST_GUESS_S = 5.0
_WEIGHT = 0.2
_GONE = "the key that it was asked for with is gone"

Wall = Callable[[], float]
"""Seconds since 1970."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks may be under way at once, and how many may wait; more are refused."""

    at_once: int
    waiting: int


class Tasks:
    """The tasks of a gateway; a context, in which they run. Used from one event loop.

    Args:
        agents: those that may be asked for, by name.
        access: finds callers by their names.
        pools: gives the names of all pools.
        runner: runs one task.
        register: what was asked.
        feed: is told as tasks are accepted, begin and end.
        bounds: how many may be there.
        wall: the time of day.

    Attributes:
        live: those that have not ended, by id.
        ended: how many have since the start, by agent and status.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        access: Access,
        pools: Callable[[], Iterable[str]],
        runner: TaskRunner,
        register: Register,
        feed: Feed,
        *,
        bounds: Bounds,
        wall: Wall = time.time,
    ) -> None:
        self.agents, self.register = agents, register
        self._access, self._pools = access, pools
        self._runner, self._feed, self._wall = runner, feed, wall
        self._bounds = bounds
        self.live: dict[str, Live] = {}
        self.ended: Counter[tuple[str, Status]] = Counter()
        self._waiting: deque[str] = deque()
        self._more = asyncio.Event()
        self._prepared: dict[str, asyncio.Task[None]] = {}
        self._lines: list[asyncio.Task[None]] = []
        self._mean_s = _FIRST_GUESS_S
        self.failure: PolysiliconError | None = None
        self.closed = False

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    async def __aenter__(self) -> Self:
        """Go on with what has not ended, and take up new tasks."""
        self._restore()
        self._lines = [asyncio.create_task(self._line()) for _ in range(self._bounds.at_once)]
        self._lines.append(asyncio.create_task(self._until_drained()))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; tasks under way go on at the next start."""
        lines = [*self._lines, *self._prepared.values()]
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        self.register.close()

    async def _until_drained(self) -> None:
        """Begin no more tasks, and end those who watch, when the gateway takes no more calls."""
        async for _ in self._feed.follow(self._feed.seq):
            pass
        self.closed = True
        for live in self.live.values():
            live.wake()

    def _restore(self) -> None:
        """Put what has not ended in the queue; what ended in the journal only ends here too."""
        journal = self._runner.journal
        open_entries = self.register.open_tasks()
        if not open_entries:
            return
        pending = {task.task_id for task in journal.pending()}
        ended = {record.task_id: record for record in journal.tasks()}
        for entry in open_entries:
            live = self.live[entry.task_id] = self._alive(entry)
            self._recount(live)
            record = ended.get(entry.task_id)
            if record is not None:
                self._end(live, record)
                continue
            if entry.task_id not in pending:
                journal.accept([_pending(entry)])
            if entry.agent in self.agents:  # the operator may have left it out this time
                self._waiting.append(entry.task_id)
        self._more.set()

    def _clock(self) -> float:
        return self._runner.resources.clock()

    def _alive(self, entry: Entry) -> Live:
        """Return the state of a task that has not ended; its caller's key may be gone by now."""
        access = self._access
        found = [access.nobody] if access.open else access.callers
        callers = (caller for caller in found if access.open or caller.name == entry.caller)
        kept = msgspec.structs.replace(entry, input=b"")  # inputs of all that wait may be large
        counts = entry.agent in self.agents  # one that cannot go on takes no room of its key
        return Live(kept, self._clock(), caller=next(callers, None) if counts else None)

    def _recount(self, live: Live) -> None:
        """Count the steps that ended before this start."""
        after = 0
        while page := self._runner.journal.ended(after, _PAGE, live.entry.task_id):
            for step in page:
                live.add(step.record)
            after = page[-1].seq

    def accept(
        self, request: TaskRequest, caller: Caller, idempotency: str | None
    ) -> tuple[TaskView, bool]:
        """Take a task; return it, and whether it is new: only such count for the limits of a key.

        Raises:
            ApiError: there is no such agent, the queue is full, the caller may make no more calls,
                or asked for something else with this idempotency key.
            JournalError: it cannot be kept.
        """
        encoded = encoded_input(request)
        digest = digest_of(idempotency)
        known = self.register.with_key(caller.name, digest) if digest else None
        if known is not None:
            return self._again(known, request.agent, encoded), False
        if request.agent not in self.agents:
            text = f"there is no agent {request.agent!r}; GET /v1/agents lists them"
            raise ApiError(404, text, code="agent_not_found", param="agent")
        self._check_room()
        caller.admit()
        entry = Entry(
            seq=0,
            task_id=f"task-{secrets.token_hex(12)}",
            caller=caller.name,
            agent=request.agent,
            input=encoded,
            created_at=self._wall(),
            status="queued",
        )
        before = self.register.add(entry, digest)
        assert before is None  # one event loop: nobody came between
        self._runner.journal.accept([_pending(entry)])
        live = self.live[entry.task_id] = self._alive(entry)
        self._waiting.append(entry.task_id)
        self._more.set()
        self._tell(live, "queued")
        return self.view(entry), True

    def _check_room(self) -> None:
        """Raise `ApiError` where no more tasks may wait, or none are taken."""
        if self.failure is not None:
            raise self.failure
        if len(self._waiting) >= self._bounds.waiting:
            wait_s = min(self._mean_s * len(self._waiting) / self._bounds.at_once, 600.0)
            text = f"{len(self._waiting)} tasks wait already, as many as may"
            raise ApiError(429, text, code="queue_full", retry_after_s=max(wait_s, 1.0))

    def _again(self, known: Entry, agent: str, encoded: bytes) -> TaskView:
        """Return a task that is asked for again.

        Raises:
            ApiError: 422; it is another one.
        """
        if known.agent != agent or known.input != encoded:
            text = "another task was asked for with this Idempotency-Key"
            raise ApiError(422, text, code="idempotency_mismatch")
        return self.view(known)

    async def _line(self) -> None:
        """Run tasks, one after the other."""
        while self.failure is None and not self.closed:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            live = self.live[self._waiting.popleft()]
            try:
                await self._run(live)
            except PolysiliconError as failure:  # tasks wait for a start at which it can be written
                self.failure = failure

    async def _run(self, live: Live) -> None:
        """Run a task to its end."""
        entry, agent = live.entry, self.agents[live.entry.agent]
        live.begun_s = self._clock()
        self.register.begun(entry.task_id)
        live.entry = msgspec.structs.replace(entry, status="in_progress")
        self._tell(live, "in_progress")
        task = _pending(self._known(entry.task_id))
        if live.caller is None:
            record = await self._runner.end_unrun(task, live.arrival_s, f"{CANCELLED}: {_GONE}")
            self._end(live, record)
            return
        if live.caller.left_usd <= 0:  # spent while it waited
            record = await self._runner.end_unrun(task, live.arrival_s, _spent(live.caller))
            self._end(live, record)
            return
        try:
            await self.prepare(agent)
        except JournalError:
            raise
        except PolysiliconError as error:
            record = await self._runner.end_unrun(task, live.arrival_s, one_line(error))
        else:
            if entry.task_id not in self.live:  # cancelled meanwhile
                return
            only = live.caller.only(self._pools())
            record = await self._runner.run(agent, task, live.arrival_s, only)
        self._mean_s += _WEIGHT * (record.end_s - live.begun_s - self._mean_s)
        self._end(live, record)

    async def prepare(self, agent: Agent) -> None:
        """Wait until an agent is prepared; the first that needs it begins that."""
        preparing = self._prepared.get(agent.name)
        if preparing is None or (preparing.done() and preparing.exception() is not None):
            preparing = asyncio.create_task(self._runner.prepare(agent))
            self._prepared[agent.name] = preparing
        await asyncio.shield(preparing)

    async def cancel(self, entry: Entry) -> TaskView:
        """End a task as cancelled, and return it; one that has ended stays as it is.

        Raises:
            JournalError: it cannot be kept.
        """
        live = self.live.get(entry.task_id)
        if live is None:
            return self.view(entry)
        if self._runner.cancel(entry.task_id):
            while entry.task_id in self.live and self.failure is None and not self.closed:
                await self.changed(entry.task_id)
            if self.failure is not None:
                raise self.failure
        else:
            if entry.task_id in self._waiting:
                self._waiting.remove(entry.task_id)
            task = _pending(entry)
            self._end(live, await self._runner.end_unrun(task, live.arrival_s, CANCELLED))
        return self.view(self._known(entry.task_id))

    def step_begun(self, step: StepRecord) -> None:
        """Note that a step has room and begins; one that is of no task is none of ours."""
        live = self.live.get(step.task_id)
        if live is not None:
            live.running[step.step_id] = step
            live.wake()

    def step_ended(self, step: StepRecord) -> None:
        """Count a step; one that is of no task is none of ours."""
        live = self.live.get(step.task_id)
        if live is None:
            return
        live.add(step)
        if live.caller is not None:
            live.caller.spend(step.cost_usd)
            if live.caller.left_usd <= 0:
                self._runner.cancel(step.task_id, _spent(live.caller))
        live.wake()

    def _end(self, live: Live, record: TaskRecord) -> None:
        """Note that a task ended, and tell those who watch."""
        if live.entry.task_id not in self.live:
            return
        end = End(
            output=record.output,
            error=record.error,
            quality=record.quality,
            steps=live.steps,
            cost_usd=live.cost_usd,
            energy_j=live.energy_j,
            run_s=record.end_s - record.start_s,
        )
        status = _status(record)
        self.register.ended(record.task_id, status, end, self._wall())
        self.ended[live.entry.agent, status] += 1
        del self.live[record.task_id]
        self._tell(live, status, record.error)
        live.ended()

    def _tell(self, live: Live, status: Status, error: str | None = None) -> None:
        entry = live.entry
        event = TaskEvent(
            task_id=entry.task_id, agent=entry.agent, caller=entry.caller, status=status,
            error=error,
        )  # fmt: skip
        self._feed.publish("task", event)

    async def changed(self, task_id: str) -> None:
        """Wait until a step of a task, or the task, has ended or begun, or the gateway ends."""
        live = self.live.get(task_id)
        if live is None or self.closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        live.watchers.append(future)
        try:
            await future
        finally:
            if future in live.watchers:
                live.watchers.remove(future)

    def entry(self, task_id: str, caller: Caller) -> Entry:
        """Return a task that a caller may see: its own, or any for keys with `admin`.

        Raises:
            ApiError: 404; there is none.
        """
        found = self.register.get(task_id)
        if found is None or not (caller.key.admin or found.caller == caller.name):
            raise ApiError(404, "there is no such task", code="task_not_found")
        return found

    def _known(self, task_id: str) -> Entry:
        found = self.register.get(task_id)
        assert found is not None
        return found

    def view(self, entry: Entry) -> TaskView:
        """Return a task as callers see it."""
        live = self.live.get(entry.task_id)
        told: dict[str, Any] = {}
        if entry.end is not None:
            told = {name: getattr(entry.end, name) for name in End.__struct_fields__}
        elif live is not None:
            begun_s = live.begun_s
            run_s = None if begun_s is None else self._clock() - begun_s
            told = {"steps": live.steps, "cost_usd": live.cost_usd, "energy_j": live.energy_j}
            told["run_s"] = run_s
        return TaskView(
            id=entry.task_id,
            agent=entry.agent,
            status=entry.status,
            created_at=entry.created_at,
            input=msgspec.msgpack.decode(entry.input),
            **told,
        )


def _spent(caller: Caller) -> str:
    return f"{CANCELLED}: the budget of key {caller.name!r} is spent"


def _pending(entry: Entry) -> PendingTask:
    value = msgspec.msgpack.decode(entry.input)
    return PendingTask(task_id=entry.task_id, agent=entry.agent, input=value)


def _status(record: TaskRecord) -> Status:
    if record.ok:
        return "completed"
    return "cancelled" if (record.error or "").startswith(CANCELLED) else "failed"
