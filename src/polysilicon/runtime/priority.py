"""Who goes before whom on this machine's cores, as far as the system can be told.

Tools that nobody waits for yield to the engine. Its threads wait for each other at every operation,
so a tool that takes one's core stops all of them: on two cores a busy process made LLM steps 3.1
times as long at nice 0 and 1.2 times at nice 10, and itself got 0.72 and 0.20 of a core
(`benchmarks/priority.py`).

They stand back for tools that somebody waits for: niceness alone lets a process that wakes wait for
the time slice of the one that runs, and the kernel, which finds no core idle, may put two that
somebody waits for on the same one. Linux's class SCHED_IDLE does neither, and takes whatever is
left of the cores all the same.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

TOOL_NICE = 10
"""Niceness of worker and sandbox processes for tasks that nobody waits for."""

_LINGER_S = 1.0
"""Whoever was there so lately, or the next one, comes soon, mostly, and finds nothing in its way.
It costs those that stand back nothing but where others want the cores, too."""

_MOST_S = 0.5
"""After so long it is looked whether one that stands back is ready, and had a core for less than
half of the time. If so they come back, and as long must pass before again for as long: an idle
process gets next to nothing beside others, and what it runs has a time limit."""

_LEAST = 0.5

_ROUNDS = 3
"""What a thread starts while it stands back does so, too, even between the look and the return."""


def yield_to_engine(pid: int = 0) -> None:
    """Let the engine's threads go before a process (0 is this one), if it is still there.

    Where Linux groups processes by session (autogroup in sched(7)), niceness counts within one, so
    that bubblewrap's, which need one of their own, do not yield. They would to all of the machine
    if their session did, and run late wherever anybody else computes.
    """
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            if os.getpriority(os.PRIO_PROCESS, pid) < TOOL_NICE:
                os.setpriority(os.PRIO_PROCESS, pid, TOOL_NICE)


class StandingBack:
    """Lets processes stand back while steps run that go before theirs; used from one event loop.

    Where the system would not let them come back (that takes a limit on niceness of 10, or the
    capability CAP_SYS_NICE), or has no such class, they yield by their niceness alone.

    Args:
        processes: numbers of those that stand back, asked each time.
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes
        self._before = 0
        self._last_s = -math.inf
        self._back: set[int] = set()
        self._next: asyncio.TimerHandle | None = None
        self._since_s = self._came_s = self._not_before_s = 0.0
        self._had_s: dict[int, float] = {}

    @contextmanager
    def while_this_runs(self) -> Iterator[None]:
        """Let them stand back for as long as this context lasts, and a moment longer."""
        self._before += 1
        if self._back:
            self._join(time.monotonic())
        elif self._before == 1:
            self._stand_back()
        try:
            yield
        finally:
            self._before -= 1
            self._last_s = time.monotonic()

    def _wanted(self, now_s: float) -> bool:
        return self._before > 0 or now_s < self._last_s + _LINGER_S

    def _at(self, moment_s: float, then: Callable[[], None]) -> None:
        if self._next is not None:
            self._next.cancel()
        wait_s = moment_s - time.monotonic()
        self._next = asyncio.get_running_loop().call_later(wait_s, then)

    def _stand_back(self) -> None:
        now_s = time.monotonic()
        if now_s < self._not_before_s:
            self._at(self._not_before_s, self._stand_back)
            return
        if not self._wanted(now_s) or not _may_come_back():
            return
        # As if since before, by what has not been made up for of the stretch before.
        unpaid_s = (self._came_s - self._since_s) - (now_s - self._came_s)
        self._since_s = now_s - max(unpaid_s, 0.0)
        if unpaid_s <= 0.0:
            self._had_s = {}
        self._join(now_s)
        self._at(self._since_s + _MOST_S, self._look)

    def _join(self, now_s: float) -> None:
        """Let those stand back that do not yet."""
        new = set(self._processes()) - self._back
        if not new:
            return
        self._back |= new
        threads = [thread for pid in new for thread in _threads(pid)]
        for thread in threads:
            # As if it had had a core for the part of the stretch in which it was not there.
            self._had_s.setdefault(thread, _core_s(thread) - (now_s - self._since_s))
        _schedule(threads, "SCHED_IDLE")

    def _look(self) -> None:
        """See after a stretch who got on; where nobody is waited for any more, come back.

        Where one did not get on they come back, and stand back again after as long; else they do
        for another stretch.
        """
        now_s = time.monotonic()
        if not self._wanted(now_s):
            self._come_back()
        elif self._back and self._starved(now_s - self._since_s):
            self._come_back()
            self._not_before_s = now_s + _MOST_S
            self._at(self._not_before_s, self._stand_back)
        else:
            threads = {pid: _threads(pid) for pid in self._back}
            self._back = {pid for pid, its in threads.items() if its}  # the others are gone
            self._had_s = {thread: _core_s(thread) for its in threads.values() for thread in its}
            self._since_s = now_s
            self._join(now_s)
            self._at(now_s + _MOST_S, self._look)

    def _starved(self, seconds: float) -> bool:
        """Tell whether a thread is ready that had a core for too little of the last seconds."""
        return any(
            _ready(thread)
            and not _core_s(thread) - self._had_s.get(thread, 0.0) >= _LEAST * seconds
            for pid in self._back
            for thread in _threads(pid)
        )

    def _come_back(self) -> None:
        if self._back:
            self._came_s = time.monotonic()
        back, self._back = self._back, set()
        for _ in range(_ROUNDS):
            idle = [thread for pid in back for thread in _family(pid) if _idle(thread)]
            if not idle:
                return
            _schedule(idle, "SCHED_OTHER")


def _threads(pid: int) -> list[int]:
    """Return the threads of a process; none where it is gone."""
    with suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - quicker
    return []


def _core_s(thread: int) -> float:
    """Return for how long a thread has had a core; NaN where the system does not tell.

    Source: the first field of schedstat, linux/Documentation/scheduler/sched-stats.rst.
    """
    try:
        return int(Path(f"/proc/{thread}/schedstat").read_text().split()[0]) * 1e-9
    except (OSError, ValueError, IndexError):
        return math.nan


def _ready(thread: int) -> bool:
    """Tell whether a thread has a core or waits for one."""
    with suppress(OSError):
        return Path(f"/proc/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    return False


def _family(pid: int) -> Iterator[int]:
    """Yield the threads of a process and of all that it started, and these."""
    for thread in _threads(pid):
        yield thread
        children = ""
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{thread}/children").read_text()
        for child in children.split():
            yield from _family(int(child))


def _idle(thread: int) -> bool:
    with suppress(OSError):
        return os.sched_getscheduler(thread) == os.SCHED_IDLE
    return False


def _schedule(threads: Iterable[int], policy: str) -> None:
    """Put threads under a policy of the kernel; one that is gone is passed over."""
    for thread in threads:
        with suppress(OSError):
            os.sched_setscheduler(thread, getattr(os, policy), os.sched_param(0))


@cache
def _may_come_back() -> bool:
    """Tell whether a thread that stood back may come back, by one that tries with itself."""
    found = []

    def attempt() -> None:
        nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(nice, TOOL_NICE))
        for policy in ("SCHED_IDLE", "SCHED_OTHER"):
            os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
        found.append(True)

    if hasattr(os, "SCHED_IDLE"):
        thread = threading.Thread(target=lambda: _quietly(attempt))
        thread.start()
        thread.join()
    return bool(found)


def _quietly(work: Callable[[], None]) -> None:
    with suppress(OSError):
        work()
