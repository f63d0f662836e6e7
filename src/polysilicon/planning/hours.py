"""Exact dispatch of every hour: all hours of a kind are solved by the few bases they share.

Hours differ in their right side (demand, capacity), less often in prices, hardly ever in their
matrix. A basis of the linear program in `supply` is optimal wherever its prices are dual feasible
and its solution is not negative, so a basis found for one hour is tried on all others by two
matrix products. HiGHS is asked only for hours that no known basis fits; capacities change from one
plan to the next, dual feasibility does not, and the bases stay.

Symbols: m = K + rows that have capacity anywhere, n = K + their columns.
"""

from __future__ import annotations

from typing import Any

import highspy
import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.errors import PolysiliconError
from polysilicon.planning.problem import Numbers, Problem
from polysilicon.planning.supply import Codes, Ways

PRIMAL, DUAL = 1e-9, 1e-9
"""Feasibility tolerances, on numbers scaled to about 1."""

_MOST_PIVOTS = 200
_MOST_TRIED = 96
"""Bases that an hour without one is tried on."""

_MOST_NUMBERS = 24_000_000
"""Inverses of bases held at once, as numbers."""


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """All hours, served at the least cost.

    Attributes:
        usd: of each month, shape (S, T).
        prices: of one unit of work more of each class in each hour, shape (S, T, H, K).
        rows: of `Ways`, that had capacity, shape (A,).
        row_prices: what one unit more of each of them would save in each hour, shape (A, S, T, H).
        work: by column, as work per second times hours, shape (C, S, T); None if not asked for.
        beyond: at the ceilings, likewise, shape (K, S, T).
    """

    usd: Numbers
    prices: Numbers
    rows: Codes
    row_prices: Numbers
    work: Numbers | None = None
    beyond: Numbers | None = None


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
    """

    rows: Codes
    columns: Codes
    unit: Numbers
    money: float
    size: Numbers
    matrix: tuple[Numbers, ...]
    which: Codes
    cost: Numbers


def useful(ways: Ways) -> npt.NDArray[np.bool_]:
    """Return which columns are below their class's ceiling in some cell, shape (C,)."""
    found = np.ones(len(ways.cls), dtype=bool)
    served = ways.cls >= 0
    found[served] = (ways.cost[served] < ways.ceiling[ways.cls[served]]).any(axis=(1, 2))
    return found


def scale(problem: Problem, ways: Ways, rows: Codes) -> Scaled:
    """Return the hourly program over some rows."""
    s, t, _, k = problem.shape
    unit = problem.demand.mean(axis=(0, 1, 2))
    unit = np.where(unit > 0, unit, 1.0)
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
        own = np.flatnonzero(cls >= 0)
        matrix[cls[own], k + own] = 1.0
        matrix[k + at, k + np.arange(len(columns))] = kind[: len(columns)]
        matrix[k + at2, k + doubled] = kind[len(columns) :][doubled]
        matrix[np.arange(m), n + np.arange(m)] = np.where(np.arange(m) < k, -1.0, 1.0)
        matrices.append(matrix)
    cost = np.zeros((s, t, n + m))
    cost[:, :, :k] = np.moveaxis(ways.ceiling * unit[:, None, None], 0, 2) / money
    cost[:, :, k:n] = np.moveaxis(ways.cost[columns] * size_of, 0, 2) / money
    return Scaled(
        rows=rows,
        columns=columns,
        unit=unit,
        money=money,
        size=size,
        matrix=tuple(matrices),
        which=which.reshape(s, t),
        cost=cost,
    )


