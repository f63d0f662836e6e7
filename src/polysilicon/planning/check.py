"""Numbers of a problem that make no sense, told one at a time."""

from __future__ import annotations

import numpy as np

from polysilicon.errors import InputError
from polysilicon.planning.contracts import payments, service
from polysilicon.planning.problem import (
    Contract,
    DollarContract,
    Option,
    Path,
    Problem,
    Right,
    SpendContract,
    UnitContract,
)


def check(problem: Problem) -> None:
    """Raise `InputError` at the first thing that makes no sense."""
    _shapes(problem)
    for number, option in enumerate(problem.options):
        _option(problem, option, f"option {number} ({option.name})")
    names = [contract.name for contract in problem.contracts]
    for name in names:
        _need(names.count(name) == 1, f"two contracts have the name {name!r}", "name them apart")
    for contract in problem.contracts:
        _contract(problem, contract, f"contract {contract.name}")
    for one in problem.held:
        _need(0 <= one.contract < len(names), f"held: there is no contract {one.contract}", "")
        _need(one.units >= 0, f"held {names[one.contract]}: units below 0", "")
    for cap in problem.caps:
        _indices(problem, cap.options, f"cap {cap.name}")
        _need(len(cap.weights) == len(cap.options), f"cap {cap.name}: a weight per option", "")
    for vendor, share in problem.vendor_share_max.items():
        known = {option.vendor for option in problem.options}
        _need(0 <= share <= 1, f"vendor share of {vendor}: {share} is not from 0 to 1", "")
        _need(vendor in known, f"vendor share of {vendor}: no option is theirs", "mend its name")
    for rule in problem.redundancy:
        shape = problem.demand.shape[1:2] + problem.demand.shape[3:]
        _need(rule.demand.shape == shape, f"redundancy: demand must be of shape {shape}", "")


def _need(so: object, what: str, mend: str) -> None:
    if not so:
        raise InputError(what, mend=mend)


def _numbers(value: object, where: str, *, infinite: bool = False) -> None:
    array = np.asarray(value, dtype=np.float64)
    good = ~np.isnan(array) if infinite else np.isfinite(array)
    _need(good.all() and (array >= 0).all(), f"{where}: a number is missing or below 0", "")


def _shapes(problem: Problem) -> None:
    """Check arrays of the problem itself."""
    _need(problem.demand.ndim == 4, "demand must be of shape (S, T, H, K)", "")
    s, t, h, k = problem.shape
    _need(min(s, t, h, k) > 0, "demand has no scenario, month, hour or class", "")
    for name, array, shape in (
        ("probability", problem.probability, (s,)),
        ("hours", problem.hours, (t, h)),
        ("unmet_usd_per_h", problem.unmet_usd_per_h, (k,)),
        ("money", problem.money, (t,)),
    ):
        _need(array.shape == shape, f"{name} must be of shape {shape}, not {array.shape}", "")
        _numbers(array, name, infinite=name == "unmet_usd_per_h")
    _numbers(problem.demand, "demand")
    total = float(problem.probability.sum())
    _need(abs(total - 1) < 1e-6, f"probabilities sum to {total:g}, not to 1", "")
    _need((problem.hours > 0).all(), "hours: each representative hour must stand for some", "")
    _need((problem.money > 0).all(), "money: a dollar must count for something", "")
    _need(0 <= problem.cvar_alpha < 1, "cvar_alpha must be at least 0 and below 1", "")
    _need(0 <= problem.risk_weight <= 1, "risk_weight must be from 0 to 1", "")
    _need(len(problem.classes) == k, f"{len(problem.classes)} class names for {k} classes", "")
    _need(len(problem.scenarios) == s, f"{len(problem.scenarios)} scenario names for {s}", "")


def _broadcast(problem: Problem, value: Path, where: str, *, months: bool = False) -> None:
    shape = problem.demand.shape[1:2] if months else problem.demand.shape[:2]
    try:
        np.broadcast_to(np.asarray(value, dtype=np.float64), shape)
    except ValueError:
        raise InputError(f"{where}: shape {np.shape(value)} does not fit {shape}") from None


def _option(problem: Problem, option: Option, where: str) -> None:
    k = problem.shape[3]
    _need(option.work.shape == (k,), f"{where}: work must be of shape ({k},)", "")
    _numbers(option.work, f"{where}: work")
    for name in ("output", "on_demand_usd_per_h", "on_demand_limit", "spot_usd_per_h"):
        _broadcast(problem, getattr(option, name), f"{where}: {name}")
        _numbers(getattr(option, name), f"{where}: {name}", infinite=name != "output")
    for name in ("spot_limit", "running_usd_per_h"):
        _broadcast(problem, getattr(option, name), f"{where}: {name}")
        _numbers(getattr(option, name), f"{where}: {name}", infinite=name == "spot_limit")
    _broadcast(problem, option.supply, f"{where}: supply", months=True)
    _numbers(option.supply, f"{where}: supply", infinite=True)
    _need(0 < option.availability <= 1, f"{where}: availability must be over 0, up to 1", "")
    _need(0 < option.spot_efficiency <= 1, f"{where}: spot_efficiency must be over 0, up to 1", "")


