"""Contracts about money in numbers: dollars an hour, drawdown, take-or-pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from polysilicon.errors import InputError
from polysilicon.planning.dates import HOURS_PER_MONTH
from polysilicon.planning.market import Market, Terms, fraction, terms_of, tiers_of
from polysilicon.planning.problem import INF, DollarContract, Path, SpendContract
from polysilicon.planning.shapes import Drawdown, HourlyDollars, TakeOrPay


def _rates(
    discount: float | Mapping[str, float], options: Sequence[int], market: Market, where: str
) -> tuple[Path, ...]:
    """Return the lower rates of options, each of shape (scenarios, months)."""
    found = []
    for option in options:
        place = market.places[option]
        if place.hourly is None:
            mend = "leave it out of offers, or let it be rented"
            raise InputError(f"{place.name} has no price by the hour", where=where, mend=mend)
        if isinstance(discount, float | int):
            off = float(discount)
        else:
            hits = [d for p, d in discount.items() if fnmatchcase(place.asked.name, p)]
            if not hits:
                mend = f'add "{place.asked.name}" = … to discount'
                raise InputError(f"no discount for {place.asked.name}", where=where, mend=mend)
            off = hits[0]
        fraction(off, "discount", where)
        found.append(market.hourly[option] * (1.0 - off))
    return tuple(found)


def dollars_of(
    asked: HourlyDollars, options: Sequence[int], market: Market, terms: Terms, where: str
) -> tuple[DollarContract | SpendContract, str]:
    """Return dollars an hour."""
    fraction(asked.upfront_share, "upfront_share", where)
    done = DollarContract(
        name=asked.name,
        program=asked.program or asked.name,
        vendor=_vendor(options, market, where),
        options=tuple(options),
        rate_usd_per_h=_rates(asked.discount, options, market, where),
        orders=terms.orders,
        lead_months=asked.lead_months,
        term_months=terms.term_months,
        upfront_share=asked.upfront_share,
        most=INF if asked.most is None else asked.most,
        beyond=terms.beyond,
    )
    return done, f"off {market.places[options[0]].price_basis}"


def _vendor(options: Sequence[int], market: Market, where: str) -> str:
    """Return who a contract of several options is with."""
    vendors = sorted({market.places[option].vendor for option in options})
    if len(vendors) > 1:
        mend = f"name the offers of one: {vendors[0]}/*"
        raise InputError(f"one contract with {' and '.join(vendors)}", where=where, mend=mend)
    return vendors[0]


def _paid(asked: TakeOrPay, common: SpendContract, periods: int, where: str) -> SpendContract:
    """Return a contract of which a part is paid in any case."""
    if not 0 < asked.minimum_share <= 1:
        mend = "above 0 and at most 1"
        raise InputError(f"minimum_share is {asked.minimum_share:g}", where=where, mend=mend)
    most = asked.units * asked.usd_per_hour * HOURS_PER_MONTH * asked.period_months
    return msgspec.structs.replace(
        common,
        rate_usd_per_h=tuple(asked.usd_per_hour for _ in common.options),
        commitment_usd=(most * asked.minimum_share,) * periods,
        headroom=1.0 / asked.minimum_share - 1.0,
    )


def spend_of(
    asked: Drawdown | TakeOrPay,
    options: Sequence[int],
    market: Market,
    by_name: Mapping[str, list[int]],
    where: str,
) -> tuple[DollarContract | SpendContract, str]:
    """Return a contract about money spent."""
    terms = terms_of(asked, market.calendar, where)
    periods, rest = divmod(asked.term_months, asked.period_months)
    if rest or not periods:
        mend = f"a multiple of period_months = {asked.period_months}"
        raise InputError(f"term_months is {asked.term_months}", where=where, mend=mend)
    common = SpendContract(
        name=asked.name,
        program=asked.program or asked.name,
        vendor=_vendor(options, market, where),
        options=tuple(options),
        rate_usd_per_h=(),
        commitment_usd=(),
        period_months=asked.period_months,
        orders=terms.orders,
        lead_months=asked.lead_months,
        whole=asked.whole,
        most=asked.most,
    )
    if isinstance(asked, TakeOrPay):
        return _paid(asked, common, periods, where), "given"
    if len(asked.commitment_usd) != periods:
        mend = f"one for each of the {periods} periods of {asked.period_months} months"
        what = f"commitment_usd has {len(asked.commitment_usd)} numbers"
        raise InputError(what, where=where, mend=mend)
    unknown = [name for name in asked.counting if name not in by_name]
    if unknown:
        mend = "name contracts that stand above it"
        raise InputError(f"counting: no contract {unknown[0]!r}", where=where, mend=mend)
    done = msgspec.structs.replace(
        common,
        rate_usd_per_h=_rates(asked.discount, options, market, where),
        commitment_usd=asked.commitment_usd,
        headroom=asked.headroom,
        excess_carried=asked.excess_carried,
        shortfall_credit=asked.shortfall_credit,
        counting=tuple(at for name in asked.counting for at in by_name[name]),
        tiers=tiers_of(asked.tiers, where),
    )
    return done, f"off {market.places[options[0]].price_basis}"
