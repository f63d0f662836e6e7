"""What contracts bill, in closed form: payments by month, and bills for use that is known.

The program in `program` finds the same bills; tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polysilicon.planning.problem import (
    Contract,
    DollarContract,
    Numbers,
    Path,
    Problem,
    SpendContract,
    Tier,
    UnitContract,
)


def service(contract: Contract, order: int, months: int) -> tuple[int, int]:
    """Return the first month of service and the month after the last, within the horizon."""
    first = order + contract.lead_months
    return min(max(first, 0), months), min(max(first + contract.term_months, 0), months)


def payments(problem: Problem, contract: Contract, order: int) -> Numbers:
    """Return what one unit pays in each month of the horizon whatever is used, shape (T,).

    Dollars of each month; spend contracts have no such payments.
    """
    months = problem.shape[1]
    paid = np.zeros(months)
    if isinstance(contract, SpendContract):
        return paid
    upfront, fees, salvage = _terms(problem, contract, order)
    start = order + contract.lead_months
    first, last = service(contract, order, months)
    inside, after = last - first, start + contract.term_months - max(last, start)
    paid[first:last] += fees[first:last]
    if 0 <= order < months:
        counted = upfront
        if contract.beyond == "prorated" and contract.term_months:
            counted = upfront * inside / contract.term_months
        paid[order] += counted
    if contract.beyond == "owed" and last == months and after > 0:
        paid[months - 1] += after * (fees[months - 1] if inside else 0.0)
    if first < last == months and start + contract.term_months >= months:
        paid[months - 1] -= salvage
    return paid


def _terms(
    problem: Problem, contract: UnitContract | DollarContract, order: int
) -> tuple[float, Numbers, float]:
    """Return upfront price, monthly fees by month and salvage of one unit."""
    at = min(max(order, 0), problem.shape[1] - 1)
    if isinstance(contract, DollarContract):
        hours = problem.month_hours
        whole = float(hours.mean()) * contract.term_months
        return whole * contract.upfront_share, hours * (1.0 - contract.upfront_share), 0.0
    fee, upfront, salvage = (
        _of_month(path, at)
        for path in (contract.monthly_usd, contract.upfront_usd, contract.salvage_usd)
    )
    return upfront, np.full(problem.shape[1], fee), salvage


def _of_month(path: Path, at: int) -> float:
    """Return the number of a month; quickly, for there are thousands of orders."""
    if not isinstance(path, np.ndarray):
        return float(path)
    return float(path[at] if path.size > 1 else path.flat[0])


def tiers_bill(amount: float, tiers: Sequence[Tier]) -> float:
    """Return what an amount costs when each tier's factor holds for what lies within it.

    Args:
        amount: units or dollars at the first price.
        tiers: rising; below the first the factor is 1.
    """
    edges = [0.0, *(tier.above for tier in tiers), float("inf")]
    factors = [1.0, *(tier.factor for tier in tiers)]
    within = (
        factor * max(min(amount, high) - low, 0.0)
        for factor, low, high in zip(factors, edges[:-1], edges[1:], strict=True)
    )
    return sum(within)


def take_or_pay_bill(commitment: float, spend: float) -> float:
    """Return the bill of a period: what is used, or the commitment where that is more."""
    return max(commitment, spend)


def drawdown_bills(contract: SpendContract, spend: Sequence[float]) -> Numbers:
    """Return the bill of each period: spend, and the shortfall after what is carried over.

    Args:
        contract: one unit of it.
        spend: at its rates by period, dollars.
    """
    bills = np.zeros(len(contract.commitment_usd))
    excess = credit = 0.0
    for period, (commitment, used) in enumerate(zip(contract.commitment_usd, spend, strict=True)):
        counted = used + excess
        short, over = max(commitment - counted, 0.0), max(counted - commitment, 0.0)
        saved = min(credit, over, used)
        bills[period] = used + short - saved
        excess, credit = contract.excess_carried * over, contract.shortfall_credit * short
    return bills


def dollars_bill(
    commitment: float, use: Sequence[float], on_demand: Sequence[float], rates: Sequence[float]
) -> float:
    """Return the bill of one hour with a dollar contract, applied as the clouds do.

    The use with the largest saving per on-demand dollar is paid first, at its rate, until the
    commitment is spent; what is left of the use costs its on-demand price, what is left of the
    commitment is lost (AWS, "Understanding how Savings Plans apply to your usage"; Azure savings
    plans apply hourly likewise). The saving per committed dollar rises with the saving per
    on-demand dollar, so no other order is cheaper.

    Args:
        commitment: dollars of the hour.
        use: unit-hours of each option.
        on_demand: price of each.
        rates: under the contract.
    """
    left, bill = commitment, commitment
    for _, units, price, rate in sorted(
        zip(
            (r / p for r, p in zip(rates, on_demand, strict=True)),
            use,
            on_demand,
            rates,
            strict=True,
        )
    ):
        covered = min(units, left / rate)
        left -= covered * rate
        bill += (units - covered) * price
    return bill


def break_even(price: float, cost: float) -> float:
    """Return the utilisation from which a commitment pays: its cost over the on-demand price.

    With a price of 1 and a discount d it is 1 - d. Above 1 it never pays.
    """
    return cost / price


def crossing(fixed: tuple[float, float], variable: tuple[float, float]) -> float:
    """Return the hours at which two programs cost the same (screening curve).

    Args:
        fixed: cost of a unit whatever it does, of either.
        variable: cost of a unit-hour, of either.
    """
    return (fixed[0] - fixed[1]) / (variable[1] - variable[0])
