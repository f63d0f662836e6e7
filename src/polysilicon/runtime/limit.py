"""How long a task may take: a clock that can stand still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Limit:
    """Counts the seconds of a task, but for those in which it `stands`.

    Args:
        limit_s: that it may take.

    Attributes:
        over: is done when they are over.
    """

    def __init__(self, limit_s: float) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left_s, self._stands = limit_s, 0
        self._goes_on()

    @contextmanager
    def stands(self) -> Iterator[None]:
        """Stand still meanwhile; also where several lines of a task have it stand."""
        if self._stands == 0:
            self._timer.cancel()
            self._left_s -= time.monotonic() - self._since_s
        self._stands += 1
        try:
            yield
        finally:
            self._stands -= 1
            if self._stands == 0 and not self.over.done():
                self._goes_on()

    def close(self) -> None:
        """Count no longer."""
        self._timer.cancel()
        self.over.cancel()

    def _goes_on(self) -> None:
        self._since_s = time.monotonic()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(self._left_s, 0.0), self._ends)

    def _ends(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
