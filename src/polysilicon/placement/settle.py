"""Solve, look at queues and tails of what came out, tighten, and solve again until it holds.

Caps depend on how many servers a pool has, and tails on where steps go, and both come out of the
program that they go into. So caps fall where a pool came out smaller than was assumed, a row is
added where other paths became the slowest, and an agent whose tasks are still late plans with less
of its SLO.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.placement.case import Case, Mask, Rule, State, program_of
from polysilicon.placement.deadlines import (
    Served,
    Tail,
    class_seconds,
    foresee,
    p99,
    tail_of,
)
from polysilicon.placement.program import Codes, Numbers, Program
from polysilicon.placement.queueing import cap, wait_share
from polysilicon.placement.solve import Relaxed, Solved, relax, solve

ROUNDS = 12
QUICK = 6
"""Of these rounds so many at most are of the relaxation."""

SEED = 0
_CLOSE = 1e-3


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
    best: bool = True,
) -> Outcome | None:
    """Return a fleet whose queues and tails hold by the formulas; None where there is none.

    Where the rounds end before all holds, the last fleet is returned, and says so.

    Args:
        case: what is to be placed.
        state: is changed: caps, rows and factors are learnt.
        allowed: pairs that may be used.
        without: rules of the policy that are left out.
        best: prove the optimum; else round the relaxation up, which is near it in large fleets.
    """
    last: Outcome | None = None
    quick = QUICK
    for number in range(1, ROUNDS + 1):
        program, chosen = program_of(case, state, allowed, without)
        found = relax(program) if quick > 0 or not best else solve(program)
        if found is None:
            return last if last is not None and quick <= 0 else None
        outcome = _outcome(case, state, program, chosen, found, number)
        changed = _learn(case, state, outcome, without)
        if quick <= 0:
            last = outcome
            if not changed:
                break
        quick = quick - 1 if changed and quick > 1 else 0
    return last


def _outcome(
    case: Case,
    state: State,
    program: Program,
    chosen: Codes,
    found: Relaxed | Solved,
    rounds: int,
) -> Outcome:
    """Return what a program's answer means for queues and tasks."""
    normal = len(chosen)
    share = np.zeros(len(case.pairs.code))
    share[chosen] = found.share[:normal]
    units = np.ceil(found.units - 1e-6)
    if isinstance(found, Relaxed):
        cost = float(program.unit_cost @ units + program.pair_cost @ found.share)
        bound = min(found.cost, cost)
        found = Solved(cost=cost, bound=bound, units=units, share=found.share, status="feasible")
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
    """Change what the next program is made of; tell whether anything changed."""
    changed = _lower_caps(case, state, found)
    dropped = {rule.subject for rule in without if rule.kind == "slo"}
    for agent, seconds in found.late.items():
        if agent not in dropped:
            _hurry(case, state, found, agent, seconds)
            changed = True
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


def _hurry(case: Case, state: State, found: Outcome, agent: str, seconds: float) -> None:
    """Add the row of the paths that are slowest now; where it is kept already, plan with less."""
    slo = case.policy.slo_of(agent)
    assert slo is not None
    stretch = state.stretch
    now = class_seconds(case.pairs, found.share, stretch, len(case.classes.each))
    tail = tail_of(case.tasks, agent, now)
    planned = float(tail.seconds(case.pairs, stretch) @ found.share) + tail.pause_s
    if planned > slo.p99_s * state.factor[agent] * (1.0 + _CLOSE):
        state.tails.append(tail)
        return
    if bar(case, state, found, agent):
        return
    state.factor[agent] *= max(slo.p99_s / seconds, 0.5) * 0.99


def bar(case: Case, state: State, found: Outcome, agent: str) -> bool:
    """Bar routes of an agent's steps that are slower than the mean of their class's routes.

    A row of means is kept also where one step in twenty is far too slow, and that step is late.
    """
    pairs = case.pairs
    mine = np.array([one.agent == agent for one in case.classes.each], dtype=bool)
    seconds = pairs.seconds * state.stretch[pairs.option]
    mean = np.bincount(pairs.code, weights=found.share * seconds, minlength=len(case.classes.each))
    slow = mine[pairs.code] & (seconds > mean[pairs.code] * 1.02) & ~state.barred
    if not (found.share[slow] > _CLOSE).any():
        return False
    split = np.zeros(len(mine), dtype=bool)
    split[pairs.code[slow & (found.share > _CLOSE)]] = True
    state.barred = state.barred | (slow & split[pairs.code])
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
