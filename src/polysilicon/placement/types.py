"""What a placement says, and what checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from polysilicon.catalog.fleet import Fleet
from polysilicon.placement.eligible import Refused
from polysilicon.workload.workload import Workload


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the workload's tasks on a fleet.

    Attributes:
        p99_s: agent → 99th percentile of its tasks' seconds, without pauses of persons.
        by: what played it, in a word or two, such as `simulated`.
    """

    p99_s: Mapping[str, float]
    by: str


class Check(Protocol):
    """Plays a workload on a fleet; the simulator does so."""

    def __call__(self, fleet: Fleet, workload: Workload) -> Verdict:
        """Return what became of the tasks."""
        ...


class PoolPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of the fleet.

    Attributes:
        name: unique in the fleet.
        offer: what it is made of.
        region: where.
        kind: of its processors.
        role: `tool`, `llm`, `embed` or `train`.
        model: that it holds; blank of tools.
        units: machines.
        utilisation: share of them that the work takes, at the rate that the fleet is sized for.
        cap: largest utilisation at which steps hardly wait, by the number of its servers.
        wait_s: mean wait of a step by the queueing formulas.
        concurrency: steps at once on a unit.
        count: accelerators of one copy of the model.
        price: kind of price.
        usd_per_hour: of all units.
        usd_per_s: dual value: dollars for one second of a step's share; None where the objective
            is not cost.
        basis: of the seconds.
        note: what they rest on.
    """

    name: str
    offer: str
    region: str
    kind: str
    role: str
    model: str
    units: int
    utilisation: float
    cap: float
    wait_s: float
    concurrency: int
    count: int | None
    price: str
    usd_per_hour: float
    usd_per_s: float | None
    basis: str
    note: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which share of a class goes to a pool."""

    class_: str = msgspec.field(name="class")
    pool: str
    share: float


class NextBest(msgspec.Struct, frozen=True, kw_only=True):
    """Another offer for a class, and what it would cost more: its reduced cost."""

    offer: str
    region: str
    extra_usd_per_1000_steps: float


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a class went where it went.

    Attributes:
        class_: its name.
        rate_per_s: steps a second.
        usd_per_1000_steps: what one more costs, by the dual values.
        next: the two next best offers.
    """

    class_: str = msgspec.field(name="class")
    rate_per_s: float
    usd_per_1000_steps: float
    next: Sequence[NextBest]


class Dual(msgspec.Struct, frozen=True, kw_only=True):
    """What one more of something is worth, machines in fractions.

    Attributes:
        constraint: in words.
        kind: `slo`, `supply`, `vendor` or `demand`.
        subject: the agent, offer or vendor.
        value: in `unit` for each `per`.
        unit: `usd_per_hour`, `watts` or `mean seconds`.
        per: `second`, `unit`, `point of share` or `1,000 tasks`.
        words: what that means.
    """

    constraint: str
    kind: str
    subject: str
    value: float
    unit: str
    per: str
    words: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """At which price an offer that was not taken would be."""

    offer: str
    region: str
    role: str
    model: str
    usd_per_hour: float
    pays_below_usd_per_hour: float


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What a simpler fleet costs.

    Attributes:
        name: of it.
        offers: that it is made of.
        usd_per_hour: None where it cannot serve all, or was not found in time.
        meets_slo: whether it keeps the same SLOs.
        note: where it does not, cannot, or was not found, and why.
    """

    name: str
    offers: Sequence[str]
    usd_per_hour: float | None
    meets_slo: bool
    note: str = ""


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet nearly as good that differs in vendor or kind of processor.

    Attributes:
        name: how it differs.
        usd_per_hour: of it.
        extra: by how much its objective is worse, as a share.
        pools: offer → units.
    """

    name: str
    usd_per_hour: float
    extra: float
    pools: Mapping[str, int]


class SloResult(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an agent's tasks.

    Attributes:
        p99_s: that is promised; None where nothing is.
        foreseen_s: the 99th percentile by the queueing formulas.
        checked_s: by the check; None without one.
        tasks_per_s: that the fleet is sized for.
        usd_per_1000_tasks: the fleet's dollars over its tasks at that rate, by the dual values.
    """

    p99_s: float | None
    foreseen_s: float
    checked_s: float | None
    tasks_per_s: float
    usd_per_1000_tasks: float


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet, and why.

    Attributes:
        cost_usd_per_hour: of the fleet.
        low_usd_per_hour: if all seconds were at the low ends of their bands, machines in fractions.
        high_usd_per_hour: at the high ends.
        pools: of the fleet.
        routing: of classes.
        baseline: name → dollars an hour; null where it cannot serve all, or misses an SLO.
        duals: of binding constraints and of demand.
        seconds: that placing took.
        status: `optimal` or `feasible`, and whether it was simulated.
        gap: how much better a fleet could be at most under the same caps, as a share.
        checked: it passed its check.
        objective: that was as little as possible.
        sized_for: the rate of arrivals, in words.
        slo: by agent.
        baselines: the same with what they are made of.
        alternatives: nearly as good.
        classes: why each went where it went.
        changes: prices at which other offers would be taken.
        refused: why offers could not take steps.
        untold: reason → steps that no machine does.
    """

    cost_usd_per_hour: float
    low_usd_per_hour: float
    high_usd_per_hour: float
    pools: Sequence[PoolPlan]
    routing: Sequence[Route]
    baseline: Mapping[str, float | None]
    duals: Sequence[Dual]
    seconds: float
    status: str
    gap: float
    checked: bool
    objective: str
    sized_for: str
    slo: Mapping[str, SloResult]
    baselines: Sequence[Baseline]
    alternatives: Sequence[Alternative]
    classes: Sequence[Why]
    changes: Sequence[Change]
    refused: Sequence[Refused]
    untold: Mapping[str, int]
