"""An answer from the values of columns and the dispatch of all hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from polysilicon.planning.answer import Answer, Bought, Dual, Served, Spend, Used, Warm
from polysilicon.planning.columns import Book, Column
from polysilicon.planning.contracts import payments, service
from polysilicon.planning.hours import Dispatch
from polysilicon.planning.master import Master
from polysilicon.planning.problem import Numbers, Problem, SpendContract
from polysilicon.planning.risk import cvar, risky
from polysilicon.planning.rows import Limit
from polysilicon.planning.supply import ON_DEMAND, SPOT, UNMET, Ways

_SOME = 1e-9


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a search ended with.

    Attributes:
        x: values of all columns, shape (N,).
        capacity: shape (E, S, T).
        dispatch: of all hours.
        value: what a unit of each row saves in each month, shape (S, T, E).
        bound: no plan costs less.
        status: as of `Answer`.
        seconds: taken.
        rounds: taken.
        prices: of demand, for warm starts.
    """

    x: Numbers
    capacity: Numbers
    dispatch: Dispatch
    value: Numbers
    bound: float
    status: Literal["optimal", "time", "stopped"]
    seconds: float
    rounds: int
    prices: tuple[Numbers, ...]


def collect(problem: Problem, ways: Ways, book: Book, master: Master, found: Certificate) -> Answer:
    """Return the answer."""
    fixed = _fixed(problem, book, found.x)
    use = found.dispatch.usd
    at_hand = fixed @ problem.money
    scenario = at_hand + use @ problem.money
    same = _common(problem, book, found.x)
    cost = same + risky(problem, scenario - same)
    orders = [*book.orders.values(), *book.held]
    return Answer(
        status=found.status,
        cost_usd=cost,
        lower_bound_usd=min(found.bound, cost),
        seconds=found.seconds,
        rounds=found.rounds,
        bought=tuple(_bought(problem, book, at, found.x) for at in orders if found.x[at] > _SOME),
        rights=_used(book, found.x),
        spend=tuple(_spends(problem, book, found.x)),
        fixed_usd=fixed,
        drawn_usd=_fixed(problem, book, found.x, ("draw", "band")),
        served=tuple(_served(problem, ways, found)),
        scenario_usd=scenario,
        mean_usd=float(problem.probability @ scenario),
        cvar_usd=cvar(scenario, problem.probability, problem.cvar_alpha),
        option_value_usd=_options(problem, ways, found.value),
        demand_price_usd=np.einsum(
            "s,sthk,th,t->tk",
            problem.probability,
            found.dispatch.prices,
            problem.hours,
            problem.money,
        ),
        duals=tuple(_duals(master, found.x)),
        warm=Warm(
            prices=found.prices,
            units={key: float(found.x[at]) for key, at in book.orders.items() if found.x[at] > 0},
            columns=tuple(
                (book.columns[at].contract, book.columns[at].order)
                for at in master.inside.tolist()
                if book.columns[at].kind == "order"
            ),
        ),
    )


def _common(problem: Problem, book: Book, x: Numbers) -> float:
    """Return what is paid in all scenarios alike, present value."""
    return sum(
        float(x[at] * (one.usd @ problem.money))
        for at, one in enumerate(book.columns)
        if one.scenario < 0 and one.usd is not None and x[at]
    )


def _fixed(problem: Problem, book: Book, x: Numbers, kinds: Sequence[str] = ()) -> Numbers:
    """Return what columns cost by scenario and month, shape (S, T); those of some kinds only."""
    s, t = problem.shape[:2]
    found = np.zeros((s, t))
    for at, column in enumerate(book.columns):
        if x[at] == 0 or (kinds and column.kind not in kinds):
            continue
        if column.usd is not None:
            some = slice(None) if column.scenario < 0 else column.scenario
            found[some] += x[at] * column.usd
        if column.own is not None:
            found += x[at] * _hours(problem, column)
    return found


