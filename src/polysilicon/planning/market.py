"""What contracts of all shapes share: the market, terms, tiers, and figures that can be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from polysilicon.errors import InputError
from polysilicon.placement.program import Numbers
from polysilicon.planning.dates import MONTHS_PER_YEAR, Calendar
from polysilicon.planning.places import Place
from polysilicon.planning.problem import INF, Tier
from polysilicon.planning.shapes import Beyond, OwnedHardware, TierAsked
from polysilicon.planning.shapes import Contract as Asked


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What contracts are about.

    Attributes:
        places: offers in regions, as the options are.
        hourly: by-the-hour prices, shape (options, scenarios, months); infinite where not rented.
        probability: of the scenarios.
        calendar: months.
        where: the problem file.
    """

    places: Sequence[Place]
    hourly: Numbers
    probability: Numbers
    calendar: Calendar
    where: str

    def expected(self, option: int) -> Numbers:
        """Return the mean price by the hour of an option by month, shape (months,)."""
        return np.asarray(self.probability @ self.hourly[option])


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """When a contract can be signed, and how long it is."""

    orders: tuple[int, ...]
    term_months: int
    beyond: Beyond


def terms_of(asked: Asked, calendar: Calendar, where: str) -> Terms:
    """Return when a contract can be signed.

    Raises:
        InputError: months, term or lead time that cannot be, or a long term without a rule for
            what lies behind the horizon.
    """
    term = asked.term_months
    if isinstance(asked, OwnedHardware):
        if asked.machine.life_years > 50:
            what = f"life_years is {asked.machine.life_years:g}"
            raise InputError(what, where=where, mend="at most 50")
        life = round(asked.machine.life_years * MONTHS_PER_YEAR)
        if term not in (0, life):
            mend = f"leave term_months out: a life of {asked.machine.life_years:g} years is {life}"
            raise InputError(f"term_months is {term}", where=where, mend=mend)
        term = life
    if term < 1 or asked.lead_months < 0 or asked.every_months < 1:
        mend = "term_months and every_months are at least 1, lead_months at least 0"
        raise InputError("it has no term", where=where, mend=mend)
    if term > calendar.months and asked.beyond is None and not isinstance(asked, OwnedHardware):
        what = f"its term of {term} months is longer than the horizon of {calendar.months}"
        mend = 'say what counts of the rest: beyond = "prorated", "owed" or "paid"'
        raise InputError(what, where=where, mend=mend)
    if not asked.buy and not asked.signed:
        raise InputError("buy is false and nothing is signed", where=where, mend="leave it out")
    first = calendar.within(asked.first_order, f"{where}, first_order")
    last = calendar.months - 1 - asked.lead_months
    if asked.last_order is not None:
        last = min(calendar.within(asked.last_order, f"{where}, last_order"), last)
    orders = tuple(range(first, last + 1, asked.every_months)) if asked.buy else ()
    if asked.buy and not orders:
        what = f"no month is left to sign it: first {calendar.name(first)}"
        mend = f"service begins {asked.lead_months} months later, within {calendar.months} months"
        raise InputError(what, where=where, mend=mend)
    return Terms(orders=orders, term_months=term, beyond=asked.beyond or "prorated")


def tiers_of(tiers: Sequence[TierAsked], where: str) -> tuple[Tier, ...]:
    """Return volume discounts."""
    for one, after in pairwise(tiers):
        if after.above <= one.above or after.discount < one.discount:
            raise InputError("tiers must rise", where=where, mend="sort them by above and discount")
    for one in tiers:
        fraction(one.discount, "discount of a tier", where)
    return tuple(Tier(above=one.above, factor=1.0 - one.discount) for one in tiers)


def fraction(value: float, what: str, where: str) -> None:
    """Raise `InputError` where a share is not from 0 to 1."""
    if not 0 <= value <= 1:
        mend = "a fraction from 0 to 1"
        if 1 < value <= 100:
            mend = f"{value / 100:g} is {value:g} per cent"
        raise InputError(f"{what} is {value:g}", where=where, mend=mend)


def from_zero(value: float, what: str, where: str) -> None:
    """Raise `InputError` where a number is below 0 or infinite."""
    if not 0 <= value < INF:
        raise InputError(f"{what} is {value:g}", where=where, mend="a number from 0")
