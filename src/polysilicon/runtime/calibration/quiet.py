"""Measuring while others may use the machine too: see it, and measure again what they disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import TypeVar

import psutil

T = TypeVar("T")

DISTURBED = 0.05
"""Share of the machine that others may use before a measurement counts as disturbed."""

_TICK_S = 0.01
_HEARS_LOOPBACK = ("127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1")  # noqa: S104


class Watch:
    """Tells which share of the machine programs other than those that are measured used.

    Args:
        cores: of the machine.
        beside: ids of processes that are measured as this one is, with what they started; None
            where they cannot be told, and so nothing can be told of others.
    """

    def __init__(self, cores: int, beside: Collection[int] | None = ()) -> None:
        self._cores, self._beside = cores, beside
        self._begin_s, self._busy_s, self._own_s = _now(beside or ())

    def elsewhere(self) -> float:
        """Return the share since the watch was made, 0 to 1; 0 where nothing can be told."""
        if self._beside is None:
            return 0.0
        now_s, busy_s, own_s = _now(self._beside)
        wall_s = now_s - self._begin_s
        # The kernel counts in ticks, so one tick a core is nothing.
        others_s = (busy_s - self._busy_s) - (own_s - self._own_s) - self._cores * _TICK_S
        return min(max(others_s / max(wall_s * self._cores, _TICK_S), 0.0), 1.0)


def _now(beside: Collection[int]) -> tuple[float, float, float]:
    """Return wall seconds, core-seconds of all programs, and those of this one and `beside`."""
    times = psutil.cpu_times()
    # Guests' time is in user's already.
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    busy_s = sum(getattr(times, name, 0.0) for name in names)
    measured: dict[int, psutil.Process] = {}
    for root in (os.getpid(), *beside):
        with suppress(psutil.Error):
            process = psutil.Process(root)
            measured |= {one.pid: one for one in (process, *process.children(recursive=True))}
    own_s = 0.0
    for process in measured.values():
        with suppress(psutil.Error):
            used = process.cpu_times()
            own_s += used.user + used.system + used.children_user + used.children_system
    return time.monotonic(), busy_s, own_s


def listening(port: int) -> frozenset[int] | None:
    """Return the ids of the processes that listen at a port of loopback; None if nobody tells."""
    try:
        found = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return None
    there = {
        one.pid
        for one in found
        if one.status == psutil.CONN_LISTEN
        and one.laddr
        and one.laddr.port == port
        and one.laddr.ip in _HEARS_LOOPBACK
    }
    known = frozenset(pid for pid in there if pid)
    return known if known and len(known) == len(there) else None


async def repeat(
    measure: Callable[[], Awaitable[T]],
    *,
    cores: int,
    want: int,
    most: int,
    until_s: float,
    beside: Collection[int] | None = (),
) -> tuple[list[T], float]:
    """Measure until `want` times were undisturbed, and keep the least disturbed ones.

    Args:
        measure: one measurement.
        cores: of the machine.
        want: how many to keep.
        most: how many to try.
        until_s: no further try after this moment of the monotonic clock, once there is one.
        beside: ids of processes that are measured, too; see `Watch`.

    Returns:
        At most `want` results, at least one, and the mean share of the machine that others used.
    """
    tried: list[tuple[float, int, T]] = []
    calm = 0
    while len(tried) < most and calm < want:
        if tried and time.monotonic() > until_s:
            break
        watch = Watch(cores, beside)
        result = await measure()
        share = watch.elsewhere()
        calm += share <= DISTURBED
        tried.append((share, len(tried), result))
    kept = sorted(tried, key=lambda item: item[:2])[:want]
    return [result for _, _, result in kept], sum(share for share, _, _ in kept) / len(kept)
