"""Exact dispatch of every hour.

Where each way to serve draws on one limit, hours are climbed (`climb`), which is fastest. Where
some draw on two, and where there are few hours, all hours of a kind are solved by the few bases
they share: hours differ in their right side (demand, capacity), less often in prices, hardly ever
in their matrix. A basis of the linear program in `supply` is optimal wherever its prices are dual
feasible and its solution is not negative, so a basis found for one hour is tried on all others by
matrix products. HiGHS is asked only for hours that no known basis fits; capacities change from one
plan to the next, dual feasibility does not, and the bases stay.

Symbols: m = K + rows that have capacity anywhere, n = K + their columns.
"""

from __future__ import annotations

import time

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.planning.bases import Pool
from polysilicon.planning.climb import UNKNOWN, Result, climb, ready
from polysilicon.planning.climb import Ways as Climbed
from polysilicon.planning.clock import Clock
from polysilicon.planning.problem import Numbers, Problem
from polysilicon.planning.supply import Codes, Ways

MANY = 500_000
"""Hours times rows from which on it is worth while to have the climb compiled."""

_MOST_NUMBERS = 24_000_000
"""Inverses of bases held at once, as numbers."""


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """All hours, served at the least cost.

    Attributes:
        usd: of each month, shape (S, T).
        prices: of one unit of work more of each class in each hour, shape (S, T, H, K).
        rows: of `Ways`, that had capacity, shape (A,).
        row_prices: what one unit more of each of them would save in each hour, shape (A, S, T, H).
        work: by column, as work per second times hours, shape (C, S, T).
        beyond: at the ceilings, likewise, shape (K, S, T).
    """

    usd: Numbers
    prices: Numbers
    rows: Codes
    row_prices: Numbers
    work: Numbers
    beyond: Numbers


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """The hourly program over some rows, all numbers about 1.

    Attributes:
        rows: of `Ways`, shape (A,).
        columns: of `Ways`, shape (C',).
        unit: of each class, shape (K,).
        money: one unit of cost.
        size: one unit of each row in each cell, shape (A, S, T).
        matrix: distinct matrices, each of shape (m, n + m); slacks are the last m columns.
        which: matrix of each cell, shape (S, T).
        cost: shape (S, T, n + m).
        simple: whether no column draws on two rows.
    """

    rows: Codes
    columns: Codes
    unit: Numbers
    money: float
    size: Numbers
    matrix: tuple[Numbers, ...]
    which: Codes
    cost: Numbers
    simple: bool

    def wider(self, rows: Codes) -> Codes:
        """Return the rows of the program to go on with: its own where these will do, as they are.

        Rows that had capacity are kept, so that the program is not made anew whenever an order
        comes or goes, as long as it is not twice as large as it needs to be.
        """
        if len(self.rows) > 2 * len(rows) + 8:
            return rows
        return self.rows if np.isin(rows, self.rows).all() else np.union1d(rows, self.rows)


def useful(ways: Ways) -> npt.NDArray[np.bool_]:
    """Return which columns are below their class's ceiling in some cell, shape (C,)."""
    found = np.ones(len(ways.cls), dtype=bool)
    served = ways.cls >= 0
    found[served] = (ways.cost[served] < ways.ceiling[ways.cls[served]]).any(axis=(1, 2))
    return found


def scale(problem: Problem, ways: Ways, rows: Codes) -> Scaled:
    """Return the hourly program over some rows."""
    s, t, _, k = problem.shape
    mean = problem.demand.mean(axis=(0, 1, 2))
    unit = np.where(mean > 0, mean, 1.0)
    money = float(np.median(ways.ceiling * unit[:, None, None])) or 1.0
    there = np.isin(ways.first, rows) & useful(ways)
    there &= (ways.second < 0) | np.isin(ways.second, rows)
    columns = np.flatnonzero(there)
    cls = ways.cls[columns]
    size_of = np.where(cls >= 0, unit[cls], 1.0)[:, None, None]
    at = np.searchsorted(rows, ways.first[columns])
    second = ways.second[columns]
    use, use2 = ways.use[columns] * size_of, ways.use2[columns] * size_of
    size = np.full((len(rows), s, t), 1e-300)
    np.maximum.at(size, at, use)
    np.maximum.at(size, np.searchsorted(rows, second[second >= 0]), use2[second >= 0])
    size = np.where(size > 1e-299, size, 1.0)
    use = np.round(use / size[at], 12)
    m, n = k + len(rows), k + len(columns)
    flat = use.reshape(len(columns), s * t)
    flat2 = np.zeros_like(flat)
    doubled = np.flatnonzero(second >= 0)
    at2 = np.searchsorted(rows, second[doubled])
    flat2[doubled] = np.round(use2[doubled] / size[at2], 12).reshape(len(doubled), s * t)
    kinds, which = np.unique(np.concatenate([flat, flat2]).T, axis=0, return_inverse=True)
    matrices = []
    for kind in kinds:
        matrix = np.zeros((m, n + m))
        matrix[np.arange(k), np.arange(k)] = 1.0
        matrix[cls[cls >= 0], k + np.flatnonzero(cls >= 0)] = 1.0
        matrix[k + at, k + np.arange(len(columns))] = kind[: len(columns)]
        matrix[k + at2, k + doubled] = kind[len(columns) :][doubled]
        matrix[np.arange(m), n + np.arange(m)] = np.where(np.arange(m) < k, -1.0, 1.0)
        matrices.append(matrix)
    ceilings, costs = ways.ceiling * unit[:, None, None], ways.cost[columns] * size_of
    priced = np.moveaxis(np.concatenate([ceilings, costs]), 0, 2) / money
    cost = np.concatenate([priced, np.zeros((s, t, m))], axis=2)
    return Scaled(
        rows=rows,
        columns=columns,
        unit=unit,
        money=money,
        size=size,
        matrix=tuple(matrices),
        which=which.reshape(s, t),
        cost=cost,
        simple=not len(doubled),
    )


