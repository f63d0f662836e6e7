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

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from polysilicon.planning import months
from polysilicon.planning.answer import Answer, Progress, Warm, gap_of
from polysilicon.planning.check import check
from polysilicon.planning.collect import Certificate, collect
from polysilicon.planning.columns import Book
from polysilicon.planning.conflict import refusal
from polysilicon.planning.hours import Dispatch, Hours
from polysilicon.planning.limits import Limits
from polysilicon.planning.linear import InfeasibleMaster
from polysilicon.planning.master import Master
from polysilicon.planning.problem import Numbers, Problem, UnitContract
from polysilicon.planning.risk import risky
from polysilicon.planning.supply import UNMET, ways
from polysilicon.planning.value import cut

BLOCKS = 3
_INSIDE = 0.5
"""Weight of the best plan so far in the point that is cut."""

SERVED = 1e-6
"""Demand that must be served is, but for this share of a month's mean."""

_SMALLEST = 1e-9

_MOST_COARSE = 60
"""Rounds with blocks of hours at the most."""

_KEPT = 5
"""Rounds of prices that a warm start gets."""

Stop = Callable[[], bool]
Status = Literal["optimal", "time", "stopped"]


def solve(
    problem: Problem,
    *,
    gap: float = 0.005,
    time_s: float = 60.0,
    progress: Callable[[Progress], None] | None = None,
    stop: Stop | None = None,
    warm: Warm | None = None,
) -> Answer:
    """Return the cheapest plan within a gap, or the best that was found in time.

    Args:
        problem: what is planned.
        gap: relative, at which to stop.
        time_s: seconds after which to stop.
        progress: told after each round.
        stop: asked after each round.
        warm: what an earlier solve of a similar problem left.

    Raises:
        InputError: numbers that make no sense.
        ConflictError: no plan exists.
    """
    found = attempt(problem, gap=gap, time_s=time_s, progress=progress, stop=stop, warm=warm)
    if found is None:
        raise refusal(problem)
    return found


def attempt(
    problem: Problem,
    *,
    gap: float,
    time_s: float,
    progress: Callable[[Progress], None] | None = None,
    stop: Stop | None = None,
    warm: Warm | None = None,
) -> Answer | None:
    """Return what `solve` does; None, and not why, where there is no plan."""
    started = time.perf_counter()
    check(problem)
    search = Search(problem, warm)
    try:
        status = search.run(gap, started + time_s, progress, stop)
    except InfeasibleMaster:
        return None
    if search.unserved() > SERVED:
        return None
    return search.answer(status, time.perf_counter() - started)


