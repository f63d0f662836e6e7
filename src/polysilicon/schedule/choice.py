"""Which pool takes this step now."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def choose(
    price_usd_per_s: Floats,
    work_s: Floats,
    queue_s: Floats,
    eligible: NDArray[np.bool_],
    slack_s: float,
    late_usd_per_s: float,
) -> int:
    """Return the index of the pool with the least price of work plus cost of being late, or -1.

    Args:
        price_usd_per_s: shape (pools,), dollars for one second of a step's share of the pool.
        work_s: shape (pools,), estimated service seconds of the step on each pool.
        queue_s: shape (pools,), seconds that it would wait there.
        eligible: shape (pools,), what the policy and the pool's abilities allow.
        slack_s: seconds until the step is late; infinite where it has no deadline.
        late_usd_per_s: dollars for each second of lateness; also breaks ties of price by speed.

    Returns:
        Index into the arrays; the first of equals; -1 where no pool is eligible.
    """
    if not eligible.any():
        return -1
    finish_s = queue_s + work_s
    late_s = np.maximum(finish_s - slack_s, 0.0) if np.isfinite(slack_s) else finish_s * 1e-3
    score = np.where(eligible, price_usd_per_s * work_s + late_usd_per_s * late_s, np.inf)
    return int(np.argmin(score))
