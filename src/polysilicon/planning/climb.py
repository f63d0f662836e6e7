"""Exact dispatch of hours in which whatever serves draws on one limit: a climb over prices.

The dual of the hourly program in `supply` has one price for each class, and little else:

    maximise  Σ price·demand - Σ capacity of each row times its rent
    rent      the most that a unit of the row earns: max(0, (price - cost) / use over its columns)
    0 ≤ price ≤ ceiling

That is concave and piecewise linear in K prices, however many rows there are. A corner is where K
pieces meet: two ways to use a row earn alike (a tie), or a price is at its end. The work of these K
pieces follows from demand; where some of it is negative, prices move along the edge on which it
goes, past all rows whose best use changes on the way as long as the dual gains, which is the dual
simplex method with bound flipping over generalised upper bounds (G. B. Dantzig and R. M. Van Slyke,
Journal of Computer and System Sciences 1(3), 1967; I. Maros, EJOR 149, 2003).

A tie is kept as row, column and, in `key`, the row's first use; -1 is a unit that stands idle. A
price at its end is CEILING or FLOOR instead of a row, and the class instead of a column.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from polysilicon.planning.problem import Numbers
from polysilicon.planning.supply import Codes
from polysilicon.schedule.types import compiled, part

CEILING, FLOOR, UNKNOWN = -1, -2, -9

_MOST_STEPS, _SMALL, _AGREE = 400, 1e-9, 1e-8


class Ways(NamedTuple):
    """How work can be done, in one cell (in all of them where the first axis is N).

    Attributes:
        start: first column of each row, and the number of columns, shape (A + 1,).
        cls: class of each column, shape (C,).
        earns: work of a unit of the row, by column, shape (C,).
        cost: of each column, then the ceiling of each class, shape (C + K,).
    """

    start: Codes
    cls: Codes
    earns: Numbers
    cost: Numbers


class Result(NamedTuple):
    """What is written.

    Attributes:
        prices: of demand and, negative, of rows, shape (N, B, K + A).
        total: at the ceilings, then of each column, over hours, shape (N, K + C).
        done: 1 for hours that were solved, shape (N, B).
    """

    prices: Numbers
    total: Numbers
    done: Numbers


class _Corner(NamedTuple):
    """Where the climb stands: pieces, the first use of each row, and what follows from them."""

    basis: Codes
    key: Codes
    price: Numbers
    amount: Numbers
    edge: Numbers
    matrix: Numbers
    scratch: Numbers
    after: Numbers
    by: Codes


@part
def _eliminate(matrix: Numbers, right: Numbers, i: int) -> bool:
    """Clear a column below its pivot; False if there is none."""
    k, best = len(right), i
    for row in range(i + 1, k):
        if abs(matrix[row, i]) > abs(matrix[best, i]):
            best = row
    if abs(matrix[best, i]) < _SMALL:
        return False
    for j in range(i, k):
        matrix[i, j], matrix[best, j] = matrix[best, j], matrix[i, j]
    right[i], right[best] = right[best], right[i]
    for row in range(i + 1, k):
        factor = matrix[row, i] / matrix[i, i]
        if factor != 0.0:
            for j in range(i, k):
                matrix[row, j] -= factor * matrix[i, j]
            right[row] -= factor * right[i]
    return True


@part
def _solved(here: _Corner, right: Numbers, turned: int) -> bool:
    """Solve the pieces' system into `right`, transposed if `turned`; False if it is singular."""
    k, scratch = len(right), here.scratch
    for i in range(k):
        for j in range(k):
            scratch[i, j] = here.matrix[j, i] if turned else here.matrix[i, j]
    for i in range(k):
        if not _eliminate(scratch, right, i):
            return False
    for i in range(k - 1, -1, -1):
        for j in range(i + 1, k):
            right[i] -= scratch[i, j] * right[j]
        right[i] /= scratch[i, i]
    return True


@part
def _worth(column: int, ways: Ways, price: Numbers) -> float:
    """Return what a unit of a row earns by a column; nothing if it stands idle."""
    if column < 0:
        return 0.0
    earned: float = ways.earns[column] * (price[ways.cls[column]] - ways.cost[column])
    return earned


@part
def _rate(column: int, ways: Ways, edge: Numbers) -> float:
    """Return what it earns more with each step along an edge."""
    return ways.earns[column] * edge[ways.cls[column]] if column >= 0 else 0.0


@part
def _line(here: _Corner, ways: Ways, j: int, column: int, sign: float) -> float:
    """Add what a column earns to a piece's side of a tie; return what goes to the other side."""
    if column < 0:
        return 0.0
    here.matrix[j, ways.cls[column]] += sign * ways.earns[column]
    owed: float = sign * ways.earns[column] * ways.cost[column]
    return owed


