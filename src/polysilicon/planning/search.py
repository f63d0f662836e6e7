"""The cheapest plan, with a proof of how much cheaper any other could be.

Benders' decomposition: the master program decides contracts, every hour is dispatched exactly for
what it decided, and the prices of the hours give the master new lower bounds (cuts). The cost of a
dispatched plan is an upper bound. Cuts come first from blocks of hours, whose averaged demand
gives true if weaker bounds (Jensen), then from all hours.

Sources: J. F. Benders, Numerische Mathematik 4, 1962; multi-cut: J. R. Birge and F. V. Louveaux,
EJOR 34, 1988; in-out stabilisation: W. Ben-Ameur and J. Neto, Networks 49, 2007; CVaR: R. T.
Rockafellar and S. Uryasev, Journal of Risk 2(3), 2000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from msgspec.structs import replace

from polysilicon.errors import PolysiliconError
from polysilicon.planning.answer import Answer, Progress, Warm, gap_of
from polysilicon.planning.blocks import BLOCKS, blocks_of
from polysilicon.planning.clock import Clock, OutOfTime
from polysilicon.planning.collect import Certificate, collect
from polysilicon.planning.columns import Book
from polysilicon.planning.floor import floor
from polysilicon.planning.hours import Dispatch, Hours
from polysilicon.planning.limits import Limits
from polysilicon.planning.master import Master
from polysilicon.planning.months import Months
from polysilicon.planning.problem import Numbers, Problem
from polysilicon.planning.risk import risky
from polysilicon.planning.rows import usual_cost
from polysilicon.planning.supply import UNMET, ways
from polysilicon.planning.value import cut
from polysilicon.planning.whole import nearly, whole_units

_INSIDE = 0.5
"""Weight of the best plan so far in the point that is cut."""

LATE = "no plan that serves all demand was found in time; allow more"

SERVED = 1e-6
"""Demand that must be served is, but for this share of a month's mean."""

_SEVERITIES = (1.0, 1e2, 1e4)
"""Factors on the penalty of work that must be served: a whole machine for little of it is dear."""

_SMALLEST = 1e-9

_MOST_COARSE = 60
"""Rounds with blocks of hours at the most."""

_KEPT = 5
"""Rounds of prices that a warm start gets."""

_GRACE_S = 2.0
"""Seconds after time is up to find a plan where there is none yet."""

Status = Literal["optimal", "time", "stopped"]


