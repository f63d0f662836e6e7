"""How many steps may run at once.

The law of a batch is fitted now and then, from few numbers, and so not compiled.
"""

from __future__ import annotations

import math

import numpy as np

from polysilicon.schedule.types import Floats, compiled


@compiled
def admit(running: int, waiting: int, cap: int) -> int:
    """Return how many of `waiting` steps may start, with `running` under way and room for `cap`."""
    return max(0, min(waiting, cap - running))


def batch_law(sequences: Floats, seconds: Floats) -> tuple[float, float]:
    """Fit seconds of an engine's iteration = fixed + each·sequences, by Theil and Sen.

    The slope is the median of the slopes of all pairs, so that up to 29 % of the iterations may be
    disturbed (H. Theil 1950; P. K. Sen, J. Am. Stat. Assoc. 63 (1968), 1379). A ratio of two single
    throughputs, by which CGAM caps a batch (arXiv 2511.00739, section 5), turns with each of them.

    Args:
        sequences: in the batch of each iteration, shape (n,).
        seconds: that each took, shape (n,).

    Returns:
        Fixed seconds and those of each sequence, both at least 0; NaN where fewer than two batches
        of different sizes are known.
    """
    pairs = np.triu_indices(sequences.size, 1)
    apart = np.subtract.outer(sequences, sequences)[pairs]
    slower_s = np.subtract.outer(seconds, seconds)[pairs]
    if not apart.any():
        return math.nan, math.nan
    slope_s = np.median(slower_s[apart != 0.0] / apart[apart != 0.0])
    each_s = max(float(slope_s), 0.0)
    fixed_s = max(float(np.median(seconds - each_s * sequences)), 0.0)
    return fixed_s, each_s


def batch_cap(fixed_s: float, each_s: float, gain: float, most: int) -> int:
    """Return the largest batch up to which doubling it paid.

    With the law of `batch_law`, b sequences make b/(fixed + each·b) tokens a second. From half of
    the cap to the cap that grows by the factor 1 + gain: cap = fixed·(1 - gain)/(each·gain).

    Args:
        fixed_s: as of `batch_law`.
        each_s: as of `batch_law`.
        gain: by which doubling must raise tokens a second, such as 0.1.
        most: slots that there are, the answer where nothing is known.
    """
    if math.isnan(fixed_s) or each_s <= 0.0:
        return most
    return int(min(max(fixed_s * (1.0 - gain) / (each_s * gain), 1.0), most))
