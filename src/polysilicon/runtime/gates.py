"""Room for steps at a pool: who waits, who is next, how many at once, for whom room is kept."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from polysilicon import schedule
from polysilicon.runtime.batches import Batch
from polysilicon.runtime.health import Health
from polysilicon.runtime.queues import Queue, Waiter, Which
from polysilicon.schedule.types import Floats, plain

_smoothed, _admits = plain(schedule.smoothed), plain(schedule.admit)

_MOST_NAMES = 1000
"""Names of steps whose mean service is kept; those of others is that of all."""

RECENT_S = 60.0
"""Somebody who was there so long ago may come again."""

_TIMES = 64
"""Services of a name that are kept, to tell its tail by."""


class _Pauses:
    """How long tasks stay away from an engine after steps of each name, and whether they return."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}
        self._returned: dict[str, int] = {}
        self._mean_s: dict[str, float] = {}
        self._away: dict[int, tuple[Waiter, str, float]] = {}  # a key lives while its task is held

    def left(self, task: Waiter, name: str, now_s: float) -> None:
        if name in self._left or len(self._left) < _MOST_NAMES:
            self._left[name] = self._left.get(name, 0) + 1
            self._away[id(task)] = task, name, now_s
            if len(self._away) > _MOST_NAMES:
                del self._away[next(iter(self._away))]

    def ended(self, task: Waiter) -> None:
        self._away.pop(id(task), None)

    def returned(self, task: Waiter, now_s: float) -> None:
        found = self._away.pop(id(task), None)
        if found is not None:
            _, name, since_s = found
            self._returned[name] = self._returned.get(name, 0) + 1
            self._mean_s[name] = _smoothed(self._mean_s.get(name, 0.0), now_s - since_s)

    def expected(self, name: str) -> tuple[float, float]:
        """Return the mean pause after steps of a name, NaN if unknown, and how many return."""
        share = self._returned.get(name, 0) / max(self._left.get(name, 0), 1)
        return self._mean_s.get(name, math.nan), share