class Search:
    """One solve: master, hours, bounds.

    Args:
        problem: what is planned.
        warm: what an earlier solve left.
        clock: says when to end.
        severity: factor on the penalty of work that must be served.
    """

    def __init__(
        self, problem: Problem, warm: Warm | None, clock: Clock, severity: float = 1.0
    ) -> None:
        self.clock = clock
        self.problem, self.ways = problem, ways(problem, severity)
        self.book = Book(problem, self.ways)
        self.limits = Limits(problem, self.ways, self.book)
        self.hours = Hours(problem, self.ways, clock)
        self.months = Months(self.hours)
        every = any(column.whole for column in self.book.columns)
        self.master = Master(
            problem,
            self.book,
            self.limits.broken,
            every=every,
            money=usual_cost(problem, self.ways),
            clock=clock,
        )
        self.cost, self.bound = np.inf, -np.inf
        self.best: Numbers | None = None
        self._final: tuple[Numbers, Dispatch, Numbers] | None = None
        self.centre: Numbers | None = None
        self.weight, self.round = 1.0, 0
        self.coarse = self.integer = False
        self.whole = bool(self.master.whole.any())
        self.prices: list[Numbers] = []
        self._first: Numbers | None = None
        self._known = [] if warm is None else self._fitting(warm)
        self._blocks = blocks_of(problem)

    def _fitting(self, warm: Warm) -> list[Numbers]:
        """Take over what is of use here from an earlier solve."""
        some = [self.book.orders[at] for at in warm.columns if at in self.book.orders]
        self.master.include(np.setdiff1d(np.array(some, dtype=np.int64), self.master.inside))
        first = np.where(np.isfinite(self.master.low), self.master.low, 0.0)
        for key, units in warm.units.items():
            if key in self.book.orders:
                at = self.book.orders[key]
                first[at] = min(units, self.master.high[at])
        if not self.book.ties and not self.limits.broken(first):
            self._first = first
        return [one for one in warm.prices if one.shape == self.problem.demand.shape]

    def capacity(self, x: Numbers) -> Numbers:
        """Return the capacity of each row in each cell, shape (E, S, T)."""
        found = self.ways.limit.copy()
        s = self.problem.shape[0]
        recourse = any(column.scenario >= 0 for column in self.book.columns)
        for scenario in range(s if recourse else 1):
            units = np.maximum(self.limits.totals("uses", x, scenario if recourse else -1), 0.0)
            some = slice(scenario, scenario + 1) if recourse else slice(None)
            found[:, some] += self.ways.factor[:, some] * units.T[:, None, :]
        # Rounding errors are no capacity.
        scale = found.max(axis=(1, 2), keepdims=True)
        found[found < 1e-12 * np.maximum(scale, 1e-300)] = 0.0
        return found

    def _dispatch(self, x: Numbers, *, blocks: bool) -> tuple[Numbers, Dispatch]:
        """Serve all hours, or blocks of hours; return capacity and what serves what."""
        demand, weight = self.problem.demand, self.problem.hours[None]
        if blocks:
            demand, weight = self._blocks[0], self._blocks[1]
        capacity = self.capacity(x)
        return capacity, self.months.dispatch(capacity, demand, weight)

    def evaluate(self, x: Numbers, *, blocks: bool = False, plan: bool = True) -> float:
        """Dispatch a plan, give the master its cuts; return what the plan costs.

        The cost of a plan by blocks is a lower bound on its cost, and is not kept.

        Args:
            x: values of all columns.
            blocks: whether to dispatch blocks of hours.
            plan: whether they keep all rules; else they only give cuts.
        """
        capacity, found = self._dispatch(x, blocks=blocks)
        prices = found.prices
        if blocks:
            at = self._blocks[2][..., None]
            prices = np.take_along_axis(prices, at, axis=2)
            if self.ways.second.max(initial=-1) >= 0:
                spread = np.take_along_axis(found.row_prices, at[..., 0][None], axis=3)
                found = replace(found, prices=prices, row_prices=spread)
        value = self._cut(prices, found)
        usd = found.usd * self.problem.money
        scenario = usd.sum(axis=1) + x @ self.master.own
        cost = float(self.master.fixed @ x) + risky(self.problem, scenario)
        if plan and not blocks and cost < self.cost:
            self.cost, self.best, self._final = cost, x, (capacity, found, value)
        return cost

    def _cut(self, prices: Numbers, found: Dispatch | None) -> Numbers:
        """Give the master the cut of some prices; return what a unit of each row saves."""
        made = cut(self.problem, self.ways, prices, found)
        worth = self.problem.money
        value = made.value
        made = replace(made, base=made.base * worth, value=value * worth[:, None])
        self.master.add_cut(made)
        self.prices = [*self.prices[-_KEPT + 1 :], made.prices]
        return value

    def run(self, gap: float, progress: Callable[[Progress], None] | None) -> Status:
        """Search until the gap is closed, time is up, or somebody says stop."""
        half_s = self.clock.left_s / 2
        try:
            self._begin()
            while True:
                self.round += 1
                before = (self.cost, self.bound)
                reached = self._step(gap)
                if progress is not None:
                    progress(self._progress())
                if not self.coarse and reached <= gap and (self.integer or not self.whole):
                    if gap <= _SMALLEST or self.unserved() <= SERVED:
                        return "optimal"
                    # So little is not served that its penalty is lost in the gap.
                    gap = max(gap / 30, _SMALLEST)
                self._turn(gap, reached, late=self.clock.seconds > half_s)
                self.clock.check()
                moved = (self.cost, self.bound) != before
                self.weight = 1 - _INSIDE if moved else min(1.0, self.weight + 0.25)
        except OutOfTime:
            status: Status = "stopped" if self.clock.stopped else "time"
        self._last(gap)
        return status

    def _begin(self) -> None:
        """Make the first cuts: from an earlier solve, or from nothing bought."""
        for prices in self._known:
            self._cut(prices, None)
        if self._known and self._first is not None:
            self.evaluate(self._first)
            self.centre = self._first
        if not self._known:
            self.coarse = self.problem.shape[2] > BLOCKS
            nothing = np.where(np.isfinite(self.master.low), self.master.low, 0.0)
            self.evaluate(nothing, blocks=self.coarse, plan=self._allowed(nothing))

    def _allowed(self, x: Numbers) -> bool:
        """Tell whether values keep all rules; to buy nothing may break a promise that is held."""
        for tie in self.book.ties:
            total = sum(x[column] * factor for column, factor in tie.terms)
            if not tie.low - SERVED <= total <= tie.high + SERVED:
                return False
        return not self.limits.broken(x)

    def _step(self, gap: float) -> float:
        """Solve the master, dispatch what it decided; return the gap."""
        if self.integer:
            x, bound = whole_units(self.master, gap / 4, self.clock)
        else:
            x, bound = self.master.solve()
        self.bound = max(self.bound, bound)
        if not self.integer and self.centre is not None:
            x = (1 - self.weight) * self.centre + self.weight * x
        cost = self.evaluate(x, blocks=self.coarse)
        if self.coarse:
            self.centre = x
            return gap_of(cost, self.bound)
        self.centre = self.best
        return gap_of(self.cost, self.bound)

    def _turn(self, gap: float, reached: float, *, late: bool) -> None:
        """Go on from blocks to hours, and from parts of units to whole ones."""
        enough = reached <= max(gap / 2, 1e-9)
        if self.coarse:
            self.coarse = not (enough or late or self.round > _MOST_COARSE)
        elif self.whole and not self.integer and enough:
            self.integer, self.cost, self.best = True, np.inf, None

    def _progress(self) -> Progress:
        return Progress(
            round=self.round,
            seconds=self.clock.seconds,
            cost_usd=self.cost,
            lower_bound_usd=self.bound,
        )

    def _last(self, gap: float) -> None:
        """See to it that there is an answer, in whole units, and a bound.

        Raises:
            PolysiliconError: even what is found at once takes too long.
        """
        grace = Clock(_GRACE_S)
        if self.best is None or (self.whole and not self.integer):
            self.cost, self.best = np.inf, None
            self._first_plan(gap, grace)
            self.bound = max(self.bound, floor(self.master))
        if not np.isfinite(self.bound):
            self.clock.extend(grace.left_s)
            try:
                self.bound = self.master.solve()[1]
            except OutOfTime:
                self.bound = floor(self.master)
            if not np.isfinite(self.bound):
                raise PolysiliconError(LATE)
        self.clock.extend(np.inf)

    def _first_plan(self, gap: float, grace: Clock) -> None:
        """Find a plan at once; the second attempt, which has cuts to go by, if there is time."""
        x = None if self.whole or not np.isfinite(self.bound) else self.centre
        while self.best is None or not grace.over():
            again = self.best is not None
            self.clock.extend(grace.left_s)
            x = self._at_once(gap) if x is None else x
            self.clock.extend(np.inf)
            if again and grace.over():
                return
            self.evaluate(x)
            if again and self.unserved() <= SERVED:
                return
            x = None

    def _at_once(self, gap: float) -> Numbers:
        """Return what the master decides with the cuts there are, or what it decided last."""
        x = self.centre
        try:
            x, bound = self.master.solve()
            self.bound = max(self.bound, bound)
        except OutOfTime:
            x = self.master.feasible if x is None else x
        if self.whole:
            x = np.zeros_like(self.master.low) if x is None else x
            return nearly(self.master, x, gap, max(self.clock.left_s / 2, 0.5))
        if x is None:
            raise PolysiliconError(LATE)
        return x

    def final(self) -> tuple[Numbers, Dispatch, Numbers]:
        """Return the best plan's capacity, its dispatch, and what a unit of each row saves."""
        assert self._final is not None
        return self._final

    def shortfall(self) -> Numbers:
        """Return demand that is not served, work per second on average of a month; (T, K).

        It is that of the worst scenario.
        """
        _, found, _ = self.final()
        lost = np.where(self.ways.ceiling_kind == UNMET, found.beyond, 0.0)
        return np.asarray(lost.max(axis=1).T / self.problem.month_hours[:, None])

    def unserved(self) -> float:
        """Return the share of demand that must be served and is not."""
        must = ~np.isfinite(self.problem.unmet_usd_per_h)
        if not must.any():
            return 0.0
        asked = np.maximum(self.problem.demand.mean(axis=(0, 1, 2)), 1e-300)
        return float((self.shortfall() / asked)[:, must].max())

    def answer(self, status: Status) -> Answer:
        """Return the answer with all that is told about it."""
        assert self.best is not None
        capacity, found, value = self.final()
        return collect(
            self.problem,
            self.ways,
            self.book,
            self.master,
            Certificate(
                x=self.best,
                capacity=capacity,
                dispatch=found,
                value=value,
                bound=min(self.bound, self.cost),
                status=status,
                seconds=self.clock.seconds,
                rounds=self.round,
                prices=tuple(self.prices),
            ),
        )


def searched(
    problem: Problem,
    warm: Warm | None,
    clock: Clock,
    gap: float,
    progress: Callable[[Progress], None] | None,
) -> tuple[Search, Status]:
    """Search; again with a higher penalty where whole units leave work that must be served.

    Raises:
        InfeasibleMaster: no orders keep all rules.
        PolysiliconError: no plan was found in time.
    """
    for severity in _SEVERITIES:
        search = Search(problem, warm, clock, severity)
        status = search.run(gap, progress)
        if search.unserved() <= SERVED or status != "optimal" or not search.whole:
            break
    clock.extend(np.inf)  # what is told of the plan is never cut short
    return search, status
