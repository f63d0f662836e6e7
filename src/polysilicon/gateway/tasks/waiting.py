"""Tasks that wait for their turn: how many may, and who comes next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.tasks.types import Bounds

_FIRST_GUESS_S = 5.0
_WEIGHT = 0.2
_MOST_WAIT_S = 600.0


class Waiting:
    """Ids of tasks in the order in which they came; each costs the same, however many there are.

    Used from one event loop.

    Args:
        bounds: how many may wait, and how many run at once.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._coming = 0
        self._idle: deque[asyncio.Future[None]] = deque()
        self._mean_s = _FIRST_GUESS_S

    def __len__(self) -> int:
        """Return how many there are, those that are being taken in included."""
        return len(self._ids) + self._coming

    def check_room(self) -> None:
        """Raise `ApiError` (429) where no more may wait."""
        if len(self) >= self._bounds.waiting:
            wait_s = min(self._mean_s * len(self) / self._bounds.at_once, _MOST_WAIT_S)
            text = f"{len(self)} tasks wait already, as many as may"
            raise ApiError(429, text, code="queue_full", retry_after_s=max(wait_s, 1.0))

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Count one that is being taken in."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    def took(self, seconds: float) -> None:
        """Note how long a task was under way."""
        self._mean_s += _WEIGHT * (seconds - self._mean_s)

    def put(self, task_id: str) -> None:
        """Add one behind all others, and wake one of those who wait for it."""
        self._ids[task_id] = None
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    def remove(self, task_id: str) -> None:
        """Take one out, if it is there."""
        self._ids.pop(task_id, None)

    async def next(self) -> str:
        """Take out the one that came first, once there is one."""
        while not self._ids:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        return self._ids.popitem(last=False)[0]
