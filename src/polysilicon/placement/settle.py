"""Solve, look at queues and tails of what came out, tighten, and solve again until it holds.

Caps depend on how many servers a pool has, which comes out of the program that they go into: they
fall where a pool came out smaller than was assumed. An SLO is split over steps: first the
relaxation splits it as is cheapest, then every step gets its part, and pairs that are slower are
barred, so that no draw of routes makes a task late. Agents whose tasks are late by the queues plan
with less of it, others with more.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.placement.case import Case, Mask, Rule, State, program_of
from polysilicon.placement.certify import cost_of, faults
from polysilicon.placement.deadlines import (
    Served,
    Tail,
    class_seconds,
    foresee,
    p99,
    step_seconds,
    tail_of,
)
from polysilicon.placement.program import Codes, Numbers, Program
from polysilicon.placement.queueing import cap, wait_share
from polysilicon.placement.solve import Solved, relax, solve

ROUNDS = 16
QUICK = 6
"""Rounds of the relaxation that splits SLOs."""

FIRST_S, LIMIT_S, POLISH_S = 3.0, 1.0, 10.0
"""Seconds of branch and bound: in the first round, whose fleet later ones begin with; in these; at
last."""

SEED = 0
_CLOSE = 1e-3
# An agent whose tasks need less of its SLO than this may plan with more.
_ROOM = 0.95
# Factors nearer to each other than this are not told apart.
_NEAR = 1.04
# No step may be so many times slower than where it is fastest.
_FASTEST = 1e6
_HALVINGS = 14


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

    @property
    def holds(self) -> bool:
        """Whether queues and tails are as they must be, by the formulas."""
        return not self.late and not self.loose


def fastest(case: Case, state: State, allowed: Mask) -> Numbers:
    """Return fixed, first and rest seconds of each class where it is fastest, (3, classes)."""
    pairs = case.pairs
    chosen = np.flatnonzero(allowed)
    seconds = (pairs.seconds * state.stretch[pairs.option])[chosen]
    order = chosen[np.lexsort((seconds, pairs.code[chosen]))]
    _, first = np.unique(pairs.code[order], return_index=True)
    share = np.zeros(len(pairs.code))
    share[order[first]] = 1.0
    return class_seconds(pairs, share, state.stretch, len(case.classes.each))


def begin(case: Case, state: State, allowed: Mask) -> None:
    """Add the first rows of SLOs: the slowest tasks where every step is at its fastest."""
    quick = fastest(case, state, allowed)
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
        limit_s: seconds of branch and bound in each round.
        near: units of a fleet that is likely to be good, shape (options,).
    """
    agents = [a for a in case.slo_agents() if a not in {r.subject for r in without}]
    if not _guide(case, state, allowed, without):
        return None
    best: Outcome | None = None
    last: Outcome | None = None
    kept: State | None = None
    spans = dict.fromkeys(agents, (0.0, np.inf))
    for number in range(1, ROUNDS + 1):
        for agent in agents:
            state.bars[agent] = deadlines(case, state, allowed, agent)
        program, chosen = program_of(case, state, allowed, without)
        first = limit_s if near is not None else max(limit_s, FIRST_S)
        found = _solved(case, program, without, first, near)
        if found is None:
            break
        near = found.units
        outcome = _outcome(case, state, program, chosen, found, number)
        lost = len(state.lost)
        changed = _learn(case, state, outcome, without)
        if len(state.lost) > lost:  # it was not asked to carry that loss, so it is no answer
            continue
        last = outcome
        if changed:
            continue
        if not set(agents) & last.late.keys() and (
            best is None or last.solved.cost < best.solved.cost
        ):
            best, kept = last, state.copy()
        if not _plan(case, state, last, spans):
            break
    if best is not None and kept is not None:
        state.restore(kept)
    return best or last


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
    better = _solved(case, found.program, frozenset(), POLISH_S, None)
    if better is None or better.cost > found.solved.cost * (1.0 + _CLOSE):
        return found
    again = _outcome(case, state, found.program, found.chosen, better, found.rounds)
    if again.holds or not found.holds:
        return again
    # The same fleet, for which less is now known to be possible at most.
    proved = msgspec.structs.replace(found.solved, bound=max(better.bound, found.solved.bound))
    return msgspec.structs.replace(found, solved=proved)


def _plan(case: Case, state: State, found: Outcome, spans: dict[str, tuple[float, float]]) -> bool:
    """Plan with less of the SLOs of late agents, and with more of others; tell if anything changed.

    Args:
        case: what is to be placed.
        state: its factors are changed.
        found: the last fleet.
        spans: by agent, the largest factor that was kept and the least that was not.
    """
    changed = False
    for agent, (kept, missed) in spans.items():
        slo = case.policy.slo_of(agent)
        assert slo is not None
        now, seconds = state.factor[agent], p99(found.task_s[case.tasks.of(agent)])
        late = agent in found.late
        good, bad = (kept, min(missed, now)) if late else (max(kept, now), missed)
        now *= max(slo.p99_s / seconds, 0.5) * 0.98 if late else min(slo.p99_s / seconds, 1.5)
        if good > 0.0 and np.isfinite(bad):
            now = float(np.sqrt(good * bad))
        now = min(now, state.ceiling.get(agent, np.inf))
        spans[agent] = good, bad
        enough = not late and (
            seconds > slo.p99_s * _ROOM
            or bad < good * _NEAR
            or now <= good
            or not state.bars[agent].any()
        )
        if not enough:
            state.factor[agent] = now
            changed = True
    return changed