class Pool:
    """The bases known for one matrix.

    Args:
        matrix: shape (m, n + m).
        classes: K.
        most: bases to keep.
        seeds: bases to begin with, shape (J, m).
    """

    def __init__(self, matrix: Numbers, classes: int, most: int, seeds: Codes | None) -> None:
        self.matrix, self.classes, self.most = matrix, classes, most
        self._highs: Any = None
        self._costs: Numbers | None = None
        self.clear()
        if seeds is not None and len(seeds):
            sound = np.abs(np.linalg.det(np.moveaxis(matrix[:, seeds], 1, 0))) > 1e-9
            for basis in seeds[sound]:
                self.keep(basis)

    def clear(self) -> None:
        """Forget all bases."""
        m = self.matrix.shape[0]
        self.known: dict[bytes, int] = {}
        self.last: dict[int, Codes] = {}
        self._bases = np.zeros((8, m), dtype=np.int64)
        self._inverse = np.zeros((8, m, m))

    def keep(self, basis: Codes, inverse: Numbers | None = None) -> int:
        """Add a basis, with its inverse where it is known; return its index."""
        key, count = np.sort(basis).tobytes(), len(self.known)
        if key not in self.known:
            if count == len(self._bases):
                self._bases = np.concatenate([self._bases, self._bases])
                self._inverse = np.concatenate([self._inverse, self._inverse])
            self._bases[count] = basis
            self._inverse[count] = (
                np.linalg.inv(self.matrix[:, basis]) if inverse is None else inverse
            )
            self.known[key] = count
        return self.known[key]

    def pivot(self, basis: int, row: int, enters: int) -> int:
        """Return the basis in which a column has taken the place of a row's basic column."""
        after = self._bases[basis].copy()
        after[row] = enters
        count = len(self.known)
        if count % 16 == 0:
            return self.keep(after)  # so that errors of updates do not pile up
        inverse = self._inverse[basis]
        column = inverse @ self.matrix[:, enters]
        pivot = inverse[row] / column[row]
        updated = inverse - np.outer(column, pivot)
        updated[row] = pivot
        return self.keep(after, updated)

    @property
    def bases(self) -> Codes:
        """Those that are known, shape (J, m)."""
        return self._bases[: len(self.known)]

    def solve(self, cost: Numbers, right: Numbers, start: Codes) -> tuple[Numbers, Numbers, Codes]:
        """Solve hours of the same prices.

        Args:
            cost: shape (n + m,).
            right: of all hours, shape (m, N).
            start: basis to begin with by hour, -1 for none, shape (N,).

        Returns:
            Prices of rows, shape (m, N), values of all columns, shape (n + m, N), and the optimal
            basis of each hour.
        """
        m, hours = right.shape
        at, values = self._begin(cost, right, start), np.zeros((len(cost), hours))
        prices = np.zeros((m, hours))
        slack = PRIMAL * max(1.0, float(np.abs(right).max(initial=1.0)))
        left, steps = np.arange(hours), _Steps(self, cost)
        for _ in range(_MOST_PIVOTS):
            still = []
            for one, some in _grouped(at[left], left):
                found = self._inverse[one] @ right[:, some]
                worst = found.argmin(axis=0)
                fits = found[worst, np.arange(len(some))] >= -slack
                hit, basis = some[fits], self._bases[one]
                prices[:, hit] = steps.prices(one)[:, None]
                values[basis[:, None], hit] = np.maximum(found[:, fits], 0.0)
                for row, those in _grouped(worst[~fits], some[~fits]):
                    at[those] = steps.next(one, row)
                    still.append(those)
            if not still:
                return prices, values, at
            left = np.concatenate(still)
        for hour in left.tolist():
            at[hour] = one = self.keep(self._ask(cost, right[:, hour]))
            prices[:, hour] = steps.prices(one)
            values[self._bases[one], hour] = np.maximum(self._inverse[one] @ right[:, hour], 0.0)
        return prices, values, at

    def _begin(self, cost: Numbers, right: Numbers, start: Codes) -> Codes:
        """Return a dual feasible basis for each hour."""
        known = len(self.known)
        recent = np.arange(max(0, known - _MOST_TRIED), known)
        tried = np.union1d(recent, start[start >= 0])
        if len(tried):
            sound, priced = self._sound(cost, tried)
            if sound.any():
                worth = right.T @ priced[sound].T
                return np.asarray(tried[sound][worth.argmax(axis=1)])
        return np.full(len(start), self.keep(self._ask(cost, right[:, 0])))

    def _sound(self, cost: Numbers, some: Codes) -> tuple[npt.NDArray[np.bool_], Numbers]:
        """Tell which bases are dual feasible, and the prices of each."""
        priced = np.einsum("jm,jmk->jk", cost[self._bases[some]], self._inverse[some])
        return (cost - priced @ self.matrix >= -DUAL).all(axis=1), priced

    def _ask(self, cost: Numbers, right: Numbers) -> Codes:
        """Return the optimal basis of one hour from HiGHS."""
        m, n = len(right), len(cost) - len(right)
        if self._highs is None:
            self._highs = _model(self.matrix, self.classes)
        if self._costs is None or not np.array_equal(self._costs, cost):
            self._highs.changeColsCost(n, np.arange(n, dtype=np.int32), cost[:n])
            self._costs = cost.copy()
        low, high = right.copy(), right.copy()
        high[: self.classes], low[self.classes :] = np.inf, -np.inf
        for row in range(m):
            self._highs.changeRowBounds(row, low[row], high[row])
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            self._highs.clearSolver()
            self._highs.run()
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise PolysiliconError(f"HiGHS: {self._highs.modelStatusToString(status)} in an hour")
        basic = np.asarray(self._highs.getBasicVariables()[1], dtype=np.int64)
        return np.sort(np.where(basic >= 0, basic, n - basic - 1))