def _hours(problem: Problem, column: Column) -> Numbers:
    """Return what the hours of a reservation cost by scenario and month."""
    contract = problem.contracts[column.contract]
    price = problem.path(problem.options[contract.option].on_demand_usd_per_h)  # type: ignore[union-attr]
    found = np.zeros(price.shape)
    for option, first, last, amount in column.units:
        if option == contract.option:  # type: ignore[union-attr]
            found[:, first:last] += amount * (price * problem.month_hours)[:, first:last]
    if column.scenario >= 0:
        only = np.zeros_like(found)
        only[column.scenario] = found[column.scenario]
        return only
    return found


def _bought(problem: Problem, book: Book, at: int, x: Numbers) -> Bought:
    column = book.columns[at]
    contract = problem.contracts[column.contract]
    first, last = service(contract, column.order, problem.shape[1])
    paid = payments(problem, contract, column.order) * x[at]
    if column.usd is None:  # in tiers
        parts = [
            x[place] * one.usd
            for place, one in enumerate(book.columns)
            if one.kind == "part"
            and (one.contract, one.order) == (column.contract, column.order)
            and one.usd is not None
        ]
        paid = np.sum(parts, axis=0)
    if column.own is not None:
        paid = paid + problem.probability @ _hours(problem, column) * x[at]
    return Bought(
        contract=column.contract,
        order=column.order,
        first=first,
        last=last - 1,
        units=float(x[at]),
        held=at in book.held,
        usd=paid,
    )


def _used(book: Book, x: Numbers) -> tuple[Used, ...]:
    return tuple(
        Used(
            contract=one.contract,
            order=one.order,
            right=one.right,
            scenario=one.scenario,
            month=one.month,
            units=float(x[at]),
        )
        for at, one in enumerate(book.columns)
        if one.right >= 0 and x[at] > _SOME
    )


def _spends(problem: Problem, book: Book, x: Numbers) -> list[Spend]:
    """Return the books of the spend contracts that are signed."""
    found = []
    for at in [*book.orders.values(), *book.held]:
        signed = book.columns[at]
        contract = problem.contracts[signed.contract]
        if isinstance(contract, SpendContract) and x[at] > _SOME:
            found.append(_one_spend(problem, book, at, x))
    return found


def _one_spend(problem: Problem, book: Book, at: int, x: Numbers) -> Spend:
    signed = book.columns[at]
    contract = problem.contracts[signed.contract]
    assert isinstance(contract, SpendContract)
    s, t = problem.shape[:2]
    periods = len(contract.commitment_usd)
    drawn, bands = np.zeros((s, t)), np.zeros((s, periods))
    short, carried = np.zeros((s, periods)), np.zeros((s, periods))
    for place, one in enumerate(book.columns):
        if (one.contract, one.order) != (signed.contract, signed.order) or one.scenario < 0:
            continue
        if one.kind == "draw":
            drawn[one.scenario, one.month] += x[place]
        elif one.kind == "band" and one.usd is not None:
            bands[one.scenario, one.month] += x[place] * one.usd.sum()
        elif one.kind == "short":
            short[one.scenario, one.month] += x[place]
        elif one.kind in ("carried", "credit"):
            carried[one.scenario, one.month] += x[place]
    committed = np.zeros(periods)
    for period, usd in enumerate(contract.commitment_usd):
        start = signed.order + contract.lead_months + period * contract.period_months
        months = range(max(start, 0), min(start + contract.period_months, t))
        committed[period] = usd * len(months) / contract.period_months * x[at]
        if contract.tiers and months:
            full = drawn[:, months.start : months.stop].sum(axis=1)
            factor = bands[:, period] / np.where(full > 0, full, 1.0)
            drawn[:, months.start : months.stop] *= factor[:, None]
    return Spend(
        contract=signed.contract,
        order=signed.order,
        units=float(x[at]),
        commitment_usd=committed,
        spend_usd=drawn,
        shortfall_usd=short,
        carried_usd=carried,
    )


