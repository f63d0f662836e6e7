"""The numeric answer to a plan's problem, and how one is asked for.

    answer = solve(problem, gap=0.005, time_s=60.0)                 (planning.solve)
    answer = solve(changed, gap=0.005, time_s=10.0, warm=answer.warm)

`solve(problem, *, gap=0.005, time_s=60.0, progress=None, stop=None, warm=None) -> Answer`

    gap       relative; stops as soon as (cost - lower bound) / cost is no more.
    time_s    seconds after which the best answer so far is returned with its gap.
    progress  called with a `Progress` after each round.
    stop      a function that is asked between rounds; when it says True (Ctrl-C) the best answer
              so far is returned. At least one round is always finished.
    warm      `Answer.warm` of an earlier solve of a problem with the same S, T, H, K and the same
              options and contracts by name and order (prices, demand, supply, caps and shares may
              differ). Anything else in it is ignored.
    raises    `InputError` for numbers that make no sense, `ConflictError` (an `InfeasibleError`)
              where no plan exists, with the rules in conflict.

Symbols as in `problem`: S scenarios, T months, H hours, K classes, R options. All dollars are in
money of their month; only `cost_usd`, `lower_bound_usd`, `mean_usd`, `cvar_usd`, `scenario_usd`
and the duals are weighted with `Problem.money`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from polysilicon.errors import InfeasibleError
from polysilicon.planning.problem import Numbers


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a solve has come.

    Attributes:
        round: counted from 1.
        seconds: since the start.
        cost_usd: of the best plan so far; inf before there is one.
        lower_bound_usd: no plan costs less.
    """

    round: int
    seconds: float
    cost_usd: float
    lower_bound_usd: float

    @property
    def gap(self) -> float:
        """Relative gap; inf before there is a plan."""
        return gap_of(self.cost_usd, self.lower_bound_usd)


def gap_of(cost: float, bound: float) -> float:
    """Return how much of a cost may be saved at most, as a share of it."""
    if not np.isfinite(cost):
        return float("inf")
    return max(cost - bound, 0.0) / max(abs(cost), 1e-9)


class Bought(msgspec.Struct, frozen=True, kw_only=True):
    """One order, new or held.

    Attributes:
        contract: index in `Problem.contracts`.
        order: month of the order; below 0 for what was held before.
        first: first month of service within the horizon.
        last: last month of service within the horizon.
        units: as the contract counts them.
        held: in force already.
        usd: fixed payments by month: upfront, fees, at-on-demand hours on average over scenarios
            and net of salvage; shape (T,). Spend contracts have none: see `Answer.spend`.
    """

    contract: int
    order: int
    first: int
    last: int
    units: float
    held: bool
    usd: Numbers


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """A right that was used.

    Attributes:
        contract: index.
        order: month of the order that it belongs to.
        right: index in the contract's rights.
        scenario: index.
        month: in which it takes effect.
        units: of contract.
    """

    contract: int
    order: int
    right: int
    scenario: int
    month: int
    units: float


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """How a spend contract is drawn down.

    Attributes:
        contract: index.
        order: first month.
        units: of contract.
        commitment_usd: by period that begins within the horizon, shape (P,); a period cut by the
            horizon's end has its share.
        spend_usd: at the contract's rates after tiers, with counting fees, by month; shape (S, T).
        shortfall_usd: paid at the end of each period, shape (S, P).
        carried_usd: counted from the period before (excess or credit), shape (S, P).
    """

    contract: int
    order: int
    units: float
    commitment_usd: Numbers
    spend_usd: Numbers
    shortfall_usd: Numbers
    carried_usd: Numbers


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one way of supply over each month.

    Attributes:
        kind: `committed` (units of unit contracts), `dollars` (use paid by a dollar contract),
            `spend` (bought under a spend contract), `on_demand`, `spot` or `unmet`.
        option: index; -1 for `unmet` and where a contract may use several options.
        contract: index for `dollars`, `spend` and flexible units; -1 otherwise.
        work: of each class, in work per second times hours, shape (S, T, K).
        usd: paid for this use in the month, shape (S, T); 0 for what is paid by commitments, the
            penalty for `unmet`.
        capacity: that there was, in unit-hours (dollars for dollar contracts), shape (S, T); inf
            where there is no limit.
        used: of it, shape (S, T).
    """

    kind: Literal["committed", "dollars", "spend", "on_demand", "spot", "unmet"]
    option: int
    contract: int
    work: Numbers
    usd: Numbers
    capacity: Numbers
    used: Numbers


class Dual(msgspec.Struct, frozen=True, kw_only=True):
    """What a limit costs at the margin.

    Attributes:
        kind: `supply`, `cap`, `vendor`, `redundancy`, `most`.
        subject: option, cap, vendor or contract, by name.
        month: that it holds in; -1 for rules of the whole horizon.
        usd: saved by one unit more of the limit (for a share: by one percentage point).
    """

    kind: str
    subject: str
    month: int
    usd: float


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a plan must keep, as far as conflicts name it.

    Attributes:
        kind: `demand` (all of a class must be served), `supply` (of an option), `cap`, `vendor`
            (share), `redundancy` (by vendor or region), `most` (of a contract), `lead` (of a
            contract).
        subject: class, option, cap, vendor, "vendor"/"region" or contract, by name.
        month: where it cannot be met, the first; -1 for the whole horizon.
        lacking: how much is lacking there in the rule's own unit, without it; 0 where unknown.
    """

    kind: str
    subject: str
    month: int = -1
    lacking: float = 0.0


