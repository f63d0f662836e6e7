"""What capacity is worth at given demand prices: every option is priced outside the hourly problem.

With demand prices pi in an hour, a unit of a row saves max over its columns of
(pi - cost - second row's price) / use, and no less than nothing. Prices from 0 to the ceilings make
all of that feasible for the dual of the hourly program, so that any such prices give a true lower
bound on the cost of any capacity, whatever they were made for.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.planning.hours import Dispatch
from polysilicon.planning.problem import Numbers, Problem
from polysilicon.planning.supply import Ways


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A lower bound on the cost of each month, linear in units under contract.

    Attributes:
        base: with none, shape (S, T).
        value: what one unit of each row saves in the month, shape (S, T, E).
        prices: demand prices that it is made of, shape (S, T, H, K).
    """

    base: Numbers
    value: Numbers
    prices: Numbers


def cut(problem: Problem, ways: Ways, prices: Numbers, found: Dispatch | None = None) -> Cut:
    """Return the bound that demand prices give.

    Args:
        problem: whose hours.
        ways: to serve them.
        prices: shape (S, T, H, K).
        found: the dispatch that the prices are from; prices of rows that are limited besides the
            one that pays are taken from it.
    """
    s, t, _, _ = problem.shape
    prices = np.clip(prices, 0.0, np.moveaxis(ways.ceiling, 0, 2)[:, :, None, :])
    base = np.einsum("sthk,sthk,th->st", problem.demand, prices, problem.hours)
    value = np.zeros((s, t, len(ways.rows)))
    for month in range(t):
        seconds = _seconds(ways, found, month)
        hourly = _hourly(ways, prices[:, month], month, seconds)
        weighted = np.einsum("esh,h->se", hourly, problem.hours[month])
        monthly = ways.monthly
        if monthly.any():
            weighted[:, monthly] = hourly[monthly].max(axis=2).T
        value[:, month] = weighted
    base -= np.einsum("ste,est->st", value, ways.limit)
    return Cut(base=base, value=value * np.moveaxis(ways.factor, 0, 2), prices=prices)


def _seconds(ways: Ways, found: Dispatch | None, month: int) -> dict[int, Numbers]:
    """Return known prices of rows that are second to a column, by row, each of shape (S, H)."""
    if found is None:
        return {}
    second = set(ways.second[ways.second >= 0].tolist())
    return {
        row: found.row_prices[at, :, month]
        for at, row in enumerate(found.rows.tolist())
        if row in second
    }


def _hourly(ways: Ways, prices: Numbers, month: int, known: dict[int, Numbers]) -> Numbers:
    """Return what a unit of each row saves in each hour of a month, shape (E, S, H)."""
    s, h, _ = prices.shape
    worth = np.zeros((len(ways.rows), s, h))
    simple = np.flatnonzero(ways.second < 0)
    gain = prices[:, :, ways.cls[simple]].transpose(2, 0, 1) - ways.cost[simple, :, month, None]
    gain /= ways.use[simple, :, month, None]
    first = ways.first[simple]
    if len(first):
        starts = np.flatnonzero(np.diff(first, prepend=-1))
        worth[first[starts]] = np.maximum(np.maximum.reduceat(gain, starts, axis=0), 0.0)
    double = np.flatnonzero(ways.second >= 0).tolist()
    if not double:
        return worth
    covers = [column for column in double if ways.cls[column] < 0]
    for row, price in known.items():
        if ways.rows[row].kind != "cover":
            worth[row] = np.maximum(worth[row], price)
    for column in double:
        row, second = int(ways.first[column]), int(ways.second[column])
        if ways.cls[column] < 0:
            if second not in known:
                continue  # it has no units: its own price can be as high as need be
            price = known[second]
            due = np.zeros(())
        else:
            price, due = worth[second], prices[:, :, ways.cls[column]]
        saved = due - ways.cost[column, :, month, None] - price * ways.use2[column, :, month, None]
        worth[row] = np.maximum(worth[row], saved / ways.use[column, :, month, None])
    for column in covers:
        row, second = int(ways.first[column]), int(ways.second[column])
        saved = -ways.cost[column, :, month, None]
        saved = saved - worth[row] * ways.use[column, :, month, None]
        left = saved / ways.use2[column, :, month, None]
        worth[second] = np.maximum(worth[second], left)
    return worth
