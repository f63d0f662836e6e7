"""Which pool takes this step now."""

from __future__ import annotations

import math

import numpy as np

from polysilicon.schedule.types import Flags, Floats, compiled

LATE_USD_PER_S = 1e-6
"""Dollars for a second of lateness of a task without an SLO: next to nothing."""

SLO_LATE_USD_PER_S = 1e-2
"""With one: it outweighs most machines' price."""

# Without a deadline a second of waiting counts a thousandth of one of lateness: it breaks ties.
IDLE_SHARE = 1e-3


@compiled
def scores(
    price_usd_per_s: Floats,
    work_s: Floats,
    saved_s: Floats,
    queue_s: Floats,
    eligible: Flags,
    slack_s: float,
    late_usd_per_s: float,
) -> Floats:
    """Return what a step would cost on each pool: the price of its work plus that of being late.

    Args:
        price_usd_per_s: dollars for one second of a step's share of the pool, shape (pools,): a
            placement's dual value, or the machine's price over what shares it.
        work_s: estimated service seconds of the step on each pool, with nothing cached.
        saved_s: of these, what the prefix cache that it would find there saves.
        queue_s: seconds that it would wait there.
        eligible: what the pool's abilities, its health and the policy allow.
        slack_s: seconds until the step is late; infinite where it has no deadline.
        late_usd_per_s: dollars for each second of lateness.

    Returns:
        Dollars, shape (pools,); infinite where the pool is not eligible.
    """
    found = np.full(work_s.size, np.inf)
    for pool in range(work_s.size):
        if not eligible[pool]:
            continue
        busy_s = max(work_s[pool] - saved_s[pool], 0.0)
        finish_s = queue_s[pool] + busy_s
        timed = math.isfinite(slack_s)
        late_s = max(finish_s - slack_s, 0.0) if timed else finish_s * IDLE_SHARE
        found[pool] = price_usd_per_s[pool] * busy_s + late_usd_per_s * late_s
    return found


@compiled
def choose(
    price_usd_per_s: Floats,
    work_s: Floats,
    saved_s: Floats,
    queue_s: Floats,
    eligible: Flags,
    slack_s: float,
    late_usd_per_s: float,
) -> int:
    """Return the pool with the least score, the first of equals; -1 where none is eligible.

    Arguments are those of `scores`.
    """
    found = scores(price_usd_per_s, work_s, saved_s, queue_s, eligible, slack_s, late_usd_per_s)
    best = -1
    for pool in range(found.size):
        if found[pool] < np.inf and (best < 0 or found[pool] < found[best]):
            best = pool
    return best