class Hours:
    """Dispatches all hours of a problem, again and again, for different capacities.

    Args:
        problem: whose hours.
        ways: to serve them.
        clock: says when to give up.
    """

    def __init__(self, problem: Problem, ways: Ways, clock: Clock) -> None:
        self.problem, self.ways, self.clock = problem, ways, clock
        self._scaled: Scaled | None = None
        self._pools: dict[int, Pool] = {}
        self._ends: dict[int, Codes] = {}
        columns = np.flatnonzero(useful(ways))
        self._worth = np.zeros(len(ways.rows), dtype=bool)
        self._worth[ways.first[columns]] = True
        self._worth[ways.second[columns][ways.second[columns] >= 0]] = True
        self._worth &= ~ways.monthly
        s, t, h, k = problem.shape
        self._climbs = k > 0 and s * t * h * int(self._worth.sum()) > MANY
        if self._climbs:
            started = time.perf_counter()
            ready()
            clock.allow(time.perf_counter() - started)

    def prepare(self, capacity: Numbers) -> Scaled:
        """Return the program over all rows that have or had capacity."""
        rows = np.flatnonzero((capacity > 0).any(axis=(1, 2)) & self._worth)
        known = self._scaled
        if known is not None:
            rows = known.wider(rows)
            if rows is known.rows:
                return known
        self._scaled = scale(self.problem, self.ways, rows)
        self._pools = {}
        if known is not None:
            self._ends = {b: _moved(ends, known, self._scaled) for b, ends in self._ends.items()}
        return self._scaled

    def dispatch(self, capacity: Numbers, demand: Numbers, weight: Numbers) -> Dispatch:
        """Serve demand at the least cost.

        Args:
            capacity: of each row in each cell, shape (E, S, T).
            demand: shape (S, T, B, K); B hours or blocks of hours.
            weight: hours that each stands for, broadcasts to (S, T, B).
        """
        made = self.prepare(capacity)
        s, t, b, k = demand.shape
        weight = np.broadcast_to(weight, (s, t, b))
        m = k + len(made.rows)
        right = np.zeros((s, t, b, m))
        right[..., :k] = demand / made.unit
        right[..., k:] = np.moveaxis(capacity[made.rows] / made.size, 0, 2)[:, :, None, :]
        prices = np.zeros((s, t, b, m))
        n = made.cost.shape[2] - m
        total = np.zeros((s, t, n))
        left = np.arange(s * t)
        if made.simple and self._climbs:
            left = self._climb(made, right, weight, prices, total)
        for cells in _alike(made, left):
            self.clock.check()
            pool = self._pool(int(made.which.flat[cells[0]]), m, k)
            at = np.unravel_index(cells, (s, t))
            found, values = _by_bases(pool, made.cost[at][0], right[at], cells, s * t, self.clock)
            prices[at] = found.T.reshape(len(cells), b, m)
            hourly = values[:n].T.reshape(len(cells), b, n)
            total[at] = np.einsum("cbn,cb->cn", hourly, weight[at])
        usd = np.einsum("stbm,stbm,stb->st", prices, right, weight) * made.money
        rows = np.moveaxis(prices[..., k:], 3, 0) * made.money / made.size[..., None]
        served, beyond = self._unscaled(made, total)
        return Dispatch(
            usd=usd,
            prices=np.maximum(prices[..., :k] * made.money / made.unit, 0.0),
            rows=made.rows,
            row_prices=np.maximum(-rows, 0.0),
            work=served,
            beyond=beyond,
        )

    def _climb(
        self, made: Scaled, right: Numbers, weight: Numbers, prices: Numbers, total: Numbers
    ) -> Codes:
        """Serve all hours by climbing; return the cells (as flat indices) where that failed."""
        s, t, b, m = right.shape
        k, n = len(made.unit), total.shape[2]
        at = np.searchsorted(made.rows, self.ways.first[made.columns])
        start = np.searchsorted(at, np.arange(len(made.rows) + 1))
        cls = self.ways.cls[made.columns]
        use = np.array([one[k + at, np.arange(k, n)] for one in made.matrix])
        if b not in self._ends:
            self._ends[b] = np.full((s, t, b, k, 3), UNKNOWN, dtype=np.int64)
        done = np.zeros((s, t, b))
        for month in range(t):
            self.clock.check()
            cost = made.cost[:, month, :n]
            ends = np.ascontiguousarray(self._ends[b][:, month])
            made_of = np.concatenate([cost[:, k:], cost[:, :k]], axis=1)
            found = Result(np.zeros((s, b, m)), np.zeros((s, n)), np.zeros((s, b)))
            climb(
                np.ascontiguousarray(right[:, month]),
                np.ascontiguousarray(weight[:, month]),
                Climbed(start, cls, 1.0 / use[made.which[:, month]], made_of),
                ends,
                found,
            )
            self._ends[b][:, month], prices[:, month] = ends, found.prices
            total[:, month], done[:, month] = found.total, found.done
        return np.flatnonzero(done.min(axis=2).ravel() == 0)

    def _unscaled(self, made: Scaled, total: Numbers) -> tuple[Numbers, Numbers]:
        """Return work by column of `Ways` and at the ceilings."""
        k = len(made.unit)
        cls = self.ways.cls[made.columns]
        served = np.zeros(self.ways.cost.shape)
        size = np.where(cls >= 0, made.unit[cls], 1.0)
        served[made.columns] = np.moveaxis(total[..., k:] * size, 2, 0)
        return served, np.moveaxis(total[..., :k] * made.unit, 2, 0)

    def _pool(self, which: int, m: int, classes: int) -> Pool:
        assert self._scaled is not None
        if which not in self._pools:
            count = len(self._scaled.matrix)
            most = max(64, _MOST_NUMBERS // (m * m * count))
            seeds = next(reversed(self._pools.values())).bases[-64:].copy() if self._pools else None
            self._pools[which] = Pool(self._scaled.matrix[which], classes, most, seeds)
        pool = self._pools[which]
        if len(pool.known) > pool.most:
            pool.clear()
        return pool


def _by_bases(
    pool: Pool, cost: Numbers, right: Numbers, cells: Codes, count: int, clock: Clock
) -> tuple[Numbers, Numbers]:
    """Solve the hours of some cells, each from the basis it had last; return prices and values."""
    b, m = right.shape[1:]
    last = pool.last.setdefault(b, np.full((count, b), -1, dtype=np.int64))
    found, values, bases = pool.solve(cost, right.reshape(-1, m).T, last[cells].ravel(), clock)
    last[cells] = bases.reshape(len(cells), b)
    return found, values


def _moved(ends: Codes, before: Scaled, after: Scaled) -> Codes:
    """Return what hours ended with, counted in rows and columns of another program."""
    moved = []
    for old, new in ((before.rows, after.rows), (before.columns, after.columns)):
        place = np.minimum(np.searchsorted(new, old), max(len(new) - 1, 0))
        there = new[place] == old if len(new) else np.zeros(len(old), dtype=bool)
        # Below 0 are ceilings, floors and units that stand idle, which are the same everywhere.
        moved.append(np.append(np.where(there, place, UNKNOWN), np.arange(-9, 0)))
    found = ends.copy()
    tied = ends[..., 0] >= 0
    found[..., 0] = moved[0][ends[..., 0]]
    found[..., 1] = np.where(tied, moved[1][ends[..., 1]], ends[..., 1])
    found[..., 2] = np.where(tied, moved[1][ends[..., 2]], -1)
    found[(found == UNKNOWN).any(axis=(3, 4)), 0, 0] = UNKNOWN
    return found


def _alike(made: Scaled, cells: Codes) -> list[Codes]:
    """Return cells (as flat indices) of the same matrix and prices, together."""
    flat = made.cost.reshape(-1, made.cost.shape[2])
    groups: dict[bytes, list[int]] = {}
    for cell in cells.tolist():
        key = flat[cell].tobytes() + made.which.flat[cell].tobytes()
        groups.setdefault(key, []).append(cell)
    return [np.array(some) for some in groups.values()]
