"""The integer program of a placement: which class of steps goes to which pool, and how many units.

    minimise    Σ unit_cost·u + Σ pair_cost·y
    subject to  Σ over pools of y = 1                        for each class (all of it is served)
                Σ load·y ≤ u of the row's pool               for each capacity row
                Σ units·u + Σ pairs·y ≤ limit                for each side row (SLO, supply, shares)
                y ≥ 0, u ≥ 0 and whole

y is the share of a class that goes to a pool, `load` the units that all of the class would take
there at the utilisation cap. A pool has one capacity row, and one more for each loss that it must
bear.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

LEAST_LOAD = 1e-5
"""A class counts as no less of a machine than this, or it would drown in the solver's tolerance."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A side row: a weighted sum of units and shares is at most a limit.

    Attributes:
        name: in words, unique.
        kind: `slo`, `supply`, `vendor`, `cover` or `latency`.
        subject: the agent, the offer or the vendor that it is about.
        limit: of the sum.
        units: weight of each pool's units, shape (pools,); None for none.
        pairs: weight of each pair's share, shape (pairs,); None for none.
    """

    name: str
    kind: str
    subject: str
    limit: float
    units: Numbers | None = None
    pairs: Numbers | None = None


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A placement's program.

    Attributes:
        classes: how many.
        pair_class: class of each pair, rising, shape (pairs,).
        pair_row: its capacity row.
        load: units that all of the class takes, at the cap.
        pair_cost: for all of the class.
        row_pool: pool of each capacity row, shape (capacity rows,).
        unit_cost: shape (pools,).
        rows: side rows.
    """

    classes: int
    pair_class: Codes
    pair_row: Codes
    load: Numbers
    pair_cost: Numbers
    row_pool: Codes
    unit_cost: Numbers
    rows: Sequence[Row] = ()

    @property
    def pair_pool(self) -> Codes:
        """Pool of each pair."""
        return self.row_pool[self.pair_row]

    @property
    def money(self) -> Numbers:
        """What each pair costs for all of its class, units in fractions; shape (pairs,)."""
        return np.asarray(self.unit_cost[self.pair_pool] * self.load + self.pair_cost)

    def reduced(self, demand: Numbers, capacity: Numbers, side: Numbers) -> Numbers:
        """Return the reduced cost of each pair's share by the duals of all rows; shape (pairs,)."""
        found = self.pair_cost - demand[self.pair_class] + capacity[self.pair_row] * self.load
        for row, price in zip(self.rows, side, strict=True):
            if row.pairs is not None and price != 0.0:
                found += price * row.pairs
        return np.asarray(found)

    def reduced_units(self, capacity: Numbers, side: Numbers) -> Numbers:
        """Return the reduced cost of each pool's units; shape (pools,)."""
        found = self.unit_cost - np.bincount(
            self.row_pool, weights=capacity, minlength=len(self.unit_cost)
        )
        for row, price in zip(self.rows, side, strict=True):
            if row.units is not None and price != 0.0:
                found += price * row.units
        return np.asarray(found)

    def matrix(self, chosen: Codes) -> sparse.csc_matrix:
        """Return the rows' weights of units and of chosen pairs, in columns.

        Rows are those of classes, of capacity, and side rows.
        """
        pools, pairs = len(self.unit_cost), len(chosen)
        k, r = self.classes, len(self.row_pool)
        at = pools + np.arange(pairs)
        rows = [k + np.arange(r), self.pair_class[chosen], k + self.pair_row[chosen]]
        columns = [self.row_pool, at, at]
        values = [np.full(r, -1.0), np.ones(pairs), self.load[chosen]]
        for place, row in enumerate(self.rows):
            for weights, shift in ((row.units, 0), (row.pairs, pools)):
                if weights is None:
                    continue
                some = weights if shift == 0 else weights[chosen]
                there = np.flatnonzero(some)
                rows.append(np.full(len(there), k + r + place))
                columns.append(shift + there)
                values.append(some[there])
        shape = (k + r + len(self.rows), pools + pairs)
        coordinates = (np.concatenate(rows), np.concatenate(columns))
        return sparse.csc_matrix((np.concatenate(values), coordinates), shape=shape)

    def used(self, share: Numbers) -> Numbers:
        """Return what the shares take of each capacity row, in units; shape (capacity rows,)."""
        return np.asarray(
            np.bincount(self.pair_row, weights=self.load * share, minlength=len(self.row_pool))
        )

    def sums(self, units: Numbers, share: Numbers) -> Numbers:
        """Return the left side of each side row."""
        found = np.zeros(len(self.rows))
        for place, row in enumerate(self.rows):
            found[place] += 0.0 if row.units is None else float(row.units @ units)
            found[place] += 0.0 if row.pairs is None else float(row.pairs @ share)
        return found


def with_rows(program: Program, rows: Sequence[Row]) -> Program:
    """Return a program with further side rows."""
    return msgspec.structs.replace(program, rows=(*program.rows, *rows))


def covers(program: Program) -> list[Row]:
    """Return the rows that whole machines imply: of the pools that can take a class, one is there.

    They cut no whole answer off, and much of what lies between.
    """
    order = np.lexsort((program.pair_pool, program.pair_class))
    classes, pools = program.pair_class[order], program.pair_pool[order]
    ends = np.flatnonzero(np.diff(classes)) + 1
    sets = {np.unique(part).tobytes() for part in np.split(pools, ends)}
    rows = []
    for number, one in enumerate(sorted(sets)):
        weights = np.zeros(len(program.unit_cost))
        weights[np.frombuffer(one, np.int64)] = -1.0
        name = f"at least one machine ({number})"
        rows.append(Row(name=name, kind="cover", subject="", limit=-1.0, units=weights))
    return rows


def bearing(program: Program, lost: Sequence[npt.NDArray[np.bool_]]) -> Program:
    """Return a program whose units also carry all classes after any one of some losses.

    Each loss adds a copy of all classes, served by what is left; side rows tell of normal times.

    Args:
        program: with one capacity row for each pool.
        lost: for each loss the pools that are gone, shape (pools,).
    """
    pools, pairs = len(program.unit_cost), len(program.pair_class)
    classes, rows, loads, costs, from_pair = [program.pair_class], [program.pair_row], [], [], []
    for number, gone in enumerate(lost, start=1):
        left = np.flatnonzero(~gone[program.pair_pool])
        classes.append(program.pair_class[left] + number * program.classes)
        rows.append(program.pair_row[left] + number * pools)
        loads.append(program.load[left])
        costs.append(np.zeros(len(left)))
        from_pair.append(left)
    extra = sum(len(left) for left in from_pair)

    def wider(row: Row) -> Row:
        if row.pairs is None:
            return row
        return msgspec.structs.replace(row, pairs=np.concatenate([row.pairs, np.zeros(extra)]))

    assert len(program.row_pool) == pools
    assert len(program.pair_cost) == pairs
    return Program(
        classes=program.classes * (len(lost) + 1),
        pair_class=np.concatenate(classes),
        pair_row=np.concatenate(rows),
        load=np.concatenate([program.load, *loads]),
        pair_cost=np.concatenate([program.pair_cost, *costs]),
        row_pool=np.tile(program.row_pool, len(lost) + 1),
        unit_cost=program.unit_cost,
        rows=[wider(row) for row in program.rows],
    )
