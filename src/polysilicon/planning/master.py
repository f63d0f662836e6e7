"""The master program: orders, rights and books, with cuts that stand for all hours.

    minimise    Σ fixed·x + (1 - λ) Σ p_s C_s + λ (η + Σ p_s ξ_s / tail)
    subject to  C_s = own costs of the scenario + Σ segments θ_sg
                ξ_s ≥ C_s - η
                θ_sg + Σ value·x ≥ base                       (cuts)
                units under contract ≤ supply, caps           (added where they are broken)
                what is left after a loss serves what must be (added where it is broken)
                ties of the book

λ is the risk weight, the tail is 1 - alpha. Segments are runs of months. Columns that pay in no
cut are left out and priced between solves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import highspy
import numpy as np

from polysilicon.planning.clock import Clock, OutOfTime
from polysilicon.planning.columns import Book
from polysilicon.planning.entries import Entries
from polysilicon.planning.linear import TOLERANCE, InfeasibleMaster, new, run
from polysilicon.planning.problem import INF, Numbers, Problem
from polysilicon.planning.rows import Limit, sizes, terms
from polysilicon.planning.supply import Codes
from polysilicon.planning.value import Cut

_FAR = 1e6
"""More than any cost, in units of `Master.money`: free columns mislead the simplex method."""

_MOST_THETAS = 240
_MOST_ROUNDS = 1000
_IDLE_ROUNDS = 8
"""A cut that has not been tight for so many rounds is dropped."""


class Master:
    """The linear (or whole-number) program over columns that are let in.

    Args:
        problem: what is planned.
        book: columns and ties.
        limits: gives the limits that an answer breaks; called with x, shape (N,).
        every: whether to let all columns in at once.
        money: a dollar amount about as large as the answer; all numbers are scaled with it.
        clock: says when to give up.

    `feasible` is the last answer that kept all limits, even if it is not the best.
    """

    def __init__(
        self,
        problem: Problem,
        book: Book,
        limits: Callable[[Numbers], list[Limit]],
        *,
        every: bool,
        money: float,
        clock: Clock,
    ) -> None:
        self.clock = clock
        self.feasible: Numbers | None = None
        self.problem, self.book, self.limits, self.money = problem, book, limits, money
        s, t = problem.shape[:2]
        count = max(1, min(t, _MOST_THETAS // s))
        self.edges = np.unique(np.round(np.linspace(0, t, count + 1)).astype(np.int64))
        self.segments = len(self.edges) - 1
        columns = book.columns
        risk = problem.risk_weight
        self.scenario = np.array([column.scenario for column in columns], dtype=np.int64)
        self.fixed = np.array(
            [0.0 if c.usd is None or c.scenario >= 0 else c.usd @ problem.money for c in columns]
        )
        self.own = np.zeros((len(columns), s))
        for at, column in enumerate(columns):
            if column.own is not None:
                mine = (self.scenario[at] < 0) | (np.arange(s) == self.scenario[at])
                self.own[at, mine] += column.own[mine]
            if column.usd is not None and column.scenario >= 0:
                self.own[at, column.scenario] += column.usd @ problem.money
        self.price = self.fixed + (1 - risk) * self.own @ problem.probability
        self.size = sizes(problem, book, money)
        self.low = np.array([column.low for column in columns])
        self.high = np.array([column.high for column in columns])
        self.whole = np.array([column.whole for column in columns], dtype=bool)
        self.entries = Entries(book, self.scenario, self.edges)
        self.inside = np.zeros(0, dtype=np.int64)
        self._chosen = self.entries.of(self.inside)
        self.cuts: list[tuple[Numbers, Numbers]] = []
        self._tight: list[tuple[Any, float]] = []
        self._rows: list[tuple[str, Any, Any, float]] = []
        self._idle = np.zeros(0, dtype=np.int64)
        self._start()
        some = np.arange(len(columns)) if every else np.flatnonzero(~book.plain)
        self.include(some)
        self._ties()

    # ---- building ---------------------------------------------------------------------------

    def _start(self) -> None:
        """Open the solver with θ, η and ξ."""
        problem = self.problem
        s, g, risk = problem.shape[0], self.segments, problem.risk_weight
        self.highs = new()
        theta = np.repeat((1 - risk) * problem.probability, g)
        tail = risk * problem.probability / (1 - problem.cvar_alpha)
        costs = np.concatenate([theta, [risk], tail])
        # Months cost nothing less than 0, but where dollar contracts pay for reservations.
        least = -_FAR if any(row.kind == "cover" for row in self.book.ways.rows) else 0.0
        low = np.concatenate([np.full(s * g, least), [-_FAR if risk > 0 else 0.0], np.zeros(s)])
        self.base = len(costs)
        empty = np.zeros(0)
        none = np.zeros(len(costs), dtype=np.int32)
        high = np.full(len(costs), INF)
        high[s * g] = _FAR if risk > 0 else 0.0
        self.highs.addCols(len(costs), costs, low, high, 0, none, empty.astype(np.int32), empty)
        if risk > 0:
            for one in range(s):
                self._add("risk", one, [], low=0.0, high=INF)

    def _head(self, kind: str, one: Any) -> tuple[Codes, Numbers]:
        """Return a row's entries in θ, η and ξ."""
        s, g = self.problem.shape[0], self.segments
        if kind == "risk":
            thetas = one * g + np.arange(g)
            return np.append(thetas, [s * g, s * g + 1 + one]), np.append(-np.ones(g), [1.0, 1.0])
        if kind == "cut":
            return np.array([one[1] * g + one[2]]), np.ones(1)
        return np.zeros(0, dtype=np.int64), np.zeros(0)

    def _entries(self, some: Codes) -> list[tuple[int, Numbers]]:
        """Return the entries of some columns in all rows that there are, row by row."""
        rounds: dict[int, Numbers] = {}
        found, chosen = [], self.entries.of(some)
        for row, (kind, one, extra, scale) in enumerate(self._rows):
            if kind == "cut":
                if one[0] not in rounds:
                    rounds[one[0]] = chosen.cut(self.cuts[one[0]][1])
                found.append((row, rounds[one[0]][one[1], one[2]] / self.money))
            elif kind == "risk":
                found.append((row, -self.own[some, one] / self.money))
            elif kind == "limit":
                found.append((row, chosen.limit(extra) * scale))
            elif kind == "tie":
                found.append((row, terms(extra, some) * scale))
        return found

    def include(self, some: Codes) -> None:
        """Let columns in."""
        if not len(some):
            return
        entries = self._entries(some)
        size = self.size[some]
        dense = np.array([values for _, values in entries]).reshape(len(entries), len(some)).T
        dense = dense * size[:, None]
        at, rows = np.nonzero(dense)
        starts = np.searchsorted(at, np.arange(len(some))).astype(np.int32)
        places = np.array([row for row, _ in entries], dtype=np.int32)
        self.highs.addCols(
            len(some),
            self.price[some] * size / self.money,
            self.low[some] / size,
            self.high[some] / size,
            len(at),
            starts,
            places[rows] if len(at) else np.zeros(0, dtype=np.int32),
            dense[at, rows],
        )
        self.inside = np.concatenate([self.inside, some])
        self._chosen = self.entries.of(self.inside)

    def _add(
        self, kind: str, one: Any, values: Any, *, low: float, high: float, extra: Any = None
    ) -> None:
        """Add one row; `values` are of the columns that are in."""
        head, factors = self._head(kind, one)
        dense = np.asarray(values, dtype=np.float64)
        if len(dense):
            dense = dense * self.size[self.inside]
        scale = 1.0 / self.money
        if kind == "tie":
            weights = terms(extra, every := np.arange(len(self.size))) * self.size[every]
            scale = 1.0 / max(float(np.abs(weights).max(initial=0.0)), 1e-12)
        elif kind == "limit":
            ends = [abs(end) for end in (extra.low, extra.high) if np.isfinite(end)]
            scale = 1.0 / max(ends) if max(ends) > 1e-9 else 1.0
        dense, low, high = dense * scale, low * scale, high * scale
        there = np.flatnonzero(dense)
        places = np.concatenate([head, self.base + there]).astype(np.int32)
        self.highs.addRow(low, high, len(places), places, np.concatenate([factors, dense[there]]))
        self._rows.append((kind, one, extra, scale))
        self._idle = np.append(self._idle, 0)

    def _ties(self) -> None:
        for number, tie in enumerate(self.book.ties):
            values = terms(tie, self.inside)
            self._add("tie", number, values, low=tie.low, high=tie.high, extra=tie)

    def add_cut(self, cut: Cut) -> None:
        """Add the cuts of one round."""
        running = np.concatenate(
            [np.zeros_like(cut.value[:, :1]), np.cumsum(cut.value, axis=1)], axis=1
        )
        base = np.add.reduceat(cut.base, self.edges[:-1], axis=1)
        self.cuts.append((base, running))
        values = self._chosen.cut(running)
        for scenario in range(len(base)):
            for segment in range(self.segments):
                self._add(
                    "cut",
                    (len(self.cuts) - 1, scenario, segment),
                    values[scenario, segment],
                    low=float(base[scenario, segment]),
                    high=INF,
                )

    # ---- solving ----------------------------------------------------------------------------

    def solve(self) -> tuple[Numbers, float]:
        """Solve with parts of units; return x, shape (N,), and the objective: a true bound.

        Raises:
            InfeasibleMaster: no plan keeps all rules.
            OutOfTime: the clock said so, or it took too many rounds.
        """
        for _ in range(_MOST_ROUNDS):
            try:
                run(self.highs, self.clock)
            except InfeasibleMaster:
                mending = self._mending()
                if not len(mending):
                    raise
                self.include(mending)
                continue
            found = np.asarray(self.highs.getSolution().col_value)
            x = self.values(found)
            broken = self.limits(x)
            for limit in broken:
                self.add_limit(limit)
            if broken:
                continue
            self.feasible = x
            better = self._better()
            if not len(better):
                break
            self.include(better)
        else:  # what was let in last is not solved for, so nothing found is a bound
            raise OutOfTime(f"not solved in {_MOST_ROUNDS} rounds")
        # Deleting rows makes the solver forget what it found.
        bound = self.money * float(self.highs.getInfo().objective_function_value)
        self._keep_tight()
        self._forget()
        return x, bound

    def add_limit(self, limit: Limit) -> None:
        """Add a limit that an answer broke."""
        values = self._chosen.limit(limit)
        self._add("limit", None, values, low=limit.low, high=limit.high, extra=limit)

    def values(self, found: Numbers) -> Numbers:
        """Return the values of all columns from those of the solver."""
        x = np.zeros(len(self.book.columns))
        x[self.inside] = found[self.base :] * self.size[self.inside]
        return np.clip(x, self.low, self.high)

    def _keep_tight(self) -> None:
        duals = np.asarray(self.highs.getSolution().row_dual)
        self._tight = [
            (extra, float(dual) * scale * self.money)
            for dual, (kind, _, extra, scale) in zip(duals, self._rows, strict=True)
            if kind in ("limit", "tie") and extra.kind and abs(dual) > TOLERANCE
        ]

    def _better(self) -> Codes:
        """Return columns outside whose reduced cost is below 0, the best first."""
        outside = np.setdiff1d(np.flatnonzero(self.book.plain), self.inside)
        if not len(outside):
            return outside
        reduced = self.reduced(outside)
        scaled = reduced * self.size[outside] / self.money
        worth = scaled < -TOLERANCE
        order = np.argsort(scaled[worth])
        return outside[worth][order[: max(50, len(self.inside))]]

    def _mending(self) -> Codes:
        """Return columns outside that help to keep the rules there are, the cheapest first."""
        outside = np.setdiff1d(np.flatnonzero(self.book.plain), self.inside)
        found, chosen = [outside[:0]], self.entries.of(outside)
        for kind, _, extra, _ in self._rows:
            if kind == "limit" and np.isfinite(extra.low):
                helps = chosen.limit(extra)
            elif kind == "tie" and extra.kind == "vendor":
                helps = -terms(extra, outside)
            else:
                continue
            some = np.flatnonzero(helps > 0)
            order = np.argsort(self.price[outside[some]] / helps[some])
            found.append(outside[some[order[:20]]])
        return np.unique(np.concatenate(found))

    def reduced(self, some: Codes) -> Numbers:
        """Return the reduced costs of columns."""
        s, t = self.problem.shape[:2]
        duals = np.asarray(self.highs.getSolution().row_dual)
        found, chosen = self.price[some].copy(), self.entries.of(some)
        value = np.zeros((t + 1, len(self.book.ways.rows)))
        months = np.searchsorted(self.edges, np.arange(t), side="right") - 1
        weights: dict[int, Numbers] = {}
        for dual, (kind, one, extra, scale) in zip(duals, self._rows, strict=True):
            if dual == 0.0:
                continue
            price = dual * scale * self.money
            if kind == "cut":
                weights.setdefault(one[0], np.zeros((s, self.segments)))[one[1], one[2]] = price
            elif kind == "risk":
                found += price * self.own[some, one]
            elif kind == "limit":
                found -= price * chosen.limit(extra)
            elif kind == "tie" and extra.kind == "vendor":
                found -= price * terms(extra, some)
        for number, weight in weights.items():
            steps = np.diff(self.cuts[number][1], axis=1)
            value[1:] += np.einsum("ste,st->te", steps, weight[:, months])
        running = np.cumsum(value, axis=0)
        uses = chosen.uses
        each = running[uses.last, uses.place] - running[uses.first, uses.place]
        return np.asarray(
            found - np.bincount(uses.column, weights=each * uses.amount, minlength=len(some))
        )

    def _forget(self) -> None:
        """Drop cuts that have not been tight for long."""
        status = self.highs.getBasis().row_status
        basic = np.array([one == highspy.HighsBasisStatus.kBasic for one in status], dtype=bool)
        cuts = np.array([kind == "cut" for kind, *_ in self._rows], dtype=bool)
        self._idle = np.where(basic & cuts, self._idle + 1, 0)
        gone = self._idle > _IDLE_ROUNDS
        if gone.sum() < 100:
            return
        places = np.flatnonzero(gone).astype(np.int32)
        self.highs.deleteRows(len(places), places)
        self._rows = [row for row, lost in zip(self._rows, gone, strict=True) if not lost]
        self._idle = self._idle[~gone]
        kept = {one[0] for kind, one, *_ in self._rows if kind == "cut"}
        for number in range(len(self.cuts)):
            if number not in kept:
                self.cuts[number] = (np.zeros(0), np.zeros(0))

    def tight(self) -> list[tuple[Any, float]]:
        """Return limits and named ties that bind in the last solve, with their duals in dollars."""
        return self._tight
