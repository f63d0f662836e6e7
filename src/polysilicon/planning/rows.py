"""Rows of the master program that are found on the way; usual sizes of its columns and cost."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.planning.columns import Book, Tie
from polysilicon.planning.problem import (
    INF,
    DollarContract,
    Numbers,
    Problem,
    SpendContract,
    UnitContract,
)
from polysilicon.planning.supply import Codes, Ways


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A row over capacity: weighted sums of uses and of units in one month.

    Attributes:
        kind: as of `Rule`.
        subject: as of `Rule`.
        month: index.
        scenario: whose columns count besides those of all; -1 for no others.
        uses: weight of each row of `Ways`, shape (E,); None for none.
        units: weight of each option, shape (R,); None for none.
        low: of the sum.
        high: of the sum.
    """

    kind: str
    subject: str
    month: int
    scenario: int = -1
    uses: Numbers | None = None
    units: Numbers | None = None
    low: float = -INF
    high: float = INF


def terms(tie: Tie, some: Codes) -> Numbers:
    """Return the factors of some columns in a tie."""
    weights: dict[int, float] = {}
    for column, factor in tie.terms:
        weights[column] = weights.get(column, 0.0) + factor
    return np.array([weights.get(int(at), 0.0) for at in some])


def sizes(problem: Problem, book: Book, money: float) -> Numbers:
    """Return a usual amount of each column; 1 for whole numbers, shape (N,)."""
    mean = problem.demand.mean(axis=(0, 1, 2))
    found = np.ones(len(book.columns))
    for at, column in enumerate(book.columns):
        contract = problem.contracts[column.contract]
        counted = column.kind in ("on", "order") and isinstance(contract, SpendContract)
        if column.whole or counted:
            continue
        if isinstance(contract, UnitContract):
            work = problem.options[contract.option].work
            some = work > 0
            found[at] = float((mean[some] / work[some]).sum()) / contract.per_unit
        elif isinstance(contract, DollarContract):
            found[at] = money / float(problem.hours.sum())
        else:
            found[at] = money / problem.shape[1]
    return np.where(found > 0, found, 1.0)


def usual_cost(problem: Problem, ways: Ways) -> float:
    """Return a dollar amount about as large as the cost."""
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
        price = float(np.median(prices)) if prices else float(ways.penalty[cls]) / 100.0
        found += price * float(problem.demand[..., cls].mean()) * hours
    return found if found > 0 else 1.0
