"""Limits that a plan's units must keep, given to the master program where they are broken.

Supply and caps are checked month by month. For N-1 the units that are left after each loss must
serve the demand that has to survive; where they do not, the duals of that little program give the
inequality that says so (a feasibility cut, in the same form as a value of capacity).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from polysilicon.planning.columns import Book
from polysilicon.planning.problem import Cap, Numbers, Problem
from polysilicon.planning.rows import Limit
from polysilicon.planning.supply import Codes, Ways

_CLOSE = 1e-7


class Limits:
    """Finds the limits that values of columns break.

    Args:
        problem: with supply, caps and redundancy.
        ways: rows of the hourly program.
        book: columns.
    """

    def __init__(self, problem: Problem, ways: Ways, book: Book) -> None:
        self.problem, self.ways = problem, ways
        columns = range(len(book.columns))
        self._uses = book.flat("uses", columns)
        self._units = book.flat("units", columns)
        self._owner = np.array([one.scenario for one in book.columns], dtype=np.int64)
        self._recourse = bool((self._owner[self._units[0]] >= 0).any())
        supplies = [
            ("supply", Cap(name=one.name, options=(at,), weights=(1.0,), limit=one.supply))
            for at, one in enumerate(problem.options)
            if np.isfinite(problem.by_month(one.supply)).any()
        ]
        self._caps = [*supplies, *(("cap", cap) for cap in problem.caps)]
        self._groups = [
            (rule, name, self._left(rule.by, name))
            for rule in problem.redundancy
            for name in sorted({getattr(option, rule.by) for option in problem.options})
        ]
        self._work = self._works()

    def _left(self, by: str, name: str) -> Codes:
        """Return rows of units that a loss leaves."""
        found = []
        for at, row in enumerate(self.ways.rows):
            index = row.option
            if row.kind == "flexible":
                contract = self.problem.contracts[row.contract]
                index = contract.option  # type: ignore[union-attr]
            elif row.kind not in ("committed", "reserved"):
                continue
            if getattr(self.problem.options[index], by) != name:
                found.append(at)
        return np.array(found, dtype=np.int64)

    def _works(self) -> Numbers:
        """Return the work per second of each class that a unit of each row does, shape (E, K)."""
        found = np.zeros((len(self.ways.rows), self.problem.shape[3]))
        for column, first in enumerate(self.ways.first):
            cls = int(self.ways.cls[column])
            if cls >= 0 and self.ways.second[column] < 0:
                use = float(self.ways.use[column].max())
                found[first, cls] = max(found[first, cls], 1.0 / use)
        return found

    def totals(self, which: str, x: Numbers, scenario: int) -> Numbers:
        """Return uses by row, or units by option, in each month; shape (T, E) or (T, R)."""
        column, place, first, last, amount = self._uses if which == "uses" else self._units
        owner = self._owner[column]
        on = (owner < 0) | (owner == scenario)
        months = self.problem.shape[1]
        count = len(self.ways.rows) if which == "uses" else len(self.problem.options)
        steps = np.zeros((months + 1, count))
        added = x[column[on]] * amount[on]
        np.add.at(steps, (first[on], place[on]), added)
        np.add.at(steps, (last[on], place[on]), -added)
        return np.cumsum(steps, axis=0)[:months]

    def broken(self, x: Numbers) -> list[Limit]:
        """Return the limits that are broken."""
        found: list[Limit] = []
        for scenario in range(self.problem.shape[0]) if self._recourse else (-1,):
            found += self._over(x, scenario)
            if self._groups:
                found += self._lost(x, scenario)
        return found

    def _over(self, x: Numbers, scenario: int) -> list[Limit]:
        """Return supplies and caps that are exceeded."""
        if not self._caps:
            return []
        units = self.totals("units", x, scenario)
        found = []
        for kind, cap in self._caps:
            weights = np.zeros(len(self.problem.options))
            np.add.at(weights, list(cap.options), cap.weights)
            limit = self.problem.by_month(cap.limit)
            over = units @ weights > limit + _CLOSE * np.maximum(1.0, np.abs(limit))
            found += [
                Limit(
                    kind=kind,
                    subject=cap.name,
                    month=int(month),
                    scenario=scenario,
                    units=weights,
                    high=float(limit[month]),
                )
                for month in np.flatnonzero(over)
            ]
        return found

    def _lost(self, x: Numbers, scenario: int) -> list[Limit]:
        """Return what is lacking after each loss."""
        uses = self.totals("uses", x, scenario)
        factor = self.ways.factor.min(axis=1) if scenario < 0 else self.ways.factor[:, scenario]
        found = []
        for rule, name, left in self._groups:
            for month in range(self.problem.shape[1]):
                need = rule.demand[month]
                if not need.any():
                    continue
                prices = self._prices(uses[month, left] * factor[left, month], left, need)
                if prices is None:
                    continue
                weights = np.zeros(len(self.ways.rows))
                weights[left] = (self._work[left] * prices).max(axis=1) * factor[left, month]
                limit = Limit(
                    kind="redundancy",
                    subject=f"{rule.by} {name}",
                    month=month,
                    scenario=scenario,
                    uses=weights,
                    low=float(prices @ need),
                )
                found.append(limit)
        return found

    def _prices(self, capacity: Numbers, left: Codes, need: Numbers) -> Numbers | None:
        """Return prices at which capacity is worth less than what must be served; None if enough.

        Args:
            capacity: of each row that is left, shape (A,).
            left: rows.
            need: shape (K,).
        """
        work, classes = self._work[left], np.flatnonzero(need > 0)
        if len(classes) == 1:
            at = classes[0]
            served = float(work[:, at] @ capacity)
            if served >= need[at] * (1 - _CLOSE):
                return None
            prices = np.zeros(len(need))
            prices[at] = 1.0 / need[at]
            return prices
        # Dual of: least share of the demand unserved. Prices π and v of capacity:
        # max π·need - v·capacity, π·need ≤ 1 by class, v ≥ work·π.
        a, k = len(left), len(classes)
        rows = []
        for row in range(a):
            for place, at in enumerate(classes):
                if work[row, at] > 0:
                    line = np.zeros(k + a)
                    line[place], line[k + row] = work[row, at] / need[at], -1.0
                    rows.append(line)
        costs = np.concatenate([-np.ones(k), capacity])
        bounds = [(0.0, 1.0)] * k + [(0.0, None)] * a
        found = linprog(
            costs,
            A_ub=np.array(rows) if rows else None,
            b_ub=np.zeros(len(rows)) if rows else None,
            bounds=bounds,
            method="highs-ds",
        )
        assert found.status == 0, found.message
        if -found.fun <= _CLOSE:
            return None
        prices = np.zeros(len(need))
        prices[classes] = found.x[:k] / need[classes]
        return prices