class _Steps:
    """Steps of the dual simplex method from basis to basis, each done once for all hours."""

    def __init__(self, pool: Pool, cost: Numbers) -> None:
        self.pool, self.cost = pool, cost
        self._prices: dict[int, Numbers] = {}
        self._next: dict[tuple[int, int], int] = {}

    def prices(self, basis: int) -> Numbers:
        """Return the prices of rows at a basis, shape (m,)."""
        if basis not in self._prices:
            pool = self.pool
            self._prices[basis] = self.cost[pool._bases[basis]] @ pool._inverse[basis]  # noqa: SLF001
        return self._prices[basis]

    def next(self, basis: int, row: int) -> int:
        """Return the basis after the basic column of a row, which is negative, has left."""
        known = self._next.get((basis, row), -1)
        if known >= 0:
            return known
        pool = self.pool
        change = pool._inverse[basis][row] @ pool.matrix  # noqa: SLF001
        reduced = np.maximum(self.cost - self.prices(basis) @ pool.matrix, 0.0)
        change[pool._bases[basis]] = 0.0  # noqa: SLF001
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(change < -1e-9, reduced / -change, np.inf)
        # Of columns that are as good, the one with the largest pivot keeps the inverse exact.
        equal = ratio <= ratio.min() * (1 + 1e-9) + 1e-12
        enters = int(np.where(equal, -change, 0.0).argmax())
        found = pool.pivot(basis, row, enters)
        self._next[basis, row] = found
        return found


def _grouped(keys: Codes, values: Codes) -> list[tuple[int, Codes]]:
    """Return values by key."""
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order])) + 1
    return [(int(keys[part[0]]), values[part]) for part in np.split(order, ends) if len(part)]


def _model(matrix: Numbers, classes: int) -> Any:
    """Return the solver for one hour of a matrix."""
    m = matrix.shape[0]
    n = matrix.shape[1] - m
    highs = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("presolve", "off"),
        ("primal_feasibility_tolerance", PRIMAL),
        ("dual_feasibility_tolerance", DUAL),
    ):
        highs.setOptionValue(name, value)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n, m
    lp.col_cost_, lp.col_lower_ = np.zeros(n), np.zeros(n)
    lp.col_upper_ = np.full(n, highspy.kHighsInf)
    lp.row_lower_ = np.where(np.arange(m) < classes, 0.0, -highspy.kHighsInf)
    lp.row_upper_ = np.where(np.arange(m) < classes, highspy.kHighsInf, 0.0)
    columns, rows = np.nonzero(matrix[:, :n].T)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(columns, np.arange(n + 1)).astype(np.int32)
    lp.a_matrix_.index_ = rows.astype(np.int32)
    lp.a_matrix_.value_ = matrix[rows, columns]
    highs.passModel(lp)
    return highs


class Hours:
    """Dispatches all hours of a problem, again and again, for different capacities.

    Args:
        problem: whose hours.
        ways: to serve them.
    """

    def __init__(self, problem: Problem, ways: Ways) -> None:
        self.problem, self.ways = problem, ways
        self._scaled: Scaled | None = None
        self._pools: dict[int, Pool] = {}
        columns = np.flatnonzero(useful(ways))
        self._worth = np.zeros(len(ways.rows), dtype=bool)
        self._worth[ways.first[columns]] = True
        self._worth[ways.second[columns][ways.second[columns] >= 0]] = True
        self._worth &= ~ways.monthly

    def prepare(self, capacity: Numbers) -> Scaled:
        """Return the program over all rows that have or had capacity."""
        rows = np.flatnonzero((capacity > 0).any(axis=(1, 2)) & self._worth)
        known = self._scaled
        if known is not None:
            if np.isin(rows, known.rows).all() and len(known.rows) <= 2 * len(rows) + 8:
                return known
            if len(known.rows) <= 2 * len(rows) + 8:
                rows = np.union1d(rows, known.rows)
        self._scaled = scale(self.problem, self.ways, rows)
        self._pools = {}
        return self._scaled

    def dispatch(
        self,
        capacity: Numbers,
        demand: Numbers,
        weight: Numbers,
        *,
        work: bool = False,
    ) -> Dispatch:
        """Serve demand at the least cost.

        Args:
            capacity: of each row in each cell, shape (E, S, T).
            demand: shape (S, T, B, K); B hours or blocks of hours.
            weight: hours that each stands for, broadcasts to (S, T, B).
            work: whether to tell what serves it.
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
        total = np.zeros((s, t, n)) if work else None
        for cells in _alike(made):
            pool = self._pool(int(made.which.flat[cells[0]]), m, k)
            at = np.unravel_index(cells, (s, t))
            last = pool.last.setdefault(b, np.full((s * t, b), -1, dtype=np.int64))
            found, values, bases = pool.solve(
                made.cost[at][0], right[at].reshape(-1, m).T, last[cells].ravel()
            )
            last[cells] = bases.reshape(len(cells), b)
            prices[at] = found.T.reshape(len(cells), b, m)
            if total is not None:
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

    def _unscaled(
        self, made: Scaled, total: Numbers | None
    ) -> tuple[Numbers | None, Numbers | None]:
        """Return work by column of `Ways` and at the ceilings."""
        if total is None:
            return None, None
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


def _alike(made: Scaled) -> list[Codes]:
    """Return the cells (as flat indices) of the same matrix and prices, together."""
    flat = made.cost.reshape(-1, made.cost.shape[2])
    groups: dict[bytes, list[int]] = {}
    for cell, row in enumerate(flat):
        groups.setdefault(row.tobytes() + made.which.flat[cell].tobytes(), []).append(cell)
    return [np.array(cells) for cells in groups.values()]