class Gate:
    """Room for `cap` steps at once; the waiting ones enter in the order of `schedule.next_step`.

    Args:
        cap: slots.
        saves: seconds that the prefix cache saves a task, by its `prompts`; None where none does.
        cached: what of a task's prompts is in the prefix cache, in any unit, by which tasks that
            wait are ordered; None where there is none.
        batch: learns how many at once still pay; None where each has a core of its own.
        room: how many of the slots those may fill now that nobody waits for; None for all.
        holds: slots have a cache that is lost to whoever takes them, so that one may be kept for
            a task that paused.
        front: so many steps that somebody waits for enter beyond the cap: what they run on goes
            before whatever is under way, and that does not go on until they have ended. While one
            that nobody waits for has waited for `STARVE_S`, unless such a one entered within that
            time, no step takes more than those may.
        reserve: so many slots stay free of steps that nobody waits for, where there are more, as
            long as one that somebody waits for came within `RECENT_S`.

    Attributes:
        changed: called when what queues go by may have changed.
        busy: called when the first step enters, and when the last one has left.
        turn: tells whether steps may enter now, or what else runs on these cores goes on first.
        running: slots that are taken; by a step one, or as many as it has threads.
    """

    def __init__(
        self,
        cap: int,
        saves: Callable[[Mapping[str, int]], float] | None = None,
        batch: Batch | None = None,
        *,
        cached: Callable[[Mapping[str, int]], float] | None = None,
        holds: bool = False,
        front: int = 0,
        reserve: int = 0,
        room: Callable[[], int] | None = None,
    ) -> None:
        self.changed: Callable[[], None] = nobody
        self.busy: Callable[[bool], None] = nobody
        self.turn: Callable[[], bool] = always
        self.cap = cap
        self._front, self._reserve, self._room = front, reserve, room
        self._front_at_s = -math.inf
        self.running = 0
        self.mean_s = 0.0
        self.held = 0
        self.health = Health()
        self.batch = batch or Batch(cap)
        self._saves, self._pauses = saves, _Pauses() if holds else None
        self._kept: dict[int, tuple[Waiter, asyncio.TimerHandle]] = {}
        self._batch_at_s = -math.inf
        self._means: dict[str, float] = {}
        self._times: dict[str, deque[float]] | None = {} if batch is not None else None
        self._waiting = Queue(cached)

    @property
    def cap(self) -> int:
        """Slots."""
        return self._cap

    @cap.setter
    def cap(self, slots: int) -> None:
        self._cap = slots
        self.changed()

    @property
    def holds(self) -> bool:
        """Whether a slot may be kept for a task that paused."""
        return self._pauses is not None

    @property
    def waiting(self) -> int:
        """How many steps wait."""
        return len(self._waiting)

    @property
    def most(self) -> int:
        """How many may run at once: the slots, or as many as still pay; none out of turn."""
        return min(self._cap, self.batch.most) if self.turn() else 0

    @property
    def limit(self) -> int:
        """How many of these may be taken where nobody waits for the next one."""
        return self._unreserved(self.most)

    @property
    def in_turn(self) -> int:
        """How many of them when it is its turn."""
        return self._unreserved(min(self._cap, self.batch.most))

    def _unreserved(self, most: int) -> int:
        if self._room is not None:
            return min(most, self._room())
        if self._reserve and time.monotonic() - self._front_at_s < RECENT_S:
            return max(most - self._reserve, min(most, 1))
        return most

    def _limit_of(self, task: Waiter, *, quick: bool = False) -> int:
        interactive = task.klass == schedule.INTERACTIVE
        if not (interactive or quick) or self._starving(time.monotonic()):
            return self.limit
        return self.most + (self._front if interactive else 0)

    def _starving(self, now_s: float) -> bool:
        """Tell whether batch work has stood still for too long, where others may take more."""
        stood_still = now_s - self._batch_at_s >= schedule.STARVE_S
        fewer = self.limit < self.most + self._front
        return fewer and stood_still and self._waiting.has("starved", now_s, self.mean_s)

    def _pressed(self, now_s: float) -> bool:
        """Tell whether one waits that goes before all others, so that no room is kept from it."""
        return self._waiting.has("interactive", now_s, self.mean_s) or self._waiting.has(
            "starved", now_s, self.mean_s
        )

    def _begin(self, task: Waiter, width: int, *, quick: bool = False) -> None:
        self.running += width
        self.changed()
        if self.running == width:
            self.busy(self.running > 0)
        if task.klass != schedule.INTERACTIVE and not quick:
            self._batch_at_s = time.monotonic()

    def has_room(self, task: Waiter, width: int = 1, *, quick: bool = False) -> bool:
        """Tell whether a step of a task would enter at once; see `enter`."""
        taken, most = self.running + len(self._kept), self._limit_of(task, quick=quick)
        fits = taken + width <= most or (taken == 0 and most > 0)
        return fits and (taken >= self.limit or not self._waiting)

    async def enter(self, task: Waiter, width: int = 1, *, quick: bool = False) -> None:
        """Wait for room; whoever enters must call `leave`.

        Args:
            task: of the step.
            width: slots that the step takes; one that takes more than there may be enters alone.
            quick: it enters at once where one would that somebody waits for, up to the cap.
        """
        now_s, freed = time.monotonic(), False
        if task.klass == schedule.INTERACTIVE:
            self._front_at_s = now_s
        if self._pauses is not None:
            self._pauses.returned(task, now_s)
            freed = self._free(id(task))
            if freed and self.running < self._limit_of(task) and not self._pressed(now_s):
                self.held += 1
                self._begin(task, width)
                return
        if self.has_room(task, width, quick=quick):
            self._begin(task, width, quick=quick)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = self._waiting.add(turn, task, now_s, width)
        self.changed()
        if freed or self._kept:
            self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(width=width)  # its turn came, but it cannot take it
            else:
                self._waiting.remove(entry)
                self.changed()
            raise

    def leave(
        self,
        service_s: float | None = None,
        name: str = "",
        task: Waiter | None = None,
        width: int = 1,
    ) -> None:
        """Make room.

        Args:
            service_s: updates what queues, and steps of `name`, go by; None where it tells nothing.
            name: of the step.
            task: of the step, for which the room may be kept.
            width: slots that it took.
        """
        self.running -= width
        self.changed()
        if self.running == 0:
            self.busy(self.running > 0)
        if service_s is not None:
            self._learn(service_s, name)
            if task is not None and self._pauses is not None:
                self._keep(task, name)
        self._admit()

    def _learn(self, service_s: float, name: str) -> None:
        self.mean_s = _smoothed(self.mean_s, service_s)
        if name in self._means or len(self._means) < _MOST_NAMES:
            self._means[name] = _smoothed(self._means.get(name, 0.0), service_s)
            if self._times is not None:
                self._times.setdefault(name, deque(maxlen=_TIMES)).append(service_s)

    def _keep(self, task: Waiter, name: str) -> None:
        """Keep the room of a task that paused, where `schedule.hold_s` says so.

        Not where more steps of it wait already, which could not take it, nor from those that go
        before all others.
        """
        assert self._pauses is not None
        if self._waiting.waits(task):
            return
        now_s = time.monotonic()
        pause_s, returns = self._pauses.expected(name)
        self._pauses.left(task, name, now_s)
        saved_s = self._saves(task.prompts) if self._saves is not None else 0.0
        hold_s = schedule.hold_s(saved_s, pause_s, returns)
        if hold_s > 0.0 and not self._pressed(now_s):
            key = id(task)
            self._free(key)
            loop = asyncio.get_running_loop()
            self._kept[key] = task, loop.call_later(hold_s, self._expired, key)

    def _free(self, key: int) -> bool:
        """Give up the room that is kept for a task; tell whether there was any."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept[1].cancel()
        return kept is not None

    def _expired(self, key: int) -> None:
        self._free(key)
        self._admit()

    def ended(self, task: Waiter) -> None:
        """Forget a task that takes no more steps."""
        if self._pauses is not None:
            self._pauses.ended(task)
            if self._free(id(task)):
                self._admit()

    def resize(self, cap: int) -> None:
        """Have other slots from now on; whoever is in stays in."""
        self._front = cap if self._front else 0
        self.cap = cap
        if self._times is None:  # no batch is learnt here
            self.batch = Batch(cap)
        self._admit()

    def noted(self, tokens: int, seconds: float, batch: float) -> None:
        """Note an answer, see `Batch.noted`; where more at once pay now, they enter."""
        self.batch.noted(tokens, seconds, batch)
        self.changed()
        self._admit()

    def admit(self) -> None:
        """Let in as many as there is room for: more than before, maybe."""
        self.changed()
        self._admit()

    def _admit(self) -> None:
        """Let as many in as there is room for."""
        while len(self._waiting) and (entering := self._entering()) is not None:
            which, most = entering
            taken = self.running + len(self._kept)
            room = most - taken if taken else math.inf  # then a wider one is alone
            entry = self._waiting.pop(which, time.monotonic(), self.mean_s, room)
            if entry is None:
                return
            self._begin(entry.task, entry.width)
            entry.turn.set_result(None)

    def _entering(self) -> tuple[Which, int] | None:
        """Return which of those that wait may enter, and how many slots may be taken then.

        Room that is kept goes to who presses.
        """
        now_s = time.monotonic()
        starving = self._starving(now_s)
        most = self.limit if starving else self.most + self._front
        pressing: tuple[tuple[Which, int], ...] = (("interactive", most), ("starved", self.limit))
        for which, bound in pressing:
            full = self.running < bound <= self.running + len(self._kept)
            if full and self._waiting.has(which, now_s, self.mean_s):  # only kept ones fill it
                self._free(next(iter(self._kept)))
                break
        taken, count = self.running + len(self._kept), len(self._waiting)
        if _admits(taken, count, self.limit):
            return "starved" if starving else "all", self.limit
        return ("interactive", most) if _admits(taken, count, most) else None

    def service_s(self, name: str) -> float:
        """Return the mean service of steps of a name; of all steps, or a guess, where none is."""
        return self._means.get(name) or self.mean_s or schedule.UNKNOWN_S

    def times_s(self, name: str) -> Floats:
        """Return the last services of steps of a name, shape (n,)."""
        return np.array((self._times or {}).get(name, ()), np.float64)


def nobody(*_: object) -> None:
    """Nobody looks."""


def always() -> bool:
    """Return that it is always its turn."""
    return True
