"""Shapes of contracts, as a problem file tells them; `shape` says which.

Prices are dollars an hour of a unit (`usd_per_hour`), or a `discount` off the price by the hour at
the month of the order, or, of one and three years, what the catalog knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from polysilicon.catalog.owned import Owned

Month = int | str
Beyond = Literal["prorated", "owed", "paid"]


class Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in force already.

    Attributes:
        order: month of the order: a date, or 0 for the month before the first, -1 for that before.
        units: as the contract counts them.
        offer: of these units, where the contract is of several.
        region: likewise.
    """

    order: Month
    units: float
    offer: str | None = None
    region: str | None = None


class TierAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From so much on what comes on top is cheaper.

    Attributes:
        above: units of one order, or dollars of one period.
        discount: off the contract's price, of what lies above.
    """

    above: float
    discount: float


class Extend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At the end of the term it may go on.

    Attributes:
        term_months: for so long.
        usd_per_hour: at this price.
        fee_usd: paid for it, per unit.
    """

    term_months: int
    usd_per_hour: float
    fee_usd: float = 0.0


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units may become units of another offer for the rest of the term.

    Attributes:
        into: the other offer, in the same region.
        from_month: the first month of the horizon in which it may be done.
        usd_per_hour: paid from then on, per old unit.
        ratio: new units for an old one.
        fee_usd: per old unit.
    """

    into: str
    from_month: Month
    usd_per_hour: float
    ratio: float = 1.0
    fee_usd: float = 0.0


class Sell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units may be given back or sold.

    Attributes:
        from_month: the first month of the horizon in which it may be done.
        usd_per_unit: received then; a fee where it is negative.
        usd_per_month: what is received more with each month that passes.
        ends_fees: nothing is paid for them afterwards.
    """

    from_month: Month
    usd_per_unit: float
    usd_per_month: float = 0.0
    ends_fees: bool = True


class _Common(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="shape"
):
    """What contracts of all shapes have.

    Attributes:
        name: unique.
        program: as the vendor calls it; by default its name.
        offers: patterns of offers.
        regions: patterns of regions.
        term_months: of service.
        first_order: the first month in which it can be signed.
        last_order: the last one; None for the last that leaves a month of service.
        every_months: between months in which it can be signed.
        lead_months: from the signature to the first month of service.
        buy: False where only what is signed already counts.
        signed: what is in force.
        beyond: what counts of a term that goes on after the horizon; must be told where the term
            is longer than the horizon: `prorated` (the upfront price by months), `owed` (all fees,
            also those after it) or `paid` (what is paid within it).
    """

    name: str
    program: str = ""
    offers: tuple[str, ...]
    regions: tuple[str, ...] = ("*",)
    term_months: int
    first_order: Month = 1
    last_order: Month | None = None
    every_months: int = 3
    lead_months: int = 0
    buy: bool = True
    signed: tuple[Signed, ...] = ()
    beyond: Beyond | None = None


class Units(_Common, frozen=True, kw_only=True, tag="units"):
    """Units for a term: reservation, committed use, private contract.

    Attributes:
        usd_per_hour: of a unit.
        discount: off the price by the hour, instead.
        upfront_share: of all that is paid, with the order.
        whole: only whole units.
        least: units of one order, where any are ordered.
        most: units of one order.
        unit: `MW` contracts count megawatts; each offer's `mw` says what a unit takes, and the
            price is of a megawatt.
        flexible: one contract for all its offers, whose units can be used as any of them, by price.
        tiers: of the units of one order.
        extend: a right.
        exchange: a right.
        sell: a right: exit or resale.
    """

    usd_per_hour: float | None = None
    discount: float | None = None
    upfront_share: float = 0.0
    whole: bool = False
    least: float = 0.0
    most: float | None = None
    unit: Literal["units", "MW"] = "units"
    flexible: bool = False
    tiers: tuple[TierAsked, ...] = ()
    extend: Extend | None = None
    exchange: Exchange | None = None
    sell: Sell | None = None


class Capacity(_Common, frozen=True, kw_only=True, tag="capacity"):
    """Capacity without price: units are sure to be there, paid at the price by the hour.

    Attributes:
        usd_per_hour: of a unit, on top of the price by the hour.
        most: units of one order.
    """

    usd_per_hour: float = 0.0
    most: float | None = None


class HourlyDollars(_Common, frozen=True, kw_only=True, tag="hourly-dollars"):
    """Price without capacity: so many dollars an hour, used or not, buy use at lower rates.

    Attributes:
        discount: off the price by the hour; one for all, or by pattern of offers.
        upfront_share: of all dollars, with the order.
        most: dollars an hour of one order.
    """

    discount: float | Mapping[str, float]
    upfront_share: float = 0.0
    most: float | None = None


class Drawdown(_Common, frozen=True, kw_only=True, tag="drawdown"):
    """So many dollars in each period, or the difference is paid.

    Attributes:
        commitment_usd: of each period; they may rise.
        period_months: of one.
        discount: off the price by the hour; one for all, or by pattern of offers.
        headroom: spend at these rates goes up to 1 + headroom times the commitment.
        excess_carried: share of spend above a commitment that counts in the next period.
        shortfall_credit: share of a paid shortfall that pays for spend above the next commitment.
        counting: names of contracts whose fees count as spend.
        tiers: of the spend of one period.
        whole: signed as written or not at all; else any size up to `most`.
        most: contracts.
    """

    commitment_usd: tuple[float, ...]
    period_months: int = 12
    discount: float | Mapping[str, float] = 0.0
    headroom: float = 1.0
    excess_carried: float = 0.0
    shortfall_credit: float = 0.0
    counting: tuple[str, ...] = ()
    tiers: tuple[TierAsked, ...] = ()
    whole: bool = True
    most: float = 1.0


class TakeOrPay(_Common, frozen=True, kw_only=True, tag="take-or-pay"):
    """Use at a fixed price, of which a part is paid in any case.

    Attributes:
        units: that can be used at once, on average over a period.
        usd_per_hour: of a used unit.
        minimum_share: of them paid whether used or not.
        period_months: over which the minimum counts.
        whole: signed as written or not at all.
        most: contracts.
    """

    units: float
    usd_per_hour: float
    minimum_share: float
    period_months: int = 1
    whole: bool = True
    most: float = 1.0


class OwnedHardware(_Common, frozen=True, kw_only=True, tag="owned"):
    """Machines that are bought; the term is their life.

    The capital less what they sell for at the end counts as paid upfront, without interest, which
    the horizon's discount rate is for; space, staff and idle
    power every month, and the power of work while they work.

    Attributes:
        machine: what one costs.
        whole: only whole units.
        most: units of one order.
    """

    machine: Owned
    term_months: int = 0
    whole: bool = False
    most: float | None = None


Contract = Units | Capacity | HourlyDollars | Drawdown | TakeOrPay | OwnedHardware
