"""What a fleet's queues and tails teach for the next: parts of SLOs, waits and caps.

An agent whose tasks are late by the queues plans with less of its SLO, until each of its steps goes
where it is fastest; then its tasks wait less where they wait most, as much less as they are late.
"""

from __future__ import annotations

import numpy as np

from polysilicon.placement.case import Case, Mask, State
from polysilicon.placement.program import Numbers
from polysilicon.placement.queueing import cap, wait_share

LEAST_WAIT = 1e-3
"""Mean wait over mean service that pools are not asked to go below: next to none."""

# An agent whose tasks need less of its SLO than this may plan with more.
_ROOM = 0.95
# Factors nearer to each other than this are not told apart.
_NEAR = 1.04
# Pools where tasks wait so much of what they wait where they wait most are hurried together.
_MUCH = 0.2
_SPARE = 0.9
_CLOSE = 1e-3


class Span:
    """Which parts of an SLO were kept, the largest, and which were missed, the least."""

    def __init__(self) -> None:
        """Begin where nothing is known."""
        self.kept, self.missed = 0.0, float("inf")

    def next(self, now: float, seconds: float, most_s: float) -> float | None:
        """Return the part to plan with next; None where there is no need.

        Args:
            now: the part that was planned with.
            seconds: that came of it.
            most_s: the SLO.
        """
        if seconds > most_s:
            self.missed = min(self.missed, now)
            then = now * max(most_s / seconds, 0.5) * 0.98
        else:
            self.kept = max(self.kept, now)
            then = now * min(most_s / seconds, 1.5)
        if self.kept > 0.0 and np.isfinite(self.missed):
            then = float(np.sqrt(self.kept * self.missed))
        near = self.missed < self.kept * _NEAR or then <= self.kept
        if seconds <= most_s and (seconds > most_s * _ROOM or near):
            return None
        return then


def shorten(case: Case, state: State, agent: str, by: float, pools: tuple[Numbers, ...]) -> bool:
    """Let the pools where an agent's steps wait most make them wait less; tell whether any can.

    Args:
        case: what is to be placed.
        state: its waits and caps are changed.
        agent: whose tasks are late.
        by: what is left of the waits.
        pools: shares of pairs, and units, servers and busy shares of options, as they came out.
    """
    share, units, servers, busy = pools
    pairs = case.pairs
    mine = np.array([one.agent == agent for one in case.classes.each], dtype=bool)
    waits = wait_share(servers, busy, case.cv2)
    steps = share * case.classes.rates[pairs.code] * mine[pairs.code]
    spent = steps * (waits * case.mean_s)[pairs.option]
    there = np.bincount(pairs.option, weights=spent, minlength=len(units))
    much = (there > _MUCH * there.max()) & (there > 0)
    if not (much & (state.wait > LEAST_WAIT)).any():
        return False
    kinds = [(option.role, option.model) for option in case.options]
    alike = {kinds[place] for place in np.flatnonzero(much)}
    hurried = np.array([kind in alike for kind in kinds], dtype=bool)
    now = np.where(much, np.minimum(state.wait, waits), state.wait)
    state.wait = np.where(hurried, np.maximum(now * by, LEAST_WAIT), state.wait)
    lower = cap(np.where(units > 0, servers, state.servers), state.wait, case.cv2)
    state.cap = np.where(hurried, np.minimum(state.cap, lower), state.cap)
    return True


def left_for_waits(seconds: float, still_s: float, most_s: float) -> float | None:
    """Return what may be left of waits for tasks to keep an SLO; None where they cannot.

    Args:
        seconds: the tasks' percentile with waits.
        still_s: without any.
        most_s: the SLO.
    """
    if still_s >= most_s or seconds <= still_s:
        return None
    return float(np.clip(_SPARE * (most_s - still_s) / (seconds - still_s), 0.2, 0.8))


def lower_caps(case: Case, state: State, loose: Mask, servers: Numbers) -> None:
    """Lower the caps of pools that came out with fewer servers than their caps are for.

    Args:
        case: what is to be placed.
        state: is changed.
        loose: the pools whose steps wait longer than they may.
        servers: that came out.
    """
    lower = cap(servers, state.wait, case.cv2)
    state.servers = np.where(loose, np.minimum(state.servers, servers), state.servers)
    state.cap = np.where(loose, np.minimum(state.cap * (1.0 - _CLOSE), lower), state.cap)
