"""Dispatch of months whose hours share dollars: use under spend contracts.

A linear program of all hours of one cell, with one row for each spend contract that money was set
aside for. Cells without such money are dispatched hour by hour (`hours`). One program in HiGHS
serves all cells of a matrix: only prices and limits change from cell to cell, and each goes on from
the basis that it ended with before, which stays dual feasible as long as its prices do not change.

Symbols: m, n as in `hours`; B hours or blocks of a cell, each a share of the longest of them.
"""

from __future__ import annotations

from typing import Any

import highspy
import msgspec
import numpy as np
from scipy import sparse

from polysilicon.errors import PolysiliconError
from polysilicon.planning.bases import DUAL, PRIMAL
from polysilicon.planning.hours import Dispatch, Hours, Scaled, scale
from polysilicon.planning.linear import opened
from polysilicon.planning.problem import Numbers


class Months:
    """Dispatches all months of a problem, again and again, for different capacities.

    Args:
        hours: for the cells without money for spend contracts.
    """

    def __init__(self, hours: Hours) -> None:
        self.hours = hours
        self._made: Scaled | None = None
        self._shared: dict[tuple[int, int], _Shared] = {}

    def dispatch(self, capacity: Numbers, demand: Numbers, weight: Numbers) -> Dispatch:
        """Serve demand at the least cost, with money for spend contracts.

        Args:
            capacity: of each row in each cell, dollars of the month for spend rows; shape
                (E, S, T).
            demand: shape (S, T, B, K).
            weight: hours of each, broadcasts to (S, T, B).
        """
        found = self.hours.dispatch(capacity, demand, weight)
        spent = self.hours.ways.monthly
        cells = np.argwhere((capacity[spent] > 0).any(axis=0)) if spent.any() else np.zeros((0, 2))
        if not len(cells):
            return found
        made = self._prepare(capacity)
        s, t, b, _ = demand.shape
        weight = np.broadcast_to(weight, (s, t, b))
        row_prices = np.zeros((len(made.rows), s, t, b))
        known = np.isin(found.rows, made.rows)
        row_prices[np.searchsorted(made.rows, found.rows[known])] = found.row_prices[known]
        result = msgspec.structs.replace(found, rows=made.rows, row_prices=row_prices)
        for one, month in cells.astype(int).tolist():
            self.hours.clock.check()
            self._cell(made, (one, month), (capacity, demand, weight), result)
        return result

    def _prepare(self, capacity: Numbers) -> Scaled:
        """Return the program over all rows that have or had capacity."""
        rows = np.flatnonzero((capacity > 0).any(axis=(1, 2)))
        known = self._made
        if known is not None:
            rows = known.wider(rows)
            if rows is known.rows:
                return known
        self._made = scale(self.hours.problem, self.hours.ways, rows)
        self._shared = {}
        return self._made

    def _cell(
        self,
        made: Scaled,
        cell: tuple[int, int],
        data: tuple[Numbers, Numbers, Numbers],
        result: Dispatch,
    ) -> None:
        """Solve one month, and write what was found into the result."""
        ways = self.hours.ways
        capacity, demand, weight = (data[0][:, *cell], data[1][cell], data[2][cell])
        b, k = demand.shape
        which = int(made.which[cell])
        if (which, b) not in self._shared:
            monthly = np.concatenate([np.zeros(k, dtype=bool), ways.monthly[made.rows]])
            self._shared[which, b] = _Shared(made.matrix[which], k, b, monthly)
        size = made.size[:, *cell]
        longest = float(weight.max())
        share = weight / longest
        right = np.empty((b, k + len(made.rows)))
        right[:, :k] = demand / made.unit * share[:, None]
        right[:, k:] = capacity[made.rows] / size
        right[:, k:] *= np.where(ways.monthly[made.rows], 1 / longest, share[:, None])
        n = k + len(made.columns)
        usd, each, y = self._shared[which, b].solve(made.cost[cell][:n], right, cell)
        result.usd[cell] = usd * longest * made.money
        result.prices[cell] = np.maximum(each[:, :k] * made.money / made.unit, 0.0)
        result.row_prices[:, *cell] = np.maximum(-each[:, k:].T * made.money / size[:, None], 0.0)
        y = y * longest
        cls = ways.cls[made.columns]
        result.work[:, *cell] = 0.0
        result.work[made.columns, *cell] = y[k:] * np.where(cls >= 0, made.unit[cls], 1.0)
        result.beyond[:, *cell] = y[:k] * made.unit


