"""Rights of contracts of units, in numbers: to extend, to exchange, to sell."""

from __future__ import annotations

import numpy as np

from polysilicon.errors import InputError
from polysilicon.planning.dates import HOURS_PER_MONTH
from polysilicon.planning.market import Market, from_zero
from polysilicon.planning.places import Place
from polysilicon.planning.problem import Right
from polysilicon.planning.shapes import Exchange, Extend, Sell, Units


def rights_of(asked: Units, place: Place, market: Market, where: str) -> tuple[Right, ...]:
    """Return what may be done with units later.

    Args:
        asked: the contract.
        place: its offer.
        market: all offers, and the months.
        where: the contract stands.

    Raises:
        InputError: a figure that cannot be, or an exchange into what is not there.
    """
    found = []
    if asked.extend is not None:
        found.append(_extend(asked.extend, f"{where}, extend"))
    if asked.exchange is not None:
        found.append(_exchange(asked.exchange, place, market, f"{where}, exchange"))
    if asked.sell is not None:
        found.append(_sell(asked.sell, market, f"{where}, sell"))
    return tuple(found)


def _extend(asked: Extend, where: str) -> Right:
    """Return the right to go on at the end of the term."""
    if asked.term_months < 1:
        raise InputError(f"term_months is {asked.term_months}", where=where, mend="at least 1")
    from_zero(asked.usd_per_hour, "usd_per_hour", where)
    from_zero(asked.fee_usd, "fee_usd", where)
    return Right(
        kind="extend",
        usd=-asked.fee_usd,
        term_months=asked.term_months,
        monthly_usd=asked.usd_per_hour * HOURS_PER_MONTH,
    )


def _exchange(asked: Exchange, place: Place, market: Market, where: str) -> Right:
    """Return the right to have other units for the rest of the term."""
    into = [at for at, other in enumerate(market.places)
            if other.asked.name == asked.into and other.region == place.region]  # fmt: skip
    if not into:
        what = f"into {asked.into!r}, which is no offer in {place.region}"
        raise InputError(what, where=where, mend="add it as an [[offer]] there")
    from_zero(asked.usd_per_hour, "usd_per_hour", where)
    from_zero(asked.fee_usd, "fee_usd", where)
    from_zero(asked.ratio, "ratio", where)
    if asked.ratio == 0:
        raise InputError("ratio is 0", where=where, mend="new units for an old one, above 0")
    begin = market.calendar.within(asked.from_month, where)
    return Right(
        kind="exchange",
        months=tuple(range(begin, market.calendar.months)),
        usd=-asked.fee_usd,
        monthly_usd=asked.usd_per_hour * HOURS_PER_MONTH,
        option=into[0],
        ratio=asked.ratio,
    )


def _sell(asked: Sell, market: Market, where: str) -> Right:
    """Return the right to give units back."""
    for name in ("usd_per_unit", "usd_per_month"):
        if not np.isfinite(getattr(asked, name)):
            raise InputError(f"{name} is {getattr(asked, name):g}", where=where, mend="dollars")
    begin = market.calendar.within(asked.from_month, where)
    months = np.arange(market.calendar.months)
    usd = asked.usd_per_unit + asked.usd_per_month * np.maximum(months - begin, 0)
    return Right(
        kind="sell",
        months=tuple(range(begin, market.calendar.months)),
        usd=usd.astype(np.float64),
        ends_fees=asked.ends_fees,
    )