def _options(problem: Problem, ways: Ways, value: Numbers) -> Numbers:
    """Return what one unit of each option would save in a month in expectation, shape (T, R)."""
    found = np.zeros((problem.shape[1], len(problem.options)))
    mean = np.einsum("s,ste,t->te", problem.probability, value, problem.money)
    for at, row in enumerate(ways.rows):
        if row.kind == "committed":
            found[:, row.option] = mean[:, at]
    return found


def _duals(master: Master, x: Numbers) -> list[Dual]:
    """Return what the limits that bind cost."""
    found = []
    for rule, price in master.tight():
        month = rule.month if isinstance(rule, Limit) else -1
        if isinstance(rule, Limit) or rule.kind != "vendor":
            usd = abs(price)
        else:
            usd = abs(price) * 0.01 * _committed(master, rule, x)
        found.append(Dual(kind=rule.kind, subject=rule.subject, month=month, usd=usd))
    return found


def _committed(master: Master, rule: Any, x: Numbers) -> float:
    """Return all commitment dollars."""
    book = master.book
    return sum(float(x[at]) * book.dollars(book.columns[at]) for at, _ in rule.terms if x[at] > 0)


def _served(problem: Problem, ways: Ways, found: Certificate) -> list[Served]:
    """Return who serves what."""
    work, beyond = found.dispatch.work, found.dispatch.beyond
    s, t, _, k = problem.shape
    made: dict[tuple[str, int, int], list[Numbers]] = {}

    def entry(kind: str, option: int, contract: int) -> list[Numbers]:
        key = (kind, option, contract)
        if key not in made:
            none = np.full((s, t), np.inf)
            made[key] = [np.zeros((s, t, k)), np.zeros((s, t)), none, np.zeros((s, t))]
        return made[key]

    hours = problem.month_hours
    for at in np.flatnonzero((found.capacity > 0).any(axis=(1, 2))).tolist():
        row = ways.rows[at]
        kind = {"flexible": "committed", "reserved": "committed"}.get(row.kind, row.kind)
        if kind == "cover":
            continue
        capacity = found.capacity[at] * (1.0 if row.kind == "spend" else hours)
        one = entry(kind, row.option, row.contract)
        one[2] = capacity if not np.isfinite(one[2]).any() else one[2] + capacity
    for column in np.flatnonzero(work.any(axis=(1, 2))).tolist():
        row = ways.rows[int(ways.first[column])]
        kind = {"flexible": "committed", "reserved": "committed"}.get(row.kind, row.kind)
        one = entry(kind, row.option, row.contract)
        one[1] += work[column] * ways.cost[column]
        one[3] += work[column] * ways.use[column]
        if ways.cls[column] >= 0:
            one[0][:, :, int(ways.cls[column])] += work[column]
    _beyond(problem, ways, beyond, entry)
    return [
        Served(
            kind=kind,  # type: ignore[arg-type]
            option=option,
            contract=contract,
            work=one[0],
            usd=one[1],
            capacity=one[2],
            used=one[3],
        )
        for (kind, option, contract), one in made.items()
        if one[0].any() or (np.isfinite(one[2]) & (one[2] > 0)).any()
    ]


def _beyond(problem: Problem, ways: Ways, beyond: Numbers, entry: Any) -> None:
    """Add what is served without limit, or not at all."""
    names = {UNMET: "unmet", ON_DEMAND: "on_demand", SPOT: "spot"}
    for cls in range(problem.shape[3]):
        for code, name in names.items():
            there = (ways.ceiling_kind[cls] == code) & (beyond[cls] > 0)
            for option in np.unique(ways.ceiling_option[cls][there]).tolist():
                on = there & (ways.ceiling_option[cls] == option)
                work = np.where(on, beyond[cls], 0.0)
                one = entry(name, option, -1)
                one[0][:, :, cls] += work
                one[1] += work * ways.ceiling[cls]
                if option >= 0:
                    given = problem.options[option]
                    lost = given.spot_efficiency if code == SPOT else 1.0
                    output = problem.path(given.output) * lost * given.work[cls]
                    one[3] += work / np.where(output > 0, output, 1.0)
