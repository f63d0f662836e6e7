"""Whole machines out of parts of them: an order of 499.5 is signed as 499 or as 500.

Programs with whole numbers are slow, and of hundreds of machines parts make no difference. So an
answer in parts is rounded and every hour of it dispatched again; the rounded plan is taken where it
is as good as was asked for. What costs more than that needs `whole = true`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from polysilicon.errors import PolysiliconError
from polysilicon.planning.answer import Answer, gap_of
from polysilicon.planning.fix import Units, fixed, units_of
from polysilicon.planning.problem import Problem, UnitContract
from polysilicon.planning.solve import attempt

_NEAR = 1e-6


def in_machines(
    problem: Problem,
    answer: Answer,
    *,
    gap: float,
    time_s: float,
    stop: Callable[[], bool] | None = None,
) -> Answer:
    """Return an answer in whole machines, or as it is where that is dearer than the gap allows.

    Args:
        problem: that it answers.
        answer: with orders in parts.
        gap: that is small enough.
        time_s: for each of two ways to round.
        stop: ends them.
    """
    units = units_of(answer)
    some = [key for key in units if _counted(problem, key[0])]
    if all(abs(units[key] - round(units[key])) < _NEAR for key in some):
        return answer
    if any(getattr(one, "tiers", ()) and len(one.orders) > 1 for one in problem.contracts):
        return answer  # one order of several in tiers cannot be held fast
    for way in (round, math.ceil):
        whole: Units = units | {key: float(way(units[key] - _NEAR)) for key in some}
        try:
            found = attempt(fixed(problem, whole), gap=gap / 10, time_s=time_s, stop=stop)
        except PolysiliconError:  # too late, which is no reason to lose the answer in parts
            continue
        if found is None:
            continue
        if gap_of(found.cost_usd, answer.lower_bound_usd) <= max(gap, answer.gap):
            return _told(answer, found)
    return answer


def _counted(problem: Problem, number: int) -> bool:
    """Tell whether units of a contract are machines, of which there are no parts."""
    contract = problem.contracts[number]
    return isinstance(contract, UnitContract) and contract.per_unit == 1.0 and not contract.tiers


def _told(answer: Answer, found: Answer) -> Answer:
    """Return what was found as the answer, with the bound and the prices of the search."""
    return msgspec.structs.replace(
        found,
        status=answer.status,
        lower_bound_usd=min(answer.lower_bound_usd, found.cost_usd),
        seconds=answer.seconds + found.seconds,
        rounds=answer.rounds,
        bought=tuple(
            msgspec.structs.replace(one, held=one.held and one.order < 0) for one in found.bought
        ),
        option_value_usd=answer.option_value_usd,
        demand_price_usd=answer.demand_price_usd,
        duals=answer.duals,
        warm=answer.warm,
    )
