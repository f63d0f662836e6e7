"""The numeric problem of a plan: demand, options, contracts, limits. No names of files, no dates.

Dimensions, in this order wherever arrays have them:

    S  scenarios, with probabilities
    T  months of the horizon, 0 is the first
    H  representative hours of a month, each standing for `hours[t, h]` hours
    K  classes of demand, each in a unit of work per second of its own (cores, tokens/s, …)
    R  options: an offer in a region, in units (machines, chips, racks, MW: what one buys)

A month is an index; whoever reads calendars turns dates into indices. "Broadcasts to (S, T)" means
that a number, an array (T,) or an array (S, 1) will do as well. `inf` as a price means "not
offered", as a limit "no limit". Money of month t counts `money[t]` times (present value).

Two stages. Contracts are chosen before the scenario is known, for all order months. Rights
(resale, exit, extension, exchange) and hourly use are chosen within each scenario.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Path = Numbers | float
"""A number or an array that broadcasts to (S, T)."""

INF = float("inf")


PATHS = (
    "output",
    "on_demand_usd_per_h",
    "on_demand_limit",
    "spot_usd_per_h",
    "spot_limit",
    "running_usd_per_h",
)
"""Fields of an option that may differ by scenario."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can serve demand: an offer in a region.

    Attributes:
        name: unique, such as "aws/m9g.48xlarge eu-west-1".
        vendor: for shares and N-1.
        region: for N-1.
        work: of each class that one unit does per second when it does nothing else, shape (K,); 0
            where policy, residency or SLO forbid the class here.
        output: factor on `work`, broadcasts to (S, T): 0 before the option exists, other than 1
            where its performance is uncertain. It holds for all ways to pay.
        availability: share of committed units that are up.
        on_demand_usd_per_h: price of one unit, broadcasts to (S, T).
        on_demand_limit: units that can be had at once on demand, broadcasts to (S, T).
        spot_usd_per_h: price of one unit, broadcasts to (S, T).
        spot_efficiency: share of spot work that is not lost to interruptions, over 0 and up to 1.
        spot_limit: units that can be had at once, broadcasts to (S, T).
        running_usd_per_h: what a committed unit costs in an hour only while it is used (energy of
            owned hardware), broadcasts to (S, T).
        supply: units that can be under contract at once, others' reservations taken off,
            broadcasts to (T,).
    """

    name: str
    vendor: str
    region: str
    work: Numbers
    output: Path = 1.0
    availability: float = 1.0
    on_demand_usd_per_h: Path = INF
    on_demand_limit: Path = INF
    spot_usd_per_h: Path = INF
    spot_efficiency: float = 1.0
    spot_limit: Path = INF
    running_usd_per_h: Path = 0.0
    supply: Path = INF


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """From so much on, what comes on top costs `factor` times the first price (graduated tiers).

    Attributes:
        above: units of one order, or dollars at full rates in one period.
        factor: of the contract's price, for what lies above and below the next tier.
    """

    above: float
    factor: float


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done with units under contract once the scenario is known; parts of units count.

    Attributes:
        kind: `sell`: units go at the beginning of a month; `usd` is received per unit (a fee where
            it is negative), and monthly fees end if `ends_fees`. `extend`: at the end of the term,
            for `term_months` more at `monthly_usd`; `usd` is received at its start. `exchange`:
            units become `ratio` units of `option` for the rest of the term, monthly fees become
            `monthly_usd` per old unit, `usd` is received at once.
        months: in which it may be used, rising; of no meaning for `extend`.
        usd: received per unit by month, broadcasts to (T,).
        ends_fees: for `sell`.
        term_months: for `extend`.
        monthly_usd: per unit and month afterwards, for `extend` and `exchange`.
        option: index of the new option, for `exchange`.
        ratio: new units for an old one, for `exchange`.
    """

    kind: Literal["sell", "extend", "exchange"]
    months: tuple[int, ...] = ()
    usd: Path = 0.0
    ends_fees: bool = True
    term_months: int = 0
    monthly_usd: float = 0.0
    option: int = -1
    ratio: float = 1.0


