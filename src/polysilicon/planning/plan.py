"""Plans: what `plan` prints and its file keeps."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Commitment(msgspec.Struct, frozen=True, kw_only=True):
    """An order, or what is in force already.

    Attributes:
        contract: name in the problem file.
        shape: of the contract.
        offer: that it is of; several are told with commas.
        region: likewise.
        vendor: who it is with.
        program: as the vendor calls it.
        order_month: in which it is signed.
        start_month: of service.
        end_month: of service; may lie after the horizon.
        term_months: of service.
        units: as the contract counts them.
        unit: what these are: `units`, `MW`, `$/h` or `contracts`.
        machines: units of the offer that they are; 0 of contracts about money.
        usd_per_month: mean of what is fixed, over the months of service in the horizon.
        usd: all that is fixed within the horizon; of contracts about money their commitment.
        utilisation: share of its capacity that is used, over scenarios; None where unknown.
        whole: counted in whole units.
        held: in force already.
        basis: where its price comes from.
    """

    contract: str
    shape: str
    offer: str
    region: str
    vendor: str
    program: str
    order_month: str
    start_month: str
    end_month: str
    term_months: int
    units: float
    unit: str
    machines: float
    usd_per_month: float
    usd: float
    utilisation: float | None
    whole: bool
    held: bool
    basis: str


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars of each month, of one scenario.

    Attributes:
        scenario: its name.
        committed: fixed, with rights and shortfalls, and hours that dollar contracts pay for.
        spend: use at rates of drawdown and take-or-pay contracts.
        on_demand: use by the hour.
        spot: use of the spot market.
        running: power of owned machines while they work.
        unmet: penalty for work that is left undone.
    """

    scenario: str
    committed: list[float]
    spend: list[float]
    on_demand: list[float]
    spot: list[float]
    running: list[float]
    unmet: list[float]

    @property
    def months(self) -> list[float]:
        """All dollars of each month."""
        parts = (self.committed, self.spend, self.on_demand, self.spot, self.running, self.unmet)
        return [sum(each) for each in zip(*parts, strict=True)]

    def present(self, worth: Sequence[float]) -> dict[str, float]:
        """Return all dollars by what they are for, as they count in the cost.

        Args:
            worth: of a dollar of each month.
        """
        return {
            name: sum(usd * much for usd, much in zip(getattr(self, name), worth, strict=True))
            for name in ("committed", "spend", "on_demand", "spot", "running", "unmet")
        }


