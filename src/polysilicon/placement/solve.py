"""The cheapest answer of a program, with a certified gap.

The relaxation is solved over few pairs; its duals price all others out, and those that would pay
come in, until none does: an optimum over all pairs. Whole units come from rounding up where that
is near enough the bound, else from branch and bound.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from polysilicon.errors import InfeasibleError, PolysiliconError
from polysilicon.placement.certify import (
    CLOSE,
    Duals,
    assert_optimal,
    assert_whole,
    cost_of,
    faults,
)
from polysilicon.placement.highs import TOLERANCE, Model
from polysilicon.placement.program import Codes, Numbers, Program, covers, with_rows

GAP = 1e-3
LIMIT_S = 10.0
# Where nothing was found at all it is searched for so long.
_LONG_S = 30.0
# A program of no more pairs is given to the solver whole.
FEW_PAIRS = 20_000
# Of no more pairs, branch and bound takes all, so that its bound holds for all.
MANY_PAIRS = 100_000
_CHEAPEST = 3
# Share of the free pools that a dive holds at a time, and how many it rounds up in the end.
_HELD, _LAST = 0.3, 2
_ROUNDS = 200
# Of an answer to nearly the same program, so many pools are tried with one more machine.
_MORE = 8


class NotInTimeError(PolysiliconError):
    """No whole numbers of machines were found in time."""


class Relaxed(msgspec.Struct, frozen=True, kw_only=True):
    """The optimum with units in fractions.

    Attributes:
        cost: in the objective's unit.
        units: shape (pools,).
        share: shape (pairs,).
        duals: of its rows.
        pairs: that the solver was given.
        model: that was solved; it can go on from there.
    """

    cost: float
    units: Numbers
    share: Numbers
    duals: Duals
    pairs: Codes
    model: Model


class Solved(msgspec.Struct, frozen=True, kw_only=True):
    """The best answer found with whole units.

    Attributes:
        cost: in the objective's unit.
        bound: no answer costs less.
        units: shape (pools,).
        share: shape (pairs,).
        status: `optimal` where the gap is as small as asked, else `feasible`.
        effort_s: nominal seconds that it took.
    """

    cost: float
    bound: float
    units: Numbers
    share: Numbers
    status: Literal["optimal", "feasible"]
    effort_s: float = 0.0

    @property
    def gap(self) -> float:
        """How much less an answer could cost at most, as a share of this one's cost."""
        return max(self.cost - self.bound, 0.0) / self.cost if self.cost > 0 else 0.0


def solve(
    program: Program,
    *,
    gap: float = GAP,
    limit_s: float = LIMIT_S,
    near: Numbers | None = None,
) -> Solved | None:
    """Return the cheapest answer with whole units; None where there is none.

    Args:
        program: what to solve.
        gap: relative, that is near enough.
        limit_s: nominal seconds of branch and bound after which the best answer so far is taken.
        near: units of an answer to nearly the same program, shape (pools,).

    Raises:
        NotInTimeError: no answer was found in time, though machines in fractions would do.
        PolysiliconError: the answer failed its check.
    """
    tight = with_rows(program, covers(program))
    relaxed = relax(tight)
    if relaxed is None:
        return None
    best, effort_s = _rounded(program, relaxed, gap), 0.0
    if best is None or best.gap > gap:
        best = _better(best, _dived(program, relaxed, gap))
    if near is not None and (best is None or best.gap > gap):
        best = _better(best, _nearby(program, relaxed.cost, near, gap))
    every = len(program.pair_class)
    try:
        for chosen in (np.sort(relaxed.pairs), np.arange(every)):
            # Of few pairs the relaxation has all, so that the first round is the last.
            proved = best is not None and best.gap <= gap
            if not proved and len(chosen) <= (FEW_PAIRS if len(chosen) < every else MANY_PAIRS):
                limits = (gap, limit_s if every == len(relaxed.pairs) else limit_s / 2)
                best, more_s = _branched(tight, program, chosen, best, (relaxed.cost, *limits))
                effort_s += more_s
            if every == len(relaxed.pairs):
                break
        if best is None:
            chosen = np.arange(every) if every <= MANY_PAIRS else np.sort(relaxed.pairs)
            best, more_s = _branched(tight, program, chosen, None, (relaxed.cost, gap, _LONG_S))
            effort_s += more_s
    except InfeasibleError:
        return None
    if best is None:
        raise NotInTimeError("whole numbers of machines that keep all rules were not found in time")
    assert_whole(program, best.units, best.share, best.bound)
    return msgspec.structs.replace(best, effort_s=effort_s + relaxed.model.effort_s)


