"""Everything that a plan decides besides the hours: columns, and the rows that tie them.

A column is an order of a contract, a right used in a scenario, or a number of a spend contract's
books (drawn, short, carried). It adds capacity to rows of the hourly program for some months.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from polysilicon.planning.contracts import payments, service
from polysilicon.planning.problem import (
    INF,
    DollarContract,
    Numbers,
    Problem,
    Right,
    SpendContract,
    Tier,
    UnitContract,
)
from polysilicon.planning.seen import seen
from polysilicon.planning.supply import Codes, Ways

Use = tuple[int, int, int, float]
"""Row of `Ways` or option, first month, month after the last, amount per unit of the column."""


class Column:
    """One decision.

    Attributes:
        kind: `order`, `part` (of an order, within a tier), `on` (a yes or no), `sell`, `extend`,
            `exchange`, `draw`, `band` (of a draw's tiers), `short`, `excess`, `carried`, `credit`.
        contract: index.
        order: month.
        scenario: index, -1 for all.
        month: in which it takes effect; of a period, its number.
        right: index in the contract's rights.
        low: least.
        high: most.
        whole: whether it is a whole number.
        usd: by month, shape (T,), in dollars of the month.
        own: further dollars by scenario, present value, shape (S,); None for none.
        uses: capacity that it adds, by row of `Ways`.
        units: units under contract that it adds, by option.
    """

    __slots__ = (
        "contract", "high", "kind", "low", "month", "order", "own", "right", "scenario",
        "units", "usd", "uses", "whole",
    )  # fmt: skip

    def __init__(self, kind: str, contract: int, order: int, scenario: int = -1) -> None:
        self.kind, self.contract, self.order, self.scenario = kind, contract, order, scenario
        self.month = self.right = -1
        self.low, self.high, self.whole = 0.0, INF, False
        self.usd: Numbers | None = None
        self.own: Numbers | None = None
        self.uses: list[Use] = []
        self.units: list[Use] = []


class Tie:
    """A row over columns.

    Attributes:
        kind: as of `Rule`; "" for what is no rule but arithmetic.
        subject: as of `Rule`.
        low: of the sum.
        high: of the sum.
        terms: columns and their factors.
    """

    __slots__ = ("high", "kind", "low", "subject", "terms")

    def __init__(
        self,
        terms: Sequence[tuple[int, float]],
        *,
        low: float = -INF,
        high: float = INF,
        kind: str = "",
        subject: str = "",
    ) -> None:
        self.terms, self.low, self.high = tuple(terms), low, high
        self.kind, self.subject = kind, subject


class Book:
    """All columns and ties of a problem.

    Attributes:
        columns: N of them.
        ties: rows over them.
        plain: which columns occur in no tie and can be left out until they pay, shape (N,).
        orders: column of each contract and order, new and held.
        held: columns of what is in force already.
    """

    def __init__(self, problem: Problem, ways: Ways) -> None:
        self.problem, self.ways = problem, ways
        self.columns: list[Column] = []
        self.ties: list[Tie] = []
        self.orders: dict[tuple[int, int], int] = {}
        self.held: list[int] = []
        self._seen: Codes | None = None
        for number, contract in enumerate(problem.contracts):
            if isinstance(contract, SpendContract):
                continue
            for order in contract.orders:
                self.orders[number, order] = self._order(number, order)
        for one in problem.held:
            if not isinstance(problem.contracts[one.contract], SpendContract):
                self.held.append(self._order(one.contract, one.order, one.units))
        self._spend_contracts()
        self._vendors()
        self.plain = np.ones(len(self.columns), dtype=bool)
        for tie in self.ties:
            if tie.kind != "vendor":
                self.plain[[column for column, _ in tie.terms]] = False
        self.plain[self.held] = False
        self.plain[[at for at, one in enumerate(self.columns) if one.whole]] = False

    def add(self, column: Column) -> int:
        """Add a column; return its index."""
        self.columns.append(column)
        return len(self.columns) - 1

    def capacity(
        self, contract: UnitContract, number: int, amount: float
    ) -> list[tuple[int, float]]:
        """Return the rows that units of a contract add to, and how much."""
        if contract.flexible:
            return [(self.ways.place("flexible", contract=number), amount)]
        if contract.at_on_demand:
            each = amount * contract.per_unit
            kinds = ("reserved", "cover")
            return [(self.ways.place(kind, contract.option), each) for kind in kinds]
        return [(self.ways.place("committed", contract.option), amount * contract.per_unit)]

    def _order(self, number: int, order: int, held: float | None = None) -> int:
        """Add an order of a unit or dollar contract; return its column."""
        contract, problem = self.problem.contracts[number], self.problem
        assert not isinstance(contract, SpendContract)
        column = Column("order", number, order)
        first, last = service(contract, order, problem.shape[1])
        column.usd = payments(problem, contract, order)
        column.month = first
        column.high = contract.most
        if isinstance(contract, DollarContract):
            column.uses = [(self.ways.place("dollars", contract=number), first, last, 1.0)]
        else:
            column.whole = contract.whole and held is None
            column.uses = [
                (row, first, last, amount) for row, amount in self.capacity(contract, number, 1.0)
            ]
            column.units = [(contract.option, first, last, contract.per_unit)]
            if contract.at_on_demand:
                column.own = self._reserved(contract, first, last)
        if held is not None:
            column.low = column.high = held
        at = self.add(column)
        if isinstance(contract, UnitContract):
            if held is None and (contract.tiers or contract.least > 0):
                self._steps(at, contract)
            if contract.rights:
                self._rights(at, contract, number)
        return at

    def _reserved(self, contract: UnitContract, first: int, last: int) -> Numbers:
        """Return what the hours of a reservation cost at on-demand prices, shape (S,)."""
        option = self.problem.options[contract.option]
        price = self.problem.path(option.on_demand_usd_per_h) * contract.per_unit
        worth = self.problem.month_hours * self.problem.money
        return np.asarray((price * worth)[:, first:last].sum(axis=1))

    def enough(self, contract: UnitContract) -> float:
        """Return units that are more than any plan needs in one order."""
        if np.isfinite(contract.most):
            return contract.most
        option = self.problem.options[contract.option]
        limit = float(self.problem.by_month(option.supply).max()) / contract.per_unit
        output = self.problem.path(option.output)
        least = float(output[output > 0].min(initial=1.0)) * option.availability
        some = option.work > 0
        need = self.problem.demand.max(axis=(0, 1, 2))[some] / (option.work[some] * least)
        return min(limit, float(np.ceil(need.sum() / contract.per_unit)) + 1.0)

    def _steps(self, at: int, contract: UnitContract) -> None:
        """Add the yes or no of a least order, and the tiers of its price."""
        column, most = self.columns[at], self.enough(contract)
        column.high = most
        if contract.least > 0:
            on = self.switch(column)
            name = contract.name
            self.ties.append(Tie([(at, 1.0), (on, -contract.least)], low=0.0))
            self.ties.append(Tie([(at, 1.0), (on, -most)], high=0.0, kind="most", subject=name))
        if contract.tiers:
            paid, column.usd = column.usd, None
            parts = self.bands(column, contract.tiers, most)
            for part, factor in parts:
                assert paid is not None
                self.columns[part].usd = paid * factor
            self.ties.append(Tie([(at, -1.0), *((p, 1.0) for p, _ in parts)], low=0.0, high=0.0))

    def switch(self, like: Column) -> int:
        """Add a yes or no beside a column; return its index."""
        switch = Column("on", like.contract, like.order, like.scenario)
        switch.high, switch.whole = 1.0, True
        return self.add(switch)

    def bands(
        self, like: Column, tiers: Sequence[Tier], most: float, kind: str = "part"
    ) -> list[tuple[int, float]]:
        """Add the parts of a sum that lie in each tier; return them with their factors.

        Where a tier is cheaper than the one below, a yes or no keeps the one below full first.
        """
        edges = [0.0, *(min(tier.above, most) for tier in tiers), most]
        factors = [1.0, *(tier.factor for tier in tiers)]
        parts: list[tuple[int, float]] = []
        for number, factor in enumerate(factors):
            part = Column(kind, like.contract, like.order, like.scenario)
            part.high, part.month = edges[number + 1] - edges[number], like.month
            at = self.add(part)
            if number and min(factors[:number]) > factor:
                on, below = self.switch(like), parts[-1][0]
                self.ties.append(Tie([(at, 1.0), (on, -part.high)], high=0.0))
                self.ties.append(Tie([(below, 1.0), (on, -self.columns[below].high)], low=0.0))
            parts.append((at, factor))
        return parts

    def _rights(self, at: int, contract: UnitContract, number: int) -> None:
        """Add what may be done with the units of an order in each scenario.

        What is done in a month is the same in scenarios that are alike so far.
        """
        months = self.problem.shape[1]
        if self._seen is None:
            self._seen = seen(self.problem)
        known: dict[tuple[int, int, int], int] = {}
        first, last = service(contract, self.columns[at].order, months)
        for scenario in range(self.problem.shape[0]):
            gone: list[int] = []
            extended: list[int] = []
            for place, right in enumerate(contract.rights):
                when = [last] if right.kind == "extend" else right.months
                for month in when:
                    if right.kind != "extend" and not first <= month < last:
                        continue
                    if right.kind == "extend" and not first < month < months:
                        continue
                    one = self._right(at, contract, number, right, month)
                    one.scenario, one.right = scenario, place
                    added = self.add(one)
                    (extended if right.kind == "extend" else gone).append(added)
                    like = known.setdefault((place, month, self._seen[scenario, month]), added)
                    if like != added:
                        self.ties.append(Tie([(like, 1.0), (added, -1.0)], low=0.0, high=0.0))
            for some in (gone, [*gone, *extended]):
                if some:
                    self.ties.append(Tie([(at, -1.0), *((g, 1.0) for g in some)], high=0.0))

    def _right(
        self, at: int, contract: UnitContract, number: int, right: Right, month: int
    ) -> Column:
        """Return the use of a right in a month."""
        problem, order = self.problem, self.columns[at].order
        months = problem.shape[1]
        first, last = service(contract, order, months)
        one = Column(right.kind, number, order)
        one.month = month
        usd = np.zeros(months)
        usd[month] -= problem.by_month(right.usd)[month]
        if right.kind == "extend":
            end = min(month + right.term_months, months)
            usd[month:end] += right.monthly_usd
            amounts = self.capacity(contract, number, 1.0)
            one.uses = [(row, month, end, amount) for row, amount in amounts]
            one.units = [(contract.option, month, end, contract.per_unit)]
        else:
            whole = payments(problem, contract, order)
            fee = float(problem.by_month(contract.monthly_usd)[min(max(order, 0), months - 1)])
            if right.kind == "exchange" or right.ends_fees:
                usd[month:last] -= fee
            if first < last == months <= order + contract.lead_months + contract.term_months:
                # No salvage, and no fees owed, of what is gone.
                kept = whole[months - 1] - fee - (whole[order] if order == months - 1 else 0.0)
                usd[months - 1] -= kept if order != months - 1 else 0.0
            amounts = self.capacity(contract, number, -1.0)
            one.uses = [(row, month, last, amount) for row, amount in amounts]
            one.units = [(contract.option, month, last, -contract.per_unit)]
        if right.kind == "exchange":
            usd[month:last] += right.monthly_usd
            row = self.ways.place("committed", right.option)
            one.uses.append((row, month, last, right.ratio))
            one.units.append((right.option, month, last, right.ratio))
        if contract.at_on_demand:
            sign = 1.0 if right.kind == "extend" else -1.0
            one.own = sign * self._reserved(contract, month, end if sign > 0 else last)
        one.usd = usd
        return one

    def _spend_contracts(self) -> None:
        """Add the spend contracts, new and held."""
        # Imported here, for their books are made of these columns and ties.
        from polysilicon.planning.books import spend  # noqa: PLC0415

        for number, contract in enumerate(self.problem.contracts):
            if isinstance(contract, SpendContract):
                for order in contract.orders:
                    self.orders[number, order] = spend(self, number, contract, order, None)
        for one in self.problem.held:
            contract = self.problem.contracts[one.contract]
            if isinstance(contract, SpendContract):
                self.held.append(spend(self, one.contract, contract, one.order, one.units))

    def dollars(self, column: Column) -> float:
        """Return all dollars that one unit of an order commits to within the horizon."""
        contract = self.problem.contracts[column.contract]
        months = self.problem.shape[1]
        if isinstance(contract, SpendContract):
            first, last = service(contract, column.order, months)
            steps = contract.period_months
            shares = (
                (month - column.order - contract.lead_months) // steps
                for month in range(first, last)
            )
            return sum(contract.commitment_usd[period] / steps for period in shares)
        paid = column.usd
        if paid is None:  # it is paid in tiers
            paid = payments(self.problem, contract, column.order)
        usd = float(np.maximum(paid, 0.0).sum())
        return usd + (0.0 if column.own is None else float(self.problem.probability @ column.own))

    def vendor(self, column: Column) -> str:
        """Return whom a column's contract is with."""
        contract = self.problem.contracts[column.contract]
        if isinstance(contract, UnitContract):
            return self.problem.options[contract.option].vendor
        return contract.vendor

    def _vendors(self) -> None:
        """Add the largest shares of vendors."""
        orders = [*self.orders.values(), *self.held]
        for vendor, share in self.problem.vendor_share_max.items():
            terms = []
            for at in orders:
                column = self.columns[at]
                mine = float(self.vendor(column) == vendor)
                terms.append((at, (mine - share) * self.dollars(column)))
            self.ties.append(Tie(terms, high=0.0, kind="vendor", subject=vendor))

    def flat(self, what: str, some: Iterable[int]) -> tuple[Codes, Codes, Codes, Codes, Numbers]:
        """Return uses or units of some columns as arrays: column, place, first, last, amount."""
        found = [
            (at, *use) for at in some for use in getattr(self.columns[at], what) if use[2] > use[1]
        ]
        array = np.array(found, dtype=np.float64).reshape(-1, 5)
        whole = array[:, :4].astype(np.int64)
        return whole[:, 0], whole[:, 1], whole[:, 2], whole[:, 3], array[:, 4]
