"""Plans that are given rather than found: priced on any scenarios, every hour dispatched."""

from __future__ import annotations

import msgspec

from polysilicon.planning.answer import Answer
from polysilicon.planning.clock import Stop
from polysilicon.planning.problem import Contract, Held, Problem, SpendContract
from polysilicon.planning.solve import solve

Units = dict[tuple[int, int], float]
"""Units of each contract and order month."""


def units_of(answer: Answer) -> Units:
    """Return what an answer buys, without what was held before."""
    return {(one.contract, one.order): one.units for one in answer.bought if not one.held}


def fixed(problem: Problem, units: Units) -> Problem:
    """Return a problem in which exactly these orders are made, and no others.

    Rights, books and hours are still decided in each scenario.
    """
    contracts: list[Contract] = []
    copies: list[tuple[int, Contract]] = []
    held = list(problem.held)
    for number, contract in enumerate(problem.contracts):
        orders = tuple(order for order in contract.orders if units.get((number, order), 0.0) > 0)
        if isinstance(contract, SpendContract) or not getattr(contract, "tiers", ()):
            held += [Held(contract=number, order=o, units=units[number, o]) for o in orders]
            contracts.append(msgspec.structs.replace(contract, orders=()))
            continue
        # Tiers price an order as a whole: the same contract, once per order, of that size.
        each = [_of_size(contract, order, units[number, order]) for order in orders]
        contracts.append(each[0] if each else msgspec.structs.replace(contract, orders=()))
        copies += [(number, one) for one in each[1:]]
    count = len(contracts)
    contracts += [one for _, one in copies]
    same = [(number, count + at) for at, (number, _) in enumerate(copies)]
    contracts = [_counting(one, same) for one in contracts]
    return msgspec.structs.replace(problem, contracts=tuple(contracts), held=tuple(held))


def _of_size(contract: Contract, order: int, units: float) -> Contract:
    """Return a contract that can be ordered in one month, and of one size."""
    name = f"{contract.name} ordered in month {order}"
    return msgspec.structs.replace(contract, name=name, orders=(order,), least=units, most=units)


def _counting(contract: Contract, same: list[tuple[int, int]]) -> Contract:
    """Return a contract to which fees of copies count as those of what they are copies of."""
    if not isinstance(contract, SpendContract):
        return contract
    more = tuple(copy for number, copy in same if number in contract.counting)
    return msgspec.structs.replace(contract, counting=(*contract.counting, *more))


def cost(
    problem: Problem,
    units: Units,
    *,
    gap: float = 1e-6,
    time_s: float = 60.0,
    stop: Stop | None = None,
) -> Answer:
    """Return what a plan costs on a problem, which may be of other scenarios than it was made for.

    Args:
        problem: with the same contracts by index.
        units: of each contract and order.
        gap: where rights and books are decided.
        time_s: likewise.
        stop: ends that.

    Raises:
        ConflictError: the plan leaves demand that must be served, or breaks a limit.
    """
    return solve(fixed(problem, units), gap=gap, time_s=time_s, stop=stop)
