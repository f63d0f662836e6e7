"""Which waiting step runs next."""

from __future__ import annotations

import math

from polysilicon.schedule.types import Codes, Floats, compiled
from polysilicon.workload.classes import INTERACTIVE

_QUANTUM_S = 0.1
"""Tasks that had less service than this are alike; each doubling of it is a level of its own."""


@compiled
def level(attained_s: float) -> int:
    """Return how often the service that a task has had doubles the quantum; 0 below it.

    Levels instead of seconds, as in multi-level feedback queues, keep tasks of about the same
    service from taking turns at every step (Autellix, arXiv 2502.13965, section 4.2).
    """
    if attained_s < _QUANTUM_S:
        return 0
    return 1 + math.floor(math.log2(attained_s / _QUANTUM_S))


@compiled
def next_step(
    attained_s: Floats,
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
    attained service of the task, by level; the most prefix cache found; first come, first served.
    Equals go by their place.

    Args:
        attained_s: seconds of service that each step's task has had, shape (waiting,).
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
    for i in range(attained_s.size):
        waited_s = now_s - ready_s[i]
        starved = waited_s >= starve_s
        front = 0 if klass[i] == INTERACTIVE or starved else 1
        urgent = 0 if 0.0 <= slack_s[i] < max(waited_s, 0.0) else 1
        mine = 0 if starved else level(attained_s[i])
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
