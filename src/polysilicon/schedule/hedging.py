"""When it pays to ask a second pool, and for how long a slot is kept for a task that paused.

Asked at most once a step, of a few numbers, and so not compiled.
"""

from __future__ import annotations

import math

import numpy as np

from polysilicon.schedule.choice import IDLE_SHARE
from polysilicon.schedule.types import Floats

TELLING_TIMES = 20
"""Fewer services tell nothing of a tail."""

TAIL = 0.9
"""Share of the services after which a second request may go out."""


def hedge_after_s(
    times_s: Floats, other_s: float, other_usd: float, slack_s: float, late_usd_per_s: float
) -> float:
    """Return after how many seconds a second request to another pool pays.

    At an age t the rest of the first request is one of the measured services longer than t, or,
    past all of them, t again (the mean of what is left where the tail is that of Pareto with
    exponent 2). The second one saves what of that lies beyond its own end. It pays at the first
    age at which these seconds, as the step's lateness prices them, cost more than the request, and
    not before `TAIL` of the measured services: even where it is free it takes another one's slot.

    Args:
        times_s: services measured on the first pool, shape (n,).
        other_s: seconds until the other pool would have answered, its queue included.
        other_usd: dollars that this costs.
        slack_s: seconds until the step is late; infinite where it has no deadline.
        late_usd_per_s: dollars for each second of lateness.

    Returns:
        Seconds; infinite where it never pays, or fewer than `TELLING_TIMES` services are known.
    """
    if times_s.size < TELLING_TIMES:
        return math.inf
    timed = math.isfinite(slack_s)
    usd_per_s = late_usd_per_s if timed else late_usd_per_s * IDLE_SHARE
    ages_s = np.sort(times_s)
    for i in range(math.ceil(TAIL * ages_s.size) - 1, ages_s.size):
        age_s = ages_s[i]
        rest_s = ages_s[i + 1 :] if i + 1 < ages_s.size else np.array([2.0 * age_s])
        counts_from_s = max(age_s + other_s, slack_s) if timed else age_s + other_s
        saved_s = float(np.maximum(rest_s - counts_from_s, 0.0).mean())
        if usd_per_s * saved_s > other_usd:
            return float(age_s)
    return math.inf


def hold_s(saved_s: float, pause_s: float, returns: float) -> float:
    """Return for how long the slot of a task that paused is kept from others that wait.

    It is kept where the prefill that the task would find done, if it came back to it, is worth more
    slot-seconds than the pause costs; and for no longer than that prefill, so that a pause that
    lasts longer than foreseen costs at most twice the better of both ways (ski rental). Continuum
    (arXiv 2511.02230) keeps the cache of paused programs by the same weighing.

    Args:
        saved_s: seconds of prefill that the task's cached prompt saves.
        pause_s: mean pause after such steps; NaN where none was seen.
        returns: share of such steps after which the task came back.

    Returns:
        Seconds; 0 where the slot is free at once.
    """
    return saved_s if pause_s < returns * saved_s else 0.0
