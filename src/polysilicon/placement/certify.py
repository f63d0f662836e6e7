"""Checks of every answer: it keeps all rows, its duals are duals, and they belong together.

Weak duality makes the check independent of the solver: an answer that keeps all rows, and duals
that leave no pair and no pool a negative reduced cost, prove each other where their objectives
meet.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.errors import PolysiliconError
from polysilicon.placement.program import Numbers, Program

CLOSE = 2e-6
"""Tolerance, relative to what is compared."""

_TRACE = 1e-3
"""Units or shares that are compared with where there are none."""


class Duals(msgspec.Struct, frozen=True, kw_only=True):
    """Dual values of a relaxation, all in the objective's unit.

    Attributes:
        demand: of serving all of each class once more, shape (classes,).
        capacity: of a unit in each capacity row, 0 or more.
        side: of one more of each side row's limit, 0 or more.
    """

    demand: Numbers
    capacity: Numbers
    side: Numbers

    def reduced(self, program: Program) -> Numbers:
        """Return what each pair's share costs beyond what serving its class is worth."""
        return program.reduced(self.demand, self.capacity, self.side)

    def objective(self, program: Program) -> float:
        """Return the objective that these duals prove to be the least."""
        limits = np.array([row.limit for row in program.rows])
        return float(self.demand.sum() - (self.side @ limits if len(limits) else 0.0))


def cost_of(program: Program, units: Numbers, share: Numbers) -> float:
    """Return what an answer costs."""
    return float(program.unit_cost @ units + program.pair_cost @ share)


def faults(program: Program, units: Numbers, share: Numbers) -> list[str]:
    """Return in words which rows an answer breaks; none where it keeps them all."""
    found = []
    served = np.bincount(program.pair_class, weights=share, minlength=program.classes)
    worst = float(np.abs(served - 1.0).max(initial=0.0))
    if worst > CLOSE:
        found.append(f"a class is served {1.0 + worst:.6f} times")
    if min(share.min(initial=0.0), units.min(initial=0.0)) < -CLOSE:
        found.append("a share or a number of units is negative")
    over = program.used(share) - units[program.row_pool]
    loose = CLOSE * np.maximum(units[program.row_pool], 1.0)
    if (over > loose).any():
        found.append(f"a pool has {float(over.max()):.3g} units too few")
    sums = program.sums(units, share)
    for row, total in zip(program.rows, sums, strict=True):
        # Under a limit of nothing, rounding leaves a trace of a unit or of a share.
        trace = _TRACE * max(_largest(row.units), _largest(row.pairs))
        size = max(abs(row.limit), _size(row.units, units), _size(row.pairs, share), trace)
        if total - row.limit > 10 * CLOSE * size:
            found.append(f"{row.name}: {total:.6g} is above {row.limit:.6g}")
    return found


def _largest(weights: Numbers | None) -> float:
    return 0.0 if weights is None else float(np.abs(weights).max(initial=0.0))


def _size(weights: Numbers | None, values: Numbers) -> float:
    """Return how large the terms of a row are."""
    return 0.0 if weights is None else float(np.abs(weights) @ np.abs(values))


def assert_optimal(program: Program, units: Numbers, share: Numbers, duals: Duals) -> None:
    """Check a relaxation's answer: feasibility, duals of all pairs, complementarity.

    Raises:
        PolysiliconError: it does not hold; the text says what.
    """
    wrong = faults(program, units, share)
    cost = cost_of(program, units, share)
    scale = max(cost, 1e-12)
    of_pairs = duals.reduced(program)
    of_units = program.reduced_units(duals.capacity, duals.side)
    # A class taken whole, a machine taken once: neither may pay more than the tolerance.
    most = max(float(program.money.max(initial=0.0)), scale)
    if min(of_pairs.min(initial=0.0), of_units.min(initial=0.0)) < -10 * CLOSE * most:
        wrong.append("a reduced cost is negative")
    if min(duals.capacity.min(initial=0.0), duals.side.min(initial=0.0)) < -10 * CLOSE * most:
        wrong.append("a dual value is negative")
    slack = units[program.row_pool] - program.used(share)
    limits = np.array([row.limit for row in program.rows])
    rest = limits - program.sums(units, share) if len(limits) else limits
    products = (of_pairs @ share, of_units @ units, duals.capacity @ slack, duals.side @ rest)
    if max(abs(float(p)) for p in products) > 100 * CLOSE * scale:
        wrong.append(f"complementarity is off by {max(abs(float(p)) for p in products):.3g}")
    if abs(duals.objective(program) - cost) > 100 * CLOSE * scale:
        wrong.append(f"the duals prove {duals.objective(program):.6g}, the answer costs {cost:.6g}")
    _raise(wrong)


def assert_whole(program: Program, units: Numbers, share: Numbers, bound: float) -> None:
    """Check an answer with whole units: it keeps all rows, and costs no less than its bound.

    Raises:
        PolysiliconError: it does not hold.
    """
    wrong = faults(program, units, share)
    if (np.abs(units - np.round(units)) > 0).any():
        wrong.append("units are not whole")
    cost = cost_of(program, units, share)
    if cost < bound - 100 * CLOSE * max(cost, 1e-12):
        wrong.append(f"the answer costs {cost:.6g}, less than the bound {bound:.6g}")
    _raise(wrong)


def _raise(wrong: list[str]) -> None:
    """Raise where anything is wrong."""
    if wrong:
        raise PolysiliconError(f"the solver's answer does not hold: {'; '.join(wrong)}")
