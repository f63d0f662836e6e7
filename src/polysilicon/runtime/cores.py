"""One budget of a machine's cores, which its engine's threads and its tools share."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median_low
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polysilicon.runtime.gates import Gate

LEAST = 0.5
"""Share of the cores that tools which nobody waits for may fill whatever the engine does."""

QUICK_S = 0.05
"""A tool that uses a core for less than this holds an engine up for about as long as one pass."""

TURN_S = 5.0
"""For so long an engine takes further steps although some wait for another one on its cores."""

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
    """

    def __init__(self, count: int, threads: int = 0) -> None:
        self.count = count
        self.threads = self._own = min(threads, count)
        self.freed: Callable[[], None] = _nobody
        self._computing = 0
        self._took_s: dict[tuple[str, str], deque[float]] = {}

    @property
    def engine(self) -> int:
        """Cores that the engine's threads have now."""
        return self.threads if self._computing else 0

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
        return self.threads > 0 and took_s is not None and median_low(took_s) < QUICK_S

    def may_be_quick(self, agent: str, name: str) -> bool:
        """Tell whether they are, or are not known yet."""
        known = (agent, name) in self._took_s or len(self._took_s) >= _MOST_NAMES
        return self.quick(agent, name) if known else self.threads > 0

    def computes(self, computing: bool) -> None:  # noqa: FBT001 - it is told nothing else
        """Note that an engine has requests from now on, or has none."""
        self._computing = max(self._computing + (1 if computing else -1), 0)
        self.freed()

    def beside_servers(self, servers: int) -> None:
        """Note how many servers of other engines compute on these cores."""
        self.threads = self.count if servers else self._own


class Turns:
    """Engines on the same cores, which compute one after the other.

    Threads of an engine wait for each other some hundred times a token, so that two engines at once
    take many times as long as in turn. Whoever computes takes further steps for `TURN_S`; then, if
    steps wait for another one, it ends those that it has.

    Args:
        gates: of the engines.
        cores: that they compute on; None where no tools run there.
    """

    def __init__(self, gates: Sequence[Gate], cores: Cores | None) -> None:
        self._gates, self._cores = gates, cores
        self._since_s = -math.inf
        for gate in gates:
            gate.turn, gate.busy = partial(self._may_take, gate), partial(self._computes, gate)

    def _may_take(self, gate: Gate) -> bool:
        others = [other for other in self._gates if other is not gate]
        if any(other.running for other in others):
            return False
        asked = gate.running and any(other.waiting for other in others)
        return not asked or time.monotonic() - self._since_s < TURN_S

    def _computes(self, gate: Gate, computing: bool) -> None:  # noqa: FBT001 - as `Cores.computes`
        if self._cores is not None:
            self._cores.computes(computing)
        if computing:
            self._since_s = time.monotonic()
            return
        for other in self._gates:
            if other is not gate:
                other.admit()


def _nobody() -> None:
    """Nobody looks."""
