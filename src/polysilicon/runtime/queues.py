"""The steps that wait at a gate, kept in the order of `schedule.next_step` without looking at all.

What is first changes with time: who waited long enough goes to the front, a deadline comes near and
passes. So each task lies in a heap of those that are alike now, and in another that tells when that
ends. Of the steps of one task the one that came first goes first, whatever else counts. An
operation costs some steps of a heap, however many wait.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from polysilicon import schedule

_SPARE = 64
"""Entries of a heap that may be out of date, beside as many as are not."""

_MOST_MOVED = 8
"""Groups of a heap that one operation moves."""

Which = Literal["all", "interactive", "starved"]


class Waiter(Protocol):
    """Whoever waits at a gate: a task.

    `level` is that of the service that it is expected to need still, `prompts` the tokens of its
    last prompt on each pool, `deadline_s` by `time.monotonic`, infinite without one. As these
    change it tells its `queues`, where steps of it wait.
    """

    level: int
    klass: int
    deadline_s: float
    prompts: dict[str, int]
    queues: list[Queue]


@dataclass(slots=True, eq=False)
class Entry:
    """A step: its turn, its task, since when it waits, its number, its slots, whether it waits."""

    turn: asyncio.Future[None]
    task: Waiter
    since_s: float
    number: int
    width: int
    waits: bool = True


@dataclass(slots=True, eq=False)
class _Group:
    """The steps of a task that wait: the one that came first, and those after it, mostly none."""

    head: Entry
    more: deque[Entry] | None = None
    version: int = 0
    state: str = ""


class _Heap:
    """Groups by keys; what was put in before a group moved is out of date, and passed over."""

    def __init__(self) -> None:
        self._items: list[tuple[Any, int, int, _Group]] = []
        self._count = 0

    def push(self, key: Any, group: _Group, live: int) -> None:
        """Put a group in; `live` is how many groups there are."""
        if len(self._items) > 2 * live + _SPARE:
            self._items = [item for item in self._items if item[3].version == item[2]]
            heapq.heapify(self._items)
        self._count += 1
        heapq.heappush(self._items, (key, self._count, group.version, group))

    def top(self) -> tuple[Any, _Group] | None:
        """Return the least key and its group; None where there is none."""
        items = self._items
        while items:
            key, _, version, group = items[0]
            if group.version == version:
                return key, group
            heapq.heappop(items)
        return None


class Queue:
    """The steps that wait at a gate.

    Args:
        cached: what of a task's prompts the pool has in its prefix cache, in any unit; None where
            it has none.
    """

    def __init__(self, cached: Callable[[Mapping[str, int]], float] | None = None) -> None:
        self._cached = cached
        self._groups: dict[int, _Group] = {}
        self._urgent = {state: _Heap() for state in ("interactive", "starved", "batch")}
        self._rest = {state: _Heap() for state in ("interactive", "starved", "batch")}
        self._ageing, self._coming, self._calm, self._late = _Heap(), _Heap(), _Heap(), _Heap()
        self._there = {"interactive": 0, "starved": 0, "batch": 0}
        self._length = self._numbers = 0
        self._now_s = self._mean_s = 0.0

    def __len__(self) -> int:
        return self._length

    def waits(self, task: Waiter) -> bool:
        """Tell whether steps of a task wait."""
        return id(task) in self._groups

    def add(self, turn: asyncio.Future[None], task: Waiter, now_s: float, width: int = 1) -> Entry:
        """Let a step wait for so many slots."""
        entry = Entry(turn, task, now_s, self._numbers, width)
        self._numbers += 1
        self._length += 1
        group = self._groups.get(id(task))
        if group is None:
            group = self._groups[id(task)] = _Group(entry)
            task.queues.append(self)
            self._place(group)
        elif group.more is None:
            group.more = deque([entry])
        else:
            group.more.append(entry)
        return entry

    def remove(self, entry: Entry) -> None:
        """Take a step out, if it waits."""
        if not entry.waits:
            return
        entry.waits = False
        self._length -= 1
        group = self._groups[id(entry.task)]
        if group.head is entry:
            self._place(group)

    def touch(self, task: Waiter) -> None:
        """Note that what a task is ordered by has changed."""
        group = self._groups.get(id(task))
        if group is not None:
            self._place(group)

    def has(self, which: Which, now_s: float, mean_s: float) -> bool:
        """Tell whether steps wait of tasks that somebody waits for, or that starve."""
        self._advance(now_s, mean_s)
        return self._length > 0 if which == "all" else self._there[which] > 0

    def pop(
        self, which: Which, now_s: float, mean_s: float, room: float = math.inf
    ) -> Entry | None:
        """Take out the step that runs next, of those asked for.

        None where there is none, or the next one needs more slots than there is room for: no other
        goes before it.

        Args:
            which: of all, of tasks that somebody waits for, or of those others that starve.
            now_s: the moment.
            mean_s: service that a step is expected to take, for its deadline.
            room: slots.
        """
        self._advance(now_s, mean_s)
        while (group := self._first(which)) is not None:
            entry = group.head
            if entry.width > room and not entry.turn.done():
                return None
            self.remove(entry)
            if not entry.turn.done():  # who was cancelled may not have taken itself out yet
                return entry
        return None

    def _first(self, which: Which) -> _Group | None:
        """Return the group whose first step runs next."""
        states = ("interactive", "starved") if which == "all" else (which,)
        found = [best for state in states if (best := self._best(state)) is not None]
        if not found and which == "all":
            found = [best for best in [self._best("batch")] if best is not None]
        return min(found, key=lambda best: best[0])[1] if found else None

    def _best(self, state: str) -> tuple[Any, _Group] | None:
        if (urgent := self._urgent[state].top()) is not None:
            return (0, *urgent[0]), urgent[1]
        if (rest := self._rest[state].top()) is not None:
            return (1, 0.0, *rest[0]), rest[1]
        return None

    def _place(self, group: _Group) -> None:
        """Put a group where it belongs now."""
        group.version += 1
        while not group.head.waits and group.more:
            group.head = group.more.popleft()
        if group.state:
            self._there[group.state] -= 1
            group.state = ""
        head = group.head
        task = head.task
        if not head.waits:
            del self._groups[id(task)]
            task.queues.remove(self)
            return
        live = len(self._groups)
        waited_s = self._now_s - head.since_s
        starved = waited_s >= schedule.STARVE_S
        interactive = task.klass == schedule.INTERACTIVE
        state = group.state = "interactive" if interactive else "starved" if starved else "batch"
        self._there[state] += 1
        if not starved:
            self._ageing.push(head.since_s, group, live)
        level = 0 if starved else task.level
        cached = 0.0 if self._cached is None else self._cached(task.prompts)
        key = (level, -cached, head.since_s, head.number)
        if task.deadline_s == math.inf:
            self._rest[state].push(key, group, live)
            return
        slack_s = task.deadline_s - self._now_s - self._mean_s
        if 0.0 <= slack_s < max(waited_s, 0.0):
            self._urgent[state].push((task.deadline_s, *key), group, live)
            self._calm.push(-(task.deadline_s + head.since_s), group, live)
            return
        self._rest[state].push(key, group, live)
        if slack_s < 0.0:
            self._late.push(-task.deadline_s, group, live)
        else:
            self._coming.push(task.deadline_s + head.since_s, group, live)

    def _advance(self, now_s: float, mean_s: float) -> None:
        """Move what has changed its place by now."""
        self._now_s, self._mean_s = now_s, mean_s
        self._move(self._ageing, lambda since_s: now_s - since_s >= schedule.STARVE_S)
        self._move(self._coming, lambda both_s: both_s < 2 * now_s + mean_s)
        for heap in self._urgent.values():
            self._move(heap, lambda key: key[0] - now_s - mean_s < 0.0)
        # The mean may have fallen since: what was urgent, or late, may be so no more.
        self._move(self._calm, lambda both_s: -both_s >= 2 * now_s + mean_s)
        self._move(self._late, lambda deadline_s: -deadline_s - now_s - mean_s >= 0.0)

    def _move(self, heap: _Heap, due: Callable[[Any], bool]) -> None:
        """Put the groups anew that are first in a heap as long as they are due.

        Where very many came at once, and so are due at once, the rest is moved at the next calls.
        """
        before = None
        for _ in range(_MOST_MOVED):
            top = heap.top()
            if top is None or not due(top[0]) or top[1] is before:  # by rounding it stays there
                return
            before = top[1]
            self._place(top[1])
