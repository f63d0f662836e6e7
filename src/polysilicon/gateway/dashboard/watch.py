"""What the dashboard has seen: the latest tasks with their steps, and dollars over time.

The feed is looked at now and then, a batch at a time, so that a busy gateway pays little for it.
All that is kept is bounded, as names and ids are the callers'.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from polysilicon.gateway.dashboard.records import UNENDED, Spending, TaskNow, TaskState
from polysilicon.gateway.feed import Event, Feed
from polysilicon.gateway.totals import Totals
from polysilicon.runtime.dispatch import Decision
from polysilicon.workload.record import StepRecord

LOOK_S = 0.25
BUCKET_S = 60.0
MOST_BUCKETS = 60
MOST_TASKS = 1000
MOST_UNDER_WAY = 10_000
"""Tasks in all, those under way included: of a call that was cut off no end may be told."""

_SHARE = 8
"""Of those too many, so large a part must have ended before they are looked through: most wait."""

MOST_STEPS = 10_000
MOST_STEPS_OF_TASK = 400
MOST_WHY = 2000
"""Decisions on where steps went, of all tasks; each names every pool."""

MOST_ESTIMATED = 4000
"""Steps of ended tasks that are estimated elsewhere."""

_STATES: dict[str, TaskState] = {
    "queued": "waiting",
    "in_progress": "running",
    "completed": "ok",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(slots=True)
class _Seen:
    """A task, as far as it was seen; `told` is what `/v1/tasks` said of it."""

    task_id: str
    agent: str
    arrival_s: float
    told: TaskState | None = None
    error: str | None = None
    end_s: float | None = None
    cost_usd: float | None = None
    left_out: int = 0
    ended: deque[StepRecord] = field(default_factory=lambda: deque(maxlen=MOST_STEPS_OF_TASK))
    running: dict[str, StepRecord] = field(default_factory=dict)

    @property
    def state(self) -> TaskState:
        """What state it is in; calls that are no task of `/v1/tasks` tell by their steps."""
        if self.told is not None:
            return self.told
        if self.running:
            return "running"
        return "ok" if not self.ended or self.ended[-1].outcome == "ok" else "failed"

    def view(self) -> TaskNow:
        """Return the task as a record."""
        state = self.state
        return TaskNow(
            task_id=self.task_id,
            agent=self.agent,
            state=state,
            arrival_s=self.arrival_s,
            end_s=None if state in UNENDED else self.end_s,
            steps=(*self.ended, *self.running.values()),
            steps_left_out=self.left_out,
            cost_usd=self.cost_usd,
            error=self.error,
            may_cancel=self.told is not None,
        )


class Watch:
    """Looks at a gateway's feed and sums.

    Args:
        feed: events of kinds `begin`, `step`, `decision` and `task`.
        totals: the ledger so far.
        clock: of the step records.
    """

    def __init__(self, feed: Feed, totals: Totals, clock: Callable[[], float]) -> None:
        self._feed, self._totals, self._clock = feed, totals, clock
        self._seq = feed.seq
        self._tasks: dict[str, _Seen] = {}
        self._steps = self._ends = 0
        self._why: dict[tuple[str, str], Decision] = {}
        self._usd: deque[float] = deque([0.0], maxlen=MOST_BUCKETS)
        self._usd_before = totals.all.cost_usd
        self._pools_before = pool_usd(totals)
        self.begin_s = clock()
        self._bucket_s = self.begin_s
        self.missed = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look again and again."""

        async def again() -> None:
            while True:
                self.look()
                await asyncio.sleep(LOOK_S)

        looking = asyncio.create_task(again())
        try:
            yield
        finally:
            looking.cancel()

    def look(self) -> None:
        """Take in what happened since the last look."""
        events = self._feed.since(self._seq)
        if events:
            self.missed += events[0].seq - self._seq - 1
            self._seq = events[-1].seq
        for event in events:
            self._take(event)
        self._forget()
        now_s, usd = self._clock(), self._totals.all.cost_usd
        while now_s >= self._bucket_s + BUCKET_S:
            self._bucket_s += BUCKET_S
            self._usd.append(0.0)
        self._usd[-1] += usd - self._usd_before
        self._usd_before = usd

    def tasks(self, most: int) -> tuple[list[TaskNow], int]:
        """Return the latest tasks, those under way first, and how many under way are not there."""
        tasks = list(self._tasks.values())
        under_way = [task for task in tasks if task.state in UNENDED]
        over = [task for task in tasks if task.state not in UNENDED]
        under_way.sort(key=lambda task: -task.arrival_s)
        over.sort(key=lambda task: -(task.end_s or task.arrival_s))
        shown = [*under_way[:most], *over[:most]]
        return [task.view() for task in shown], max(len(under_way) - most, 0)

    def task(self, task_id: str) -> TaskNow | None:
        """Return a task that was seen, and not forgotten yet."""
        found = self._tasks.get(task_id)
        if found is None:
            return None
        task = found.view()
        known = (self._why.get((task_id, step.step_id)) for step in task.steps)
        return msgspec.structs.replace(task, why=tuple(one for one in known if one is not None))

    def whole_tasks(self) -> list[StepRecord]:
        """Return the steps of the latest tasks that ended, all of each."""
        steps: list[StepRecord] = []
        for task in reversed(self._tasks.values()):
            if task.state in UNENDED or task.left_out:
                continue
            if len(steps) + len(task.ended) > MOST_ESTIMATED:
                break
            steps += task.ended
        return steps

    def spending(self) -> Spending:
        """Return dollars of steps over the last hour, or since the start."""
        start_s = self._bucket_s - (len(self._usd) - 1) * BUCKET_S
        return Spending(start_s=start_s, bucket_s=BUCKET_S, usd=tuple(self._usd))

    def spent_usd(self, pool: str) -> float:
        """Return dollars of the steps of a pool since the start."""
        return pool_usd(self._totals).get(pool, 0.0) - self._pools_before.get(pool, 0.0)

    def _take(self, event: Event) -> None:
        """Take in one event."""
        if event.kind == "begin":
            step: StepRecord = event.data
            self._of(step, event.at_s).running[step.step_id] = step
        elif event.kind == "step":
            step = event.data
            self._ended(self._of(step, event.at_s), step, event.at_s)
        elif event.kind == "decision":
            made: Decision = event.data
            self._why[made.task_id, made.step_id] = made
            if len(self._why) > MOST_WHY:
                del self._why[next(iter(self._why))]
        elif event.kind == "task":
            told = event.data
            task = self._tasks.get(told.task_id)
            if task is None:
                task = _Seen(task_id=told.task_id, agent=told.agent, arrival_s=event.at_s)
                self._tasks[told.task_id] = task
            task.told, task.error = _STATES[told.status], told.error
            if task.told not in UNENDED:
                self._ends += 1
                task.end_s = event.at_s
                task.running.clear()

    def _of(self, step: StepRecord, at_s: float) -> _Seen:
        """Return the task of a step; it is the latest one now."""
        task = self._tasks.pop(step.task_id, None)
        if task is None:
            arrival_s = at_s if step.arrival_s is None else step.arrival_s
            task = _Seen(task_id=step.task_id, agent=step.agent or "", arrival_s=arrival_s)
        self._tasks[step.task_id] = task
        return task

    def _ended(self, task: _Seen, step: StepRecord, at_s: float) -> None:
        """Note a step that ended."""
        task.running.pop(step.step_id, None)
        if len(task.ended) == MOST_STEPS_OF_TASK:
            task.left_out += 1
        else:
            self._steps += 1
        task.ended.append(step)
        if step.cost_usd is not None:
            task.cost_usd = (task.cost_usd or 0.0) + step.cost_usd
        if task.told is None:
            self._ends += 1
            task.end_s = at_s if step.end_s is None else step.end_s

    def _forget(self) -> None:
        """Forget the tasks that were heard of longest ago, where there are too many."""
        for task_id in list(islice(self._tasks, max(len(self._tasks) - MOST_UNDER_WAY, 0))):
            self._steps -= len(self._tasks.pop(task_id).ended)
        excess = len(self._tasks) - MOST_TASKS
        few = excess <= 0 or self._ends < max(excess // _SHARE, 1)
        if few and self._steps <= MOST_STEPS:
            return
        self._ends = 0
        for task_id, task in list(self._tasks.items()):
            if len(self._tasks) <= MOST_TASKS and self._steps <= MOST_STEPS:
                break
            if task.state not in UNENDED:
                self._steps -= len(self._tasks.pop(task_id).ended)


def pool_usd(totals: Totals) -> dict[str, float]:
    """Return dollars of steps by pool."""
    found: dict[str, float] = {}
    for (_, _, _, pool), sums in totals.by_group.items():
        found[pool] = found.get(pool, 0.0) + sums.cost_usd
    return found
