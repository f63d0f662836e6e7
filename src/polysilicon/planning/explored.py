"""What is asked of a plan beside itself: regret, worth of scenarios, and of signing anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from polysilicon.errors import InfeasibleError
from polysilicon.planning.answer import Answer
from polysilicon.planning.compose import Composed
from polysilicon.planning.plan import Alternative, Worth
from polysilicon.planning.problem import Problem, UnitContract
from polysilicon.planning.solve import solve
from polysilicon.planning.summary import NOTHING, Explored
from polysilicon.planning.worth import worth

GAP = 0.002
"""Of the problems that are solved beside the plan."""

LEAST_SHARE, STEP, MOST_EXTRA, MOST_VENDORS = 0.2, 0.15, 0.05, 3
"""Vendors with less are left as they are; by how much a share is lowered; what is near."""


def explore(
    composed: Composed, answer: Answer, time_s: float, stop: Callable[[], bool] | None
) -> Explored:
    """Return what was found out within some seconds; what was not stays unknown.

    Args:
        composed: the problem.
        answer: to it.
        time_s: for all of it.
        stop: ends it.
    """
    begun_s, problem = time.perf_counter(), composed.problem
    if time_s <= 0 or (stop is not None and stop()):
        return NOTHING
    nothing = _nothing(problem, time_s / 4, stop) if problem.contracts else None
    others = _alternatives(composed, answer, time_s / 4, stop)
    left_s = time_s - (time.perf_counter() - begun_s)
    if len(problem.scenarios) == 1 or left_s <= 0 or (stop is not None and stop()):
        return Explored(alternatives=others, worth=Worth(nothing_usd=nothing))
    found = worth(problem, answer, gap=GAP, time_s=left_s)
    mean = found.stochastic_solution_usd
    return Explored(
        alternatives=others,
        regret_usd=found.regret_usd.tolist(),
        worth=Worth(
            stochastic_usd=mean if np.isfinite(mean) else None,
            perfect_usd=found.perfect_information_usd,
            nothing_usd=nothing,
        ),
    )


def _alternatives(
    composed: Composed, answer: Answer, time_s: float, stop: Callable[[], bool] | None
) -> list[Alternative]:
    """Return plans with less of a vendor that cost little more, the cheapest first.

    For each vendor with a large share of the commitment dollars the problem is solved again with a
    smaller share; what it costs more is what the dependence on that vendor saves.
    """
    problem = composed.problem
    shares = vendor_shares(problem, answer)
    begun_s, found = time.perf_counter(), []
    pushed = [(vendor, share) for vendor, share in shares.items() if share >= LEAST_SHARE]
    for vendor, share in pushed[:MOST_VENDORS] if len(_vendors(problem)) > 1 else ():
        left_s = time_s - (time.perf_counter() - begun_s)
        if left_s <= 0 or (stop is not None and stop()):
            break
        most = share - STEP
        caps = problem.vendor_share_max | {vendor: most}
        changed = msgspec.structs.replace(problem, vendor_share_max=caps)
        try:
            other = solve(changed, gap=GAP, time_s=left_s, stop=stop, warm=answer.warm)
        except InfeasibleError:
            continue
        extra = other.cost_usd / answer.cost_usd - 1.0
        if extra <= MOST_EXTRA:
            found.append(
                Alternative(
                    name=f"at most {most:.0%} with {vendor}",
                    cost_usd=other.cost_usd,
                    extra=extra,
                    share=vendor_shares(problem, other),
                )
            )
    return sorted(found, key=lambda one: one.cost_usd)


def _vendors(problem: Problem) -> set[str]:
    """Return who sells options."""
    return {option.vendor for option in problem.options}


def vendor_shares(problem: Problem, answer: Answer) -> dict[str, float]:
    """Return shares of commitment dollars, the largest first; nothing where nothing is signed."""
    usd: dict[str, float] = {}
    for one in answer.bought:
        contract = problem.contracts[one.contract]
        units = isinstance(contract, UnitContract)
        vendor = problem.options[contract.option].vendor if units else contract.vendor  # type: ignore[union-attr]
        usd[vendor] = usd.get(vendor, 0.0) + float(one.usd.sum())
    for drawn in answer.spend:
        contract = problem.contracts[drawn.contract]
        vendor = contract.vendor  # type: ignore[union-attr]
        usd[vendor] = usd.get(vendor, 0.0) + float(drawn.commitment_usd.sum())
    total = sum(usd.values())
    ranked = sorted(usd.items(), key=lambda item: -item[1])
    return {vendor: value / total for vendor, value in ranked} if total > 0 else {}


def _nothing(problem: Problem, time_s: float, stop: Callable[[], bool] | None) -> float | None:
    """Return what it costs to sign nothing more; None where not all can be served so."""
    try:
        found = solve(unsigned(problem), gap=GAP, time_s=time_s, stop=stop)
    except InfeasibleError:
        return None
    return found.cost_usd if found.status == "optimal" else None


def unsigned(problem: Problem) -> Problem:
    """Return a problem in which nothing more can be signed."""
    contracts = tuple(msgspec.structs.replace(one, orders=()) for one in problem.contracts)
    return msgspec.structs.replace(problem, contracts=contracts)
