"""How long tasks of each agent took, and so which of those under way go first."""

from __future__ import annotations

import numpy as np

from polysilicon import schedule
from polysilicon.schedule.types import Floats, plain

_doublings, _looks = plain(schedule.doublings), plain(schedule.looks)


class Lengths:
    """Seconds of service of the tasks that ended last, by agent."""

    def __init__(self) -> None:
        self._last: dict[str, Floats] = {}
        self._ended: dict[str, int] = {}
        self._usual_s: dict[str, float] = {}

    def ended(self, agent: str, service_s: float) -> None:
        """Note what service a task had in all."""
        if agent not in self._last:
            self._last[agent] = np.zeros(schedule.REMEMBERED)
        last, count = self._last[agent], self._ended.get(agent, 0)
        last[count % schedule.REMEMBERED] = service_s
        self._ended[agent] = count + 1
        if _looks(count + 1):
            held_s = self._usual_s.get(agent, 0.0)
            self._usual_s[agent] = schedule.usual_s(last, 0, count + 1, held_s)

    def level(self, agent: str, attained_s: float) -> int:
        """Return the level of a task by the service that it is expected to need still.

        Args:
            agent: of the task.
            attained_s: seconds of service that it has had.
        """
        last = self._last.get(agent)
        if last is None:
            return _doublings(attained_s)
        usual_s = self._usual_s[agent]
        return schedule.level(last, 0, self._ended[agent], usual_s, attained_s)
