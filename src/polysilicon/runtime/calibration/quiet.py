"""Measuring while others may use the machine too: see it, and measure again what they disturbed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import psutil

T = TypeVar("T")

DISTURBED = 0.05
"""Share of the machine that others may use before a measurement counts as disturbed."""

_TICK_S = 0.01


class Watch:
    """Tells which share of the machine programs other than this one used.

    Args:
        cores: of the machine.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._begin_s, self._busy_s, self._own_s = _now()

    def elsewhere(self) -> float:
        """Return the share since the watch was made, 0 to 1."""
        now_s, busy_s, own_s = _now()
        wall_s = now_s - self._begin_s
        # The kernel counts in ticks, so one tick a core is nothing.
        others_s = (busy_s - self._busy_s) - (own_s - self._own_s) - self._cores * _TICK_S
        return min(max(others_s / max(wall_s * self._cores, _TICK_S), 0.0), 1.0)


def _now() -> tuple[float, float, float]:
    """Return wall seconds, core-seconds of all programs, and those of this one."""
    times = psutil.cpu_times()
    # Guests' time is in user's already.
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    busy_s = sum(getattr(times, name, 0.0) for name in names)
    process = psutil.Process()
    own = process.cpu_times()
    own_s = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            used = child.cpu_times()
            own_s += used.user + used.system + used.children_user + used.children_system
    return time.monotonic(), busy_s, own_s


async def repeat(
    measure: Callable[[], Awaitable[T]], *, cores: int, want: int, most: int, until_s: float
) -> tuple[list[T], float]:
    """Measure until `want` times were undisturbed, and keep the least disturbed ones.

    Args:
        measure: one measurement.
        cores: of the machine.
        want: how many to keep.
        most: how many to try.
        until_s: no further try after this moment of the monotonic clock, once there is one.

    Returns:
        At most `want` results, at least one, and the mean share of the machine that others used.
    """
    tried: list[tuple[float, int, T]] = []
    calm = 0
    while len(tried) < most and calm < want:
        if tried and time.monotonic() > until_s:
            break
        watch = Watch(cores)
        result = await measure()
        share = watch.elsewhere()
        calm += share <= DISTURBED
        tried.append((share, len(tried), result))
    kept = sorted(tried, key=lambda item: item[:2])[:want]
    return [result for _, _, result in kept], sum(share for share, _, _ in kept) / len(kept)
