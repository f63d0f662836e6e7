"""Blocks of hours of like load, whose averaged demand gives quick and true, if weaker, bounds."""

from __future__ import annotations

import numpy as np

from polysilicon.planning.problem import Numbers, Problem

BLOCKS = 3


def blocks_of(problem: Problem) -> tuple[Numbers, Numbers, np.ndarray]:
    """Return averaged demand of blocks of hours, hours of each, and the block of each hour."""
    s, t, h, k = problem.shape
    size = np.maximum(problem.demand.mean(axis=(0, 1, 2)), 1e-300)
    load = (problem.demand / size).sum(axis=3)
    rank = load.argsort(axis=2).argsort(axis=2)
    block = rank * BLOCKS // h
    demand, weight = np.zeros((s, t, BLOCKS, k)), np.zeros((s, t, BLOCKS))
    for one in range(BLOCKS):
        on = (block == one) * problem.hours
        weight[:, :, one] = on.sum(axis=2)
        total = np.einsum("sth,sthk->stk", on, problem.demand)
        demand[:, :, one] = total / np.maximum(weight[:, :, one], 1e-300)[..., None]
    return demand, weight, block