@part
def _meet(here: _Corner, ways: Ways) -> bool:
    """Work out the pieces that meet, and the prices where they do; False if they do not meet."""
    matrix, price, n = here.matrix, here.price, len(ways.cls)
    for j in range(len(price)):
        matrix[j] = 0.0
        row, column = here.basis[j, 0], here.basis[j, 1]
        price[j] = 0.0
        if row == CEILING:
            matrix[j, column], price[j] = 1.0, ways.cost[n + column]
        elif row == FLOOR:
            matrix[j, column] = -1.0
        else:
            price[j] += _line(here, ways, j, column, 1.0)
            price[j] += _line(here, ways, j, here.key[row], -1.0)
    return _solved(here, price, 0)


@part
def _best(row: int, ways: Ways, price: Numbers) -> int:
    """Return the column of a row that earns most, -1 if none earns anything."""
    found = -1
    for column in range(ways.start[row], ways.start[row + 1]):
        if _worth(column, ways, price) > _worth(found, ways, price):
            found = column
    return found


@part
def _inside(here: _Corner, ways: Ways) -> bool:
    """Tell whether prices are between 0 and the ceilings."""
    for i in range(len(here.price)):
        if not -_SMALL <= here.price[i] <= ways.cost[len(ways.cls) + i] + _SMALL:
            return False
    return True


@part
def _begin(here: _Corner, ways: Ways) -> bool:
    """Set prices and uses of rows for known pieces; False where they meet at no corner."""
    basis, key, price = here.basis, here.key, here.price
    if basis[0, 0] == UNKNOWN:
        return False
    for j in range(len(price)):
        if basis[j, 0] >= 0:
            key[basis[j, 0]] = basis[j, 2]
    if not _meet(here, ways) or not _inside(here, ways):
        return False
    for row in range(len(key)):
        key[row] = _best(row, ways, price)
    for j in range(len(price)):
        row, first = basis[j, 0], basis[j, 2]
        if row >= 0:
            if _worth(first, ways, price) < _worth(key[row], ways, price) - _SMALL:
                return False
            key[row] = first
    return True


@part
def _left(here: _Corner, row: int, capacity: float) -> float:
    """Return how much of a row is left for its first use."""
    for j in range(len(here.amount)):
        if here.basis[j, 0] == row:
            capacity -= here.amount[j]
    return capacity


@part
def _amounts(here: _Corner, ways: Ways, right: Numbers) -> bool:
    """Work out how much of each piece serves what the rows' first uses leave."""
    amount, k = here.amount, len(here.amount)
    for i in range(k):
        amount[i] = right[i]
    for row in range(len(here.key)):
        first = here.key[row]
        if first >= 0:
            amount[ways.cls[first]] -= right[k + row] * ways.earns[first]
    return _solved(here, amount, 1)


@part
def _leaving(here: _Corner, ways: Ways, right: Numbers) -> int:
    """Work out the amounts of the pieces; return one that is negative, -1 if none, -2 if lost.

    Where it is a row's first use that is negative it changes places with a tie of the row.
    """
    basis, key, amount, k = here.basis, here.key, here.amount, len(here.amount)
    if not _amounts(here, ways, right):
        return -2
    found, swap, worst = -1, False, -_SMALL
    for j in range(k):
        size = 0.0
        for i in range(k):
            size = max(size, abs(here.matrix[j, i]))
        if amount[j] * size < worst:
            found, swap, worst = j, False, amount[j] * size
        left = _left(here, basis[j, 0], right[k + basis[j, 0]]) * size if basis[j, 0] >= 0 else 0.0
        if left < worst:
            found, swap, worst = j, True, left
    if swap:
        row = basis[found, 0]
        amount[found] = _left(here, row, right[k + row])
        basis[found, 1], key[row] = key[row], basis[found, 1]
    return found


@part
def _overtaken(here: _Corner, ways: Ways, row: int) -> None:
    """Write how far along an edge a row's use stays the best one, and which is better then."""
    after, by, first = here.after, here.by, here.key[row]
    rate, worth = _rate(first, ways, here.edge), _worth(first, ways, here.price)
    after[row], by[row] = np.inf, -1
    if rate < -_SMALL:
        after[row] = max(worth, 0.0) / -rate
    for column in range(ways.start[row], ways.start[row + 1]):
        faster = _rate(column, ways, here.edge) - rate
        if faster > _SMALL:
            behind = max(worth - _worth(column, ways, here.price), 0.0)
            if behind < after[row] * faster:
                after[row], by[row] = behind / faster, column


@part
def _end(here: _Corner, ways: Ways, leaves: int) -> float:
    """Let the price that first comes to its end take a piece's place; return how far that is."""
    end, n = np.inf, len(ways.cls)
    for i in range(len(here.price)):
        price, step = here.price[i], here.edge[i]
        if step > _SMALL and (ways.cost[n + i] - price) / step < end:
            end = (ways.cost[n + i] - price) / step
            here.basis[leaves, 0], here.basis[leaves, 1] = CEILING, i
        elif step < -_SMALL and price / -step < end:
            end = price / -step
            here.basis[leaves, 0], here.basis[leaves, 1] = FLOOR, i
    return end


