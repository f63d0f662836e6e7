"""Plan problems as files (TOML): what is needed, what can be bought, what may happen.

Months are written as `2027-03`, or counted from 1. Example:

    [horizon]
    months = 36

    [[demand]]
    name = "sandboxes"
    unit = "cores"
    amount = 400
    growth_per_year = 0.5

    [[offer]]
    name = "aws/m9g.48xlarge"
    regions = ["us-east-1"]

    [[contract]]
    shape = "units"
    name = "three years"
    offers = ["aws/*"]
    term_months = 36
    discount = 0.5
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from polysilicon.catalog.policy import Policy
from polysilicon.disk import read_toml
from polysilicon.planning.shapes import Contract, Month

_MEND = (
    "known: title, horizon, demand, offer, contract, limit, scenario, generated, policy, risk;"
    " see docs/plan.md"
)

Unit = Literal["cores", "requests/s", "tokens/s", "tasks/s", "units"]


class Horizon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is planned for.

    Attributes:
        months: how many.
        start: the first; None for next month.
        hours: what stands for the hours of a month: those of a mean `day` (24), of a mean `week`
            (168), or one `mean` hour.
        discount_rate: a year, of money; what is paid later counts less.
    """

    months: int
    start: str | None = None
    hours: Literal["mean", "day", "week"] = "day"
    discount_rate: float = 0.0


class Demand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of work, month by month.

    Attributes:
        name: unique; as an agent's name in policies.
        workload: a file of steps, beside the problem; its agents' tasks are the work.
        agent: of the workload, only this one.
        unit: of `amount`: busy `cores` of `measured_on`; `requests/s` or output `tokens/s` of a
            model; `tasks/s` of a workload; `units` of the offers, as their `work` tells.
        amount: mean of a month; one for each month, or one for the first; of a workload by default
            its own rate.
        file: CSV with `month,demand,amount` instead of `amount`.
        growth_per_year: 0.5 is half as much again in a year; on top of one amount.
        rhythm: of the hours that stand for a month, in any scale; a day's is repeated in a week; a
            workload has its own where it lasts a day.
        model: for requests and tokens.
        prompt_tokens: of a request.
        cached_tokens: of these.
        output_tokens: of a request.
        measured_on: offer whose cores count.
        data_class: of its data, for residency.
        unmet_usd: that one unit-hour of work left undone costs; None where none may be.
        must_survive: share that must be served after the loss of a vendor or region that
            `policy.redundancy` names.
        spot: may run on machines that can be taken away.
    """

    name: str
    workload: str | None = None
    agent: str | None = None
    unit: Unit | None = None
    amount: float | tuple[float, ...] | None = None
    file: str | None = None
    growth_per_year: float = 0.0
    rhythm: tuple[float, ...] = ()
    model: str | None = None
    prompt_tokens: int = 1024
    cached_tokens: int = 0
    output_tokens: int = 256
    measured_on: str | None = None
    data_class: str | None = None
    unmet_usd: float | None = None
    must_survive: float = 1.0
    spot: bool = True


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit on what is under contract at once: a site's megawatts, a line's deliveries.

    Attributes:
        name: unique.
        offers: patterns of offers.
        regions: patterns of regions.
        unit: in which it is told; megawatts need each offer's `mw`.
        most: in all; one number, or by the first month from which it holds.
    """

    name: str
    offers: tuple[str, ...] = ("*",)
    regions: tuple[str, ...] = ("*",)
    unit: Literal["units", "MW"] = "units"
    most: float | Mapping[str, float]


class OfferAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer in some regions, and what holds for it.

    Attributes:
        name: of the catalog, or a new one such as `own/rack`.
        regions: where; all that the catalog knows by default.
        like: an offer of the catalog that it works like, where the name is new.
        performance: work of a unit over that of the catalog's.
        work: work of a unit by demand, in the demand's unit; instead of the cost model.
        on_demand_usd_per_hour: instead of the catalog's.
        spot_usd_per_hour: instead of the catalog's.
        rented: by the hour; else only what contracts bring.
        spot: may be rented on the spot market.
        interruptions_per_hour: of spot machines.
        restart_s: that an interruption costs.
        availability: share of its hours in which a unit serves.
        running_usd_per_hour: of a used unit, such as power of owned machines.
        supply: units that exist for us; one number, or by the first month from which they do.
        reserved_by_others: units of the supply that others hold.
        rented_max: units by the hour at once, for market and quotas.
        from_month: the first month that it exists.
        price_factor: on its by-the-hour prices, of the catalog or given.
        price_per_year: change of its by-the-hour prices, -0.1 is a tenth less a year.
        mw: power of a unit, for contracts in megawatts.
    """

    name: str
    regions: tuple[str, ...] = ()
    like: str | None = None
    performance: float = 1.0
    work: Mapping[str, float] = {}
    on_demand_usd_per_hour: float | None = None
    spot_usd_per_hour: float | None = None
    rented: bool = True
    spot: bool = False
    interruptions_per_hour: float = 0.0
    restart_s: float = 0.0
    availability: float = 1.0
    running_usd_per_hour: float = 0.0
    supply: float | Mapping[str, float] | None = None
    reserved_by_others: float = 0.0
    rented_max: float | None = None
    from_month: Month | None = None
    price_factor: float = 1.0
    price_per_year: float = 0.0
    mw: float | None = None


class NextGeneration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario says of an offer that is to come.

    Attributes:
        from_month: the first month that it exists; 0 for never.
        performance: factor on its work.
        price: factor on its prices.
    """

    from_month: Month | None = None
    performance: float = 1.0
    price: float = 1.0


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way in which the years may go.

    Attributes:
        name: unique.
        probability: of it; those of all scenarios sum to 1.
        growth_per_year: instead of each demand's own, or by demand.
        demand: factor on demand in all months, or by demand.
        price: factor on by-the-hour prices, by pattern of offers.
        price_from_month: from which it holds.
        next_generation: by offer.
    """

    name: str
    probability: float
    growth_per_year: float | Mapping[str, float] | None = None
    demand: float | Mapping[str, float] = 1.0
    price: Mapping[str, float] = {}
    price_from_month: Month = 1
    next_generation: Mapping[str, NextGeneration] = {}


class Generated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scenarios drawn by a seed; they share what probability the named ones leave.

    Attributes:
        count: how many.
        seed: of the draws; the same seed draws the same.
        demand_sd: of the logarithm of a factor on all demand, which each scenario has one of.
        growth_sd: of the logarithm of the yearly growth factor.
        month_sd: of the logarithm of each month's demand about its trend.
        price_sd: of the logarithm of by-the-hour prices after a year, as a random walk.
        delay_months: by which what is to come may be late at most, evenly.
    """

    count: int
    seed: int = 0
    demand_sd: float = 0.0
    growth_sd: float = 0.0
    month_sd: float = 0.0
    price_sd: float = 0.0
    delay_months: int = 0


class Risk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the dear scenarios count.

    Attributes:
        cvar_alpha: 0.9 looks at the dearest tenth.
        risk_weight: of its mean cost, from 0 to 1; the mean of all has the rest.
    """

    cvar_alpha: float = 0.9
    risk_weight: float = 0.0


class ProblemFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan problem as it is written.

    Attributes:
        title: in a few words.
        horizon: months.
        demand: what is to be served.
        offer: what it can run on.
        contract: what can be signed, or is signed already.
        limit: on what is under contract at once.
        scenario: what may happen; one, as expected, where nothing is said.
        generated: scenarios that are drawn.
        policy: a policy, or the file of one beside the problem.
        risk: how much dear scenarios count.
    """

    title: str = ""
    horizon: Horizon
    demand: tuple[Demand, ...]
    offer: tuple[OfferAsked, ...]
    contract: tuple[Contract, ...] = ()
    limit: tuple[Limit, ...] = ()
    scenario: tuple[Scenario, ...] = ()
    generated: Generated | None = None
    policy: Policy | str = Policy()
    risk: Risk = Risk()


def read_problem(path: Path) -> ProblemFile:
    """Read a plan problem.

    Raises:
        InputError: no such file, not TOML, an unknown key or another type.
    """
    return read_toml(path, ProblemFile, mend=_MEND)
