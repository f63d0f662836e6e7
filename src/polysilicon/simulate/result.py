"""What a simulation says: seconds, how busy the pools were, money, energy, SLOs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from scipy import stats

from polysilicon.cost.types import BASES, Basis
from polysilicon.simulate.machines import Machines
from polysilicon.simulate.series import Series
from polysilicon.simulate.source import Survey
from polysilicon.simulate.state import World
from polysilicon.simulate.tally import Quantiles, Tally
from polysilicon.workload.record import KINDS

CONFIDENCE = 0.95


class PoolResult(msgspec.Struct, frozen=True, kw_only=True):
    """One pool.

    Attributes:
        offer: what its machines are.
        region: where.
        units: how many machines.
        steps: that it served.
        utilisation: share of its threads that ran, or of its engines that computed, over the whole
            time; the larger of both.
        wait_s: seconds in its queues.
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
    wait_s: Quantiles
    cost_usd: float
    steps_usd: float
    energy_j: float | None
    basis: Basis | None
    low: float | None
    high: float | None
    note: str


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of an agent, or steps of a kind: how many, and how long they took."""

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
        utilisation: by pool.
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
    agents: Mapping[str, GroupResult]
    kinds: Mapping[str, GroupResult]
    pools: Mapping[str, PoolResult]
    prefix_reuse: float | None
    again: int
    basis: Basis | None
    notes: tuple[str, ...]
    series: Mapping[str, Any]
    replications: int = 1
    intervals: Mapping[str, Interval] = {}


def result_of(
    machines: Sequence[Machines],
    world: World,
    tally: Tally,
    series: Series,
    survey: Survey,
    seconds: tuple[float, float],
    measured_on: str,
) -> Result:
    """Return what came of a simulation that is over.

    Args:
        machines: of the pools.
        world: at its end.
        tally: of all steps.
        series: likewise.
        survey: of the workload.
        seconds: wall seconds of all, and of playing.
        measured_on: where core-seconds were spent of steps that do not say.
    """
    sim_s = max(tally.last_s - tally.first_s, 0.0)
    pools = {m.pool.name: _pool(at, m, world, tally, sim_s) for at, m in enumerate(machines)}
    joules = [pool.energy_j for pool in pools.values()]
    bases = [pool.basis for pool in pools.values() if pool.basis is not None]
    groups = range(len(survey.agents))
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
        agents={survey.agents[at]: _group(tally.task_s, at) for at in groups},
        kinds={
            kind: _group(tally.service_s, at)
            for at, kind in enumerate(KINDS)
            if tally.service_s.count(at)
        },
        pools=pools,
        prefix_reuse=tally.found_tokens / tally.prompt_tokens if tally.prompt_tokens else None,
        again=tally.again,
        basis=_weakest(bases),
        notes=_notes(machines, survey, measured_on),
        series=series.table(),
    )


def _pool(at: int, machines: Machines, world: World, tally: Tally, sim_s: float) -> PoolResult:
    """Return what came of a pool."""
    pool = world.pools[at]
    engines = world.engines["busy_s"][int(pool["first"]) : int(pool["last"])]
    shares = [0.0]
    if sim_s > 0:
        if pool["whole"] > 0:
            shares.append(float(pool["busy_s"] / pool["whole"] / sim_s))
        if len(engines):
            shares.append(float(engines.mean() / sim_s))
    utilisation = min(max(shares), 1.0)
    units = machines.pool.units
    watts = machines.watts
    abilities = list(machines.abilities.values())
    return PoolResult(
        offer=machines.offer.name,
        region=machines.region,
        units=units,
        steps=int(tally.pool_steps[at]),
        utilisation=utilisation,
        wait_s=tally.pool_wait_s.of(at),
        cost_usd=machines.usd_per_s * units * sim_s,
        steps_usd=float(tally.pool_usd[at]),
        energy_j=None if watts is None else watts.at(utilisation) * units * sim_s,
        basis=_weakest([a.basis for a in abilities]),
        low=min((a.low for a in abilities), default=None),
        high=max((a.high for a in abilities), default=None),
        note=machines.engine.note if machines.engine is not None else "",
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
    """Return mean and confidence interval by Student's t."""
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, len(values) - 1)) * spread
    return Interval(mean=mean, low=mean - reach, high=mean + reach)
