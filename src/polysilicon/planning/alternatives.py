"""Plans that cost nearly as little and buy from others.

For each vendor that the plan commits much to, its share is lowered as far as the cost stays within
what one would pay for the difference, so that others are bought from. Every alternative is a plan
of its own, certified like the first (modelling to generate alternatives: E.
D. Brill, Management Science 25(5), 1979).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from polysilicon.planning.answer import Answer
from polysilicon.planning.contracts import service
from polysilicon.planning.problem import Contract, Problem, SpendContract, UnitContract
from polysilicon.planning.solve import attempt

_STEPS = (0.0, 0.25, 0.5, 0.75)
"""Shares of a vendor's share that are tried, the farthest first."""

_MOST_VENDORS = 3


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Another plan.

    Attributes:
        vendor: whose share was lowered.
        dearer: by this share of the first plan's cost.
        shares: of commitment dollars by vendor.
        answer: the plan.
    """

    vendor: str
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
    """Return other plans within a share of the cost, for each large vendor the one farthest off.

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
    large = [(vendor, share) for vendor, share in shares(problem, answer).items() if share >= 0.1]
    large = large[:_MOST_VENDORS]
    for number, (vendor, share) in enumerate(large):
        for step in _STEPS:
            left = until - time.perf_counter()
            if left <= 0 or (stop is not None and stop()):
                return found
            caps = {**problem.vendor_share_max, vendor: share * step}
            other = msgspec.structs.replace(problem, vendor_share_max=caps)
            each = left / (len(large) - number)
            made = attempt(other, gap=gap, time_s=each, stop=stop, warm=answer.warm)
            if made is None:
                continue
            dearer = made.cost_usd / answer.cost_usd - 1.0
            if dearer <= within:
                one = Alternative(
                    vendor=vendor,
                    dearer=dearer,
                    shares=shares(problem, made),
                    answer=made,
                )
                found.append(one)
                break
    return found
