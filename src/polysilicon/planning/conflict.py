"""Why there is no plan: a smallest set of rules that cannot be kept together.

Rules are left out, many and then few at a time; those whose absence mends nothing stay out. What
is left cannot be kept together, and could without any one of them (deletion filter: J. W. Chinneck
and E. W. Dravnieks, ORSA Journal on Computing 3(2), 1991).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.errors import PolysiliconError
from polysilicon.planning.answer import ConflictError, Rule
from polysilicon.planning.clock import Clock, OutOfTime, Stop
from polysilicon.planning.linear import InfeasibleMaster
from polysilicon.planning.problem import INF, Contract, Problem, SpendContract
from polysilicon.planning.search import LATE, SERVED, searched

_TIME_S = 20.0
"""For one question whether there is a plan; where it does not suffice the answer is no."""

_STOPPED = "no plan was found; stopped before it was known why"


def rules(problem: Problem) -> list[Rule]:
    """Return all rules that a plan must keep; those most worth keeping last."""
    found = [
        Rule(kind="most", subject=one.name)
        for one in problem.contracts
        if not isinstance(one, SpendContract) and np.isfinite(one.most)
    ]
    found += [
        Rule(kind="lead", subject=one.name)
        for one in problem.contracts
        if getattr(one, "lead_months", 0)
    ]
    found += [
        Rule(kind="supply", subject=one.name)
        for one in problem.options
        if np.isfinite(problem.by_month(one.supply)).any()
        or np.isfinite(problem.path(one.on_demand_limit)).any()
        or np.isfinite(problem.path(one.spot_limit)).any()
    ]
    found += [Rule(kind="cap", subject=cap.name) for cap in problem.caps]
    found += [Rule(kind="vendor", subject=vendor) for vendor in problem.vendor_share_max]
    found += [Rule(kind="redundancy", subject=rule.by) for rule in problem.redundancy]
    found += [
        Rule(kind="demand", subject=problem.classes[at])
        for at in np.flatnonzero(~np.isfinite(problem.unmet_usd_per_h)).tolist()
    ]
    return found


def without(problem: Problem, left_out: Sequence[Rule]) -> Problem:
    """Return the problem without some rules."""
    gone = {(rule.kind, rule.subject) for rule in left_out}

    def contract(one: Contract) -> Contract:
        if ("most", one.name) in gone:
            one = msgspec.structs.replace(one, most=INF)
        if ("lead", one.name) in gone:
            one = msgspec.structs.replace(one, lead_months=0)
        return one

    options = [
        msgspec.structs.replace(one, supply=INF, on_demand_limit=INF, spot_limit=INF)
        if ("supply", one.name) in gone
        else one
        for one in problem.options
    ]
    unmet = problem.unmet_usd_per_h.copy()
    for at, name in enumerate(problem.classes):
        if ("demand", name) in gone:
            unmet[at] = 0.0
    return msgspec.structs.replace(
        problem,
        options=tuple(options),
        contracts=tuple(contract(one) for one in problem.contracts),
        caps=tuple(cap for cap in problem.caps if ("cap", cap.name) not in gone),
        vendor_share_max={
            name: share
            for name, share in problem.vendor_share_max.items()
            if ("vendor", name) not in gone
        },
        redundancy=tuple(r for r in problem.redundancy if ("redundancy", r.by) not in gone),
        unmet_usd_per_h=unmet,
    )


def refusal(problem: Problem, stop: Stop | None = None) -> PolysiliconError:
    """Return the error that says why no plan exists, or that none was found in time.

    Args:
        problem: without a plan.
        stop: True ends the questions, and it is not told which rules are in conflict.
    """
    try:
        if _possible(problem, stop):
            return PolysiliconError(LATE)
        left = _needed(problem, [], rules(problem), stop)
        return ConflictError([_lacking(problem, rule, stop) for rule in left])
    except OutOfTime as error:
        return error


def _needed(
    problem: Problem, dropped: list[Rule], some: list[Rule], stop: Stop | None
) -> list[Rule]:
    """Return which of some rules are in conflict; the others are added to those dropped.

    Halves are tried whole first: most rules have nothing to do with a conflict.
    """
    if not _possible(without(problem, [*dropped, *some]), stop):
        dropped += some
        return []
    if len(some) == 1:
        return some
    middle = len(some) // 2
    first = _needed(problem, dropped, some[:middle], stop)
    return first + _needed(problem, dropped, some[middle:], stop)


def _lacking(problem: Problem, rule: Rule, stop: Stop | None) -> Rule:
    """Return a demand rule with the month in which it cannot be served, and how much is lacking."""
    if rule.kind != "demand":
        return rule
    cls = problem.classes.index(rule.subject)
    short = _short(problem, stop)
    if short is None or not short[:, cls].any():
        return rule
    month = int(np.flatnonzero(short[:, cls])[0])
    return msgspec.structs.replace(rule, month=month, lacking=float(short[month, cls]))


def _short(problem: Problem, stop: Stop | None) -> np.ndarray | None:
    """Return work per second that is lacking by month and class at the most; None if unknown.

    Raises:
        OutOfTime: somebody said stop.
    """
    if stop is not None and stop():
        raise OutOfTime(_STOPPED)
    try:
        search, status = searched(problem, None, Clock(_TIME_S, stop), 1e-3, None)
    except InfeasibleMaster:
        return None
    if status == "stopped":
        raise OutOfTime(_STOPPED)
    return search.shortfall()


def _possible(problem: Problem, stop: Stop | None) -> bool:
    """Tell whether there is a plan."""
    short = _short(problem, stop)
    if short is None:
        return False
    must = ~np.isfinite(problem.unmet_usd_per_h)
    scale = np.maximum(problem.demand.mean(axis=(0, 1, 2)), 1e-300)
    return bool((short[:, must] / scale[must] <= SERVED).all())
