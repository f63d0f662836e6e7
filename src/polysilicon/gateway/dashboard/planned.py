"""Pages of what was placed and planned, beside what there is."""

from __future__ import annotations

from typing import Any

import msgspec

from polysilicon import units
from polysilicon.gateway.dashboard.charts import meter, planned_bar
from polysilicon.gateway.dashboard.pages import fleet_money, page_of
from polysilicon.gateway.dashboard.records import Chrome, PoolNow, Snapshot
from polysilicon.placement.types import Placement
from polysilicon.planning.dates import HOURS_PER_MONTH
from polysilicon.planning.plan import Commitment, Plan
from polysilicon.report import plan_charts
from polysilicon.report.terminal import usd

_MOST_WORDS = 6


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """A commitment of the plan that is in force this month, and machines of that kind here."""

    commitment: Commitment
    here: int


def placement_page(
    snapshot: Snapshot, chrome: Chrome, found: Placement | None, where: str = "", wrong: str = ""
) -> str:
    """Return the page of a placement: where it is from, and what is wrong with that."""
    here = _units(snapshot.pools)
    pools = () if found is None else found.pools
    return page_of(
        "placement.html.j2",
        "/placement",
        snapshot,
        chrome,
        found=found,
        where=where,
        wrong=wrong,
        pools=[(p, planned_bar(p), here.get((p.offer, p.region), 0)) for p in pools],
        fleets=[] if found is None else _fleets(found),
        most=_MOST_WORDS,
        **fleet_money(snapshot.pools),
    )


def plan_page(
    snapshot: Snapshot, chrome: Chrome, plan: Plan | None, where: str = "", wrong: str = ""
) -> str:
    """Return the page of a plan: where it is from, and what is wrong with that."""
    rows = [] if plan is None else in_force(plan, snapshot)
    commitments = [] if plan is None else plan.commitments
    fleet = fleet_money(snapshot.pools)
    return page_of(
        "planned.html.j2",
        "/plan",
        snapshot,
        chrome,
        plan=plan,
        where=where,
        wrong=wrong,
        rows=rows,
        coming=[c.start_month for c in commitments if c.start_month > snapshot.month],
        month_usd=sum(row.commitment.usd_per_month for row in rows),
        fleet_month_usd=fleet["fleet_usd"] * HOURS_PER_MONTH,
        ladder=[] if plan is None else plan_charts.ladder(plan),
        dollars="" if plan is None else plan_charts.money_chart(plan),
        kinds=plan_charts.KINDS,
        **fleet,
    )


def in_force(plan: Plan, snapshot: Snapshot) -> list[InForce]:
    """Return the commitments of a plan that are in force this month, dearest first."""
    here = _units(snapshot.pools)
    now = [c for c in plan.commitments if c.start_month <= snapshot.month <= c.end_month]
    now.sort(key=lambda one: -one.usd_per_month)
    return [InForce(commitment=one, here=here.get((one.offer, one.region), 0)) for one in now]


def _units(pools: tuple[PoolNow, ...]) -> dict[tuple[str, str], int]:
    """Return machines of the fleet by offer and region."""
    found: dict[tuple[str, str], int] = {}
    for pool in pools:
        found[pool.offer, pool.region] = found.get((pool.offer, pool.region), 0) + pool.units
    return found


def _fleets(found: Placement) -> list[tuple[str, Any, str, str]]:
    """Return the placement and simpler fleets: name, bar, dollars an hour, note."""
    own = found.cost_usd_per_hour
    dearest = max([own, *(b.usd_per_hour or 0.0 for b in found.baselines)])

    def bar(price: float | None, label: str, style: str) -> Any:
        words = f"{label}: {usd(price)} an hour"
        # The dearest fills the bar, which is no mark of being too much.
        return meter(min((price or 0.0) / dearest, 0.999) if dearest else 0.0, words, style)

    rows = [("this placement", bar(own, "this placement", "here"), units.usd(own), "")]
    for one in found.baselines:
        missed = "" if one.meets_slo or one.usd_per_hour is None else "misses an SLO"
        note = "; ".join(part for part in (missed, one.note) if part)
        rows.append(
            (one.name, bar(one.usd_per_hour, one.name, "cost"), usd(one.usd_per_hour), note)
        )
    return rows