class ConflictError(InfeasibleError):
    """No plan exists.

    Args:
        rules: a smallest set that cannot be met together; without any one of them there is a plan.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        names = " and ".join(_said(rule) for rule in rules) or "whole numbers of units"
        super().__init__(f"no plan keeps {names}")


def _said(rule: Rule) -> str:
    where = f" in month {rule.month}" if rule.month >= 0 else ""
    lack = f" ({rule.lacking:.4g} lacking)" if rule.lacking else ""
    return f"{rule.kind} {rule.subject}{where}{lack}"


class Warm(msgspec.Struct, frozen=True, kw_only=True):
    """What the next solve of a similar problem starts from; nothing in it can make it wrong.

    Attributes:
        prices: demand prices that cuts are made of, each of shape (S, T, H, K).
        units: of each contract and order that was bought.
        columns: contracts and orders that were of use.
    """

    prices: tuple[Numbers, ...]
    units: dict[tuple[int, int], float]
    columns: tuple[tuple[int, int], ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, with what it costs at most and at least.

    Attributes:
        status: `optimal` (gap reached), `time` or `stopped`.
        cost_usd: of this plan, every hour dispatched: commitments + (1-λ)·mean + λ·CVaR.
        lower_bound_usd: no plan costs less.
        seconds: taken.
        rounds: of the decomposition.
        bought: all orders, also held ones; those of no units are left out.
        rights: used, by scenario.
        spend: drawdown of spend contracts.
        fixed_usd: of all commitments by scenario and month, rights, shortfalls and use at spend
            contracts' rates with them, shape (S, T).
        drawn_usd: of it, use at spend contracts' rates, likewise.
        served: who serves what.
        scenario_usd: all costs of each scenario, shape (S,).
        mean_usd: over scenarios.
        cvar_usd: mean of the worst 1 - alpha.
        option_value_usd: what one unit of an option, given for a month, saves on average; (T, R).
        demand_price_usd: what one unit of work per second more in all hours of a month costs in
            expectation, shape (T, K).
        duals: of limits that bind.
        warm: for the next solve.
    """

    status: Literal["optimal", "time", "stopped"]
    cost_usd: float
    lower_bound_usd: float
    seconds: float
    rounds: int
    bought: tuple[Bought, ...]
    rights: tuple[Used, ...]
    spend: tuple[Spend, ...]
    fixed_usd: Numbers
    drawn_usd: Numbers
    served: tuple[Served, ...]
    scenario_usd: Numbers
    mean_usd: float
    cvar_usd: float
    option_value_usd: Numbers
    demand_price_usd: Numbers
    duals: tuple[Dual, ...]
    warm: Warm

    @property
    def gap(self) -> float:
        """Share of the cost that a better plan could save at most."""
        return gap_of(self.cost_usd, self.lower_bound_usd)