class _Shared:
    """The program of a month, for all cells that have its matrix.

    Columns are work times the share that their hour is of the longest, so that they say nothing of
    how long the hours of one cell are.

    Args:
        matrix: of one hour, shape (m, n + m).
        classes: K.
        hours: B.
        monthly: which rows the hours share, shape (m,).
    """

    def __init__(
        self, matrix: Numbers, classes: int, hours: int, monthly: np.ndarray[Any, Any]
    ) -> None:
        m, self.hours, self.monthly = len(matrix), hours, monthly
        self.n = matrix.shape[1] - m
        body = matrix[:, : self.n]
        hourly = sparse.kron(sparse.eye_array(hours), sparse.csc_array(body[~monthly]))
        shared = sparse.kron(np.ones((1, hours)), sparse.csc_array(body[monthly]))
        whole = sparse.vstack([hourly, shared]).tocsc()
        self.asked = np.zeros(whole.shape[0], dtype=bool)
        self.asked[: hours * int((~monthly).sum())] = np.tile((np.arange(m) < classes)[~monthly],
                                                              hours)  # fmt: skip
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = whole.shape
        lp.col_cost_, lp.col_lower_ = np.zeros(lp.num_col_), np.zeros(lp.num_col_)
        lp.col_upper_ = np.full(lp.num_col_, highspy.kHighsInf)
        lp.row_lower_ = np.full(lp.num_row_, -highspy.kHighsInf)
        lp.row_upper_ = np.full(lp.num_row_, highspy.kHighsInf)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = whole.indptr.astype(np.int32)
        lp.a_matrix_.index_ = whole.indices.astype(np.int32)
        lp.a_matrix_.value_ = whole.data
        self._highs = opened(PRIMAL, DUAL)
        self._highs.passModel(lp)
        self._columns = np.arange(lp.num_col_, dtype=np.int32)
        self._rows = np.arange(lp.num_row_, dtype=np.int32)
        self._ends: dict[tuple[int, int], Any] = {}

    def solve(
        self, cost: Numbers, right: Numbers, cell: tuple[int, int]
    ) -> tuple[float, Numbers, Numbers]:
        """Return the cost of a month, prices of rows, shape (B, m), and columns' sums, shape (n,).

        Args:
            cost: of each column, shape (n,).
            right: of each row, shape (B, m); that of rows that hours share is in each of them.
            cell: that it is of.
        """
        highs, monthly = self._highs, self.monthly
        ends = np.concatenate([right[:, ~monthly].ravel(), right[0, monthly]])
        highs.changeColsCost(len(self._columns), self._columns, np.tile(cost, self.hours))
        highs.changeRowsBounds(
            len(self._rows),
            self._rows,
            np.where(self.asked, ends, -highspy.kHighsInf),
            np.where(self.asked, highspy.kHighsInf, ends),
        )
        if cell in self._ends:
            highs.setBasis(self._ends[cell])
        highs.run()
        status = highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            highs.clearSolver()
            highs.run()
            status = highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise PolysiliconError(f"HiGHS: {highs.modelStatusToString(status)} in a month")
        self._ends[cell] = highs.getBasis()
        solution = highs.getSolution()
        duals = np.asarray(solution.row_dual)
        each = np.zeros(right.shape)
        count = int((~monthly).sum())
        each[:, ~monthly] = duals[: self.hours * count].reshape(self.hours, count)
        each[:, monthly] = duals[self.hours * count :]
        values = np.asarray(solution.col_value).reshape(self.hours, self.n)
        return float(highs.getInfo().objective_function_value), each, values.sum(axis=0)
