"""The contracts of a problem file in numbers, and what of them is in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from polysilicon.errors import InputError
from polysilicon.planning.dates import Calendar
from polysilicon.planning.market import Market, terms_of
from polysilicon.planning.money_terms import dollars_of, spend_of
from polysilicon.planning.problem import INF, Contract, Held, UnitContract
from polysilicon.planning.shapes import Contract as Asked
from polysilicon.planning.shapes import Drawdown, HourlyDollars, Signed, TakeOrPay, Units
from polysilicon.planning.unit_terms import units_of


class Agreements(msgspec.Struct, frozen=True, kw_only=True):
    """Contracts and what they come from.

    Attributes:
        contracts: in numbers.
        held: what is in force.
        asked: the entry of the file of each contract.
        basis: where the price of each comes from.
    """

    contracts: list[Contract]
    held: list[Held]
    asked: list[Asked]
    basis: list[str]


def agreements_of(each: Sequence[Asked], market: Market) -> Agreements:
    """Return the contracts of a problem file.

    Raises:
        InputError: a contract that contradicts itself or the horizon, or names no offer.
    """
    found = Agreements(contracts=[], held=[], asked=[], basis=[])
    seen: set[str] = set()
    by_name: dict[str, list[int]] = {}
    for asked in each:
        where = f"{market.where}, contract {asked.name!r}"
        if asked.name in seen:
            raise InputError("it is there twice", where=where)
        seen.add(asked.name)
        first = len(found.contracts)
        each_of = _contracts(asked, market, by_name, where)
        _check_signed(asked, [contract for contract, _ in each_of], market, where)
        for contract, basis in each_of:
            _add(found, asked, contract, basis, market, where)
        by_name[asked.name] = list(range(first, len(found.contracts)))
    return found


def _add(
    found: Agreements, asked: Asked, contract: Contract, basis: str, market: Market, where: str
) -> None:
    """Add a contract; what is signed already stands apart, for other prices may hold for more."""
    if asked.buy:
        found.contracts.append(contract)
        found.asked.append(asked)
        found.basis.append(basis)
    mine = [one for one in asked.signed if _is_of(one, contract, market)]
    if not mine:
        return
    place = len(found.contracts)
    name = f"{contract.name} (signed)"
    found.contracts.append(msgspec.structs.replace(contract, name=name, orders=()))
    found.asked.append(asked)
    found.basis.append(basis)
    for one in mine:
        found.held.append(_held(one, place, contract, market.calendar, where))


def _check_signed(asked: Asked, contracts: Sequence[Contract], market: Market, where: str) -> None:
    """Raise `InputError` where something is signed for none or several of an entry's offers."""
    for one in asked.signed:
        hits = sum(_is_of(one, contract, market) for contract in contracts)
        if hits != 1:
            what = f"{one.units:g} are signed for {hits} of its offers"
            mend = 'say which: offer = "…", region = "…"'
            raise InputError(what, where=f"{where}, signed", mend=mend)


def _is_of(one: Signed, contract: Contract, market: Market) -> bool:
    """Tell whether something signed is of this one of the contracts of an entry."""
    if not isinstance(contract, UnitContract) or contract.flexible:
        return True
    place = market.places[contract.option]
    return one.offer in (None, place.asked.name) and one.region in (None, place.region)


def _held(one: Signed, place: int, contract: Contract, calendar: Calendar, where: str) -> Held:
    """Return what is in force of a contract."""
    order = calendar.place(one.order, f"{where}, signed")
    lead = contract.lead_months
    if order >= 0:
        mend = "what is signed was ordered before the first month: 0, -1, … or a date"
        raise InputError(f"signed in month {one.order}", where=where, mend=mend)
    if order + lead + contract.term_months <= 0:
        end = calendar.name(order + lead + contract.term_months - 1)
        raise InputError(f"what was signed in {calendar.name(order)} ended in {end}", where=where,
                         mend="leave it out")  # fmt: skip
    if not 0 < one.units < INF:
        raise InputError(f"{one.units:g} units are signed", where=where)
    return Held(contract=place, order=order, units=one.units)


def _contracts(
    asked: Asked, market: Market, by_name: Mapping[str, list[int]], where: str
) -> list[tuple[Contract, str]]:
    """Return a contract in numbers, one for each option where it is of one."""
    options = [
        at
        for at, place in enumerate(market.places)
        if not place.only_spot
        and any(fnmatchcase(place.asked.name, pattern) for pattern in asked.offers)
        and any(fnmatchcase(place.region, pattern) for pattern in asked.regions)
    ]
    if not options:
        known = ", ".join(sorted({place.asked.name for place in market.places})[:6])
        mend = f"offers of the problem: {known}"
        what = f"it is of no offer: {', '.join(asked.offers)} in {', '.join(asked.regions)}"
        raise InputError(what, where=where, mend=mend)
    terms = terms_of(asked, market.calendar, where)
    if isinstance(asked, HourlyDollars):
        return [dollars_of(asked, options, market, terms, where)]
    if isinstance(asked, Drawdown | TakeOrPay):
        return [spend_of(asked, options, market, by_name, where)]
    if isinstance(asked, Units) and asked.flexible:
        return [units_of(asked, options, market, terms, where)]
    return [units_of(asked, [option], market, terms, where) for option in options]
