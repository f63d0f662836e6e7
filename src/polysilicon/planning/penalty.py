"""What work costs in the program that must be served and is not."""

from __future__ import annotations

import numpy as np

from polysilicon.planning.problem import Numbers, Option, Problem, UnitContract

_TINY = 1e-12


def penalties(problem: Problem, severity: float) -> Numbers:
    """Return the price of one unit of work per second unserved for an hour, shape (K,).

    Where demand must be served it is more than serving it can cost: than any contract's whole fees
    for the use of one hour in the least likely scenario.

    Args:
        problem: whose demand.
        severity: factor on it, for a whole unit may have to be bought for a part of its work.
    """
    found = np.array(problem.unmet_usd_per_h, dtype=np.float64)
    forbidden = ~np.isfinite(found)
    if not forbidden.any():
        return found
    rare = float(problem.probability[problem.probability > 0].min() * problem.hours.min())
    dearest = np.full(len(found), 1.0)
    for option in problem.options:
        prices = [problem.path(option.on_demand_usd_per_h), problem.path(option.spot_usd_per_h)]
        known = np.concatenate([p[np.isfinite(p)] for p in prices] + [np.zeros(1)])
        output = problem.path(option.output)
        least = float(output[output > 0].min(initial=np.inf)) * option.availability
        fees = max(
            (_fees(problem, c) for c in problem.contracts if _of(problem, c, option)), default=0.0
        )
        work = np.where(option.work > 0, option.work, np.inf) * max(least, _TINY)
        dearest = np.maximum(dearest, (known.max() / option.spot_efficiency + fees / rare) / work)
    return np.where(forbidden, 2.0 * severity * dearest, found)


def _of(problem: Problem, contract: object, option: Option) -> bool:
    return isinstance(contract, UnitContract) and problem.options[contract.option] is option


def _fees(problem: Problem, contract: object) -> float:
    assert isinstance(contract, UnitContract)
    upfront = float(problem.by_month(contract.upfront_usd).max())
    monthly = float(problem.by_month(contract.monthly_usd).max())
    return (upfront + monthly * contract.term_months) / contract.per_unit
