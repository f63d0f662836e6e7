"""What happens in the gateway, as it happens, for whoever looks on: a bounded feed of events.

Kinds of events, and what their `data` holds:

`begin`     a step has room and begins: its `StepRecord`, as far as it is known
`step`      a step ended: its `StepRecord`
`decision`  a step was placed: the dispatcher's `Decision`
`task`      a task of `/v1/tasks` changed: its `TaskEvent` (gateway/tasks/types.py)
`fleet`     the fleet file was read anew: names of the pools
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

_KEPT = 2000


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        seq: grows by one with each event; a gap tells a reader how many it has missed.
        at_s: seconds since the gateway's folder was made (the clock of the step records).
        kind: see above.
        data: by kind.
    """

    seq: int
    at_s: float
    kind: str
    data: Any


class Feed:
    """The last events, and a way to wait for the next ones. Used from one event loop.

    Args:
        clock: of the step records.
        kept: how many events are kept.

    Attributes:
        closed: set once there are no more.
    """

    def __init__(self, clock: Callable[[], float], kept: int = _KEPT) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=kept)
        self._seq = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.closed = asyncio.Event()

    @property
    def seq(self) -> int:
        """Number of the last event; 0 before the first."""
        return self._seq

    def publish(self, kind: str, data: Any) -> None:
        """Add an event; the oldest is forgotten where there is no more room."""
        self._seq += 1
        self._events.append(Event(seq=self._seq, at_s=self._clock(), kind=kind, data=data))
        self._wake()

    def close(self) -> None:
        """End all who follow, once they have what there is."""
        self.closed.set()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def since(self, after: int) -> list[Event]:
        """Return the events after number `after` that are still kept, oldest first."""
        new = min(self._seq - after, len(self._events))
        return [self._events[at] for at in range(-new, 0)] if new > 0 else []

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the kept events after number `after`, and then the new ones as they come.

        It ends when the feed is closed. A reader slower than the events misses the oldest; it sees
        that by `seq`.
        """
        while True:
            for event in self.since(after):
                after = event.seq
                yield event
            if after < self._seq:
                continue
            if self.closed.is_set():
                return
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            finally:
                if future in self._waiting:
                    self._waiting.remove(future)
