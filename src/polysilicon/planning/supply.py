"""Every way to serve demand in an hour, as the rows and columns of one small linear program.

In scenario s, month t, hour h, with y the work of each column (of its class, per second):

    minimise    Σ cost[s,t]·y + Σ ceiling[k,s,t]·z
    subject to  Σ columns of class k: y + z_k ≥ demand[s,t,h,k]
                Σ use[s,t]·y ≤ capacity[s,t] of each row
                y ≥ 0, z ≥ 0

A row is something limited: units under contract, dollars of a plan, an on-demand or spot limit. A
column draws on the row that pays for it, and on a second one where supply is limited as well. What
is not limited (on demand, spot, or going unserved) is one price per class and cell: its ceiling.
Rows of spend contracts are limited over the month, not in each hour.

"Effective" units are units times `Option.output`; they keep the matrix the same in all cells.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.planning.penalty import penalties
from polysilicon.planning.problem import (
    DollarContract,
    Numbers,
    Problem,
    SpendContract,
    UnitContract,
)

Codes = npt.NDArray[np.int64]

UNMET, ON_DEMAND, SPOT = 0, 1, 2
"""What a ceiling is."""

TINY = 1e-12


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Something limited.

    Attributes:
        kind: `committed`, `flexible`, `reserved`, `cover` (reserved units whose on-demand price a
            dollar contract may pay), `dollars`, `spend`, `on_demand` or `spot`.
        option: index, or -1.
        contract: index, or -1.
    """

    kind: str
    option: int = -1
    contract: int = -1


class Ways(msgspec.Struct, frozen=True, kw_only=True):
    """The rows (E) and columns (C) of all hours.

    Attributes:
        rows: E of them.
        limit: capacity that is there without contracts, shape (E, S, T).
        factor: capacity that one unit under contract adds, shape (E, S, T).
        kind: of each column, as in `Served`, or `cover`.
        option: of each column, -1 where `via` says it, shape (C,).
        via: option by column and cell, for those columns.
        cls: class of each column, -1 for cover, shape (C,).
        cost: per unit of work and hour, shape (C, S, T).
        first: the row that pays, shape (C,), rising.
        use: of it, shape (C, S, T).
        second: the row that is limited as well, or -1, shape (C,).
        use2: of it, shape (C, S, T).
        ceiling: shape (K, S, T).
        ceiling_kind: UNMET, ON_DEMAND or SPOT, shape (K, S, T).
        ceiling_option: shape (K, S, T).
        penalty: of work that is not served, shape (K,).
    """

    rows: tuple[Row, ...]
    limit: Numbers
    factor: Numbers
    kind: tuple[str, ...]
    option: Codes
    via: dict[int, Codes]
    cls: Codes
    cost: Numbers
    first: Codes
    use: Numbers
    second: Codes
    use2: Numbers
    ceiling: Numbers
    ceiling_kind: Codes
    ceiling_option: Codes
    penalty: Numbers

    @property
    def monthly(self) -> npt.NDArray[np.bool_]:
        """Which rows are limited over the month, shape (E,)."""
        return np.array([row.kind == "spend" for row in self.rows], dtype=bool)

    def place(self, kind: str, option: int = -1, contract: int = -1) -> int:
        """Return the index of a row, -1 where there is none."""
        wanted = Row(kind=kind, option=option, contract=contract)
        return self.rows.index(wanted) if wanted in self.rows else -1


