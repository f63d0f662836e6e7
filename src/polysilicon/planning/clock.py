"""When a search has to end: its time, and whoever says stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from polysilicon.errors import PolysiliconError

Stop = Callable[[], bool]


class OutOfTime(PolysiliconError):  # noqa: N818
    """Time is up, or somebody said stop."""


class Clock:
    """Tells how much time is left; asked again and again within each round.

    Args:
        time_s: seconds from now.
        stop: True ends the search as well.
    """

    def __init__(self, time_s: float = float("inf"), stop: Stop | None = None) -> None:
        self.started = time.perf_counter()
        self.until = self.started + time_s
        self._stop, self.stopped = stop, False

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.started

    @property
    def left_s(self) -> float:
        """Until time is up, not below 0."""
        return max(self.until - time.perf_counter(), 0.0)

    @property
    def status(self) -> Literal["time", "stopped"]:
        """Why the search ended."""
        return "stopped" if self.stopped else "time"

    def over(self) -> bool:
        """Tell whether the search has to end."""
        self.stopped = self.stopped or (self._stop is not None and self._stop())
        return self.stopped or self.left_s <= 0

    def check(self) -> None:
        """End the search if it has to end.

        Raises:
            OutOfTime: it has.
        """
        if self.over():
            raise OutOfTime("time is up")

    def allow(self, time_s: float) -> None:
        """Give so many seconds more, for what has nothing to do with the problem."""
        self.until += time_s

    def extend(self, time_s: float) -> None:
        """Give so many seconds from now, whatever anybody says, to end in good order."""
        self.until = time.perf_counter() + time_s
        self._stop, self.stopped = None, False