class UnitContract(msgspec.Struct, frozen=True, kw_only=True, tag="units"):
    """Units of an option for a term: reservation, committed use, private contract, owned hardware.

    A unit ordered in month o serves in months o+lead … o+lead+term-1, and pays `upfront_usd[o]` in
    month o and `monthly_usd[o]` in each month of service. MW contracts are options whose unit is a
    MW, or `per_unit` option units for one unit of contract.

    Attributes:
        name: unique among contracts.
        program: "1y", "3y all upfront", "owned", …; for reports.
        option: index of the option.
        per_unit: option units that one unit of contract gives.
        flexible: further options that the same unit can be used as in any hour, as (index, option
            units that one unit of contract gives there).
        orders: months in which it can be ordered, rising.
        lead_months: from order to service.
        term_months: of service.
        upfront_usd: per unit by month of order, broadcasts to (T,).
        monthly_usd: per unit and month of service, by month of order, broadcasts to (T,).
        at_on_demand: capacity without price: besides its fees, all hours of service are paid at
            the option's on-demand price, used or not, and dollar contracts discount them.
        whole: units must be whole numbers.
        least: units of one order, where any are ordered (a minimum order needs a yes or no).
        most: units of one order.
        tiers: of the units of one order; factors on fees, rising `above`.
        beyond: what counts of a term that goes on after the horizon. `prorated`: of the upfront
            price the months of service within the horizon over the term; `owed`: all of the
            upfront price, and all fees, those after the horizon in its last month at no interest;
            `paid`: what is paid within the horizon and no more.
        salvage_usd: received in the last month per unit in service then, by month of order,
            broadcasts to (T,); on top of `beyond`.
        rights: what may be done with the units later.
    """

    name: str
    program: str
    option: int
    per_unit: float = 1.0
    flexible: tuple[tuple[int, float], ...] = ()
    orders: tuple[int, ...] = (0,)
    lead_months: int = 0
    term_months: int = 12
    upfront_usd: Path = 0.0
    monthly_usd: Path = 0.0
    at_on_demand: bool = False
    whole: bool = False
    least: float = 0.0
    most: float = INF
    tiers: tuple[Tier, ...] = ()
    beyond: Literal["prorated", "owed", "paid"] = "prorated"
    salvage_usd: Path = 0.0
    rights: tuple[Right, ...] = ()


class DollarContract(msgspec.Struct, frozen=True, kw_only=True, tag="dollars"):
    """So many dollars an hour, used or not, that pay for on-demand use at lower rates.

    Price without capacity: where on-demand supply is limited, covered use counts against the limit.
    What an hour leaves over is lost. One unit is one dollar an hour; it costs one dollar in each
    hour of service, of which `upfront_share` at the order.

    The clouds apply such a plan to the use with the largest saving first; that is also the cheapest
    way to apply one plan, so the program, which chooses, agrees with the bill (see `contracts`).

    Attributes:
        name: unique among contracts.
        program: for reports.
        vendor: for shares.
        options: indices of eligible options, shape (n,).
        rate_usd_per_h: of one unit of each, each broadcasts to (S, T).
        orders: months in which it can be ordered, rising.
        lead_months: from order to service.
        term_months: of service.
        upfront_share: of all dollars, paid with the order.
        most: dollars an hour of one order.
        beyond: as of unit contracts.
    """

    name: str
    program: str
    vendor: str
    options: tuple[int, ...]
    rate_usd_per_h: tuple[Path, ...]
    orders: tuple[int, ...] = (0,)
    lead_months: int = 0
    term_months: int = 12
    upfront_share: float = 0.0
    most: float = INF
    beyond: Literal["prorated", "owed", "paid"] = "prorated"


