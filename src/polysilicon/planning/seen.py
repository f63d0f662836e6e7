"""What has been seen when a month begins: scenarios that are alike so far cannot be told apart.

At the beginning of a month one knows the demand of the months before it, and prices and what is on
the market, that month's too.
"""

from __future__ import annotations

import numpy as np

from polysilicon.planning.problem import PATHS, Problem
from polysilicon.planning.supply import Codes


def seen(problem: Problem) -> Codes:
    """Return for each scenario the first that is like it, as far as is seen; shape (S, T)."""
    s, t, _, _ = problem.shape
    paths = [problem.path(getattr(one, name)) for one in problem.options for name in PATHS]
    varied = [one for one in paths if (one != one[:1]).any()]
    market = np.stack([*varied, np.zeros((s, t))], axis=2)
    first = np.zeros((s, t), dtype=np.int64)
    alike = np.zeros(s, dtype=np.int64)
    for month in range(t):
        told = market[:, month]
        if month:
            told = np.concatenate([told, problem.demand[:, month - 1].reshape(s, -1)], axis=1)
        alike = _split(alike, told)
        first[:, month] = alike
    return first


def _split(alike: Codes, told: np.ndarray) -> Codes:
    """Return the first scenario that was alike and still is, shape (S,)."""
    known: dict[tuple[int, bytes], int] = {}
    return np.array(
        [
            known.setdefault((before, row.tobytes()), at)
            for at, (before, row) in enumerate(zip(alike.tolist(), told, strict=True))
        ]
    )
