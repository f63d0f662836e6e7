"""How much of each need a unit of each offer does, from the cost model, as placements see it.

Steps become classes, the cost model says what each takes on each offer, and queueing says how busy
machines may be; all of that is placement's. Classes of one agent that the same pool would serve
are one need: it is served by what can take all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.policy import Policy
from polysilicon.placement.case import Case, Mask, case_of, start
from polysilicon.placement.classes import StepClass, classes_of
from polysilicon.placement.deadlines import Tail, tail_of
from polysilicon.placement.eligible import Eligible, Site, eligible
from polysilicon.placement.rates import AgentRate, Rates
from polysilicon.placement.tasks import tasks_of
from polysilicon.workload.groups import task_times
from polysilicon.workload.workload import Workload


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of an agent's tasks that one pool would serve together.

    Attributes:
        agent: whose tasks.
        role: `tool`, `llm`, `embed` or `train`.
        model: that a pool holds for it; blank of tools.
        data_class: of its data.
        steps: of a task, on average.
    """

    agent: str
    role: str
    model: str
    data_class: str | None
    steps: float


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How an offer serves a mix.

    Attributes:
        per_unit: tasks a second of a unit.
        busy: share of their time that units may be busy, in it already.
        concurrency: steps at once on a unit.
        count: accelerators of one copy of the model; None where the cost model chose.
        seconds: of a step, on average.
        basis: of the seconds.
        note: what they rest on.
        low: lower end of the band of the seconds, over the best estimate.
        high: upper end.
    """

    per_unit: float
    busy: float
    concurrency: int
    count: int | None
    seconds: float
    basis: str
    note: str
    low: float
    high: float


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Which offers serve which mixes.

    Attributes:
        mixes: of the workload.
        ways: offer → mix → how; offers that cannot are not there.
        refused: mix → reasons of offers that cannot.
        untold: reason → steps that take no machine.
    """

    mixes: Sequence[Mix]
    ways: dict[str, dict[int, Way]]
    refused: dict[int, list[str]]
    untold: dict[str, int]


def work_of(
    workload: Workload,
    tasks_per_s: dict[str, float],
    offers: Sequence[Offer],
    policy: Policy,
    catalog: Catalog,
    measured_on: str,
) -> Work:
    """Return what a unit of each offer does of a workload's tasks.

    Args:
        workload: steps of tasks.
        tasks_per_s: by agent; how busy machines may be depends on how many there are.
        offers: of the catalog, one region of each.
        policy: SLOs.
        catalog: facts and measurements.
        measured_on: offer of the core-seconds of steps that do not say.

    Raises:
        InputError: an amount of a step cannot be.
    """
    times = task_times(workload)
    agents = {}
    for agent, rate in tasks_per_s.items():
        tasks = times.agents.count(agent)
        agents[agent] = AgentRate(agent=agent, tasks=tasks, tasks_per_s=rate, mean_per_s=rate)
    rates = Rates(agents=agents, window_s=None, span_s=1.0)
    classes = classes_of(workload, times, rates, measured_on)
    slo = tuple(one for one in policy.slo if one.agent in agents)
    sites = [Site(offer=offer, price="on-demand", usd_per_hour=1.0) for offer in offers]
    found = eligible(classes, sites, catalog, timed=bool(slo))
    bare = Policy(slo=slo)
    case = case_of(bare, classes, tasks_of(workload, times, classes), found)
    members = _members(classes.each)
    mixes = [_mix(key, [classes.each[c] for c in codes], rates) for key, codes in members.items()]
    each = [rates.agents[mix.agent].tasks_per_s for mix in mixes]
    ways, slow = _ways(case, found, each, list(members.values()))
    return Work(
        mixes=mixes,
        ways={offer.name: ways.get(offer.name, {}) for offer in offers},
        refused={at: _reasons(found, mix, slow[at], policy) for at, mix in enumerate(mixes)},
        untold=classes.untold,
    )


def _ways(
    case: Case, found: Eligible, rates: Sequence[float], members: Sequence[list[int]]
) -> tuple[dict[str, dict[int, Way]], list[int]]:
    """Return how each offer serves each mix best, and how many ways to serve it are too slow.

    Args:
        case: of all classes.
        found: what can serve them.
        rates: tasks a second of each mix.
        members: classes of each mix.
    """
    caps = start(case).cap if len(found.options) else np.zeros(0)
    late = _late(case, members)
    ways: dict[str, dict[int, Way]] = {}
    slow = [0] * len(members)
    for place, (rate, codes) in enumerate(zip(rates, members, strict=True)):
        for option, made in enumerate(found.options):
            way = _way(case, option, codes, rate, float(caps[option]))
            if way is not None and late is not None and late[place, option]:
                slow[place] += 1
            elif way is not None:
                mine = ways.setdefault(made.site.offer.name, {})
                if place not in mine or way.per_unit > mine[place].per_unit:
                    mine[place] = way
    return ways, slow


