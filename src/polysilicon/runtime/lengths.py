"""How long tasks of each agent took, and so what is left of one that is under way."""

from __future__ import annotations

import numpy as np

from polysilicon import schedule
from polysilicon.schedule.types import Floats


class Lengths:
    """Seconds of service of the tasks that ended last, by agent."""

    def __init__(self) -> None:
        self._last: dict[str, Floats] = {}
        self._ended: dict[str, int] = {}

    def ended(self, agent: str, service_s: float) -> None:
        """Note what service a task had in all."""
        if agent not in self._last:
            self._last[agent] = np.zeros(schedule.REMEMBERED)
        count = self._ended.get(agent, 0)
        self._last[agent][count % schedule.REMEMBERED] = service_s
        self._ended[agent] = count + 1

    def left_s(self, agent: str, attained_s: float) -> float:
        """Return the service that a task is expected to need still.

        Args:
            agent: of the task.
            attained_s: seconds of service that it has had.
        """
        last = self._last.get(agent)
        if last is None:
            return attained_s
        return float(schedule.expected_left_s(last, 0, self._ended[agent], attained_s))
