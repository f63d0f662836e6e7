"""How long tasks of each agent took, and so what is left of one that is under way."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque

_KEPT = 256
"""Tasks of an agent that are remembered, the last ones."""


class Lengths:
    """Seconds of service of the tasks that ended, by agent."""

    def __init__(self) -> None:
        self._last: dict[str, deque[float]] = {}
        self._sorted: dict[str, list[float]] = {}

    def ended(self, agent: str, service_s: float) -> None:
        """Note what service a task had in all."""
        last, ordered = self._last.setdefault(agent, deque()), self._sorted.setdefault(agent, [])
        if len(last) == _KEPT:
            ordered.remove(last.popleft())
        last.append(service_s)
        insort(ordered, service_s)

    def left_s(self, agent: str, attained_s: float) -> float:
        """Return the service that a task is expected to need still.

        The mean of what was left of those that took longer than it has had. Where none is known it
        is as much again as it has had, so that the order is that of least attained service: the
        mean of what is left under a Pareto law with exponent 2, which has no scale of its own.

        Args:
            agent: of the task.
            attained_s: seconds of service that it has had.
        """
        ordered = self._sorted.get(agent, [])
        longer = ordered[bisect_right(ordered, attained_s) :]
        return sum(longer) / len(longer) - attained_s if longer else attained_s