class SpendContract(msgspec.Struct, frozen=True, kw_only=True, tag="spend"):
    """Spend so much in each period or pay the difference: drawdown, ramp, take-or-pay, tiers.

    Where it is signed, eligible on-demand use may be bought at `rate_usd_per_h`; spend at those
    rates counts, and where a period's spend is below the commitment the shortfall is paid. The
    bill of a period without carry-over is max(commitment, spend). One unit is the contract as
    written; half of it has half of each commitment.

    Attributes:
        name: unique among contracts.
        program: for reports.
        vendor: for shares.
        options: indices of eligible options, shape (n,).
        rate_usd_per_h: of one unit of each under the contract, each broadcasts to (S, T).
        orders: months in which it can be ordered, rising.
        lead_months: from order to the first period.
        commitment_usd: of each period (a ramp where they differ); their number is the term.
        period_months: of one period.
        headroom: spend at these rates is possible up to 1 + headroom times the period's commitment;
            inf needs `whole`.
        excess_carried: share of the spend above the commitment that counts in the next period.
        shortfall_credit: share of a paid shortfall that pays for spend above the commitment in the
            next period. Not both.
        counting: indices of unit and dollar contracts whose fees, as they are paid, count as spend.
        tiers: of the spend of one period; factors on the rates, rising `above` in dollars per unit.
        whole: signed in whole units, as contracts are; otherwise any size up to `most`.
        most: units.
    """

    name: str
    program: str
    vendor: str
    options: tuple[int, ...]
    rate_usd_per_h: tuple[Path, ...]
    commitment_usd: tuple[float, ...]
    period_months: int = 12
    orders: tuple[int, ...] = (0,)
    lead_months: int = 0
    headroom: float = 0.0
    excess_carried: float = 0.0
    shortfall_credit: float = 0.0
    counting: tuple[int, ...] = ()
    tiers: tuple[Tier, ...] = ()
    whole: bool = True
    most: float = 1.0

    @property
    def term_months(self) -> int:
        """Months of all periods."""
        return len(self.commitment_usd) * self.period_months


Contract = UnitContract | DollarContract | SpendContract


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A commitment that is in force already; it cannot be undone but by its rights.

    Attributes:
        contract: index of the contract that says its terms; `orders` does not matter.
        order: month of the order, below 0 where it was before the horizon; what was paid then is
            not counted.
        units: how many.
    """

    contract: int
    order: int
    units: float


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on units under contract at once: a region's MW, a vendor's deliveries.

    Attributes:
        name: in words, unique; said where it is in conflict.
        options: indices, shape (n,).
        weights: of one unit of each, shape (n,).
        limit: of the weighted sum, broadcasts to (T,).
    """

    name: str
    options: tuple[int, ...]
    weights: tuple[float, ...]
    limit: Path


class Redundancy(msgspec.Struct, frozen=True, kw_only=True):
    """Units under contract outside any one vendor (or region) serve this demand by themselves.

    Attributes:
        by: what is lost, one at a time.
        demand: that must survive, shape (T, K).
    """

    by: Literal["vendor", "region"]
    demand: Numbers


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is planned.

    Attributes:
        classes: names of the K classes.
        scenarios: names of the S scenarios.
        probability: of each, sums to 1, shape (S,).
        hours: that each representative hour stands for, shape (T, H); a month has their sum.
        demand: work per second of each class, shape (S, T, H, K).
        options: R of them.
        contracts: what can be bought.
        held: what is in force.
        unmet_usd_per_h: penalty for one unit of work per second that is not served for an hour,
            shape (K,); inf where all demand must be served.
        money: what a dollar of each month counts, shape (T,); ones where time is not money.
        caps: limits on units under contract.
        vendor_share_max: largest share of all commitment dollars of the horizon, by vendor. Only
            what the plan buys and what is held counts, not on-demand and spot use.
        redundancy: N-1 rules.
        cvar_alpha: the tail that the risk looks at is the worst 1 - alpha, 0 ≤ alpha < 1.
        risk_weight: λ of (1-λ)·mean + λ·CVaR, 0 to 1.
    """

    classes: tuple[str, ...]
    scenarios: tuple[str, ...]
    probability: Numbers
    hours: Numbers
    demand: Numbers
    options: tuple[Option, ...]
    contracts: tuple[Contract, ...] = ()
    held: tuple[Held, ...] = ()
    unmet_usd_per_h: Numbers
    money: Numbers
    caps: tuple[Cap, ...] = ()
    vendor_share_max: dict[str, float] = {}
    redundancy: tuple[Redundancy, ...] = ()
    cvar_alpha: float = 0.9
    risk_weight: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """S, T, H and K."""
        s, t, h, k = self.demand.shape
        return s, t, h, k

    @property
    def month_hours(self) -> Numbers:
        """Hours of each month, shape (T,)."""
        return np.asarray(self.hours.sum(axis=1))

    def path(self, value: Path) -> Numbers:
        """Return a path as an array of shape (S, T)."""
        return np.broadcast_to(np.asarray(value, dtype=np.float64), self.demand.shape[:2])

    def by_month(self, value: Path) -> Numbers:
        """Return numbers by month as an array of shape (T,)."""
        return np.broadcast_to(np.asarray(value, dtype=np.float64), self.demand.shape[1:2])
