"""The mean and the tail of costs over scenarios."""

from __future__ import annotations

import numpy as np

from polysilicon.planning.problem import Numbers, Problem


def cvar(cost: Numbers, probability: Numbers, alpha: float) -> float:
    """Return the mean of the worst 1 - alpha of costs.

    Args:
        cost: by scenario, shape (S,).
        probability: shape (S,).
        alpha: 0 gives the mean.
    """
    order = np.argsort(-cost, kind="stable")
    share = np.minimum(np.cumsum(probability[order]), 1.0 - alpha)
    weight = np.diff(share, prepend=0.0)
    return float(weight @ cost[order] / weight.sum())


def risky(problem: Problem, cost: Numbers) -> float:
    """Return (1 - λ) times the mean plus λ times the CVaR of costs by scenario."""
    risk = problem.risk_weight
    mean = float(problem.probability @ cost)
    if risk == 0:
        return mean
    return (1 - risk) * mean + risk * cvar(cost, problem.probability, problem.cvar_alpha)
