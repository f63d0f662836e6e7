"""Which waiting step runs next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def next_step(attained_s: NDArray[np.float64], ready_s: NDArray[np.float64]) -> int:
    """Return the index of the waiting step whose task has had the least service so far.

    Least attained service of the program, as in Autellix (arXiv 2502.13965, section 4): short tasks
    are not held up by long ones, without knowing lengths beforehand. Equals go first come, first
    served.

    Args:
        attained_s: shape (waiting,), seconds of service that each step's task has had.
        ready_s: shape (waiting,), when each step became ready.

    Returns:
        Index into the arrays, which must not be empty.
    """
    return int(np.lexsort((ready_s, attained_s))[0])