class Supplied(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves a need, month by month, over scenarios.

    Attributes:
        by: in words: how it is paid, and on which offer.
        kind: `committed`, `dollars`, `spend`, `on_demand`, `spot` or `unmet`.
        vendor: who sells it; blank of unmet work.
        share: of all work of the horizon.
        work: mean work of each month, in the need's unit.
    """

    by: str
    kind: str
    vendor: str
    share: float
    work: list[float]


class NeedServed(msgspec.Struct, frozen=True, kw_only=True):
    """A need, and who serves it.

    Attributes:
        need: its name.
        unit: of its work.
        demand: mean of each month, expected.
        low: of the scenario with the least, by month.
        high: of that with the most.
        busiest: hour of each month, expected.
        supplied: who, the largest share first.
    """

    need: str
    unit: str
    demand: list[float]
    low: list[float]
    high: list[float]
    busiest: list[float]
    supplied: list[Supplied]


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """How a contract about money spent is drawn down, mean over scenarios.

    Attributes:
        contract: its name.
        start_month: of its first period.
        commitment_usd: of each period within the horizon.
        spend_usd: of each month.
        shortfall_usd: of each period.
        carried_usd: of each period, from the one before.
    """

    contract: str
    start_month: str
    commitment_usd: list[float]
    spend_usd: list[float]
    shortfall_usd: list[float]
    carried_usd: list[float]


class RightUsed(msgspec.Struct, frozen=True, kw_only=True):
    """A right that a plan uses in a scenario."""

    contract: str
    right: str
    scenario: str
    month: str
    units: float


class ScenarioCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario costs.

    Attributes:
        scenario: its name.
        probability: of it.
        cost_usd: by this plan.
        regret_usd: more than the best plan for it alone; None where it was not worked out.
    """

    scenario: str
    probability: float
    cost_usd: float
    regret_usd: float | None = None


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that is nearly as good with another mix of vendors.

    Attributes:
        name: what is different.
        cost_usd: of it.
        extra: share more than the best.
        vendor: whose share was pushed.
        share: of commitment dollars, by vendor.
    """

    name: str
    cost_usd: float
    extra: float
    share: dict[str, float]


class DualUsd(msgspec.Struct, frozen=True, kw_only=True):
    """What one more of a limit would save.

    Attributes:
        kind: of the limit.
        subject: whose.
        month: in which it costs most; blank of rules of the whole horizon.
        months: in which it binds.
        usd: saved by one more in all of these; of redundancy in units of the rule's own.
        words: as a person says it.
    """

    kind: str
    subject: str
    month: str
    months: int
    usd: float
    words: str


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """From which use on a contract pays.

    Attributes:
        contract: its name.
        offer: and region.
        utilisation: above which it is cheaper than what is paid by the hour.
        used: how much the plan uses it; None where it does not buy it.
        words: as a person says it.
    """

    contract: str
    offer: str
    utilisation: float
    used: float | None
    words: str


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What it is worth to reckon with scenarios, and to know which comes.

    Attributes:
        stochastic_usd: saved over a plan for the mean scenario (VSS); None where not worked out.
        perfect_usd: that knowing the scenario would save (EVPI).
        nothing_usd: what it costs to commit to nothing; None where not all can be served so.
    """

    stochastic_usd: float | None = None
    perfect_usd: float | None = None
    nothing_usd: float | None = None


class OptionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an offer does of a need, and how sure that is.

    Attributes:
        need: its name.
        offer: its name.
        region: where.
        per_unit: work of a unit, in the need's unit.
        usd_per_hour: by the hour; None where it is not rented.
        basis: of the work: `measured`, `calibrated`, `roofline` or `given`.
        low: lower end of the band of seconds, over the best estimate.
        high: upper end.
        note: what it rests on.
        price_basis: source and date of the price.
    """

    need: str
    offer: str
    region: str
    per_unit: float
    usd_per_hour: float | None
    basis: str
    low: float
    high: float
    note: str
    price_basis: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan.

    Attributes:
        title: of the problem.
        status: `optimal`, `time` or `stopped`.
        cost_usd: of the horizon: commitments, and mean and tail of the rest by their weights.
        low_usd: with all seconds at the lower ends of their bands.
        high_usd: with all seconds at the upper ends.
        lower_bound_usd: no plan costs less.
        gap: share of the cost that a better plan could save at most.
        mean_usd: over scenarios.
        cvar_usd: mean of the dearest 1 - cvar_alpha.
        cvar_alpha: of the risk.
        risk_weight: of the risk.
        seconds: to solve.
        start_month: first month.
        months: how many.
        scenarios: cost of each.
        commitments: orders and what is held.
        money: dollars by month and scenario.
        needs: who serves what.
        worth_of_month: what a dollar of each month counts in the cost.
        left_usd: paid by the hour, mean over scenarios, spot included; as it counts in the cost.
        left_share: of all dollars.
        drawdown: of contracts about money spent.
        rights: used, by scenario.
        vendors: share of commitment dollars.
        regions: share of commitment dollars.
        alternatives: plans nearly as good.
        duals: of limits that bind.
        break_even: use from which contracts pay.
        worth: of reckoning with scenarios.
        facts: work of offers and its basis.
        notes: what figures rest on, and what was left out.
    """

    title: str
    status: str
    cost_usd: float
    low_usd: float
    high_usd: float
    lower_bound_usd: float
    gap: float
    mean_usd: float
    cvar_usd: float
    cvar_alpha: float
    risk_weight: float
    seconds: float
    start_month: str
    months: int
    scenarios: list[ScenarioCost]
    commitments: list[Commitment]
    money: list[Money]
    needs: list[NeedServed]
    worth_of_month: list[float]
    left_usd: float
    left_share: float
    drawdown: list[Drawn]
    rights: list[RightUsed]
    vendors: dict[str, float]
    regions: dict[str, float]
    alternatives: list[Alternative]
    duals: list[DualUsd]
    break_even: list[BreakEven]
    worth: Worth
    facts: list[OptionFacts]
    notes: list[str]
