"""Bases of one matrix: which of them fits an hour, and dual simplex steps to the one that does."""

from __future__ import annotations

from typing import Any

import highspy
import numpy as np
import numpy.typing as npt

from polysilicon.errors import PolysiliconError
from polysilicon.planning.clock import Clock
from polysilicon.planning.linear import opened
from polysilicon.planning.problem import Numbers
from polysilicon.planning.supply import Codes

PRIMAL, DUAL = 1e-9, 1e-9
"""Feasibility tolerances, on numbers scaled to about 1."""

_MOST_PIVOTS = 200
_MOST_TRIED = 96
"""Bases that an hour without one is tried on."""


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

    def solve(
        self, cost: Numbers, right: Numbers, start: Codes, clock: Clock
    ) -> tuple[Numbers, Numbers, Codes]:
        """Solve hours of the same prices.

        Args:
            cost: shape (n + m,).
            right: of all hours, shape (m, N).
            start: basis to begin with by hour, -1 for none, shape (N,).
            clock: says when to give up.

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
            clock.check()
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
            clock.check()
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
    highs = opened(PRIMAL, DUAL)
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