def _rounded(program: Program, relaxed: Relaxed, gap: float) -> Solved | None:
    """Round all units up; None where that breaks a row."""
    units = np.ceil(relaxed.units - CLOSE)
    if faults(program, units, relaxed.share):
        return None
    return _answer(program, units, relaxed.share, relaxed.cost, gap)


def _nearby(program: Program, bound: float, near: Numbers, gap: float) -> Solved | None:
    """Return an answer with given units, or with one more of the cheapest pool that helps."""
    there = np.flatnonzero(near > 0)
    more = [near + (np.arange(len(near)) == pool) for pool in
            there[np.argsort(program.unit_cost[there])][:_MORE]]  # fmt: skip
    chosen = np.flatnonzero(near[program.pair_pool] > 0)
    if len(np.unique(program.pair_class[chosen])) < program.classes:
        return None
    for units in (near, *more):
        model = Model(program, chosen, _scale(program))
        model.fix(np.arange(len(units)), units)
        if not model.relax():
            continue
        share = np.zeros(len(program.pair_class))
        share[chosen] = np.maximum(model.values()[2], 0.0)
        share = _cleaned(program, units, share)
        if not faults(program, units, share):
            return _answer(program, units, share, bound, gap)
    return None


def _better(one: Solved | None, other: Solved | None) -> Solved | None:
    """Return the cheaper of two answers."""
    if one is None or other is None:
        return one or other
    return one if one.cost <= other.cost else other


def _dived(program: Program, relaxed: Relaxed, gap: float) -> Solved | None:
    """Hold the pools nearest to whole units there, solve again, and so on; None at a dead end.

    Classes that are nearly as cheap elsewhere move there, so that little is lost by rounding.
    """
    model = relaxed.model
    free = np.ones(len(relaxed.units), dtype=bool)
    while model.relax():
        _, units, some = model.values()
        off = np.abs(units - np.round(units))
        broken = free & (off > CLOSE)
        if broken.sum() <= _LAST:
            share = np.zeros(len(program.pair_class))
            share[relaxed.pairs] = np.maximum(some, 0.0)
            whole = np.where(broken, np.ceil(units), np.round(units))
            share = _cleaned(program, whole, share)
            if faults(program, whole, share):
                return None
            return _answer(program, whole, share, relaxed.cost, gap)
        order = np.argsort(np.where(free, off, np.inf), kind="stable")
        held = order[: max(int(free.sum() * _HELD), 1)]
        model.fix(held, np.round(units[held]))
        free[held] = False
    return None


def _branched(
    tight: Program,
    program: Program,
    chosen: Codes,
    known: Solved | None,
    asked: tuple[float, float, float],
) -> tuple[Solved | None, float]:
    """Branch and bound over some pairs; its bound holds where these are all.

    Args:
        tight: the program with its covers.
        program: without.
        chosen: pairs.
        known: the best answer so far.
        asked: a bound that is known, gap and nominal seconds.

    Returns:
        The best answer, and the nominal seconds it took.

    Raises:
        InfeasibleError: these are all pairs, and no whole machines will do.
    """
    bound, gap, limit_s = asked
    model = Model(tight, chosen, _scale(tight))
    start = None if known is None else (known.units, known.share[chosen])
    try:
        found = model.whole(gap / 2, limit_s, start)
    except InfeasibleError:
        # Over some of the pairs that proves nothing.
        if len(chosen) == len(program.pair_class):
            raise
        found = None
    if found is None:
        return known, model.effort_s
    share = np.zeros(len(program.pair_class))
    share[chosen] = found.share
    share = _cleaned(program, found.units, share)
    if len(chosen) == len(program.pair_class):
        bound = max(bound, found.bound)
    best = _better(known, _answer(program, found.units, share, bound, gap))
    assert best is not None
    return _answer(program, best.units, best.share, bound, gap), model.effort_s


def _cleaned(program: Program, units: Numbers, share: Numbers) -> Numbers:
    """Take off what tolerances leave on pools without machines."""
    kept = np.where((units[program.pair_pool] > 0) & (share > 0), share, 0.0)
    served = np.bincount(program.pair_class, weights=kept, minlength=program.classes)
    return np.asarray(kept / np.where(served > 0, served, 1.0)[program.pair_class])


def _answer(program: Program, units: Numbers, share: Numbers, bound: float, gap: float) -> Solved:
    """Return an answer with its bound."""
    cost = cost_of(program, units, share)
    # Costs within the solver's tolerance of each other are one.
    bound = min(bound, cost)
    near = cost - bound <= max(gap, CLOSE) * cost
    return Solved(
        cost=cost,
        bound=bound,
        units=units,
        share=share,
        status="optimal" if near else "feasible",
    )


