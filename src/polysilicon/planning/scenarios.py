"""What may happen: named scenarios and drawn ones, as factors on demand and prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec
import numpy as np

from polysilicon.errors import InputError, nearest
from polysilicon.placement.program import Numbers
from polysilicon.planning.dates import MONTHS_PER_YEAR, Calendar
from polysilicon.planning.file import Generated, NextGeneration, ProblemFile, Scenario
from polysilicon.planning.needs import Need

EXPECTED = Scenario(name="as expected", probability=1.0)
MOST = 200
MOST_FACTOR = 1e6


class Future(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which the years may go.

    Attributes:
        name: of the scenario.
        probability: of it.
        asked: what the file says of it.
        demand: factor on each month's demand, shape (months,).
        price: factor on each month's by-the-hour prices, shape (months,).
        delay: months by which what is to come is late.
    """

    name: str
    probability: float
    asked: Scenario
    demand: Numbers
    price: Numbers
    delay: int

    def of(self, need: Need) -> Numbers:
        """Return the mean demand of each month, shape (months,)."""
        asked = self.asked
        growth, factor = asked.growth_per_year, asked.demand
        if not isinstance(growth, float | int | None):
            growth = growth.get(need.demand)
        if not isinstance(factor, float | int):
            factor = factor.get(need.demand, 1.0)
        return np.asarray(need.trend(growth) * factor * self.demand)

    def price_of(self, offer: str, calendar: Calendar, where: str) -> Numbers:
        """Return the factor on an offer's by-the-hour prices, shape (months,)."""
        begin = calendar.within(self.asked.price_from_month, where) if self.asked.price else 0
        found = self.price.copy()
        for pattern, factor in self.asked.price.items():
            if fnmatchcase(offer, pattern):
                found[begin:] *= factor
        return found

    def generation(self, offer: str) -> NextGeneration:
        """Return what it says of an offer that is to come."""
        return self.asked.next_generation.get(offer, NextGeneration())


def futures_of(file: ProblemFile, calendar: Calendar, where: str) -> list[Future]:
    """Return the scenarios of a problem.

    Raises:
        InputError: probabilities that do not sum to 1, names that are not there, or numbers that
            cannot be.
    """
    _check(file, where)
    named = file.scenario or (() if file.generated is not None else (EXPECTED,))
    flat = np.ones(calendar.months)
    found = [
        Future(
            name=one.name, probability=one.probability, asked=one, demand=flat, price=flat, delay=0
        )
        for one in named
    ]
    left = 1.0 - sum(one.probability for one in named)
    if file.generated is not None:
        if left <= 1e-9:
            mend = "let the probabilities of the named ones sum to less than 1"
            raise InputError("no probability is left", where=f"{where}, generated", mend=mend)
        found += _drawn(file.generated, left, calendar.months)
    elif abs(left) > 1e-6:
        total = 1.0 - left
        mend = "they must sum to 1, or [generated] scenarios share what is left"
        raise InputError(f"probabilities sum to {total:g}", where=f"{where}, scenario", mend=mend)
    return found


def _drawn(asked: Generated, share: float, months: int) -> list[Future]:
    """Return scenarios drawn by a seed."""
    rng = np.random.default_rng(asked.seed)
    years = np.arange(months) / MONTHS_PER_YEAR
    monthly = asked.price_sd / np.sqrt(MONTHS_PER_YEAR)
    found = []
    for number in range(1, asked.count + 1):
        level = rng.normal() * asked.demand_sd
        growth = rng.normal() * asked.growth_sd
        months_off = rng.normal(size=months) * asked.month_sd
        walk = np.concatenate([[0.0], np.cumsum(rng.normal(size=months - 1) * monthly)])
        name = f"drawn {number}"
        probability = share / asked.count
        # Logarithms less half their variance: the mean of all draws is what the file expects.
        spread = asked.demand_sd**2 + (asked.growth_sd * years) ** 2 + asked.month_sd**2
        drift = asked.price_sd**2 * years
        found.append(
            Future(
                name=name,
                probability=probability,
                asked=Scenario(name=name, probability=probability),
                demand=np.exp(level + growth * years + months_off - spread / 2),
                price=np.exp(walk - drift / 2),
                delay=int(rng.integers(0, asked.delay_months + 1)),
            )
        )
    return found


def _check(file: ProblemFile, where: str) -> None:
    """Raise `InputError` where scenarios cannot be."""
    names = [one.name for one in file.scenario]
    total = len(names) + (file.generated.count if file.generated is not None else 0)
    if total > MOST:
        raise InputError(f"{total} scenarios", where=where, mend=f"at most {MOST}")
    for one in file.scenario:
        place = f"{where}, scenario {one.name!r}"
        if names.count(one.name) > 1:
            raise InputError("it is there twice", where=place)
        _check_named(one, file, place)
    if file.generated is not None:
        _check_drawn(file.generated, f"{where}, generated")


def _check_named(one: Scenario, file: ProblemFile, where: str) -> None:
    """Raise `InputError` where a scenario cannot be."""
    demands = {asked.name for asked in file.demand}
    offers = {asked.name for asked in file.offer}
    if not 0 < one.probability <= 1:
        raise InputError(f"probability is {one.probability:g}", where=where, mend="0 to 1")
    for what in (one.growth_per_year, one.demand):
        if not isinstance(what, float | int | None):
            _known(what, demands, "demand", where)
    growth = one.growth_per_year
    told = (
        () if growth is None else (growth,) if isinstance(growth, float | int) else growth.values()
    )
    for value in told:
        if not -1 < value <= 100:
            mend = "0.5 is half as much again in a year"
            raise InputError(f"growth_per_year is {value:g}", where=where, mend=mend)
    _known(one.next_generation, offers, "offer", where)
    factors = [one.demand] if isinstance(one.demand, float | int) else one.demand.values()
    _positive([*factors, *one.price.values()], "a factor", where)
    for pattern in one.price:
        if not any(fnmatchcase(name, pattern) for name in offers):
            raise InputError(f"price: no offer is {pattern!r}", where=where)
    for of in one.next_generation.values():
        _positive([of.performance, of.price], "a factor of next_generation", where)


def _check_drawn(drawn: Generated, where: str) -> None:
    """Raise `InputError` where scenarios cannot be drawn so."""
    if drawn.count < 1 or drawn.delay_months < 0:
        raise InputError("count must be at least 1, delay_months at least 0", where=where)
    for name in ("demand_sd", "growth_sd", "month_sd", "price_sd"):
        if not 0 <= getattr(drawn, name) <= 2:
            mend = "it is of a logarithm: 0.1 is about ten per cent; at most 2"
            raise InputError(f"{name} is {getattr(drawn, name):g}", where=where, mend=mend)


def _known(names: Iterable[str], known: set[str], what: str, where: str) -> None:
    """Raise `InputError` where a table has a name that is not there."""
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} {name!r}", where=where, mend=nearest(name, known))


def _positive(values: Sequence[float], what: str, where: str) -> None:
    """Raise `InputError` where a factor is not a number above 0."""
    for value in values:
        if not 0 < value <= MOST_FACTOR:
            mend = f"above 0 and at most {MOST_FACTOR:g}"
            raise InputError(f"{what} is {value:g}", where=where, mend=mend)
