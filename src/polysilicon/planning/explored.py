"""What is asked of a plan beside itself: regret, worth of scenarios, and of signing anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from polysilicon.errors import PolysiliconError
from polysilicon.planning.alternatives import alternatives
from polysilicon.planning.answer import Answer
from polysilicon.planning.compose import Composed
from polysilicon.planning.plan import Alternative, Worth
from polysilicon.planning.problem import Problem
from polysilicon.planning.solve import solve
from polysilicon.planning.summary import NOTHING, Explored
from polysilicon.planning.worth import worth

GAP = 0.002
"""Of the problems that are solved beside the plan."""


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
    others = _alternatives(problem, answer, time_s / 4, stop)
    left_s = time_s - (time.perf_counter() - begun_s)
    if len(problem.scenarios) == 1 or left_s <= 0 or (stop is not None and stop()):
        return Explored(alternatives=others, worth=Worth(nothing_usd=nothing))
    try:
        found = worth(problem, answer, gap=GAP, time_s=left_s, stop=stop)
    except PolysiliconError:  # its time was too short: the plan stands without it
        return Explored(alternatives=others, worth=Worth(nothing_usd=nothing))
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
    problem: Problem, answer: Answer, time_s: float, stop: Callable[[], bool] | None
) -> list[Alternative]:
    """Return plans with less or more of a vendor that cost little more, the cheapest first."""
    if len({option.vendor for option in problem.options}) == 1:
        return []
    try:
        each = alternatives(problem, answer, gap=GAP, time_s=time_s, stop=stop)
    except PolysiliconError:  # likewise
        return []
    found = [
        Alternative(
            name=f"as {'much' if one.more else 'little'} as possible with {one.vendor}",
            cost_usd=one.answer.cost_usd,
            extra=one.dearer,
            share=one.shares,
        )
        for one in each
    ]
    return sorted(found, key=lambda one: one.cost_usd)


def _nothing(problem: Problem, time_s: float, stop: Callable[[], bool] | None) -> float | None:
    """Return what it costs to sign nothing more; None where not all can be served so."""
    try:
        found = solve(unsigned(problem), gap=GAP, time_s=time_s, stop=stop)
    except PolysiliconError:
        return None
    return found.cost_usd if found.status == "optimal" else None


def unsigned(problem: Problem) -> Problem:
    """Return a problem in which nothing more can be signed."""
    contracts = tuple(msgspec.structs.replace(one, orders=()) for one in problem.contracts)
    return msgspec.structs.replace(problem, contracts=contracts)