def _reasons(found: Eligible, mix: Mix, slow: int, policy: Policy) -> list[str]:
    """Return why offers cannot serve a mix."""
    what = mix.role if mix.role == "tool" else f"{mix.role}:{mix.model}"
    told = [f"{r.offer}: {r.reason}" for r in found.refused if r.what in (what, "all")]
    limit = policy.slo_of(mix.agent)
    if slow and limit is not None:
        told.append(f"{slow} ways of serving miss the SLO of {limit.p99_s:g} s")
    return told


def _members(each: Sequence[StepClass]) -> dict[tuple[str, str, str, str | None], list[int]]:
    """Return the classes of each mix."""
    found: dict[tuple[str, str, str, str | None], list[int]] = {}
    for place, one in enumerate(each):
        tool = one.kind == "tool" or (one.kind == "embed" and one.model is None)
        key = (one.agent, "tool" if tool else one.kind, "" if tool else one.model or "")
        found.setdefault((*key, one.data_class), []).append(place)
    return found


def _mix(key: tuple[str, str, str, str | None], each: Sequence[StepClass], rates: Rates) -> Mix:
    """Return a mix."""
    agent, role, model, data_class = key
    steps = sum(one.steps for one in each) / rates.agents[agent].tasks
    return Mix(agent=agent, role=role, model=model, data_class=data_class, steps=steps)


def _way(case: Case, option: int, codes: list[int], rate: float, busy: float) -> Way | None:
    """Return how an option serves all of some classes; None where it cannot serve one."""
    pairs = case.pairs
    at = np.flatnonzero((pairs.option == option) & np.isin(pairs.code, codes))
    if len(at) < len(codes):
        return None
    steps = case.classes.rates[pairs.code[at]] / rate
    work = steps * pairs.work_s[at]
    total = float(work.sum())
    told = case.options[option]
    return Way(
        per_unit=busy / max(total, 1e-12),
        busy=busy,
        concurrency=told.concurrency,
        count=told.count,
        seconds=float(steps @ pairs.seconds[at] / steps.sum()),
        basis=told.basis,
        note=told.note,
        low=float(work @ pairs.low[at]) / total if total else 1.0,
        high=float(work @ pairs.high[at]) / total if total else 1.0,
    )


def _late(case: Case, members: Sequence[list[int]]) -> Mask | None:
    """Return which options miss an SLO with which mixes, shape (mixes, options).

    All other steps of the slowest tasks are taken to run where they are fastest: what is late then
    is late in every fleet. None where there is no SLO.
    """
    if not case.policy.slo or not len(case.options):
        return None
    pairs, classes = case.pairs, len(case.classes.each)
    order = np.lexsort((pairs.seconds, pairs.code))
    served, first = np.unique(pairs.code[order], return_index=True)
    fastest = pairs.take(order[first])
    seconds = np.zeros((3, classes))
    seconds[:, served] = fastest.fixed_s, fastest.first_s, fastest.rest_s
    found = np.zeros((len(members), len(case.options)), dtype=bool)
    for slo in case.policy.slo:
        tail = tail_of(case.tasks, slo.agent, seconds)
        found |= _late_for(case, tail, slo.p99_s, members)
    return found


def _late_for(case: Case, tail: Tail, p99_s: float, members: Sequence[list[int]]) -> Mask:
    """Return which options make an agent's tasks late, shape (mixes, options)."""
    pairs, classes = case.pairs, len(case.classes.each)
    each = tail.seconds(pairs)
    best = np.full(classes, np.inf)
    np.minimum.at(best, pairs.code, each)
    best = np.where(np.isfinite(best), best, 0.0)
    found = np.zeros((len(members), len(case.options)), dtype=bool)
    for place, codes in enumerate(members):
        if case.classes.each[codes[0]].agent != tail.agent:
            continue
        others = best.sum() - best[codes].sum() + tail.pause_s
        mine = np.isin(pairs.code, codes)
        spent = np.bincount(pairs.option[mine], weights=each[mine], minlength=len(case.options))
        found[place] = others + spent > p99_s
    return found
