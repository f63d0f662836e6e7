"""Why a fleet is as it is: dual values, the next best offers, prices that would change it.

All of it is of the program with machines in fractions: what holds in the long run, as traffic
grows.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon import units
from polysilicon.placement.case import Case, State
from polysilicon.placement.program import Numbers
from polysilicon.placement.rates import Rates
from polysilicon.placement.settle import Outcome
from polysilicon.placement.solve import Relaxed
from polysilicon.placement.types import Change, Dual, NextBest, Why
from polysilicon.units import SECONDS_PER_HOUR

_NEXT = 2
_CHANGES = 6
_UNITS = {"cost": "usd_per_hour", "energy": "watts", "latency": "mean seconds"}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What explanations are read from.

    Attributes:
        case: what was placed.
        state: what was learnt.
        found: the fleet.
        relaxed: the optimum of its program with machines in fractions.
    """

    case: Case
    state: State
    found: Outcome
    relaxed: Relaxed

    @property
    def demand(self) -> Numbers:
        """What serving each class costs, losses that must be borne included; shape (classes,)."""
        duals = self.relaxed.duals.demand
        return np.asarray(duals.reshape(-1, len(self.case.classes.each)).sum(axis=0))

    @property
    def room(self) -> Numbers:
        """What a unit's room is worth to each option, shape (options,)."""
        rows, worth = self.found.program.row_pool, self.relaxed.duals.capacity
        return np.asarray(np.bincount(rows, worth, len(self.case.options)), np.float64)


def duals(reading: Reading, rates: Rates) -> list[Dual]:
    """Return what one more unit, second or point of share is worth, and what tasks cost."""
    case, program = reading.case, reading.found.program
    unit = _UNITS[case.policy.objective]
    worth: dict[tuple[str, str], float] = {}
    for row, value in zip(program.rows, reading.relaxed.duals.side, strict=True):
        # A point of share is a hundredth of all dollars.
        scale = 0.01 * float(case.usd @ reading.found.units) if row.kind == "vendor" else 1.0
        key = row.kind, row.subject
        worth[key] = worth.get(key, 0.0) + float(value) * scale
    worth |= {("slo", agent): value for agent, value in reading.state.worth.items()}
    per = {"slo": "second", "supply": "unit", "vendor": "point of share"}
    names = {(rule.kind, rule.subject): rule.words for rule in case.rules()}
    found = []
    for (kind, subject), value in worth.items():
        if value <= 1e-9 * max(reading.relaxed.cost, 1e-12):
            continue
        words = f"one more {per[kind]} saves {_told(value, unit)}"
        found.append(
            Dual(
                constraint=names[kind, subject],
                kind=kind,
                subject=subject,
                value=value,
                unit=unit,
                per=per[kind],
                words=words,
            )
        )
    if unit == "usd_per_hour":
        found += [_task_price(name, usd) for name, usd in task_usd(reading, rates).items()]
    return found


def _told(value: float, unit: str) -> str:
    """Return a dual value in words."""
    if unit == "usd_per_hour":
        return f"{units.usd(value)} an hour"
    return f"{value:.3g} W" if unit == "watts" else f"{units.seconds(value)} of the mean step"


def _task_price(agent: str, usd: float) -> Dual:
    """Return what tasks of an agent cost."""
    buys = f"a dollar buys {units.count(1.0 / usd)} more tasks" if usd > 0 else "more are free"
    return Dual(
        constraint=f"tasks of {agent}",
        kind="demand",
        subject=agent,
        value=usd * 1000,
        unit="usd",
        per="1,000 tasks",
        words=f"1,000 more tasks cost {units.usd(usd * 1000)}; {buys}",
    )


def task_usd(reading: Reading, rates: Rates) -> dict[str, float]:
    """Return what one more task of each agent costs, by the dual values of its steps."""
    found = dict.fromkeys(rates.agents, 0.0)
    for one, value in zip(reading.case.classes.each, reading.demand, strict=True):
        found[one.agent] += float(value)
    return {
        name: usd / (rates.agents[name].tasks_per_s * SECONDS_PER_HOUR)
        for name, usd in found.items()
    }


def why(reading: Reading) -> list[Why]:
    """Return for each class what it costs, and the two next best offers."""
    case, chosen = reading.case, reading.found.chosen
    reduced = reading.relaxed.duals.reduced(reading.found.program)[: len(chosen)]
    pairs = case.pairs.take(chosen)
    used = reading.found.share[chosen] > 0
    found = []
    edges = np.searchsorted(pairs.code, np.arange(len(case.classes.each) + 1))
    for code, one in enumerate(case.classes.each):
        mine = slice(edges[code], edges[code + 1])
        per_1000 = 1000.0 / (one.rate_per_s * SECONDS_PER_HOUR)
        best: dict[tuple[str, str], float] = {}
        taken = set()
        for option, extra, is_used in zip(
            pairs.option[mine], reduced[mine], used[mine], strict=True
        ):
            offer = case.options[int(option)].site.offer
            key = offer.name, offer.region
            best[key] = min(best.get(key, np.inf), float(extra))
            taken |= {key} if is_used else set()
        others = sorted((v, k) for k, v in best.items() if k not in taken)[:_NEXT]
        found.append(
            Why(
                class_=one.name,
                rate_per_s=one.rate_per_s,
                usd_per_1000_steps=float(reading.demand[code]) * per_1000,
                next=[
                    NextBest(
                        offer=name, region=region, extra_usd_per_1000_steps=max(v, 0.0) * per_1000
                    )
                    for v, (name, region) in others
                ],
            )
        )
    return found


def changes(reading: Reading) -> list[Change]:
    """Return at which price offers that were not taken would be, the nearest to it first.

    A unit's room is worth as much as the class that gains most by it pays, in each loss that
    must be borne too; what supply and vendors' shares take of that is off.
    """
    case, program, duals_of = reading.case, reading.found.program, reading.relaxed.duals
    gain = duals_of.capacity[program.pair_row] - duals_of.reduced(program) / program.load
    worth = np.zeros(len(program.row_pool))
    np.maximum.at(worth, program.pair_row, gain)
    value = np.bincount(program.row_pool, weights=worth, minlength=len(case.options))
    for row, price in zip(program.rows, duals_of.side, strict=True):
        if row.units is not None:
            value -= row.units * price
    best: dict[tuple[str, str, str, str], Change] = {}
    used = {
        (case.options[i].site.offer.name, case.options[i].site.offer.region)
        for i in np.flatnonzero(reading.found.units > 0).tolist()
    }
    for place, option in enumerate(case.options):
        offer, usd = option.site.offer, option.site.usd_per_hour
        if (offer.name, offer.region) in used or not 0 < value[place] < usd * (1.0 - 1e-6):
            continue
        key = offer.name, offer.region, option.role, option.model
        before = best.get(key)
        if before is None or before.pays_below_usd_per_hour < value[place]:
            best[key] = Change(
                offer=offer.name,
                region=offer.region,
                role=option.role,
                model=option.model,
                usd_per_hour=usd,
                pays_below_usd_per_hour=float(value[place]),
            )
    order = sorted(best.values(), key=lambda c: -c.pays_below_usd_per_hour / c.usd_per_hour)
    return order[:_CHANGES]


def named(names: Sequence[str], most: int = 3) -> str:
    """Return a few names in words."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
