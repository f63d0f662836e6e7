"""Which waiting step runs next."""

from __future__ import annotations

import math

from polysilicon.schedule.types import Codes, Floats, compiled
from polysilicon.workload.classes import INTERACTIVE

_QUANTUM_S = 0.1
"""Tasks with less service left than this are alike; each doubling of it is a level of its own."""

_SETTLED = math.sqrt(2.0)
"""Half a level: by so much the mean may be off before what is usual is told anew."""

REMEMBERED = 256
"""Tasks of an agent by whose service what is left of others is told: the last that ended; a power
of two."""


@compiled
def expected_left_s(service_s: Floats, first: int, ended: int, attained_s: float) -> float:
    """Return the service that a task is expected to need still.

    The mean of what was left of those that took longer than it has had. Where none is known it is
    as much again as it has had, so that the order is that of least attained service: the mean of
    what is left under a Pareto law with exponent 2, which has no scale of its own.

    Args:
        service_s: seconds of service of tasks that ended, `REMEMBERED` places for each agent; the
            latest takes the place of the oldest.
        first: where the places of the task's agent begin.
        ended: tasks of its agent that ended so far.
        attained_s: seconds of service that the task has had.
    """
    longer, whole_s = 0, 0.0
    for at in range(first, first + min(ended, REMEMBERED)):
        if service_s[at] > attained_s:
            longer += 1
            whole_s += service_s[at]
    return whole_s / longer - attained_s if longer > 0 else attained_s


@compiled
def looks(ended: int) -> bool:
    """Tell whether it is time to look what is usual: after 1, 2, 4 … tasks that ended.

    After the first `REMEMBERED` it is after each `REMEMBERED` more, so that none is in two looks.
    """
    return ended & (ended - 1) == 0 or ended & (REMEMBERED - 1) == 0


@compiled
def usual_s(service_s: Floats, first: int, ended: int, held_s: float) -> float:
    """Return the service by which tasks of an agent that begin are ordered, when `looks`.

    The mean of those that ended last; after the first `REMEMBERED` what was held stays, but where
    it is off by more than half a level. A mean that went with each task would put some of a mean
    near the edge of a level on one side and some on the other, and these would pass those by.

    Args:
        service_s: as of `expected_left_s`.
        first: likewise.
        ended: tasks of the agent that ended so far, with the one that just did.
        held_s: what was returned the last time; 0 for the first.
    """
    mean_s = expected_left_s(service_s, first, ended, 0.0)
    settled = ended > REMEMBERED and held_s / _SETTLED <= mean_s <= held_s * _SETTLED
    return held_s if settled else mean_s


@compiled
def doublings(seconds: float) -> int:
    """Return how often service doubles the quantum; 0 below it.

    Levels instead of seconds, as in multi-level feedback queues, keep tasks of about the same
    service from taking turns at every step (Autellix, arXiv 2502.13965, section 4.2).
    """
    if seconds < _QUANTUM_S:
        return 0
    return 1 + math.floor(math.log2(seconds / _QUANTUM_S))


@compiled
def level(service_s: Floats, first: int, ended: int, usual_s: float, attained_s: float) -> int:
    """Return the level of a task, by the service that it is expected to need still.

    Tasks of an agent that begin are all on the level of what is usual of them, and so first come,
    first served. One that has had service is as many levels from there as what is left of it is
    halvings or doublings from that, to the nearest one: so near the usual nothing parts like tasks.

    Args:
        service_s: as of `expected_left_s`.
        first: likewise.
        ended: likewise.
        usual_s: of its agent, by `usual_s`; 0 where no task of it ended.
        attained_s: seconds of service that the task has had.
    """
    if usual_s <= 0.0:
        return doublings(expected_left_s(service_s, first, ended, attained_s))
    if attained_s <= 0.0:
        return doublings(usual_s)
    left_s = expected_left_s(service_s, first, ended, attained_s)
    if left_s <= 0.0:
        return 0
    usual = 1 + math.floor(math.log2(usual_s / _QUANTUM_S))  # below 0 where it is next to nothing
    return max(0, usual + math.floor(math.log2(left_s / usual_s) + 0.5))


@compiled
def next_step(
    levels: Codes,
    ready_s: Floats,
    klass: Codes,
    slack_s: Floats,
    saved_s: Floats,
    now_s: float,
    starve_s: float,
) -> int:
    """Return the index of the waiting step that runs next.

    In this order: interactive steps and those that have waited for `starve_s` or longer; steps that
    still meet their deadline but would not after as much waiting as they have had; the least
    service that is left of the task, by level; the most prefix cache found; first come, first
    served. Equals go by their place.

    Args:
        levels: of each step's task, by `level`, shape (waiting,).
        ready_s: when each step became ready, shape (waiting,).
        klass: `INTERACTIVE` or `BATCH`, shape (waiting,).
        slack_s: seconds until each step can no longer meet its deadline; infinite without one,
            negative where it is too late, shape (waiting,).
        saved_s: seconds that the prefix cache saves each if it runs now, shape (waiting,).
        now_s: the moment, on the clock of `ready_s`.
        starve_s: seconds of waiting after which nothing but the class counts.

    Returns:
        Index into the arrays; -1 where they are empty.
    """
    best = -1
    best_front, best_urgent, best_level = 2, 2, 0
    for i in range(levels.size):
        waited_s = now_s - ready_s[i]
        starved = waited_s >= starve_s
        front = 0 if klass[i] == INTERACTIVE or starved else 1
        urgent = 0 if 0.0 <= slack_s[i] < max(waited_s, 0.0) else 1
        mine = 0 if starved else levels[i]
        if best < 0:
            better = True
        elif front != best_front:
            better = front < best_front
        elif urgent != best_urgent:
            better = urgent < best_urgent
        elif urgent == 0 and slack_s[i] != slack_s[best]:
            better = slack_s[i] < slack_s[best]
        elif mine != best_level:
            better = mine < best_level
        elif saved_s[i] != saved_s[best]:
            better = saved_s[i] > saved_s[best]
        else:
            better = ready_s[i] < ready_s[best]
        if better:
            best, best_front, best_urgent, best_level = i, front, urgent, mine
    return best
