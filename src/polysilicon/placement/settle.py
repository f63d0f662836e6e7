"""Solve, look at queues and tails of what came out, tighten, and solve again until it holds.

Caps depend on how many servers a pool has, which comes out of the program that they go into: they
fall where a pool came out smaller than was assumed. An SLO is split over steps: first the
relaxation splits it as is cheapest, then every step gets its part, and pairs that are slower are
barred, so that no draw of routes makes a task late. Agents whose tasks are late by the queues plan
with less of it, others with more.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.placement.case import Case, Mask, Rule, State, program_of
from polysilicon.placement.certify import cost_of, faults
from polysilicon.placement.deadlines import (
    Served,
    class_seconds,
    foresee,
    p99,
    tail_of,
)
from polysilicon.placement.learn import Span, left_for_waits, lower_caps, shorten
from polysilicon.placement.parts import deadlines, fastest, least_possible, pace_of
from polysilicon.placement.program import Codes, Numbers, Program
from polysilicon.placement.queueing import wait_share
from polysilicon.placement.solve import GAP, NotInTimeError, Solved, relax, solve

ROUNDS = 16
QUICK = 6
"""Rounds of the relaxation that splits SLOs."""

LIMIT_S, POLISH_S = 3.0, 10.0
"""Nominal seconds of branch and bound: in a round, and at last."""

FIRST = 3.0
"""So many times as long takes the first round, whose fleet later ones begin with."""

ENOUGH = 5.0
"""After so many times the seconds of a round a fleet that holds is made no cheaper."""

SEED = 0
_CLOSE = 1e-3
Parts = dict[str, float]
"""Factors by agent."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet that the program found; arrays over options, and over all pairs of the case.

    Attributes:
        units: of each option.
        share: of each pair, in normal times.
        solved: cost, bound and status of the last program.
        program: the last program.
        chosen: pairs of the case that are its pairs.
        servers: at work, of each option.
        busy: share of their time.
        task_s: seconds of each followed task by the queueing formulas.
        late: agents whose 99th percentile is above their SLO by these formulas, with the seconds.
        loose: pools that wait longer than they should by these formulas.
        rounds: how often it was solved.
        effort_s: nominal seconds of all rounds until this one.
    """

    units: Numbers
    share: Numbers
    solved: Solved
    program: Program
    chosen: Codes
    servers: Numbers
    busy: Numbers
    task_s: Numbers
    late: dict[str, float]
    loose: bool
    rounds: int
    effort_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether queues and tails are as they must be, by the formulas."""
        return not self.late and not self.loose


def begin(case: Case, state: State, allowed: Mask) -> None:
    """Add the first rows of SLOs: the slowest tasks where every step is at its fastest."""
    quick = fastest(case, allowed)
    state.tails = [tail_of(case.tasks, agent, quick) for agent in case.slo_agents()]


def settle(
    case: Case,
    state: State,
    allowed: Mask,
    *,
    without: frozenset[Rule] = frozenset(),
    limit_s: float = LIMIT_S,
    near: Numbers | None = None,
) -> Outcome | None:
    """Return a fleet whose queues and tails hold by the formulas; None where there is none.

    Where the rounds end before all holds, the last fleet is returned, and says so.

    Args:
        case: what is to be placed.
        state: is changed: caps, parts of SLOs and factors are learnt.
        allowed: pairs that may be used.
        without: rules of the policy that are left out.
        limit_s: nominal seconds of branch and bound in each round.
        near: units of a fleet that is likely to be good, shape (options,).
    """
    agents = [a for a in case.slo_agents() if a not in {r.subject for r in without}]
    if not _guide(case, state, allowed, without):
        return None
    best: Outcome | None = None
    last: Outcome | None = None
    kept: State | None = None
    effort_s = 0.0
    spans = {agent: Span() for agent in agents}
    least = _least(case, state, allowed, agents)
    for number in range(1, ROUNDS + 1):
        for agent in agents:
            state.bars[agent] = deadlines(case, state, allowed, agent)
        program, chosen = program_of(case, state, allowed, without)
        first = limit_s if near is not None else limit_s * FIRST
        found = _solved(case, program, without, first, near)
        if found is None:
            break
        effort_s += found.effort_s
        near = found.units
        outcome = _outcome(case, state, program, chosen, found, number)
        lost = len(state.lost)
        changed = _learn(case, state, outcome, without)
        if len(state.lost) > lost:  # it was not asked to carry that loss, so it is no answer
            continue
        last = outcome
        if changed:
            continue
        if _improves(best, last, agents):
            best, kept = last, state.copy()
        over = best is not None and effort_s > ENOUGH * limit_s
        if over or not _plan(case, state, last, spans, least):
            break
    if kept is not None:
        state.restore(kept)
    best = best or last
    return None if best is None else msgspec.structs.replace(best, effort_s=effort_s)