def relax(program: Program) -> Relaxed | None:
    """Return the optimum with units in fractions; None where there is none.

    Raises:
        PolysiliconError: the answer failed its check.
    """
    counted = np.bincount(program.pair_class, minlength=program.classes)
    if not program.classes or (counted == 0).any():
        return None
    if len(program.pair_class) <= FEW_PAIRS:
        model = Model(program, np.arange(len(program.pair_class)), _scale(program))
        if not model.relax():
            return None
    else:
        priced = _generated(program)
        if priced is None:
            return None
        model = priced
    _, units, some = model.values()
    share = np.zeros(len(program.pair_class))
    share[model.chosen] = np.maximum(some, 0.0)
    duals = model.duals()
    units = np.maximum(units, 0.0)
    assert_optimal(program, units, share, duals)
    return Relaxed(
        cost=cost_of(program, units, share),
        units=units,
        share=share,
        duals=duals,
        pairs=model.chosen,
        model=model,
    )


def _generated(program: Program) -> Model | None:
    """Solve over few pairs and add those that would pay, until none does; None if infeasible."""
    first = np.searchsorted(program.pair_class, np.arange(program.classes))
    money = program.money
    most = np.maximum.reduceat(money, first)
    # Leaving a class unserved is dear, so that it happens only where machines are scarce.
    model = Model(
        program, _start(program, first, money), _scale(program), 10.0 * most + float(most.mean())
    )
    _price_out(program, model, first)
    if float(model.values()[0].max()) > CLOSE:
        chosen = _feasible(program, model.chosen, first)
        if chosen is None:
            return None
        # Solved again where nothing may be left unserved: the penalty was less than room is worth.
        model = Model(program, chosen, _scale(program))
        _price_out(program, model, first)
    return model


def _feasible(program: Program, chosen: Codes, first: Codes) -> Codes | None:
    """Return pairs over which all can be served, whatever it costs; None where it cannot."""
    free = msgspec.structs.replace(
        program,
        unit_cost=np.zeros_like(program.unit_cost),
        pair_cost=np.zeros_like(program.pair_cost),
    )
    model = Model(free, chosen, 1.0, np.ones(program.classes))
    _price_out(free, model, first)
    return model.chosen if float(model.values()[0].max()) <= CLOSE else None


def _start(program: Program, first: Codes, money: Numbers) -> Codes:
    """Return the cheapest pairs of each class, and the least of each side row's weights."""
    found = []
    left = money.copy()
    for _ in range(_CHEAPEST):
        best = _least(left, first, program.pair_class)
        best = best[np.isfinite(left[best])]
        found.append(best)
        left[best] = np.inf
    weights = [row.pairs for row in program.rows if row.pairs is not None]
    found += [_least(values, first, program.pair_class) for values in weights]
    return np.unique(np.concatenate(found))


def _least(values: Numbers, first: Codes, classes: Codes) -> Codes:
    """Return for each class the pair with the least value, the first of equals."""
    least = np.minimum.reduceat(values, first)
    at = np.flatnonzero(values == least[classes])
    _, places = np.unique(classes[at], return_index=True)
    return np.asarray(at[places])


def _price_out(program: Program, model: Model, first: Codes) -> None:
    """Solve, and add pairs with negative reduced cost, until there is none.

    Raises:
        PolysiliconError: it does not end.
    """
    slightly = -10.0 * TOLERANCE / model.scale
    for _ in range(_ROUNDS):
        if not model.relax():
            raise PolysiliconError("HiGHS found no answer where one was known")
        reduced = model.duals().reduced(program)
        reduced[model.chosen] = 0.0
        added = []
        for _ in range(_CHEAPEST):
            best = _least(reduced, first, program.pair_class)
            best = best[reduced[best] < slightly]
            if not len(best):
                break
            added.append(best)
            reduced[best] = 0.0
        if not added:
            return
        model.add(np.concatenate(added))
    raise PolysiliconError("pricing pairs out did not end")


def _scale(program: Program) -> float:
    """Return what brings the objective near 10,000, where tolerances are small beside it."""
    first = np.searchsorted(program.pair_class, np.arange(program.classes))
    least = float(np.minimum.reduceat(program.money, first).sum())
    costs = np.concatenate([program.unit_cost, program.pair_cost])
    smallest = float(costs[costs > 0].min(initial=np.inf))
    size = max(least, 0.0 if np.isinf(smallest) else smallest)
    return 1e4 / size if size > 0 else 1.0
