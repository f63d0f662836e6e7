"""How early half of the tasks can have ended that are all there at t = 0, in whatever order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def least_s(core_s: Sequence[float], cores: int, percent: float) -> float:
    """Return a percentile of the seconds until tasks end that no order of them can beat.

    Until the k-th task ends the cores have done the work of k tasks at least, hence no less than
    that of the k shortest, and in a second they do `cores` core-seconds. Who spread each task over
    all cores, the shortest first, would come to it. Only less work for the same tasks beats it.

    Args:
        core_s: core-seconds of each task.
        cores: that there are.
        percent: 50 for the median.
    """
    ends_s = np.cumsum(np.sort(np.asarray(core_s, np.float64))) / cores
    return float(np.percentile(ends_s, percent))
