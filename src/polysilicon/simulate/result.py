"""What a simulation says: seconds, how busy the pools were, money, energy, SLOs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from scipy import stats

from polysilicon.catalog.policy import Policy
from polysilicon.cost.types import BASES, Basis
from polysilicon.schedule.types import Floats
from polysilicon.simulate.counts import Counts
from polysilicon.simulate.machines import Machines
from polysilicon.simulate.source import Survey
from polysilicon.simulate.tally import Quantiles, Tally
from polysilicon.workload.record import KINDS

CONFIDENCE = 0.95

# Shares are kept step by step, so that one may end a little above.
_SHARE_OVER = 0.01


class PoolResult(msgspec.Struct, frozen=True, kw_only=True):
    """One pool.

    Attributes:
        offer: what its machines are.
        region: where.
        units: how many machines.
        steps: that it served.
        utilisation: share of its threads, or of its engines' slots, that steps held, over the whole
            time; the larger of both.
        busy: share of its threads that ran, or of the time in which its engines computed, however
            few of their slots were taken; the larger of both. Energy goes by it.
        wait_s: seconds in its queues.
        service_s: of steps, from start to end.
        ttft_s: from readiness to the first token of LLM steps.
        cost_usd: of its machines over the whole time.
        steps_usd: of that, what steps used.
        energy_j: an estimate; None where a fact is missing.
        basis: the weakest of its estimates.
        low: factor on their seconds at the lower end of the widest band.
        high: at the upper end.
        note: what its engine's seconds rest on.
    """

    offer: str
    region: str
    units: int
    steps: int
    utilisation: float
    busy: float
    wait_s: Quantiles
    service_s: Quantiles
    ttft_s: Quantiles
    cost_usd: float
    steps_usd: float
    energy_j: float | None
    basis: Basis | None
    low: float | None
    high: float | None
    note: str


class AgentResult(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of an agent.

    Attributes:
        count: how many.
        p50: seconds from arrival to end that a half do not exceed.
        p90: that nine of ten do not.
        p99: that 99 of 100 do not.
        ttft_s: from readiness to the first token of their LLM steps.
        tpot_s: for each later token.
        low: factor on the seconds of their steps at the lower ends of the bands of the pools that
            served them, by their shares of the seconds; None where no pool served any.
        high: at the upper ends.
    """

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    ttft_s: Quantiles
    tpot_s: Quantiles
    low: float | None
    high: float | None


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of a kind: how many, and how long they took."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Mean over replications, and the ends of its confidence interval of 95 %."""

    mean: float
    low: float
    high: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a simulation; of several replications, of the first.

    Attributes:
        tasks: that ended.
        steps: of these.
        sim_s: from the first arrival to the last end.
        wall_s: that the simulation took, reading included.
        steps_per_s: steps over the wall seconds of playing alone.
        task_s: from a task's arrival to its end.
        ttft_s: from a step's readiness to its first token, waiting included.
        tpot_s: for each later token.
        wait_s: in the queue of a pool.
        utilisation: by pool: share of its threads or slots that steps held.
        cost_usd: of all machines over the whole time.
        energy_j: None where that of a pool is not known.
        slo: share of an agent's tasks within its SLO, pauses of persons not counted.
        own_s: seconds of an agent's tasks without pauses of persons.
        agents: tasks by agent.
        kinds: steps by kind, from start to end.
        pools: by name.
        prefix_reuse: prompt tokens that were in a cache, over all.
        again: steps that began more than once, for their machine failed.
        basis: the weakest of all pools.
        notes: what else to know.
        series: means over time: `at_s`, and by pool steps that ran and waited.
        replications: how many.
        intervals: of the main figures; empty of one replication.
        mode: `exact` or `fluid`; of the latter a note says how it was found.
    """

    tasks: int
    steps: int
    sim_s: float
    wall_s: float
    steps_per_s: float
    task_s: Quantiles
    ttft_s: Quantiles
    tpot_s: Quantiles
    wait_s: Quantiles
    utilisation: Mapping[str, float]
    cost_usd: float
    energy_j: float | None
    slo: Mapping[str, float]
    own_s: Mapping[str, Quantiles]
    agents: Mapping[str, AgentResult]
    kinds: Mapping[str, GroupResult]
    pools: Mapping[str, PoolResult]
    prefix_reuse: float | None
    again: int
    basis: Basis | None
    notes: tuple[str, ...]
    series: Mapping[str, Any]
    replications: int = 1
    intervals: Mapping[str, Interval] = {}
    mode: str = "exact"


def result_of(
    machines: Sequence[Machines],
    counts: Counts,
    busy_s: Floats,
    survey: Survey,
    policy: Policy,
    seconds: tuple[float, float],
    measured_on: str,
) -> Result:
    """Return what came of a simulation that is over.

    Args:
        machines: of the pools.
        counts: of all tasks and steps.
        busy_s: thread-seconds and engine-seconds of each pool, shape (2, pools).
        survey: of the workload.
        policy: what was allowed.
        seconds: wall seconds of all, and of playing.
        measured_on: where core-seconds were spent of steps that do not say.
    """
    tally = counts.tally
    sim_s = max(tally.last_s - tally.first_s, 0.0)
    pools = {m.pool.name: _pool(at, m, busy_s[:, at], tally, sim_s)
             for at, m in enumerate(machines)}  # fmt: skip
    joules = [pool.energy_j for pool in pools.values()]
    bases = [pool.basis for pool in pools.values() if pool.basis is not None]
    groups = range(len(survey.agents))
    notes = (*_notes(machines, survey, measured_on), *_vendors(pools, policy))
    return Result(
        tasks=tally.tasks,
        steps=tally.steps,
        sim_s=sim_s,
        wall_s=seconds[0],
        steps_per_s=tally.steps / max(seconds[1], 1e-9),
        task_s=tally.task_s.of(),
        ttft_s=tally.ttft_s.of(),
        tpot_s=tally.tpot_s.of(),
        wait_s=tally.wait_s.of(),
        utilisation={name: pool.utilisation for name, pool in pools.items()},
        cost_usd=sum(pool.cost_usd for pool in pools.values()),
        energy_j=None if None in joules else sum(j for j in joules if j is not None),
        slo={
            survey.agents[at]: float(tally.kept[at]) / max(tally.task_s.count(at), 1)
            for at in groups
            if not math.isnan(tally.slo_s[at])
        },
        own_s={survey.agents[at]: tally.own_s.of(at) for at in groups},
        agents={survey.agents[at]: _agent(at, tally, list(pools.values())) for at in groups},
        kinds={
            kind: _group(tally.service_s, at)
            for at, kind in enumerate(KINDS)
            if tally.service_s.count(at)
        },
        pools=pools,
        prefix_reuse=tally.found_tokens / tally.prompt_tokens if tally.prompt_tokens else None,
        again=tally.again,
        basis=_weakest(bases),
        notes=notes,
        series=counts.series.table(),
    )


def _pool(at: int, machines: Machines, busy_s: Floats, tally: Tally, sim_s: float) -> PoolResult:
    """Return what came of a pool."""
    units = machines.pool.units
    threads, engines, slots = machines.threads * units, 0, 0
    if machines.engine is not None:
        engines = machines.engine.copies * units
        slots = machines.engine.slots * engines

    def share(seconds: float, many: float) -> float:
        return min(float(seconds) / many / sim_s, 1.0) if many > 0 and sim_s > 0 else 0.0

    cores = share(busy_s[0], threads)
    busy = max(cores, share(busy_s[1], engines))
    watts = machines.watts
    abilities = list(machines.abilities.values())
    return PoolResult(
        offer=machines.offer.name,
        region=machines.region,
        units=units,
        steps=int(tally.pool_steps[at]),
        utilisation=max(cores, share(tally.pool_slot_s[at], slots)),
        busy=busy,
        wait_s=tally.pool_wait_s.of(at),
        service_s=tally.pool_service_s.of(at),
        ttft_s=tally.pool_ttft_s.of(at),
        cost_usd=machines.usd_per_s * units * sim_s,
        steps_usd=float(tally.pool_usd[at]),
        energy_j=None if watts is None else watts.at(busy) * units * sim_s,
        basis=_weakest([a.basis for a in abilities]),
        low=min((a.low for a in abilities), default=None),
        high=max((a.high for a in abilities), default=None),
        note=machines.engine.note if machines.engine is not None else "",
    )


def _vendors(pools: Mapping[str, PoolResult], policy: Policy) -> list[str]:
    """Return which vendors had more of the steps' dollars than the policy allows."""
    total = sum(pool.steps_usd for pool in pools.values())
    found = []
    for vendor, most in policy.vendor_share_max.items():
        mine = sum(p.steps_usd for p in pools.values() if p.offer.partition("/")[0] == vendor)
        if total > 0 and mine / total > most + _SHARE_OVER:
            found.append(
                f"vendor share of {vendor}: {mine / total:.0%} of the steps' dollars, and the "
                f"policy allows {most:.0%}: no other pool could take them"
            )
    return found


