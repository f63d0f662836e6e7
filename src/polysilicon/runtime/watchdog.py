"""Ends an agent that blocks the event loop: a loop without `await`, or a blocking call."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

_BEAT_S = 0.5


class TaskBlockedError(BaseException):
    """An agent function ran too long without an `await`; raised inside it.

    No `Exception`, so that a loop that catches those is ended too.
    """


class Watchdog:
    """Raises `TaskBlockedError` in a task that keeps the event loop for over `limit_s` seconds.

    A heartbeat on the loop is watched by a thread; when it stops, a signal interrupts the main
    thread, and the handler raises inside the task that runs. Works on the main thread of Unix;
    elsewhere it does nothing.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._beat_s = time.monotonic()
        self._rests = False
        self._stopped = threading.Event()
        self._heart: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._previous: object = None

    async def __aenter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM"):
            self._previous = signal.signal(signal.SIGALRM, self._interrupt)
            self._heart = asyncio.create_task(self._beat())
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._thread is not None and self._heart is not None:
            self._heart.cancel()
            self._thread.join()
            signal.signal(signal.SIGALRM, self._previous)  # type: ignore[arg-type]  # as signal() gave it

    def rest(self, *, resting: bool) -> None:
        """Blame nobody while the interpreter stands still; any thread may say when that is."""
        self._beat_s, self._rests = time.monotonic(), resting

    async def _beat(self) -> None:
        while True:
            self._beat_s = time.monotonic()
            await asyncio.sleep(_BEAT_S)

    def _watch(self) -> None:
        while not self._stopped.wait(_BEAT_S):
            if not self._rests and time.monotonic() - self._beat_s > self._limit_s:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
                self._stopped.wait(self._limit_s)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        late_s = time.monotonic() - self._beat_s
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return
        if task is not None and late_s > self._limit_s:
            raise TaskBlockedError(f"ran {late_s:.0f} s without an await")