def _indices(problem: Problem, options: tuple[int, ...], where: str) -> None:
    count = len(problem.options)
    for index in options:
        _need(0 <= index < count, f"{where}: there is no option {index}", "")


def _contract(problem: Problem, contract: Contract, where: str) -> None:
    months = problem.shape[1]
    _need(contract.term_months > 0, f"{where}: the term is no month long", "")
    orders = contract.orders
    _need(list(orders) == sorted(set(orders)), f"{where}: orders must rise", "")
    _need(all(0 <= o < months for o in orders), f"{where}: an order is outside the horizon", "")
    _need(contract.most >= 0, f"{where}: most is below 0", "")
    if isinstance(contract, UnitContract):
        _units(problem, contract, where)
        return
    _indices(problem, contract.options, where)
    same = len(contract.options) == len(contract.rate_usd_per_h)
    _need(same, f"{where}: a rate per option", "")
    for rate in contract.rate_usd_per_h:
        _broadcast(problem, rate, f"{where}: rate")
        _need((np.asarray(rate) > 0).all(), f"{where}: a rate is 0 or below", "")
    if isinstance(contract, DollarContract):
        _need(0 <= contract.upfront_share <= 1, f"{where}: upfront_share must be 0 to 1", "")
        _need(contract.lead_months >= 0, f"{where}: lead time below 0", "")
        return
    _spend(contract, where)


def _spend(contract: SpendContract, where: str) -> None:
    _need(contract.period_months > 0, f"{where}: a period is no month long", "")
    _numbers(contract.commitment_usd, f"{where}: commitment_usd")
    for name in ("excess_carried", "shortfall_credit"):
        _need(0 <= getattr(contract, name) <= 1, f"{where}: {name} must be from 0 to 1", "")
    both = contract.excess_carried > 0 and contract.shortfall_credit > 0
    _need(not both, f"{where}: excess is carried over and shortfall credited", "choose one")
    bounded = contract.whole or np.isfinite(contract.headroom)
    _need(bounded, f"{where}: spend without limit", "say whole = true, or give a headroom")
    _tiers(contract, where)
    if contract.tiers:
        one = contract.whole and contract.most == 1
        _need(one, f"{where}: tiers need a contract that is signed once, whole", "")


def _tiers(contract: UnitContract | SpendContract, where: str) -> None:
    above = [tier.above for tier in contract.tiers]
    _need(above == sorted(set(above)), f"{where}: tiers must rise", "")
    _need(all(a > 0 for a in above), f"{where}: a tier begins at 0 or below", "")
    _need(all(tier.factor >= 0 for tier in contract.tiers), f"{where}: a tier pays back", "")


def _units(problem: Problem, contract: UnitContract, where: str) -> None:
    pairs = [(contract.option, contract.per_unit), *contract.flexible]
    _indices(problem, tuple(index for index, _ in pairs), where)
    _need(all(amount > 0 for _, amount in pairs), f"{where}: units that give nothing", "")
    for name in ("upfront_usd", "monthly_usd", "salvage_usd"):
        _broadcast(problem, getattr(contract, name), f"{where}: {name}", months=True)
        _numbers(getattr(contract, name), f"{where}: {name}")
    _need(contract.lead_months >= 0, f"{where}: lead time below 0", "")
    _need(contract.least <= contract.most, f"{where}: least is above most", "")
    _need(not (contract.flexible and contract.at_on_demand), f"{where}: reserved and flexible", "")
    if contract.at_on_demand:
        price = problem.path(problem.options[contract.option].on_demand_usd_per_h)
        _need(np.isfinite(price).all(), f"{where}: no on-demand price to pay", "")
    _tiers(contract, where)
    for right in contract.rights:
        _broadcast(problem, right.usd, f"{where}: right to {right.kind}", months=True)
        inside = all(0 <= month < problem.shape[1] for month in right.months)
        _need(inside, f"{where}: right to {right.kind} outside the horizon", "")
        if right.kind == "exchange":
            _indices(problem, (right.option,), f"{where}: right to exchange")
        _need(not contract.flexible or right.kind != "exchange", f"{where}: flexible units", "")
        if right.kind == "sell" and not np.isfinite(contract.most) and not contract.tiers:
            _resale(problem, contract, right, where)


def _resale(problem: Problem, contract: UnitContract, right: Right, where: str) -> None:
    """Raise `InputError` where units bring more when they are sold than was paid for them."""
    got = problem.by_month(right.usd) * problem.money
    for order in contract.orders:
        first, last = service(contract, order, problem.shape[1])
        paid = payments(problem, contract, order) * problem.money
        fee = float(problem.by_month(contract.monthly_usd)[order])
        spared = fee * np.cumsum(problem.money[::-1])[::-1] * right.ends_fees
        ends = np.append(spared, 0.0)
        for month in right.months:
            if first <= month < last:
                left = float(paid.sum() - got[month] - ends[month] + ends[last])
                what = f"{where}: an order of month {order + 1} that is sold in month {month + 1}"
                worth = f"earns {-left:.6g} dollars a unit, whatever it does"
                _need(left >= -1e-9 * abs(got[month]), f"{what} {worth}", "lower what it sells for")
