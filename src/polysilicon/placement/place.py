"""`place`: the cheapest fleet that meets a policy, solved and checked until it holds."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL, Fleet
from polysilicon.catalog.policy import Policy
from polysilicon.cost.energy import watts
from polysilicon.cost.kinds import REFERENCE
from polysilicon.errors import InputError
from polysilicon.placement import compare, conflict, explain
from polysilicon.placement.case import Case, State, case_of
from polysilicon.placement.classes import classes_of
from polysilicon.placement.deadlines import p99
from polysilicon.placement.eligible import Eligible, Refused, Site, eligible
from polysilicon.placement.fleet import fleet_of, plans
from polysilicon.placement.program import Numbers
from polysilicon.placement.queueing import cap
from polysilicon.placement.rates import Rates, Sizing, rates_of
from polysilicon.placement.settle import Outcome, polish, settle, widened
from polysilicon.placement.shortlist import shortlist
from polysilicon.placement.sites import check_names, offers_of, sites_of
from polysilicon.placement.solve import relax
from polysilicon.placement.tasks import tasks_of
from polysilicon.placement.types import Baseline, Check, Placement, Route, SloResult, Verdict
from polysilicon.placement.waits import cheapest
from polysilicon.placement.ways import with_ways
from polysilicon.workload.groups import task_times
from polysilicon.workload.workload import Workload

MOST_CHECKS = 6
"""After so many checks that a fleet failed, the last one is printed as not checked."""

NOT_SIMULATED = "not simulated"
OVER = ", over its limits by the queueing formulas"
_LEAST_SHARE = 1e-6


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be placed.

    Attributes:
        workload: all steps.
        policy: what is allowed and wanted.
        offers: names or patterns of offers; none for those that the catalog compares by default.
        sizing: by which rate of arrivals.
        measured_on: offer on which the core-seconds of steps without an offer were measured.
        where: the workload, named in errors.
    """

    workload: Workload
    policy: Policy
    offers: Sequence[str] = ()
    sizing: Sizing = "peak"
    measured_on: str = REFERENCE
    where: str = "workload"


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet that came out of solving and checking, and what the check said."""

    reading: explain.Reading
    fleet: Fleet
    verdict: Verdict | None
    passed: bool


def place(
    question: Question, catalog: Catalog, check: Check | None = None
) -> tuple[Placement, Fleet]:
    """Return the best fleet, what explains it, and its fleet file.

    Args:
        question: what is to be placed.
        catalog: facts and prices.
        check: plays the workload on a fleet; the fleet that is returned has passed it, or the
            placement says that it has not.

    Raises:
        InputError: an empty workload, arrivals that tell no rate, or a policy or offers that name
            what is not there.
        InfeasibleError: no fleet can do it; names the rules in conflict.
        PolysiliconError: an answer of the solver failed its check.
    """
    begun_s = time.perf_counter()
    case, rates, refused = prepared(question, catalog)
    everywhere = np.ones(len(case.pairs.code), dtype=bool)
    best = cheapest(case, everywhere)
    state, found = best.state, best.found
    if found is None:
        raise conflict.refusal(case, state, everywhere)
    found = polish(case, state, found)
    simpler = compare.compared(case, found)
    if simpler.better is not None:
        state, found = simpler.better
        found = polish(case, state, widened(case, state, found))
    checked = _checked(case, state, found, question.workload, check)
    placement = _placement(rates, checked, refused, simpler.baselines)
    seconds = time.perf_counter() - begun_s
    return msgspec.structs.replace(placement, seconds=seconds), checked.fleet


def prepared(question: Question, catalog: Catalog) -> tuple[Case, Rates, list[Refused]]:
    """Return what is to be placed, at which rates, and what was refused on the way.

    Raises:
        InputError: as `place`.
        InfeasibleError: no offer can serve a class.
    """
    policy = question.policy
    times = task_times(question.workload)
    rates = rates_of(times, question.sizing, question.where)
    check_names(policy, catalog, rates.agents)
    if question.measured_on != LOCAL:
        catalog.offer(question.measured_on)
    sites, refused = sites_of(offers_of(question.offers, catalog, policy), policy)
    if policy.objective == "energy":
        sites, unknown = _powered(sites)
        refused += unknown
    classes = classes_of(question.workload, times, rates, question.measured_on)
    if not classes.each:
        mend = f"its steps: {', '.join(classes.untold)}"
        raise InputError("no step takes a machine", where=question.where, mend=mend)
    timed = bool(policy.slo) or policy.objective == "latency"
    options: Eligible = eligible(classes, sites, catalog, timed=timed)
    options = with_ways(options, classes.each, policy)
    options = shortlist(options, classes.rates, policy)
    refused += options.refused
    case = case_of(policy, classes, tasks_of(question.workload, times, classes), options)
    conflict.check_served(case, refused)
    return case, rates, refused


def _powered(sites: Sequence[Site]) -> tuple[list[Site], list[Refused]]:
    """Return the sites whose power is known, and the refusal of the others."""
    known = [site for site in sites if watts(site.offer) is not None]
    unknown = [site.offer.name for site in sites if watts(site.offer) is None]
    if not unknown:
        return known, []
    reason = "its power is not known"
    return known, [Refused(offer=unknown[0], what="all", reason=reason, count=len(unknown))]


def _checked(
    case: Case, state: State, found: Outcome, workload: Workload, check: Check | None
) -> Checked:
    """Check a fleet, and tighten and solve again until one passes, or none can."""
    reading, fleet = _read(case, state, found)
    if check is None:
        return Checked(reading=reading, fleet=fleet, verdict=None, passed=False)
    everywhere = np.ones(len(case.pairs.code), dtype=bool)
    for number in range(1, MOST_CHECKS + 1):
        verdict = check(fleet, workload)
        late = {
            slo.agent: verdict.p99_s[slo.agent]
            for slo in case.policy.slo
            if verdict.p99_s.get(slo.agent, 0.0) > slo.p99_s
        }
        last = Checked(reading=reading, fleet=fleet, verdict=verdict, passed=not late)
        if not late or number == MOST_CHECKS:
            return last
        tighten(case, state, found, late)
        tighter = settle(case, state, everywhere)
        if tighter is None:
            return last
        found = tighter
        reading, fleet = _read(case, state, found)
    raise AssertionError


def _read(case: Case, state: State, found: Outcome) -> tuple[explain.Reading, Fleet]:
    """Return what explains an outcome, and its fleet file, priced by its dual values."""
    relaxed = relax(found.program)
    assert relaxed is not None
    reading = explain.Reading(case=case, state=state, found=found, relaxed=relaxed)
    return reading, fleet_of(case, state, found, reading.room)


def tighten(case: Case, state: State, found: Outcome, late: dict[str, float]) -> None:
    """Plan with less of the SLO of late agents, and let their pools' steps wait half as long."""
    for agent, seconds in late.items():
        slo = case.policy.slo_of(agent)
        assert slo is not None
        state.factor[agent] *= max(slo.p99_s / seconds * 0.98, 0.5)
        state.ceiling[agent] = state.factor[agent]
    hurried = np.array([one.agent in late for one in case.classes.each], dtype=bool)
    mine = (found.share > 0) & hurried[case.pairs.code]
    pools = np.bincount(case.pairs.option[mine], minlength=len(case.options)) > 0
    state.wait = np.where(pools, state.wait / 2, state.wait)
    servers = np.where(found.units > 0, found.servers, state.servers)
    lower = cap(servers, state.wait, case.cv2)
    state.cap = np.where(pools, np.minimum(state.cap, lower), state.cap)


