"""Core-seconds of steps that share this process.

The engine's threads serve many `llm` steps at once, so no step has a thread to read. What the
process used between two moments is divided evenly among the `llm` steps that ran then, by a
virtual clock that advances by used ÷ running: a step's core-seconds are the clock's difference
between its end and its start, and the shares add up to what was used, exactly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol


class Told(Protocol):
    """What an engine in another process tells of a request."""

    cpu_s: float | None
    cores: float | None


TOLD: ContextVar[Told] = ContextVar("told")
"""The usage of the step whose request an engine answers now."""


class SharedCpu:
    """Divides the CPU time of this process among the steps that run in it.

    Args:
        clock: core-seconds that this process has used, all threads together.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_s = clock()
        self._excluded_s = 0.0
        self._running = 0
        self._virtual_s = 0.0

    def _advance(self) -> None:
        now_s = self._clock()
        used_s = max(0.0, now_s - self._last_s - self._excluded_s)
        self._last_s, self._excluded_s = now_s, 0.0
        if self._running:
            self._virtual_s += used_s / self._running

    def begin(self) -> float:
        """Count one more step and return the mark that `end` takes."""
        with self._lock:
            self._advance()
            self._running += 1
            return self._virtual_s

    def end(self, mark_s: float) -> float:
        """Count one step less and return the core-seconds that it used since `begin`."""
        with self._lock:
            self._advance()
            self._running -= 1
            return self._virtual_s - mark_s

    def exclude(self, cpu_s: float) -> None:
        """Leave out core-seconds that a tool used in a thread of this process."""
        with self._lock:
            self._excluded_s += cpu_s
