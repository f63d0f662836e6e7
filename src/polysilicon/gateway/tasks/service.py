"""Tasks at work: accepted into a bounded queue, run, followed, cancelled, gone on with.

Accepted is in the register and in the journal, then the caller is told. A gateway that starts, or
takes the tasks of one that is gone, puts what has not ended in the queue; the journal gives the
results of steps that ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Self

import msgspec

from polysilicon.errors import PolysiliconError
from polysilicon.gateway.access import Access, Caller
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.feed import Feed
from polysilicon.gateway.tasks.handing import Handing
from polysilicon.gateway.tasks.live import GONE, Live, entry_of, event_of, is_same, spent
from polysilicon.gateway.tasks.register import (
    End,
    Entry,
    Register,
    Unfinished,
    digest_of,
    pending,
)
from polysilicon.gateway.tasks.types import Bounds, Status, TaskRequest, TaskView
from polysilicon.gateway.tasks.views import Views, status_of
from polysilicon.gateway.tasks.waiting import Waiting
from polysilicon.runtime.journal import JournalError, LeaseLostError
from polysilicon.runtime.tasks import CANCELLED, TaskRunner, one_line
from polysilicon.runtime.types import Agent
from polysilicon.workload.record import StepRecord, TaskRecord

_LOOK_S = 0.2
_CANCEL_S = 30.0
_PAGE = 1000

Wall = Callable[[], float]
"""Seconds since 1970."""


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
        count: how many these are, by agent and status.
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
        self._handing = Handing(register.lease)
        self._access, self._pools = access, pools
        self._runner, self._feed, self._wall = runner, feed, wall
        self._bounds = bounds
        self.live: dict[str, Live] = {}
        self.count: Counter[tuple[str, Status]] = Counter()
        self.views = Views(register, runner.journal, self.live, runner.resources.clock)
        self.ended: Counter[tuple[str, Status]] = Counter()
        self._waiting = Waiting(bounds)
        self._prepared: dict[str, asyncio.Task[None]] = {}
        self._lines: list[asyncio.Task[None]] = []
        self.failure: PolysiliconError | None = None
        self.closed = False

    async def __aenter__(self) -> Self:
        """Go on with what has not ended, and take up new tasks."""
        await self.take_up(self.register.left())
        self._handing.begin(list(self.agents), self)
        self._lines = [asyncio.create_task(self._line()) for _ in range(self._bounds.at_once)]
        self._lines.append(asyncio.create_task(self._until_drained()))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; tasks under way go on at the next start."""
        await self._handing.end()
        lines = [*self._lines, *self._prepared.values()]
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        self.register.close()

    async def _until_drained(self) -> None:
        """Begin no more tasks, and end those who watch, when the gateway takes no more calls."""
        await self._feed.closed.wait()
        self.closed = True
        for live in self.live.values():
            live.wake()

    async def take_up(self, task_ids: list[str]) -> None:
        """Put tasks in the queue that have not ended; what ended in the journal only ends here.

        They are this gateway's: left from its last start, or of one that is gone.
        """
        for at in range(0, len(task_ids), _PAGE):  # inputs of all of them may be large
            for found in await self.register.unfinished(task_ids[at : at + _PAGE]):
                with suppress(LeaseLostError), self._handing.holding(found.entry):
                    await self._taken_up(found)

    async def _taken_up(self, found: Unfinished) -> None:
        entry = found.entry
        known = self.live.get(entry.task_id)
        if known is not None and known.entry.token != entry.token:  # it was lost, and came back
            self._runner.cancel(entry.task_id)
            while self.live.get(entry.task_id) is known:
                await self.changed(entry.task_id)
        live = await self.views.recount(self._alive(entry))
        if entry.task_id in self.live or not self._handing.is_ours(entry):
            live.ended()
            return
        self._put(live)
        if found.record is not None:
            try:
                await self._end(live, found.record)
            finally:
                self._dropped(live)
        elif entry.agent in self.agents:  # the operator may have left it out this time
            self._waiting.put(entry.task_id)

    def drop(self) -> None:
        """Drop the tasks that others have now; what these still write is refused."""
        for task_id, live in list(self.live.items()):
            if self._handing.is_ours(live.entry):
                continue
            self._waiting.remove(task_id)
            if not self._runner.cancel(task_id):
                self._dropped(live)

    def _put(self, live: Live) -> None:
        self.live[live.entry.task_id] = live
        self.count[live.entry.agent, live.entry.status] += 1

    def _dropped(self, live: Live) -> None:
        if self.live.get(live.entry.task_id) is live:
            del self.live[live.entry.task_id]
            self.count[live.entry.agent, live.entry.status] -= 1
            live.ended()

    def _clock(self) -> float:
        return self._runner.resources.clock()

    def _alive(self, entry: Entry) -> Live:
        """Return the state of a task that has not ended; its caller's key may be gone by now."""
        access = self._access
        found = [access.nobody] if access.open else access.callers
        callers = (caller for caller in found if access.open or caller.name == entry.caller)
        # Inputs of all that wait may be large.
        kept = msgspec.structs.replace(entry, input=b"", given=None)
        counts = entry.agent in self.agents  # one that cannot go on takes no room of its key
        return Live(kept, self._clock(), caller=next(callers, None) if counts else None)

    async def accept(
        self, request: TaskRequest, caller: Caller, idempotency: str | None
    ) -> tuple[TaskView, bool]:
        """Take a task; return it, and whether it is new: only such count for the limits of a key.

        Raises:
            ApiError: there is no such agent, it does not accept the input, the queue is full, the
                caller may make no more calls, or asked for something else with this key.
            JournalError: it cannot be kept.
        """
        agent, digest = self.agents.get(request.agent), digest_of(idempotency)
        known = await self.register.with_key(caller.name, digest) if digest else None
        if known is not None:
            return await self._again(known, request), False
        if agent is None:
            text = f"there is no agent {request.agent!r}; GET /v1/agents lists them"
            raise ApiError(404, text, code="agent_not_found", param="agent")
        if self.failure is not None:
            raise self.failure
        self._waiting.check_room()
        entry = entry_of(request, agent, caller.name, self._wall())
        caller.admit()
        added = await self._added(entry, digest, caller)
        if added.task_id != entry.task_id:  # it was asked for twice at the same time
            return await self._again(added, request), False
        if added.task_id not in self.live and self._handing.is_ours(added):
            live = self._alive(added)
            self._put(live)
            self._waiting.put(added.task_id)
            self._tell(live, "queued")
        return await self.views.view(added), True

    async def _added(self, entry: Entry, digest: str | None, caller: Caller) -> Entry:
        """Take a task in, or find it; until that is known it counts as one that waits."""
        caller.running += 1
        try:
            with self._waiting.coming():
                return await self.register.add(entry, digest)
        finally:
            caller.running -= 1

    async def _again(self, known: Entry, request: TaskRequest) -> TaskView:
        """Return a task that is asked for again.

        Raises:
            ApiError: 422; it is another one.
        """
        if not is_same(known, request, self.agents.get(request.agent)):
            text = "another task was asked for with this Idempotency-Key"
            raise ApiError(422, text, code="idempotency_mismatch")
        return await self.views.view(known)

    async def _line(self) -> None:
        """Run tasks, one after the other."""
        while self.failure is None and not self.closed:
            live = self.live[await self._waiting.next()]
            try:
                with self._handing.holding(live.entry):
                    await self._run(live)
            except LeaseLostError:
                self._dropped(live)
            except PolysiliconError as failure:
                self._failed(failure)

    def _failed(self, failure: PolysiliconError) -> None:
        """Give up: tasks wait for a start at which all can be written."""
        self.failure = failure
        self._handing.give_up()

    async def _run(self, live: Live) -> None:
        """Run a task to its end."""
        entry, agent = live.entry, self.agents[live.entry.agent]
        live.begun_s = self._clock()
        await self.register.begun(entry.task_id)
        if live.cancelled or self.live.get(entry.task_id) is not live:
            return
        live.entry = msgspec.structs.replace(entry, status="in_progress")
        self.count[entry.agent, entry.status] -= 1
        self.count[entry.agent, live.entry.status] += 1
        self._tell(live, "in_progress")
        task = pending(await self.views.known(entry.task_id))
        if live.caller is None:
            record = await self._runner.end_unrun(task, live.arrival_s, GONE)
            await self._end(live, record)
            return
        if live.caller.left_usd <= 0:  # spent while it waited
            record = await self._runner.end_unrun(task, live.arrival_s, spent(live.caller))
            await self._end(live, record)
            return
        try:
            await self.prepare(agent)
        except JournalError:
            raise
        except PolysiliconError as error:
            record = await self._runner.end_unrun(task, live.arrival_s, one_line(error))
        else:
            if live.cancelled or self.live.get(entry.task_id) is not live:
                return
            only = live.caller.only(self._pools())
            record = await self._runner.run(agent, task, live.arrival_s, only)
        self._waiting.took(record.end_s - live.begun_s)
        await self._end(live, record)

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
        if live is not None and self._runner.cancel(entry.task_id):
            while self.live.get(entry.task_id) is live and self.failure is None and not self.closed:
                await self.changed(entry.task_id)
            if self.failure is not None:
                raise self.failure
        elif live is not None:
            await self._cancel_waiting(live)
        found = await self.views.known(entry.task_id)
        if found.end is None and self._handing.shared:
            found = await self._cancelled_elsewhere(found)
        return await self.views.view(found)

    async def _cancel_waiting(self, live: Live) -> None:
        """End a task that has not begun."""
        task_id, live.cancelled = live.entry.task_id, True
        self._waiting.remove(task_id)
        try:
            with suppress(LeaseLostError), self._handing.holding(live.entry):
                task = pending(await self.views.known(task_id))
                await self._end(live, await self._runner.end_unrun(task, live.arrival_s, CANCELLED))
        except JournalError as failure:
            self._failed(failure)
            raise

    async def _cancelled_elsewhere(self, entry: Entry) -> Entry:
        """Ask the gateway that has a task to cancel it, and wait some time for its end."""
        await self.register.cancel(entry.task_id)
        until_s = time.monotonic() + _CANCEL_S
        while entry.end is None and not self.closed and time.monotonic() < until_s:
            await self.changed(entry.task_id)
            entry = await self.views.known(entry.task_id)
        return entry

    async def cancel_all(self, task_ids: list[str]) -> None:
        """Cancel tasks as callers of other gateways ask for."""
        for task_id in task_ids:
            live = self.live.get(task_id)
            if live is not None and not self._runner.cancel(task_id):
                await self._cancel_waiting(live)

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
                self._runner.cancel(step.task_id, spent(live.caller))
        live.wake()

    async def _end(self, live: Live, record: TaskRecord) -> None:
        """Note that a task ended, and tell those who watch."""
        if self.live.get(live.entry.task_id) is not live:
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
        status = status_of(record)
        await self.register.ended(record.task_id, status, end, self._wall())
        if self.live.get(record.task_id) is not live:  # ended twice at once
            return
        self.ended[live.entry.agent, status] += 1
        self._tell(live, status, record.error)
        self._dropped(live)

    def _tell(self, live: Live, status: Status, error: str | None = None) -> None:
        self._feed.publish("task", event_of(live.entry, status, error))

    async def changed(self, task_id: str) -> None:
        """Wait until a step of a task, or the task, has ended or begun, or the gateway ends."""
        live = self.live.get(task_id)
        if self.closed:
            return
        if live is None:  # another gateway may have it: the database is asked now and then
            await asyncio.sleep(_LOOK_S)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        live.watchers.append(future)
        try:
            await future
        finally:
            if future in live.watchers:
                live.watchers.remove(future)