def _placement(
    rates: Rates,
    checked: Checked,
    refused: Sequence[Refused],
    baselines: Sequence[Baseline],
) -> Placement:
    """Return what is said of a fleet."""
    reading = checked.reading
    case, found = reading.case, reading.found
    cost = float(case.usd @ found.units)
    low, high = _band(case, found)
    by = NOT_SIMULATED if checked.verdict is None else checked.verdict.by
    return Placement(
        cost_usd_per_hour=cost,
        low_usd_per_hour=cost * low,
        high_usd_per_hour=cost * high,
        pools=plans(case, reading.state, found, reading.room),
        routing=_routing(case, found, checked.fleet),
        baseline={b.name: b.usd_per_hour if b.meets_slo else None for b in baselines},
        duals=explain.duals(reading, rates),
        seconds=0.0,
        status=f"{found.solved.status}, {by}{'' if found.holds else OVER}",
        gap=found.solved.gap,
        checked=checked.passed,
        objective=case.policy.objective,
        sized_for=_sized(rates),
        slo=_slo(rates, checked),
        baselines=baselines,
        alternatives=compare.alternatives(case, reading.state, found),
        classes=explain.why(reading),
        changes=explain.changes(reading),
        refused=refused,
        untold=case.classes.untold,
    )


def _sized(rates: Rates) -> str:
    """Return the rate that a fleet is sized for, in words."""
    if rates.window_s is None:
        return f"the mean over {rates.span_s:.0f} s of arrivals"
    return f"the busiest {rates.window_s:.0f} s of each agent in {rates.span_s:.0f} s of arrivals"


def _band(case: Case, found: Outcome) -> tuple[float, float]:
    """Return what the cost is multiplied by at the ends of the bands of all seconds."""
    pairs = case.pairs
    rate = case.classes.rates[pairs.code]
    usd = found.share * rate * pairs.work_s * case.usd[pairs.option]
    total = float(usd.sum())
    if total == 0.0:  # nobody works
        return 1.0, 1.0
    return float(usd @ pairs.low) / total, float(usd @ pairs.high) / total


def _routing(case: Case, found: Outcome, fleet: Fleet) -> list[Route]:
    """Return which share of each class goes where."""
    names = dict(zip(np.flatnonzero(found.units > 0).tolist(), fleet.pool, strict=True))
    return [
        Route(
            class_=case.classes.each[int(case.pairs.code[at])].name,
            pool=names[int(case.pairs.option[at])].name,
            share=float(found.share[at]),
        )
        for at in np.flatnonzero(found.share > _LEAST_SHARE)
    ]


def _slo(rates: Rates, checked: Checked) -> dict[str, SloResult]:
    """Return what becomes of each agent's tasks."""
    reading, case = checked.reading, checked.reading.case
    cost = explain.task_usd(reading, rates)
    told = {}
    for name, rate in rates.agents.items():
        slo = case.policy.slo_of(name)
        seconds: Numbers = reading.found.task_s[case.tasks.of(name)]
        verdict = checked.verdict
        told[name] = SloResult(
            p99_s=None if slo is None else slo.p99_s,
            foreseen_s=p99(seconds),
            checked_s=None if verdict is None else verdict.p99_s.get(name),
            tasks_per_s=rate.tasks_per_s,
            usd_per_1000_tasks=cost[name] * 1000,
        )
    return told
