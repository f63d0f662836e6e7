"""The books of a spend contract, for each scenario and period, as columns and ties.

With x the units signed, M a period's commitment, and all of one scenario:

    spend of the period = Σ draws of its months                  (full rates; in bands where tiered)
    paid + fees that count + carried - excess + short = M·x
    carried ≤ share of the last period's excess, credit ≤ share of its shortfall, and ≤ excess
    cost = paid + short - credit

A period's bill without carry-over is then max(M·x, spend).
"""

from __future__ import annotations

import numpy as np

from polysilicon.planning.columns import Book, Column, Tie
from polysilicon.planning.contracts import payments, service
from polysilicon.planning.problem import SpendContract


def spend(book: Book, number: int, contract: SpendContract, order: int, held: float | None) -> int:
    """Add a spend contract that begins in a month; return the column of its units."""
    signed = Column("order", number, order)
    signed.usd = np.zeros(book.problem.shape[1])
    signed.high, signed.whole = contract.most, contract.whole and held is None
    signed.month = service(contract, order, book.problem.shape[1])[0]
    if held is not None:
        signed.low = signed.high = held
    at = book.add(signed)
    for scenario in range(book.problem.shape[0]):
        before: tuple[int, int] | None = None
        for period in range(len(contract.commitment_usd)):
            before = _period(book, at, scenario, period, before) or before
    return at


def _most(book: Book, contract: SpendContract, months: range) -> float:
    """Return more dollars at the contract's rates than all demand of some months can cost."""
    demand = book.problem.demand[:, months.start : months.stop]
    hours = book.problem.hours[months.start : months.stop]
    work = np.einsum("sthk,th->sk", demand, hours).max(axis=0)
    dearest = np.zeros(len(work))
    for index, path in zip(contract.options, contract.rate_usd_per_h, strict=True):
        option = book.problem.options[index]
        output = book.problem.path(option.output)
        rate = book.problem.path(path)[output > 0] / output[output > 0]
        each = rate.max(initial=0.0) / np.where(option.work > 0, option.work, np.inf)
        dearest = np.maximum(dearest, each)
    return float(work @ dearest) * 1.01 + 1.0


def _period(
    book: Book, at: int, scenario: int, period: int, before: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Add one period's books; return its excess and shortfall, None where it is not in sight."""
    signed = book.columns[at]
    contract = book.problem.contracts[signed.contract]
    assert isinstance(contract, SpendContract)
    start = signed.order + contract.lead_months + period * contract.period_months
    months = range(max(start, 0), min(start + contract.period_months, book.problem.shape[1]))
    if not months:
        return None
    committed = contract.commitment_usd[period] * len(months) / contract.period_months

    def column(kind: str, usd: float) -> int:
        one = Column(kind, signed.contract, signed.order, scenario)
        one.month, one.usd = period, np.zeros(book.problem.shape[1])
        one.usd[months[-1]] = usd
        return book.add(one)

    paid = _draws(book, at, scenario, months, period)
    short, excess = column("short", 1.0), column("excess", 0.0)
    counted = [*paid, *_fees(book, contract, months), (short, 1.0), (excess, -1.0)]
    if before is not None and contract.excess_carried > 0:
        carried = column("carried", 0.0)
        counted.append((carried, 1.0))
        book.ties.append(Tie([(carried, 1.0), (before[0], -contract.excess_carried)], high=0.0))
    if contract.shortfall_credit > 0:
        # Else shortfall and excess could both be paid up, for a credit in the next period.
        on = book.switch(signed)
        book.columns[on].scenario = scenario
        most = contract.most * committed + 1.0
        above = 10.0 * (_most(book, contract, months) + most)
        book.ties.append(Tie([(short, 1.0), (on, -most)], high=0.0))
        book.ties.append(Tie([(excess, 1.0), (on, above)], high=above))
    if before is not None and contract.shortfall_credit > 0:
        credit = column("credit", -1.0)
        book.ties.append(Tie([(credit, 1.0), (before[1], -contract.shortfall_credit)], high=0.0))
        book.ties.append(Tie([(credit, 1.0), (excess, -1.0)], high=0.0))
        book.ties.append(Tie([(credit, 1.0), *((p, -f) for p, f in paid)], high=0.0))
    book.ties.append(Tie([*counted, (at, -committed)], low=0.0, high=0.0))
    limit = (1.0 + contract.headroom) * committed
    if not np.isfinite(limit):
        limit = _most(book, contract, months)
    book.ties.append(Tie([*paid, (at, -limit)], high=0.0))
    return excess, short


def _draws(
    book: Book, at: int, scenario: int, months: range, period: int
) -> list[tuple[int, float]]:
    """Add the spend of each month; return what is paid, as columns and factors."""
    signed = book.columns[at]
    contract = book.problem.contracts[signed.contract]
    assert isinstance(contract, SpendContract)
    row = book.ways.place("spend", contract=signed.contract)
    draws = []
    for month in months:
        one = Column("draw", signed.contract, signed.order, scenario)
        one.month, one.usd = month, np.zeros(book.problem.shape[1])
        one.uses = [(row, month, month + 1, 1.0)]
        if not contract.tiers:
            one.usd[month] = 1.0
        draws.append((book.add(one), 1.0))
    if not contract.tiers:
        return draws
    like = Column("band", signed.contract, signed.order, scenario)
    like.month = period
    bands = book.bands(like, contract.tiers, _most(book, contract, months), "band")
    for band, factor in bands:
        usd = np.zeros(book.problem.shape[1])
        usd[months[-1]] = factor
        book.columns[band].usd = usd
    book.ties.append(Tie([*draws, *((band, -1.0) for band, _ in bands)], low=0.0, high=0.0))
    return bands


def _fees(book: Book, contract: SpendContract, months: range) -> list[tuple[int, float]]:
    """Return the orders whose fees count in some months, and how many dollars of one unit do."""
    found = []
    for (number, order), at in book.orders.items():
        if number in contract.counting:
            paid = payments(book.problem, book.problem.contracts[number], order)
            usd = float(np.maximum(paid, 0.0)[months.start : months.stop].sum())
            found.append((at, usd))
    for at in book.held:
        column = book.columns[at]
        if column.contract in contract.counting:
            paid = payments(book.problem, book.problem.contracts[column.contract], column.order)
            found.append((at, float(np.maximum(paid, 0.0)[months.start : months.stop].sum())))
    return [(at, usd) for at, usd in found if usd > 0]
