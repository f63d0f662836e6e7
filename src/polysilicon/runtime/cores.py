"""One budget of a machine's cores, which its engine's threads and its tools share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from statistics import median_low

LEAST = 0.5
"""Share of the cores that tools which nobody waits for may fill whatever the engine does."""

QUICK_S = 0.05
"""A tool that uses a core for less than this holds an engine up for about as long as one pass."""

_MOST_NAMES = 1000
"""Tools of agents whose core-seconds are kept; others are not quick."""

_TIMES = 5
"""Of which the median counts: the first of a worker imports what it needs."""


class Cores:
    """Who has which part of the cores.

    An engine that computes takes as many as it has threads; tools that nobody waits for may fill
    what is left, or `LEAST` of the cores where that is more. They yield to the engine; without that
    share tasks of nothing but tools would stand still while the engine has requests.

    Quick tools do not ask it, and do not yield: behind one that yields for seconds they would wait
    many times as long as they take. One that is not known yet enters, too, but yields. They are
    known by their agent and name: an agent that somebody waits for may call for a moment what
    another one calls for long.

    Servers of other engines may share them: each is taken to compute with all of them.

    Args:
        count: cores.
        threads: that the engine computes with; 0 without one.

    Attributes:
        servers: how many servers of other engines share them.
        engine: cores that an engine's threads have now.
    """

    def __init__(self, count: int, threads: int = 0) -> None:
        self.count = count
        self.threads = min(threads, count)
        self.servers = self.engine = 0
        self.freed: Callable[[], None] = _nobody
        self._took_s: dict[tuple[str, str], deque[float]] = {}

    @property
    def for_tools(self) -> int:
        """Cores that tools which nobody waits for may fill now."""
        return max(self.count - self.engine, math.ceil(LEAST * self.count))

    def took(self, agent: str, name: str, cpu_s: float) -> None:
        """Note for how long a tool of an agent and a name used a core."""
        key = agent, name
        if key in self._took_s or len(self._took_s) < _MOST_NAMES:
            self._took_s.setdefault(key, deque(maxlen=_TIMES)).append(cpu_s)

    def quick(self, agent: str, name: str) -> bool:
        """Tell whether such tools are known to be quick, beside an engine's threads."""
        took_s = self._took_s.get((agent, name))
        return self._shared and took_s is not None and median_low(took_s) < QUICK_S

    def may_be_quick(self, agent: str, name: str) -> bool:
        """Tell whether they are, or are not known yet."""
        known = (agent, name) in self._took_s or len(self._took_s) >= _MOST_NAMES
        return self.quick(agent, name) if known else self._shared

    @property
    def _shared(self) -> bool:
        """Whether an engine computes on them at times."""
        return self.threads > 0 or self.servers > 0

    def computes(self, computing: bool) -> None:  # noqa: FBT001 - it is told nothing else
        """Note that the engine has requests from now on, or has none."""
        self.taken(self.threads if computing else 0)

    def taken(self, threads: int) -> None:
        """Note with how many threads an engine computes from now on; 0 where none does."""
        self.engine = min(threads, self.count)
        self.freed()


def _nobody() -> None:
    """Nobody looks."""