def _agent(at: int, tally: Tally, pools: Sequence[PoolResult]) -> AgentResult:
    """Return what came of an agent's tasks."""
    of, seconds = tally.task_s.of(at), tally.agent_pool_s[at]
    served = [(s, p) for s, p in zip(seconds.tolist(), pools, strict=False) if s > 0]
    low = high = None
    if served:
        known = [(s, p.low or 1.0, p.high or 1.0) for s, p in served]
        # Recorded seconds have no band.
        held_s, total_s = float(seconds[-1]), float(seconds.sum())
        low = (held_s + sum(s * factor for s, factor, _ in known)) / total_s
        high = (held_s + sum(s * factor for s, _, factor in known)) / total_s
    return AgentResult(
        count=tally.task_s.count(at),
        p50=of.p50,
        p90=of.p90,
        p99=of.p99,
        ttft_s=tally.ttft_s.of(at),
        tpot_s=tally.tpot_s.of(at),
        low=low,
        high=high,
    )


def _weakest(bases: Sequence[Basis]) -> Basis | None:
    """Return the weakest of some bases; None of none."""
    return max(bases, key=BASES.index, default=None)


def _group(seconds: Any, at: int) -> GroupResult:
    """Return one group of a count of seconds."""
    found = seconds.of(at)
    return GroupResult(count=seconds.count(at), p50=found.p50, p90=found.p90, p99=found.p99)