def _guide(case: Case, state: State, allowed: Mask, without: frozenset[Rule]) -> bool:
    """Let the relaxation split the SLOs over steps; tell whether there is an answer at all.

    Rows are added while other paths become the slowest. What the rows are worth, and how slow each
    operation may be beside its fastest, is kept: whole machines are then chosen within that.
    """
    state.bars = {}
    for _ in range(QUICK):
        program, chosen = program_of(case, state, allowed, without)
        found = relax(program)
        if found is None:
            return False
        share = np.zeros(len(case.pairs.code))
        share[chosen] = found.share[: len(chosen)]
        now = class_seconds(case.pairs, share, state.stretch, len(case.classes.each))
        state.worth = dict.fromkeys(state.factor, 0.0)
        for row, value in zip(program.rows, found.duals.side, strict=True):
            if row.kind == "slo":
                state.worth[row.subject] += float(value) * state.factor[row.subject]
        state.pace = _pace(case, state, allowed, now)
        added = False
        for agent in case.slo_agents():
            slo = case.policy.slo_of(agent)
            tail = tail_of(case.tasks, agent, now)
            planned = float(tail.seconds(case.pairs, state.stretch) @ share) + tail.pause_s
            if slo is not None and planned > slo.p99_s * state.factor[agent] * (1.0 + _CLOSE):
                state.tails.append(tail)
                added = True
        if not added:
            break
    return True


def _pace(case: Case, state: State, allowed: Mask, now: Numbers) -> Numbers:
    """Return how slow each class's operation is by the routes, beside its fastest; (classes,)."""
    quick = fastest(case, state, allowed).sum(axis=0)
    keys = [(one.agent, one.kind, one.operation, one.model) for one in case.classes.each]
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    group = np.array([place[key] for key in keys], np.int64)
    rate = case.classes.rates

    def summed(values: Numbers) -> Numbers:
        return np.asarray(np.bincount(group, weights=rate * values), np.float64)

    return np.asarray((summed(now.sum(axis=0)) / np.maximum(summed(quick), 1e-300))[group])


def deadlines(case: Case, state: State, allowed: Mask, agent: str) -> Mask:
    """Return the pairs that are slower than their step's part of an agent's SLO.

    All steps at their parts, the 99th percentile of the agent's tasks is what may be planned with.
    Parts are as the relaxation has them, or alike for all operations, whichever leaves cheaper
    pairs; none is less than the fastest pair takes.
    """
    slo = case.policy.slo_of(agent)
    assert slo is not None
    quick = fastest(case, state, allowed)
    most = slo.p99_s * state.factor[agent]
    mine = np.array([one.agent == agent for one in case.classes.each], dtype=bool)
    seconds = case.pairs.seconds * state.stretch[case.pairs.option]
    usd = case.pairs.work_s * case.usd[case.pairs.option] * case.classes.rates[case.pairs.code]
    found: list[tuple[float, Mask]] = []
    for pace in (state.pace, np.ones(len(mine))):
        slowest = _slowest(case, quick, pace, agent, most)
        part = quick.sum(axis=0) * np.maximum(pace * slowest, 1.0)
        bar = mine[case.pairs.code] & (seconds > part[case.pairs.code] * (1.0 + 1e-9))
        least = np.full(len(mine), np.inf)
        left = allowed & ~bar
        np.minimum.at(least, case.pairs.code[left], usd[left])
        found.append((float(least[mine].sum()), bar))
    return min(found, key=lambda one: one[0])[1]


def _slowest(case: Case, quick: Numbers, pace: Numbers, agent: str, most: float) -> float:
    """Return the largest factor of a pace at which an agent's 99th percentile is at most `most`."""
    tasks = case.tasks
    mine = tasks.of(agent)

    def seconds(factor: float) -> float:
        slowed = quick * np.maximum(pace * factor, 1.0)
        return p99(tasks.finish_s(step_seconds(tasks, slowed))[1][mine])

    low, high = 0.0, 1.0
    while seconds(high) <= most and high < _FASTEST:
        low, high = high, high * 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if seconds(middle) <= most else (low, middle)
    return low


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
    waits = wait_share(servers, busy, case.cv2)
    loose = bool(((units > 0) & (waits > state.wait * (1.0 + _CLOSE) + 1e-9)).any())
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
        loose=loose,
        rounds=rounds,
    )


def _learn(case: Case, state: State, found: Outcome, without: frozenset[Rule]) -> bool:
    """Change caps and losses for the next program; tell whether anything changed."""
    changed = _lower_caps(case, state, found)
    return _lose(case, state, found, without) or changed


def _lower_caps(case: Case, state: State, found: Outcome) -> bool:
    """Lower the caps of pools that came out with fewer servers than their caps are for."""
    waits = wait_share(found.servers, found.busy, case.cv2)
    loose = (found.units > 0) & (waits > state.wait * (1.0 + _CLOSE) + 1e-9)
    if not loose.any():
        return False
    lower = cap(found.servers, state.wait, case.cv2)
    state.servers = np.where(loose, np.minimum(state.servers, found.servers), state.servers)
    state.cap = np.where(loose, np.minimum(state.cap * (1.0 - _CLOSE), lower), state.cap)
    return True


def _lose(case: Case, state: State, found: Outcome, without: frozenset[Rule]) -> bool:
    """Where any one pool may be lost, let the program know of the pools that came out."""
    if case.policy.redundancy != "pool" or any(rule.kind == "redundancy" for rule in without):
        return False
    new = [int(one) for one in np.flatnonzero(found.units > 0) if one not in state.lost]
    state.lost += new
    return bool(new)


def least_possible(case: Case, tail: Tail, state: State, allowed: Mask) -> float:
    """Return the 99th percentile of an agent's tasks if every step were where it is fastest."""
    quick = fastest(case, state, allowed)
    parts = (tail.steps, tail.first, tail.rest)
    served = sum(float(part @ row) for part, row in zip(parts, quick, strict=True))
    return served + tail.pause_s