class _Column(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    option: int
    cls: int
    cost: Numbers
    first: int
    use: Numbers
    second: int = -1
    use2: Numbers | None = None
    via: Codes | None = None


class _Builder:
    """Collects rows and columns."""

    def __init__(self, problem: Problem, severity: float) -> None:
        self.problem = problem
        s, t, _, k = problem.shape
        self.rows: list[Row] = []
        self.limits: list[Numbers] = []
        self.factors: list[Numbers] = []
        self.columns: list[_Column] = []
        self.at: dict[Row, int] = {}
        self.penalty = penalties(problem, severity)
        self.ceiling = np.broadcast_to(self.penalty[:, None, None], (k, s, t)).copy()
        self.ceiling_kind = np.full((k, s, t), UNMET, dtype=np.int64)
        self.ceiling_option = np.full((k, s, t), -1, dtype=np.int64)
        self.output = [problem.path(option.output) for option in problem.options]

    def row(self, row: Row, limit: Numbers | None, factor: Numbers | None) -> int:
        """Add a row; return its index."""
        zero = np.zeros(self.problem.shape[:2])
        self.at[row] = len(self.rows)
        self.rows.append(row)
        self.limits.append(zero if limit is None else limit)
        self.factors.append(zero if factor is None else factor)
        return self.at[row]

    def safe(self, price: Numbers, cls: int) -> Numbers:
        """Return prices, where they are none one that nobody pays."""
        return np.where(np.isfinite(price), price, 2.0 * self.penalty[cls])

    def per_work(self, price: Numbers, index: int, cls: int) -> Numbers:
        """Return the price of one unit of work, inf where the option has no output."""
        output = self.output[index]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = price / (output * self.problem.options[index].work[cls])
        return np.where(output > 0, found, np.inf)

    def serves(self, index: int) -> Iterator[int]:
        """Yield the classes that an option can serve."""
        yield from np.flatnonzero(self.problem.options[index].work > 0).tolist()

    def flat(self, number: float) -> Numbers:
        """Return a number for all cells."""
        return np.full(self.problem.shape[:2], number)

    def units(self, kind: str, index: int, *, paid: bool) -> None:
        """Add the row of units under contract, and what they serve."""
        option = self.problem.options[index]
        at = self.row(Row(kind=kind, option=index), None, option.availability * self.output[index])
        running = self.problem.path(0.0 if paid else option.running_usd_per_h)
        for cls in self.serves(index):
            self.columns.append(
                _Column(
                    kind="committed",
                    option=index,
                    cls=cls,
                    cost=self.safe(self.per_work(running, index, cls), cls),
                    first=at,
                    use=self.flat(1.0 / option.work[cls]),
                )
            )

    def market(self, kind: int, index: int) -> None:
        """Add on-demand or spot use of an option."""
        option, problem = self.problem.options[index], self.problem
        spot = kind == SPOT
        price = problem.path(option.spot_usd_per_h if spot else option.on_demand_usd_per_h)
        limit = problem.path(option.spot_limit if spot else option.on_demand_limit)
        if not np.isfinite(price).any():
            return
        lost = option.spot_efficiency if spot else 1.0
        limited = bool(np.isfinite(limit).any())
        if limited:
            most = 2.0 * (problem.demand.max(axis=(0, 1, 2)) / np.maximum(option.work, TINY))
            enough = float(most[option.work > 0].sum()) if (option.work > 0).any() else 0.0
            capacity = np.where(np.isfinite(limit), limit * lost * self.output[index], enough)
            capacity = np.where(np.isfinite(price), np.minimum(capacity, enough), 0.0)
            name = "spot" if spot else "on_demand"
            at = self.row(Row(kind=name, option=index), capacity, None)
        for cls in self.serves(index):
            cost = self.per_work(price / lost, index, cls)
            if limited:
                self.columns.append(
                    _Column(
                        kind="spot" if spot else "on_demand",
                        option=index,
                        cls=cls,
                        cost=self.safe(cost, cls),
                        first=at,
                        use=self.flat(1.0 / option.work[cls]),
                    )
                )
                continue
            better = cost < self.ceiling[cls]
            self.ceiling[cls][better] = cost[better]
            self.ceiling_kind[cls][better] = kind
            self.ceiling_option[cls][better] = index

    def flexible(self, number: int, contract: UnitContract) -> None:
        """Add the row of units that can be used as several options."""
        main = self.problem.options[contract.option]
        at = self.row(Row(kind="flexible", contract=number), None, self.flat(main.availability))
        for index, ratio in ((contract.option, contract.per_unit), *contract.flexible):
            running = self.problem.path(self.problem.options[index].running_usd_per_h)
            for cls in self.serves(index):
                use = self.per_work(self.flat(1.0 / ratio), index, cls)
                cost = self.per_work(running, index, cls)
                there = np.isfinite(use)
                self.columns.append(
                    _Column(
                        kind="committed",
                        option=index,
                        cls=cls,
                        cost=self.safe(np.where(there, cost, np.inf), cls),
                        first=at,
                        use=np.where(there, use, 1.0),
                    )
                )

    def paying(self, number: int, contract: DollarContract | SpendContract) -> None:
        """Add the row of a contract that pays for on-demand use, and what it pays for."""
        kind = "dollars" if isinstance(contract, DollarContract) else "spend"
        at = self.row(Row(kind=kind, contract=number), None, self.flat(1.0))
        best: dict[int, tuple[Numbers, Codes]] = {}
        for index, path in zip(contract.options, contract.rate_usd_per_h, strict=True):
            rate = self.problem.path(path)
            market = self.at.get(Row(kind="on_demand", option=index), -1)
            option = self.problem.options[index]
            price = self.problem.path(option.on_demand_usd_per_h)
            rate = np.where(np.isfinite(price), rate, np.inf)
            for cls in self.serves(index):
                use = self.per_work(rate, index, cls)
                if market < 0:
                    known, via = best.get(cls, (self.flat(np.inf), np.full(use.shape, -1)))
                    better = use < known
                    best[cls] = np.where(better, use, known), np.where(better, index, via)
                    continue
                self._pay(kind, index, cls, at, use, market, None)
            cover = self.at.get(Row(kind="cover", option=index), -1)
            if cover >= 0 and kind == "dollars":
                one = _Column(
                    kind="cover",
                    option=index,
                    cls=-1,
                    cost=np.where(np.isfinite(price), -price, 0.0),
                    first=at,
                    use=np.where(np.isfinite(rate), rate, 1.0),
                    second=cover,
                    use2=self.flat(1.0),
                )
                self.columns.append(one)
        for cls, (use, via) in best.items():
            self._pay(kind, -1, cls, at, use, -1, via)

    def _pay(
        self,
        kind: str,
        index: int,
        cls: int,
        at: int,
        use: Numbers,
        second: int,
        via: Codes | None,
    ) -> None:
        there = np.isfinite(use)
        work = 1.0 if second < 0 else float(self.problem.options[index].work[cls])
        self.columns.append(
            _Column(
                kind=kind,
                option=index,
                cls=cls,
                cost=np.where(there, 0.0, 2.0 * self.penalty[cls]),
                first=at,
                use=np.where(there, np.maximum(use, TINY), 1.0),
                second=second,
                use2=None if second < 0 else self.flat(1.0 / work),
                via=via,
            )
        )


def _committed(problem: Problem) -> tuple[set[int], set[int]]:
    """Return options that plain unit contracts give, and those that reservations give."""
    plain: set[int] = set()
    reserved: set[int] = set()
    for one in problem.contracts:
        if not isinstance(one, UnitContract):
            continue
        if one.at_on_demand:
            reserved.add(one.option)
        elif not one.flexible:
            plain.add(one.option)
        plain.update(right.option for right in one.rights if right.kind == "exchange")
    return plain, reserved


def ways(problem: Problem, severity: float = 1.0) -> Ways:
    """Return all ways to serve the demand of a problem.

    Args:
        problem: whose demand.
        severity: factor on the penalty of work that must be served.
    """
    made = _Builder(problem, severity)
    plain, reserved = _committed(problem)
    for index in range(len(problem.options)):
        made.market(ON_DEMAND, index)
        made.market(SPOT, index)
        if index in plain:
            made.units("committed", index, paid=False)
        if index in reserved:
            made.units("reserved", index, paid=True)
            made.row(Row(kind="cover", option=index), None, made.flat(1.0))
    for number, one in enumerate(problem.contracts):
        if isinstance(one, UnitContract):
            if one.flexible:
                made.flexible(number, one)
        else:
            made.paying(number, one)
    return _packed(made)


def _packed(made: _Builder) -> Ways:
    columns = sorted(made.columns, key=lambda column: column.first)
    s, t = made.problem.shape[:2]
    zero = np.zeros((s, t))

    def stack(parts: list[Numbers]) -> Numbers:
        return np.array(parts, dtype=np.float64).reshape(len(parts), s, t)

    return Ways(
        rows=tuple(made.rows),
        limit=stack(made.limits),
        factor=stack(made.factors),
        kind=tuple(column.kind for column in columns),
        option=np.array([column.option for column in columns], dtype=np.int64),
        via={at: one.via for at, one in enumerate(columns) if one.via is not None},
        cls=np.array([column.cls for column in columns], dtype=np.int64),
        cost=stack([column.cost for column in columns]),
        first=np.array([column.first for column in columns], dtype=np.int64),
        use=stack([column.use for column in columns]),
        second=np.array([column.second for column in columns], dtype=np.int64),
        use2=stack([zero if one.use2 is None else one.use2 for one in columns]),
        ceiling=made.ceiling,
        ceiling_kind=made.ceiling_kind,
        ceiling_option=made.ceiling_option,
        penalty=made.penalty,
    )