def _improves(best: Outcome | None, last: Outcome, agents: Sequence[str]) -> bool:
    """Tell whether a fleet keeps all SLOs, and is cheaper than another one that does."""
    keeps = not set(agents) & last.late.keys()
    return keeps and (best is None or last.solved.cost < best.solved.cost)


def _solved(
    case: Case,
    program: Program,
    without: frozenset[Rule],
    limit_s: float,
    near: Numbers | None,
) -> Solved | None:
    """Return the answer of a program, with one more machine in each pool where any may be lost.

    The bound stays that of the program without spare machines, so that the gap counts all of them.
    None where there is no answer, or where a rule does not allow them.
    """
    found = solve(program, limit_s=limit_s, near=near)
    dropped = any(rule.kind == "redundancy" for rule in without)
    if found is None or case.policy.redundancy != "machine" or dropped:
        return found
    units = found.units + (found.units > 0)
    if faults(program, units, found.share):
        return None
    cost = cost_of(program, units, found.share)
    return msgspec.structs.replace(found, units=units, cost=cost, status="feasible")


def polish(case: Case, state: State, found: Outcome) -> Outcome:
    """Return a fleet whose optimum is proved, where that takes longer than a round."""
    if found.solved.status == "optimal":
        return found
    better = _solved(case, found.program, frozenset(), POLISH_S, found.units)
    if better is None or better.cost > found.solved.cost * (1.0 + _CLOSE):
        return found
    again = _outcome(case, state, found.program, found.chosen, better, found.rounds)
    if again.holds or not found.holds:
        return again
    # The same fleet, for which less is now known to be possible at most.
    proved = msgspec.structs.replace(found.solved, bound=max(better.bound, found.solved.bound))
    return msgspec.structs.replace(found, solved=proved)


def widened(case: Case, state: State, found: Outcome) -> Outcome:
    """Return a fleet found among some options as one of all: with their duals and their bound.

    Where its program over all of them has a cheaper fleet that holds, that one.
    """
    program, chosen = program_of(case, state, np.ones(len(case.pairs.code), dtype=bool))
    try:
        solved = _solved(case, program, frozenset(), LIMIT_S, found.units)
    except NotInTimeError:
        solved = None
    if solved is None:
        return found
    better = _outcome(case, state, program, chosen, solved, found.rounds)
    if better.holds and solved.cost <= found.solved.cost:
        return better
    bound = min(solved.bound, found.solved.cost)
    of_all = msgspec.structs.replace(found.solved, bound=bound, status="feasible")
    if of_all.gap <= GAP:
        of_all = msgspec.structs.replace(of_all, status="optimal")
    return msgspec.structs.replace(found, solved=of_all, program=program, chosen=chosen)


def _plan(case: Case, state: State, found: Outcome, spans: dict[str, Span], least: Parts) -> bool:
    """Plan with less of the SLOs of late agents, and with more of others; tell if anything changed.

    Args:
        case: what is to be placed.
        state: its factors, waits and caps are changed.
        found: the last fleet.
        spans: by agent, the factors that are known.
        least: by agent, the factor below which no step can be faster.
    """
    changed = False
    for agent, span in spans.items():
        slo = case.policy.slo_of(agent)
        assert slo is not None
        now, seconds = state.factor[agent], p99(found.task_s[case.tasks.of(agent)])
        late = agent in found.late
        if late and now <= least[agent] * (1.0 + 1e-9):
            by = left_for_waits(seconds, _still(case, found, agent), slo.p99_s)
            pools = found.share, found.units, found.servers, found.busy
            if by is not None and shorten(case, state, agent, by, pools):
                spans[agent] = Span()
                changed = True
            continue
        then = span.next(now, seconds, slo.p99_s)
        if then is None or not (late or state.bars[agent].any()):
            continue
        then = max(then, least[agent]) if late else then
        then = min(then, state.ceiling.get(agent, np.inf))
        if late or then > span.kept:
            state.factor[agent] = then
            changed = True
    return changed


def _still(case: Case, found: Outcome, agent: str) -> float:
    """Return an agent's 99th percentile on a fleet where nothing waits, by the same routes."""
    served = Served(
        servers=found.servers, busy=np.zeros(len(found.busy)), cv2=case.cv2, mean_s=case.mean_s
    )
    rng = np.random.default_rng(SEED)
    task_s = foresee(case.tasks, case.pairs, found.share, served, rng)
    return p99(task_s[case.tasks.of(agent)])


