"""Contracts of units in numbers: reservations, capacity, owned machines, and their rights."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.errors import InputError
from polysilicon.placement.program import Numbers
from polysilicon.planning.dates import HOURS_PER_MONTH, MONTHS_PER_YEAR
from polysilicon.planning.market import Market, Terms, fraction, from_zero, tiers_of
from polysilicon.planning.places import Place
from polysilicon.planning.problem import INF, UnitContract
from polysilicon.planning.rights import rights_of
from polysilicon.planning.shapes import Capacity, OwnedHardware, Units

CATALOG_TERMS = {12: "1y", 36: "3y"}


def units_of(
    asked: Units | Capacity | OwnedHardware,
    options: Sequence[int],
    market: Market,
    terms: Terms,
    where: str,
) -> tuple[UnitContract, str]:
    """Return a contract of units; of several options where it is flexible."""
    option = options[0]
    place = market.places[option]
    several = len(options) > 1
    # A flexible contract counts as the first of its offers.
    label = asked.name if several else f"{asked.name}: {place.name}"
    common = UnitContract(
        name=label,
        program=asked.program or asked.name,
        option=option,
        orders=terms.orders,
        lead_months=asked.lead_months,
        term_months=terms.term_months,
        beyond=terms.beyond,
        most=INF if asked.most is None else asked.most,
    )
    if isinstance(asked, Capacity):
        from_zero(asked.usd_per_hour, "usd_per_hour", where)
        if place.hourly is None:
            raise InputError(f"{place.name} has no price by the hour to pay", where=where)
        fee = asked.usd_per_hour * HOURS_PER_MONTH
        done = msgspec.structs.replace(common, at_on_demand=True, monthly_usd=fee)
        return done, f"by the hour: {place.price_basis}"
    if isinstance(asked, OwnedHardware):
        return _owned(asked, common), "given"
    _size(asked, where)
    fraction(asked.upfront_share, "upfront_share", where)
    if asked.tiers and (asked.sell or asked.exchange):
        mend = "leave one out: fees that a sale ends would be told at the first price"
        raise InputError("it has tiers and a right to sell or exchange", where=where, mend=mend)
    usd, basis = _price(asked, option, market, where)
    mw = _mw(asked, place, where)
    monthly = usd * HOURS_PER_MONTH
    total = monthly * terms.term_months
    done = msgspec.structs.replace(
        common,
        per_unit=1.0 / mw,
        flexible=tuple((at, _ratio(market, option, at) / mw) for at in options[1:]),
        upfront_usd=total * asked.upfront_share,
        monthly_usd=monthly * (1.0 - asked.upfront_share),
        whole=asked.whole,
        least=asked.least,
        tiers=tiers_of(asked.tiers, where),
        rights=rights_of(asked, place, market, where),
    )
    return done, basis


def _size(asked: Units, where: str) -> None:
    """Raise `InputError` where no order can be of the sizes that are told."""
    from_zero(asked.least, "least", where)
    if asked.most is not None and asked.most < asked.least:
        what = f"least is {asked.least:g} and most is {asked.most:g}"
        raise InputError(what, where=where, mend="most is the larger one")


def _mw(asked: Units, place: Place, where: str) -> float:
    """Return megawatts of a unit; 1 of contracts that count units."""
    if asked.unit == "units":
        return 1.0
    if asked.usd_per_hour is None:
        mend = "give usd_per_hour of a megawatt"
        raise InputError("a contract in MW has a price of its own", where=where, mend=mend)
    if not place.asked.mw:
        mend = f"add mw = … to offer {place.asked.name!r}, megawatts of a unit"
        raise InputError(f"{place.name} does not tell its power", where=where, mend=mend)
    return place.asked.mw


def _ratio(market: Market, first: int, other: int) -> float:
    """Return units of another option that cost as much by the hour as one of the first."""
    mine, its = market.expected(first)[0], market.expected(other)[0]
    return float(mine / its) if np.isfinite(mine) and np.isfinite(its) else 1.0


def _owned(asked: OwnedHardware, common: UnitContract) -> UnitContract:
    """Return machines that are bought.

    Capital is paid with the order. Interest is no part of it, for the horizon's discount rate says
    what money is worth that is paid earlier; that of the machine is for what it sells for.
    """
    one = asked.machine
    kw = one.busy_w / 1000.0
    idle = one.idle_w / 1000.0 * one.pue * one.usd_per_kwh * HOURS_PER_MONTH
    staff = one.capex_usd * one.operations_share / MONTHS_PER_YEAR
    left = one.residual_share * (1.0 + one.discount_rate) ** -one.life_years
    return msgspec.structs.replace(
        common,
        upfront_usd=one.capex_usd * (1.0 - left),
        monthly_usd=kw * one.colocation_usd_per_kw_month + idle + staff,
        whole=asked.whole,
    )


def running_usd_per_h(asked: OwnedHardware) -> float:
    """Return dollars of power of an hour of work of a machine that is owned, above idling."""
    one = asked.machine
    return (one.busy_w - one.idle_w) / 1000.0 * one.pue * one.usd_per_kwh


def _price(asked: Units, option: int, market: Market, where: str) -> tuple[Numbers, str]:
    """Return dollars an hour of a unit by month of order, shape (months,), and their basis."""
    place = market.places[option]
    if asked.usd_per_hour is not None and asked.discount is not None:
        mend = "give usd_per_hour or discount"
        raise InputError("it has two prices", where=where, mend=mend)
    months = market.calendar.months
    if asked.usd_per_hour is not None:
        from_zero(asked.usd_per_hour, "usd_per_hour", where)
        return np.full(months, asked.usd_per_hour), "given"
    if asked.discount is not None:
        fraction(asked.discount, "discount", where)
        hourly = market.expected(option)
        if not np.isfinite(hourly).all():
            mend = "give usd_per_hour"
            raise InputError(f"{place.name} has no price by the hour", where=where, mend=mend)
        return hourly * (1.0 - asked.discount), f"{asked.discount:.0%} off {place.price_basis}"
    term = CATALOG_TERMS.get(asked.term_months)
    known = None if term is None or place.here is None else place.here.price(term)  # type: ignore[arg-type]
    if known is None:
        what = f"the catalog knows no price of {place.name} for {asked.term_months} months"
        raise InputError(what, where=where, mend="give usd_per_hour or discount")
    return np.full(months, known), place.price_basis