@part
def _enter(here: _Corner, ways: Ways, right: Numbers, leaves: int) -> None:
    """Move along an edge to where the dual gains no more; what stops it takes a piece's place."""
    basis, key, k = here.basis, here.key, len(here.price)
    slope, end = -here.amount[leaves], _end(here, ways, leaves)
    for row in range(len(key)):
        _overtaken(here, ways, row)
    while len(key) > 0:
        row = int(np.argmin(here.after))
        if here.after[row] >= end:
            return
        tied = False
        for j in range(k):
            tied |= j != leaves and basis[j, 0] == row
        faster = _rate(here.by[row], ways, here.edge) - _rate(key[row], ways, here.edge)
        slope -= right[k + row] * faster
        if tied or slope <= 0.0:
            basis[leaves, 0], basis[leaves, 1] = row, here.by[row]
            return
        key[row] = here.by[row]
        _overtaken(here, ways, row)


@part
def _climbed(here: _Corner, ways: Ways, right: Numbers) -> bool:
    """Move from corner to corner until no amount is negative; False if the way was lost."""
    for _ in range(_MOST_STEPS):
        leaves = _leaving(here, ways, right)
        if leaves < 0:
            return leaves == -1
        for j in range(len(here.edge)):
            here.edge[j] = -1.0 if j == leaves else 0.0
        if not _meet(here, ways) or not _solved(here, here.edge, 0):
            return False
        _enter(here, ways, right, leaves)
        if not _meet(here, ways):
            return False
    return False


@part
def _write(
    here: _Corner, ways: Ways, right: Numbers, prices: Numbers, total: Numbers, weight: float
) -> bool:
    """Write what an hour ended with; False where cost and prices do not agree."""
    k, n = len(here.price), len(ways.cls)
    paid, owed = 0.0, 0.0
    for i in range(k):
        prices[i] = here.price[i]
        owed += here.price[i] * right[i]
    for row in range(len(here.key)):
        first = here.key[row]
        rent = _worth(first, ways, here.price)
        prices[k + row] = -rent
        owed -= rent * right[k + row]
        if first >= 0:
            work = max(_left(here, row, right[k + row]), 0.0) * ways.earns[first]
            total[k + first] += work * weight
            paid += work * ways.cost[first]
    for j in range(k):
        row, column, some = here.basis[j, 0], here.basis[j, 1], max(here.amount[j], 0.0)
        if row == CEILING:
            total[column] += some * weight
            paid += some * ways.cost[n + column]
        elif row >= 0 and column >= 0:
            total[k + column] += some * ways.earns[column] * weight
            paid += some * ways.earns[column] * ways.cost[column]
    return abs(paid - owed) <= _AGREE * max(1.0, abs(owed))


@compiled
def climb(right: Numbers, weight: Numbers, ways: Ways, state: Codes, result: Result) -> None:
    """Serve the hours of some cells at the least cost.

    Args:
        right: demand of each class and capacity of each row, shape (N, B, K + A).
        weight: hours of each, shape (N, B).
        ways: of all cells; earns and cost have the first axis N.
        state: pieces that hours ended with before, then those that they end with now: row, column
            and the row's first use; shape (N, B, K, 3).
        result: written.
    """
    k, rows = state.shape[2], len(ways.start) - 1
    basis, after = np.full((k, 3), UNKNOWN, np.int64), np.empty(rows)
    key, by = np.empty(rows, np.int64), np.empty(rows, np.int64)
    vectors, squares = np.empty((3, k)), np.empty((2, k, k))
    here = _Corner(
        basis, key, vectors[0], vectors[1], vectors[2], squares[0], squares[1], after, by
    )
    last = basis.copy()
    for cell in range(right.shape[0]):
        some = Ways(ways.start, ways.cls, ways.earns[cell], ways.cost[cell])
        for hour in range(right.shape[1]):
            basis[:] = state[cell, hour]
            if not _begin(here, some):
                basis[:] = last
                if not _begin(here, some):
                    for j in range(k):
                        basis[j, 0], basis[j, 1] = CEILING, j
                    _begin(here, some)
            asked = right[cell, hour]
            solved = _climbed(here, some, asked) and _write(
                here, some, asked, result.prices[cell, hour], result.total[cell],
                weight[cell, hour],
            )  # fmt: skip
            result.done[cell, hour] = 1.0 if solved else 0.0
            for j in range(k):
                basis[j, 2] = key[basis[j, 0]] if basis[j, 0] >= 0 else -1
            if not solved:
                basis[0, 0] = UNKNOWN
            last[:] = basis
            state[cell, hour] = basis


def ready() -> None:
    """Compile what is called for all hours, or load it: the first time on a machine takes long."""
    ways = Ways(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros((1, 0)), np.ones((1, 1)))
    result = Result(np.zeros((1, 1, 1)), np.zeros((1, 1)), np.zeros((1, 1)))
    state = np.full((1, 1, 1, 3), UNKNOWN, dtype=np.int64)
    climb(np.ones((1, 1, 1)), np.ones((1, 1)), ways, state, result)
