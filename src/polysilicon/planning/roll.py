"""A plan problem some months later: what is signed is held, what is over is left out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from polysilicon.errors import InputError
from polysilicon.planning.compose import Composed
from polysilicon.planning.dates import MONTHS_PER_YEAR
from polysilicon.planning.file import Demand, OfferAsked, ProblemFile, Scenario
from polysilicon.planning.plan import Commitment, Plan
from polysilicon.planning.shapes import Contract, Signed


def rolled(
    composed: Composed, plan: Plan, months: int, factors: Mapping[str, float]
) -> ProblemFile:
    """Return the problem as it stands after some months.

    Args:
        composed: the problem as it was planned.
        plan: in force; its orders up to now are signed.
        months: that have passed, fewer than the horizon has.
        factors: need → factor on its demand from now on.
    """
    file, calendar = composed.file, composed.calendar

    return msgspec.structs.replace(
        file,
        horizon=msgspec.structs.replace(
            file.horizon, start=calendar.name(months), months=calendar.months - months
        ),
        demand=tuple(_demand(composed, asked, months, factors) for asked in file.demand),
        offer=tuple(_offer(composed, asked, months) for asked in file.offer),
        contract=tuple(
            one for asked in file.contract if (one := _contract(composed, plan, asked, months))
        ),
        limit=tuple(
            msgspec.structs.replace(one, most=_steps(composed, one.most, months))
            for one in file.limit
        ),
        scenario=tuple(_scenario(one, months, composed) for one in file.scenario),
    )


def check_left(composed: Composed, months: int) -> None:
    """Raise `InputError` where nothing of the horizon is left after some months."""
    calendar = composed.calendar
    if months >= calendar.months:
        what = f"the plan ended in {calendar.name(calendar.months - 1)}"
        raise InputError(what, where="usage", mend="solve a new problem")


def _demand(composed: Composed, asked: Demand, months: int, factors: Mapping[str, float]) -> Demand:
    """Return an entry of demand with the amounts of the months that are left."""
    needs = [need for need in composed.needs if need.demand == asked.name]
    scaled = np.zeros(composed.calendar.months - months)
    for need in needs:
        scaled += need.trend()[months:] * factors.get(need.name, 1.0)
    # Growth goes on from now: it is taken out of the amounts, and put in again.
    grown = (1.0 + asked.growth_per_year) ** (np.arange(len(scaled)) / MONTHS_PER_YEAR)
    amount = tuple((scaled / grown).tolist())
    return msgspec.structs.replace(asked, amount=amount, file=None)


def _offer(composed: Composed, asked: OfferAsked, months: int) -> OfferAsked:
    """Return an offer with its months counted from now."""
    told = asked.from_month
    if told is not None and told != 0:
        told = max(composed.calendar.place(told, "plan") - months, 0) + 1
    supply = None if asked.supply is None else _steps(composed, asked.supply, months)
    price = asked.price_factor * (1.0 + asked.price_per_year) ** (months / MONTHS_PER_YEAR)
    return msgspec.structs.replace(asked, from_month=told, supply=supply, price_factor=price)


def _steps(
    composed: Composed, told: float | Mapping[str, float], months: int
) -> float | dict[str, float]:
    """Return a limit with its months counted from now."""
    if isinstance(told, float | int):
        return told
    found: dict[int, float] = {}
    calendar = composed.calendar
    places = {calendar.place(int(m) if m.isdecimal() else m, "plan"): v for m, v in told.items()}
    for place, value in sorted(places.items()):
        found[max(place - months, 0) + 1] = value
    return {str(month): value for month, value in found.items()}


def _contract(composed: Composed, plan: Plan, asked: Contract, months: int) -> Contract | None:
    """Return a contract with what is signed by now; None where nothing is left of it."""
    calendar = composed.calendar
    signed = tuple(
        one
        for c in plan.commitments
        if c.contract == asked.name and (one := _signed(composed, c, months)) is not None
    )
    last = calendar.months - 1
    if asked.last_order is not None:
        last = min(calendar.place(asked.last_order, "plan"), last)
    first = calendar.place(asked.first_order, "plan")
    buy = asked.buy and last - asked.lead_months >= months
    if not buy and not signed:
        return None
    # Orders stay in the months that they were in: every so many from the first.
    step = asked.every_months
    begin = first if first >= months else first + -(-(months - first) // step) * step
    if begin > last - asked.lead_months:
        begin = months
    return msgspec.structs.replace(
        asked,
        buy=buy,
        signed=signed,
        first_order=begin - months + 1 if buy else 1,
        last_order=None if asked.last_order is None or not buy else last - months + 1,
        beyond=asked.beyond or "prorated",
    )


def _signed(composed: Composed, one: Commitment, months: int) -> Signed | None:
    """Return an order that is signed and still runs; months before now count down from 0."""
    calendar = composed.calendar
    order = calendar.place(one.order_month, "plan") - months
    end = calendar.place(one.end_month, "plan") - months
    if order >= 0 or end < 0 or one.units <= 0:
        return None
    several = ", " in one.offer
    return Signed(
        order=order + 1,
        units=one.units,
        offer=None if several else one.offer,
        region=None if several else one.region,
    )


def _scenario(one: Scenario, months: int, composed: Composed) -> Scenario:
    """Return a scenario with its months counted from now."""
    calendar = composed.calendar
    begin = max(calendar.place(one.price_from_month, "plan") - months, 0) + 1
    coming = {
        name: msgspec.structs.replace(
            of,
            from_month=of.from_month
            if of.from_month in (None, 0)
            else max(calendar.place(of.from_month, "plan") - months, 0) + 1,
        )
        for name, of in one.next_generation.items()
    }
    return msgspec.structs.replace(one, price_from_month=begin, next_generation=coming)