class Search:
    """One solve: master, hours, bounds.

    Args:
        problem: what is planned.
        warm: what an earlier solve left.
    """

    def __init__(self, problem: Problem, warm: Warm | None) -> None:
        self.problem, self.ways = problem, ways(problem)
        self.book = Book(problem, self.ways)
        self.limits = Limits(problem, self.ways, self.book)
        self.hours = Hours(problem, self.ways)
        every = any(column.whole for column in self.book.columns)
        self.master = Master(
            problem, self.book, self.limits.broken, every=every, money=self._money()
        )
        self.cost, self.bound = np.inf, -np.inf
        self.best: Numbers | None = None
        self._final: tuple[Numbers, Dispatch] | None = None
        self.centre: Numbers | None = None
        self.weight, self.round = 1.0, 0
        self.coarse = self.integer = False
        self.whole = bool(self.master.whole.any())
        self.prices: list[Numbers] = []
        self.started = time.perf_counter()
        self._first: Numbers | None = None
        self._known = [] if warm is None else self._fitting(warm)
        self._blocks = _blocks(problem)

    def _money(self) -> float:
        """Return a dollar amount about as large as the cost."""
        problem = self.problem
        hours, found = float(problem.hours.sum()), 0.0
        month = hours / problem.shape[1]
        for cls in range(problem.shape[3]):
            prices = [
                float(np.median(price[np.isfinite(price)])) / one.work[cls]
                for one in problem.options
                if one.work[cls] > 0
                for price in (problem.path(one.on_demand_usd_per_h),)
                if np.isfinite(price).any()
            ]
            for contract in problem.contracts:
                if isinstance(contract, UnitContract):
                    work = problem.options[contract.option].work[cls] * contract.per_unit
                    fees = np.mean(contract.monthly_usd)
                    fees += np.mean(contract.upfront_usd) / contract.term_months
                    prices += [float(fees / month / work)] if work > 0 and fees > 0 else []
            price = float(np.median(prices)) if prices else float(self.ways.penalty[cls]) / 100.0
            found += price * float(problem.demand[..., cls].mean()) * hours
        return found if found > 0 else 1.0

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

    def _dispatch(self, x: Numbers, *, blocks: bool) -> Dispatch:
        """Serve all hours, or blocks of hours."""
        demand, weight = self.problem.demand, self.problem.hours[None]
        if blocks:
            demand, weight = self._blocks[0], self._blocks[1]
        if self.ways.monthly.any():
            return months.dispatch(self.hours, self.capacity(x), demand, weight)
        return self.hours.dispatch(self.capacity(x), demand, weight)

    def evaluate(self, x: Numbers, *, blocks: bool = False, plan: bool = True) -> float:
        """Dispatch a plan, give the master its cuts; return what the plan costs.

        The cost of a plan by blocks is a lower bound on its cost, and is not kept.

        Args:
            x: values of all columns.
            blocks: whether to dispatch blocks of hours.
            plan: whether they keep all rules; else they only give cuts.
        """
        found = self._dispatch(x, blocks=blocks)
        prices = found.prices
        if blocks:
            at = self._blocks[2][..., None]
            prices = np.take_along_axis(prices, at, axis=2)
            if self.ways.second.max(initial=-1) >= 0:
                spread = np.take_along_axis(found.row_prices, at[..., 0][None], axis=3)
                found = Dispatch(usd=found.usd, prices=prices, rows=found.rows, row_prices=spread)
        self._cut(prices, found)
        usd = found.usd * self.problem.money
        scenario = usd.sum(axis=1) + x @ self.master.own
        cost = float(self.master.fixed @ x) + risky(self.problem, scenario)
        if plan and not blocks and cost < self.cost:
            self.cost, self.best, self._final = cost, x, None
        return cost

    def _cut(self, prices: Numbers, found: Dispatch | None) -> None:
        made = cut(self.problem, self.ways, prices, found)
        worth = self.problem.money
        made = type(made)(
            base=made.base * worth, value=made.value * worth[:, None], prices=made.prices
        )
        self.master.add_cut(made)
        self.prices = [*self.prices[-_KEPT + 1 :], made.prices]

    def run(
        self,
        gap: float,
        until: float,
        progress: Callable[[Progress], None] | None,
        stop: Stop | None,
    ) -> Status:
        """Search until the gap is closed, time is up, or somebody says stop."""
        self._begin()
        while True:
            self.round += 1
            before = (self.cost, self.bound)
            reached = self._step(gap, until)
            if progress is not None:
                progress(self._progress())
            if not self.coarse and reached <= gap and (self.integer or not self.whole):
                if gap <= _SMALLEST or self.unserved() <= SERVED:
                    return "optimal"
                # So little is not served that its penalty is lost in the gap.
                gap = max(gap / 30, _SMALLEST)
            self._turn(gap, reached, until)
            if stop is not None and stop():
                return self._last("stopped", gap)
            if time.perf_counter() > until:
                return self._last("time", gap)
            moved = (self.cost, self.bound) != before
            self.weight = 1 - _INSIDE if moved else min(1.0, self.weight + 0.25)

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

    def _step(self, gap: float, until: float) -> float:
        """Solve the master, dispatch what it decided; return the gap."""
        if self.integer:
            x, bound = self.master.whole_units(gap / 4, until - time.perf_counter())
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

    def _turn(self, gap: float, reached: float, until: float) -> None:
        """Go on from blocks to hours, and from parts of units to whole ones."""
        enough = reached <= max(gap / 2, 1e-9)
        if self.coarse:
            late = time.perf_counter() > (self.started + until) / 2
            self.coarse = not (enough or late or self.round > _MOST_COARSE)
        elif self.whole and not self.integer and enough:
            self.integer, self.cost, self.best = True, np.inf, None

    def _progress(self) -> Progress:
        return Progress(
            round=self.round,
            seconds=time.perf_counter() - self.started,
            cost_usd=self.cost,
            lower_bound_usd=self.bound,
        )

    def _last(self, status: Status, gap: float) -> Status:
        """See to it that there is an answer, and in whole units."""
        if self.best is None and self.centre is not None:
            self.evaluate(self.centre)
        if self.whole and not self.integer:
            x, _ = self.master.whole_units(gap, 5.0)
            self.cost, self.best = np.inf, None
            self.evaluate(x)
        elif self.best is None:
            x, _ = self.master.whole_units(gap, 5.0)
            self.evaluate(x)
        return status

    def final(self) -> tuple[Numbers, Dispatch]:
        """Return the best plan's capacity and dispatch, with what serves what."""
        if self._final is None:
            assert self.best is not None
            capacity, hours = self.capacity(self.best), self.problem.hours[None]
            found = months.dispatch(self.hours, capacity, self.problem.demand, hours)
            self._final = capacity, found
        return self._final

    def shortfall(self) -> Numbers:
        """Return demand that is not served, work per second on average of a month; (T, K).

        It is that of the worst scenario.
        """
        _, found = self.final()
        assert found.beyond is not None
        lost = np.where(self.ways.ceiling_kind == UNMET, found.beyond, 0.0)
        return np.asarray(lost.max(axis=1).T / self.problem.month_hours[:, None])

    def unserved(self) -> float:
        """Return the share of demand that must be served and is not."""
        must = ~np.isfinite(self.problem.unmet_usd_per_h)
        if not must.any():
            return 0.0
        asked = np.maximum(self.problem.demand.mean(axis=(0, 1, 2)), 1e-300)
        return float((self.shortfall() / asked)[:, must].max())

    def answer(self, status: Status, seconds: float) -> Answer:
        """Return the answer with all that is told about it."""
        assert self.best is not None
        capacity, found = self.final()
        return collect(
            self.problem,
            self.ways,
            self.book,
            self.master,
            Certificate(
                x=self.best,
                capacity=capacity,
                dispatch=found,
                bound=min(self.bound, self.cost),
                status=status,
                seconds=seconds,
                rounds=self.round,
                prices=tuple(self.prices),
            ),
        )


def _blocks(problem: Problem) -> tuple[Numbers, Numbers, np.ndarray]:
    """Return averaged demand of blocks of hours, hours of each, and the block of each hour."""
    s, t, h, k = problem.shape
    size = np.maximum(problem.demand.mean(axis=(0, 1, 2)), 1e-300)
    load = (problem.demand / size).sum(axis=3)
    rank = load.argsort(axis=2).argsort(axis=2)
    block = rank * BLOCKS // h
    demand, weight = np.zeros((s, t, BLOCKS, k)), np.zeros((s, t, BLOCKS))
    for one in range(BLOCKS):
        on = (block == one) * problem.hours
        weight[:, :, one] = on.sum(axis=2)
        total = np.einsum("sth,sthk->stk", on, problem.demand)
        demand[:, :, one] = total / np.maximum(weight[:, :, one], 1e-300)[..., None]
    return demand, weight, block
