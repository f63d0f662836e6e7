"""Dispatch of a month whose hours share dollars: use under spend contracts.

A linear program of all hours of one cell, with one row for each spend contract that money was set
aside for. Cells without such money are dispatched hour by hour (`hours`).
"""

from __future__ import annotations

import msgspec
import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from polysilicon.errors import PolysiliconError
from polysilicon.planning.bases import DUAL, PRIMAL
from polysilicon.planning.hours import Dispatch, Hours, Scaled, scale
from polysilicon.planning.problem import Numbers
from polysilicon.planning.supply import Ways


def dispatch(hours: Hours, capacity: Numbers, demand: Numbers, weight: Numbers) -> Dispatch:
    """Serve demand at the least cost, with money for spend contracts.

    Args:
        hours: for the cells without such money.
        capacity: of each row in each cell, dollars of the month for spend rows; shape (E, S, T).
        demand: shape (S, T, B, K).
        weight: hours of each, broadcasts to (S, T, B).
    """
    problem, ways = hours.problem, hours.ways
    found = hours.dispatch(capacity, demand, weight, work=True)
    spent = ways.monthly
    cells = np.argwhere((capacity[spent] > 0).any(axis=0)) if spent.any() else np.zeros((0, 2))
    if not len(cells):
        return found
    rows = np.flatnonzero((capacity > 0).any(axis=(1, 2)))
    made = scale(problem, ways, rows)
    s, t, b, _ = demand.shape
    weight = np.broadcast_to(weight, (s, t, b))
    row_prices = np.zeros((len(rows), s, t, b))
    row_prices[np.searchsorted(rows, found.rows)] = found.row_prices
    result = msgspec.structs.replace(found, rows=rows, row_prices=row_prices)
    for one, month in cells.astype(int).tolist():
        hours.clock.check()
        _cell(ways, made, (one, month), (capacity, demand, weight), result)
    return result


def _cell(
    ways: Ways,
    made: Scaled,
    cell: tuple[int, int],
    data: tuple[Numbers, Numbers, Numbers],
    result: Dispatch,
) -> None:
    """Solve one month, and write what was found into the result."""
    capacity, demand, weight = (data[0][:, *cell], data[1][cell], data[2][cell])
    b, k = demand.shape
    matrix = made.matrix[int(made.which[cell])]
    m = matrix.shape[0]
    n = matrix.shape[1] - m
    monthly = np.concatenate([np.zeros(k, dtype=bool), ways.monthly[made.rows]])
    sign = np.where(np.arange(m) < k, -1.0, 1.0)
    body = matrix[:, :n] * sign[:, None]
    hourly = sparse.kron(sparse.eye_array(b), sparse.csr_array(body[~monthly]))
    shared = sparse.kron(weight[None, :], sparse.csr_array(body[monthly]))
    size = made.size[:, *cell]
    right = np.empty((b, m))
    right[:, :k] = -demand / made.unit
    right[:, k:] = capacity[made.rows] / size
    cost = made.cost[cell][:n]
    solved = linprog(
        np.outer(weight, cost).ravel(),
        A_ub=sparse.vstack([hourly, shared]).tocsr(),
        b_ub=np.concatenate([right[:, ~monthly].ravel(), right[0, monthly]]),
        method="highs-ds",
        options={"primal_feasibility_tolerance": PRIMAL, "dual_feasibility_tolerance": DUAL},
    )
    if solved.status != 0:
        raise PolysiliconError(f"HiGHS: {solved.message} in a month")
    duals = -solved.ineqlin.marginals
    count = int((~monthly).sum())
    each = np.zeros((b, m))
    known = np.maximum(weight, 1e-300)[:, None]
    each[:, ~monthly] = duals[: b * count].reshape(b, count) / known
    each[:, monthly] = duals[b * count :]
    result.usd[cell] = solved.fun * made.money
    result.prices[cell] = np.maximum(each[:, :k] * made.money / made.unit, 0.0)
    result.row_prices[:, *cell] = np.maximum(each[:, k:].T * made.money / size[:, None], 0.0)
    assert result.work is not None
    assert result.beyond is not None
    y = weight @ solved.x.reshape(b, n)
    cls = ways.cls[made.columns]
    result.work[:, *cell] = 0.0
    result.work[made.columns, *cell] = y[k:] * np.where(cls >= 0, made.unit[cls], 1.0)
    result.beyond[:, *cell] = y[:k] * made.unit
