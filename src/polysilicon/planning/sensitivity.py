"""From which use on contracts pay, against the cheapest way to pay by the hour for the same work.

A unit that is paid in all hours costs its fixed dollars an hour whether it works or not, and saves
what its work would cost by the hour: it pays above the ratio of both. Against the price of the same
offer that is one less the discount.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polysilicon import units
from polysilicon.placement.program import Numbers
from polysilicon.planning.compose import Composed
from polysilicon.planning.dates import HOURS_PER_MONTH
from polysilicon.planning.plan import BreakEven, Commitment
from polysilicon.planning.problem import DollarContract, Problem, SpendContract, UnitContract


def break_evens(composed: Composed, commitments: Sequence[Commitment]) -> list[BreakEven]:
    """Return the break-even use of each contract with fixed dollars, the lowest first."""
    problem = composed.problem
    cheapest = _by_the_hour(problem)
    used = {(one.contract, one.offer, one.region): one.utilisation for one in commitments}
    found: dict[tuple[str, str, str], BreakEven] = {}
    for at, contract in enumerate(problem.contracts):
        name = composed.agreements.asked[at].name
        if isinstance(contract, SpendContract) or getattr(contract, "at_on_demand", False):
            continue
        for option, fixed in _fixed(problem, contract):
            place = composed.places[option]
            saved = float(np.max(problem.options[option].work * cheapest, initial=0.0))
            if saved <= 0 or fixed <= 0:
                continue
            share = fixed / saved
            key = (name, place.asked.name, place.region)
            words = f"{name} on {place.asked.name} {place.region} pays above {units.share(share)}"
            words += " use" if share <= 1 else " use: paying by the hour is cheaper"
            found[key] = BreakEven(
                contract=name,
                offer=place.name,
                utilisation=share,
                used=used.get(key),
                words=words,
            )
    return sorted(found.values(), key=lambda one: one.utilisation)


def _by_the_hour(problem: Problem) -> Numbers:
    """Return the least dollars of a unit-hour of work of each need by the hour, shape (needs,).

    Infinite prices are left out: what nobody rents has no price to compare with. First month,
    expected over scenarios.
    """
    found = np.full(len(problem.classes), np.inf)
    for option in problem.options:
        price = float(problem.probability @ problem.path(option.on_demand_usd_per_h)[:, 0])
        if not np.isfinite(price):
            continue
        work = option.work * option.availability
        usd = np.divide(price, work, out=np.full(len(work), np.inf), where=work > 0)
        found = np.minimum(found, usd)
    return np.where(np.isfinite(found), found, 0.0)


def _fixed(problem: Problem, contract: UnitContract | DollarContract) -> list[tuple[int, float]]:
    """Return options of a contract with the fixed dollars of an hour of one unit of each."""
    if isinstance(contract, DollarContract):
        rates = [float(problem.path(rate)[0, 0]) for rate in contract.rate_usd_per_h]
        return list(zip(contract.options, rates, strict=True))
    upfront = float(problem.by_month(contract.upfront_usd)[0])
    monthly = float(problem.by_month(contract.monthly_usd)[0])
    usd = (upfront / contract.term_months + monthly) / HOURS_PER_MONTH
    return [(contract.option, usd / contract.per_unit)]
