"""Plans that cost nearly as little and buy from others.

For each vendor that the plan commits much to, its share is lowered as far as the cost stays within
what one would pay for the difference, so that others are bought from; for each that it commits
little to, the shares of all others are, so that its own rises. Every alternative is a plan of its
own, certified like the first (modelling to generate alternatives: E. D. Brill, Management Science
25(5), 1979).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from polysilicon.errors import PolysiliconError
from polysilicon.planning.answer import Answer
from polysilicon.planning.contracts import service
from polysilicon.planning.problem import Contract, Problem, SpendContract, UnitContract
from polysilicon.planning.solve import attempt

_STEPS = (0.0, 0.25, 0.5, 0.75)
"""Shares of a share that are tried, the farthest first."""

_MOST_VENDORS = 3
_LARGE = 0.1


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Another plan.

    Attributes:
        vendor: whose share was pushed.
        more: whether it was raised, and not lowered.
        dearer: by this share of the first plan's cost.
        shares: of commitment dollars by vendor.
        answer: the plan.
    """

    vendor: str
    more: bool
    dearer: float
    shares: dict[str, float]
    answer: Answer


def vendor_of(problem: Problem, contract: Contract) -> str:
    """Return whom a contract is with."""
    if isinstance(contract, UnitContract):
        return problem.options[contract.option].vendor
    return contract.vendor


def shares(problem: Problem, answer: Answer) -> dict[str, float]:
    """Return each vendor's share of the dollars that a plan commits to, the largest first."""
    found: dict[str, float] = {}
    for one in answer.bought:
        contract = problem.contracts[one.contract]
        usd = float(one.usd.clip(min=0.0).sum())
        if isinstance(contract, SpendContract):
            first, last = service(contract, one.order, problem.shape[1])
            start = one.order + contract.lead_months
            months = range(first - start, last - start)
            size = contract.period_months
            usd = one.units * sum(contract.commitment_usd[m // size] / size for m in months)
        vendor = vendor_of(problem, contract)
        found[vendor] = found.get(vendor, 0.0) + usd
    total = sum(found.values())
    if total <= 0:
        return {}
    return {name: usd / total for name, usd in sorted(found.items(), key=lambda p: -p[1])}


def alternatives(
    problem: Problem,
    answer: Answer,
    *,
    within: float = 0.05,
    gap: float = 0.005,
    time_s: float = 60.0,
    stop: Callable[[], bool] | None = None,
) -> Sequence[Alternative]:
    """Return other plans within a share of the cost, each the one farthest off in a direction.

    Args:
        problem: what is planned.
        answer: the plan to differ from.
        within: by so much of its cost an alternative may be dearer.
        gap: of each.
        time_s: for all of them.
        stop: ends the search early; what was found so far is returned.
    """
    until = time.perf_counter() + time_s
    found: list[Alternative] = []
    here = shares(problem, answer)
    ways = _directions(problem, here)
    for number, (vendor, more) in enumerate(ways):
        for step in _STEPS:
            left = until - time.perf_counter()
            if left <= 0 or (stop is not None and stop()):
                return found
            other = _pushed(problem, here, vendor, step, more=more)
            try:
                each = left / (len(ways) - number)
                made = attempt(other, gap=gap, time_s=each, stop=stop, warm=answer.warm)
            except PolysiliconError:  # no time for this one
                break
            if made is None or (dearer := made.cost_usd / answer.cost_usd - 1.0) > within:
                continue
            mix = shares(problem, made)
            if any(_same(mix, one.shares) for one in found):
                break
            found.append(
                Alternative(vendor=vendor, more=more, dearer=dearer, shares=mix, answer=made)
            )
            break
    return found


def _directions(problem: Problem, here: dict[str, float]) -> list[tuple[str, bool]]:
    """Return vendors whose share is lowered, then those whose share is raised."""
    less = [(vendor, False) for vendor, share in here.items() if share >= _LARGE]
    sellers = dict.fromkeys(vendor_of(problem, one) for one in problem.contracts if one.orders)
    some = sorted(sellers, key=lambda vendor: -here.get(vendor, 0.0))
    more = [(vendor, True) for vendor in some if here and here.get(vendor, 0.0) < 1 - _LARGE]
    return less[:_MOST_VENDORS] + more[:_MOST_VENDORS]


def _pushed(
    problem: Problem, here: dict[str, float], vendor: str, step: float, *, more: bool
) -> Problem:
    """Return the problem with a share lowered to a part of itself, or those of all others."""
    lowered = [one for one in here if one != vendor] if more else [vendor]
    caps = dict(problem.vendor_share_max)
    if more:  # who sells nothing yet shall not take what the others lose
        others = {vendor_of(problem, one) for one in problem.contracts} - {vendor, *here}
        caps.update(dict.fromkeys(others, 0.0))
    caps.update({one: min(here[one] * step, caps.get(one, 1.0)) for one in lowered})
    return msgspec.structs.replace(problem, vendor_share_max=caps)


def _same(one: dict[str, float], other: dict[str, float]) -> bool:
    """Tell whether two mixes are the same to a percent."""
    return all(abs(one.get(v, 0.0) - other.get(v, 0.0)) < 0.01 for v in {*one, *other})