def _notes(machines: Sequence[Machines], survey: Survey, measured_on: str) -> tuple[str, ...]:
    """Return what a reader has to know of the figures."""
    notes = [f"pool {m.pool.name}: {m.offer.note}" for m in machines if m.offer.note]
    if survey.held:
        notes.append(
            f"steps whose work is not told: {survey.held:,}; they take as long as recorded, "
            "and no machine"
        )
    if survey.lost:
        notes.append(f"steps of which nothing is told: {survey.lost:,}; they take no time")
    if survey.unreferenced:
        notes.append(
            f"steps that do not tell on which offer their core-seconds were spent: "
            f"{survey.unreferenced:,}; taken as on {measured_on}"
        )
    return tuple(notes)


def with_intervals(results: Sequence[Result]) -> Result:
    """Return the first of some replications, with the intervals of all."""
    first = results[0]
    if len(results) == 1:
        return first
    figures: dict[str, list[float | None]] = {
        "sim_s": [r.sim_s for r in results],
        "cost_usd": [r.cost_usd for r in results],
    }
    for name in ("task_s", "ttft_s", "tpot_s", "wait_s"):
        for share in ("p50", "p90", "p99"):
            figures[f"{name}.{share}"] = [getattr(getattr(r, name), share) for r in results]
    for pool in first.utilisation:
        figures[f"utilisation.{pool}"] = [r.utilisation[pool] for r in results]
    for agent in first.slo:
        figures[f"slo.{agent}"] = [r.slo[agent] for r in results]
    intervals = {
        name: _interval([value for value in values if value is not None])
        for name, values in figures.items()
        if None not in values
    }
    return msgspec.structs.replace(first, replications=len(results), intervals=intervals)


def _interval(values: Sequence[float]) -> Interval:
    """Return mean and confidence interval by Student's t; no figure is below 0."""
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, len(values) - 1)) * spread
    return Interval(mean=mean, low=max(mean - reach, 0.0), high=mean + reach)
