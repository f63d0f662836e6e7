"""Which part of an SLO each step gets, and what is the least that is possible.

Seconds here are of service: what waiting adds is drawn by the queueing formulas for the fleet that
comes out, and taken off what may be planned with.
"""

from __future__ import annotations

import numpy as np

from polysilicon.placement.case import Case, Mask, State
from polysilicon.placement.deadlines import Tail, class_seconds, p99, step_seconds
from polysilicon.placement.program import Numbers

# No step may be so many times slower than where it is fastest.
_FASTEST = 1e6
_HALVINGS = 14


def fastest(case: Case, allowed: Mask) -> Numbers:
    """Return fixed, first and rest seconds of each class where it is fastest, (3, classes)."""
    pairs = case.pairs
    chosen = np.flatnonzero(allowed)
    seconds = pairs.seconds[chosen]
    order = chosen[np.lexsort((seconds, pairs.code[chosen]))]
    _, first = np.unique(pairs.code[order], return_index=True)
    share = np.zeros(len(pairs.code))
    share[order[first]] = 1.0
    return class_seconds(pairs, share, len(case.classes.each))


def least_possible(case: Case, tail: Tail, allowed: Mask) -> float:
    """Return the 99th percentile of an agent's tasks if every step were where it is fastest."""
    quick = fastest(case, allowed)
    parts = (tail.steps, tail.first, tail.rest)
    served = sum(float(part @ row) for part, row in zip(parts, quick, strict=True))
    return served + tail.pause_s


def pace_of(case: Case, allowed: Mask, now: Numbers) -> Numbers:
    """Return how slow each class's operation is by the routes, beside its fastest; (classes,)."""
    quick = fastest(case, allowed).sum(axis=0)
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
    quick = fastest(case, allowed)
    most = slo.p99_s * state.factor[agent]
    mine = np.array([one.agent == agent for one in case.classes.each], dtype=bool)
    seconds = case.pairs.seconds
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