def _least(case: Case, state: State, allowed: Mask, agents: Sequence[str]) -> Parts:
    """Return the factors at which each step of an agent's tasks is where it is fastest."""
    tails = {tail.agent: tail for tail in reversed(state.tails)}
    found = {}
    for agent in agents:
        slo = case.policy.slo_of(agent)
        assert slo is not None
        found[agent] = least_possible(case, tails[agent], allowed) / slo.p99_s
    return found


def _guide(case: Case, state: State, allowed: Mask, without: frozenset[Rule]) -> bool:
    """Let the relaxation split the SLOs over steps; tell whether there is an answer at all.

    Rows are added while other paths become the slowest. What the rows are worth, and how slow each
    operation may be beside its fastest, is kept: whole machines are then chosen within that.
    """
    state.bars = {}
    for number in range(QUICK):
        program, chosen = program_of(case, state, allowed, without)
        found = relax(program)
        if found is None:
            # A path that was added speaks for all tasks about the percentile; what is possible at
            # all is known by the first.
            return bool(number)
        share = np.zeros(len(case.pairs.code))
        share[chosen] = found.share[: len(chosen)]
        now = class_seconds(case.pairs, share, len(case.classes.each))
        state.worth = dict.fromkeys(state.factor, 0.0)
        for row, value in zip(program.rows, found.duals.side, strict=True):
            if row.kind == "slo":
                state.worth[row.subject] += float(value) * state.factor[row.subject]
        state.pace = pace_of(case, allowed, now)
        added = False
        for agent in case.slo_agents():
            slo = case.policy.slo_of(agent)
            tail = tail_of(case.tasks, agent, now)
            planned = float(tail.seconds(case.pairs) @ share) + tail.pause_s
            if slo is not None and planned > slo.p99_s * state.factor[agent] * (1.0 + _CLOSE):
                state.tails.append(tail)
                added = True
        if not added:
            break
    return True


def _outcome(
    case: Case,
    state: State,
    program: Program,
    chosen: Codes,
    found: Solved,
    rounds: int,
) -> Outcome:
    """Return what a program's answer means for queues and tasks."""
    normal = len(chosen)
    share = np.zeros(len(case.pairs.code))
    share[chosen] = found.share[:normal]
    units = found.units
    rate = case.classes.rates[case.pairs.code]
    work = np.bincount(
        case.pairs.option, weights=share * rate * case.pairs.work_s, minlength=len(units)
    )
    servers = np.maximum(units, 1.0) * case.slots
    busy = np.where(units > 0, work / np.maximum(units, 1.0), 0.0)
    served = Served(servers=servers, busy=busy, cv2=case.cv2, mean_s=case.mean_s)
    # The same draws each time, so that rounds differ by the fleet alone.
    rng = np.random.default_rng(SEED)
    task_s = foresee(case.tasks, case.pairs, share, served, rng)
    late = {}
    for slo in case.policy.slo:
        seconds = p99(task_s[case.tasks.of(slo.agent)])
        if seconds > slo.p99_s:
            late[slo.agent] = seconds
    return Outcome(
        units=units,
        share=share,
        solved=found,
        program=program,
        chosen=chosen,
        servers=servers,
        busy=busy,
        task_s=task_s,
        late=late,
        loose=bool(_loose(case, state, units, servers, busy).any()),
        rounds=rounds,
    )


def _learn(case: Case, state: State, found: Outcome, without: frozenset[Rule]) -> bool:
    """Change caps and losses for the next program; tell whether anything changed."""
    loose = _loose(case, state, found.units, found.servers, found.busy)
    if loose.any():
        lower_caps(case, state, loose, found.servers)
    return _lose(case, state, found, without) or bool(loose.any())


def _loose(case: Case, state: State, units: Numbers, servers: Numbers, busy: Numbers) -> Mask:
    """Return the pools whose steps wait longer than they may."""
    waits = wait_share(servers, busy, case.cv2)
    return np.asarray((units > 0) & (waits > state.wait * (1.0 + _CLOSE) + 1e-9))


def _lose(case: Case, state: State, found: Outcome, without: frozenset[Rule]) -> bool:
    """Where any one pool may be lost, let the program know of the pools that came out."""
    if case.policy.redundancy != "pool" or any(rule.kind == "redundancy" for rule in without):
        return False
    new = [int(one) for one in np.flatnonzero(found.units > 0) if one not in state.lost]
    state.lost += new
    return bool(new)
