"""A lower bound on the cost of any plan that needs no solving.

Prices of demand at which no order saves more than it costs are feasible for the dual of the whole
program: demand is worth at least that much. They are made from what demand costs by the hour, with
and without markets that are limited. The worth of an order is homogeneous in prices (or less), so
where each price is scaled by the least ratio of cost to worth of all orders that can serve it, none
is worth more than it costs.

All scenarios count by their chance here: a cost that weighs the dear ones more is no less.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.planning.entries import Chosen
from polysilicon.planning.master import Master
from polysilicon.planning.problem import Numbers, Problem
from polysilicon.planning.supply import Ways
from polysilicon.planning.value import cut


def floor(master: Master) -> float:
    """Return the bound; -inf where some column earns without end, as far as is seen here."""
    problem, ways = master.problem, master.book.ways
    if any(row.kind == "cover" for row in ways.rows):
        return -np.inf
    chosen = master.entries.of(np.arange(len(master.price)))
    usd = master.fixed + master.own @ problem.probability
    # Prices are the same in all hours of a month, so an hour stands for all.
    hour, found = _hour(master), [_least(master, usd, np.zeros_like(usd))]
    for ceiling in (ways.ceiling, _dearest(ways)):
        prices = np.moveaxis(ceiling, 0, 2)[:, :, None, :]
        saved = _saved(master, chosen, cut(hour, ways, prices).value)
        prices = prices * _scale(master, chosen, usd, saved)[None, :, None, :]
        made = cut(hour, ways, prices)
        base = float(problem.probability @ (made.base * problem.money).sum(axis=1))
        found.append(base + _least(master, usd, _saved(master, chosen, made.value)))
    return max(found)


def _dearest(ways: Ways) -> Numbers:
    """Return prices at which no limited market earns a rent either, shape (K, S, T)."""
    found = ways.ceiling.copy()
    limited = np.flatnonzero((ways.limit > 0).any(axis=(1, 2)))
    for column in np.flatnonzero(np.isin(ways.first, limited)).tolist():
        least = found[ways.cls[column]]
        np.minimum(least, ways.cost[column], out=least)
    return found


def _hour(master: Master) -> Problem:
    """Return the problem with the mean hour of each month."""
    problem = master.problem
    hours = problem.hours.sum(axis=1, keepdims=True)
    total = np.einsum("sthk,th->stk", problem.demand, problem.hours)
    demand = total / np.maximum(hours, 1e-300)
    return msgspec.structs.replace(problem, hours=hours, demand=demand[:, :, None, :])


def _saved(master: Master, chosen: Chosen, value: Numbers) -> Numbers:
    """Return what one unit of each column saves, shape (N,).

    Args:
        master: of the columns.
        chosen: all of them.
        value: of each row in each month, shape (S, T, E).
    """
    problem = master.problem
    worth = value * problem.money[:, None]
    running = np.concatenate([np.zeros_like(worth[:, :1]), np.cumsum(worth, axis=1)], axis=1)
    each = chosen.cut(running).sum(axis=1)
    return np.asarray(problem.probability @ each)


def _scale(master: Master, chosen: Chosen, usd: Numbers, saved: Numbers) -> Numbers:
    """Return by what prices are scaled so that no order is worth more than it costs, (T, K)."""
    ways, (_, t, _, k) = master.book.ways, master.problem.shape
    serves = np.zeros((len(ways.rows), k), dtype=bool)
    served = np.flatnonzero(ways.cls >= 0)
    serves[ways.first[served], ways.cls[served]] = True
    free = (master.high > master.low) & (saved > 0)
    ratio = np.ones(len(usd))
    ratio[free] = np.clip(usd[free] / saved[free], 0.0, 1.0)
    found, uses = np.ones((t, k)), chosen.uses
    for at in np.flatnonzero((ratio[uses.column] < 1) & (uses.amount > 0)).tolist():
        months = found[uses.first[at] : uses.last[at]]
        less = np.where(serves[uses.place[at]], ratio[uses.column[at]], 1.0)
        np.minimum(months, less, out=months)
    return found


def _least(master: Master, usd: Numbers, saved: Numbers) -> float:
    """Return the least that all columns cost together, each at its cheaper end.

    Args:
        master: of the columns.
        usd: what a unit of each costs.
        saved: what it saves.
    """
    # What is left of an order that just pays is rounding, of that order's own cost.
    usd = np.where(np.abs(usd - saved) < 1e-9 * np.abs(usd), 0.0, usd - saved)
    end = np.where(usd >= 0, master.low, master.high)
    return float(np.multiply(usd, end, out=np.zeros_like(usd), where=usd != 0).sum())
