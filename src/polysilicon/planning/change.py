"""Changes of a problem, as `what-if` takes them: `NAME=VALUE` or `NAME:WHAT=VALUE`.

demand=1.3            factor on all demand; demand:chat=2 on that of one entry
growth=0.2            growth a year of all demand; growth:chat=1 of one entry
price:aws/*=1.1       factor on all prices of offers that are not signed yet
supply:gcp/*=500      most units of each offer, by contract and by the hour
without=gcp           nothing of a vendor, nor what is signed with it; or without=aws/p5*
risk_weight=0.5       how much the dear scenarios count
cvar_alpha=0.95       which of them are dear
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec
import numpy as np

from polysilicon.errors import InputError, nearest
from polysilicon.planning.compose import Composed
from polysilicon.planning.file import ProblemFile
from polysilicon.planning.problem import (
    INF,
    Contract,
    DollarContract,
    Option,
    Path,
    Problem,
    Right,
    SpendContract,
    UnitContract,
)

_IN_FILE = ("growth", "risk_weight", "cvar_alpha")
_IN_NUMBERS = ("demand", "price", "supply", "without")
_WITHOUT_NAME = ("without", "risk_weight", "cvar_alpha")
_NAMED = ("price", "supply")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change.

    Attributes:
        told: as it was written.
        what: is changed.
        name: of a demand, or pattern of offers; blank for all.
        value: number; not a number for `without`, whose vendor or pattern is the name.
    """

    told: str
    what: str
    name: str
    value: float


def change_of(told: str) -> Change:
    """Return a change as it was written.

    Raises:
        InputError: nothing that can be changed so.
    """
    left, mark, right = told.rpartition("=")
    what, _, name = left.partition(":")
    where, known = f"--set {told}", (*_IN_FILE, *_IN_NUMBERS)
    if not mark or not left or not right:
        mend = "write NAME=VALUE, such as demand=1.3"
        raise InputError("it has no value", where=where, mend=mend)
    if what not in known:
        mend = nearest(what, known) or f"known: {', '.join(known)}"
        raise InputError(f"{what!r} cannot be changed", where=where, mend=mend)
    if name and what in _WITHOUT_NAME:
        raise InputError(f"{what} is of the whole problem", where=where, mend=f"{what}={right}")
    if not name and what in _NAMED:
        raise InputError(f"{what} of what?", where=where, mend=f"such as {what}:aws/*={right}")
    if what == "without":
        return Change(told=told, what=what, name=right, value=math.nan)
    try:
        value = float(right)
    except ValueError:
        raise InputError(f"{right!r} is no number", where=where) from None
    low = -1.0 if what == "growth" else 0.0
    high = 1.0 if what in ("risk_weight", "cvar_alpha") else INF
    if not low <= value <= high or not math.isfinite(value):
        raise InputError(f"{value:g} cannot be", where=where, mend=f"{low:g} to {high:g}")
    return Change(told=told, what=what, name=name, value=value)


def in_file(file: ProblemFile, changes: Iterable[Change]) -> ProblemFile:
    """Return a problem file with those changes that it can tell itself.

    Raises:
        InputError: a demand that is not there.
    """
    for one in changes:
        if one.what in ("risk_weight", "cvar_alpha"):
            risk = msgspec.structs.replace(file.risk, **{one.what: one.value})
            file = msgspec.structs.replace(file, risk=risk)
        elif one.what == "growth":
            _known(one, [asked.name for asked in file.demand], "demand")
            demand = [
                msgspec.structs.replace(asked, growth_per_year=one.value)
                if not one.name or asked.name == one.name
                else asked
                for asked in file.demand
            ]
            file = msgspec.structs.replace(file, demand=tuple(demand))
    return file


def in_numbers(composed: Composed, changes: Iterable[Change]) -> Composed:
    """Return a problem in numbers with the other changes; options and contracts stay in place.

    Raises:
        InputError: a demand, offer or vendor that is not there.
    """
    problem = composed.problem
    for one in changes:
        if one.what == "demand":
            problem = _demand(composed, problem, one)
        elif one.what in ("price", "supply", "without"):
            problem = _offers(composed, problem, one)
    return msgspec.structs.replace(composed, problem=problem)


def _known(one: Change, names: Sequence[str], what: str) -> None:
    """Raise `InputError` where the name of a change is none of those that are there."""
    if one.name and one.name not in names:
        mend = nearest(one.name, names) or f"known: {', '.join(names[:8])}"
        raise InputError(f"no {what} {one.name!r}", where=f"--set {one.told}", mend=mend)


def _demand(composed: Composed, problem: Problem, one: Change) -> Problem:
    """Return a problem with more or less demand."""
    entries = [need.demand for need in composed.needs]
    _known(one, list(dict.fromkeys(entries)), "demand")
    factor = np.array([one.value if one.name in ("", entry) else 1.0 for entry in entries])
    redundancy = tuple(
        msgspec.structs.replace(rule, demand=rule.demand * factor) for rule in problem.redundancy
    )
    return msgspec.structs.replace(problem, demand=problem.demand * factor, redundancy=redundancy)


def _offers(composed: Composed, problem: Problem, one: Change) -> Problem:
    """Return a problem with changed options, and contracts of these."""
    mine = {
        at
        for at, place in enumerate(composed.places)
        if fnmatchcase(place.asked.name, one.name) or place.vendor == one.name
    }
    if not mine:
        names = {p.asked.name for p in composed.places} | {p.vendor for p in composed.places}
        mend = nearest(one.name, names) or f"known: {', '.join(sorted(names)[:8])}"
        raise InputError(f"no offer is {one.name!r}", where=f"--set {one.told}", mend=mend)
    options = tuple(
        _option(option, one) if at in mine else option for at, option in enumerate(problem.options)
    )
    if one.what == "price":
        contracts = tuple(_dearer(contract, mine, one.value) for contract in problem.contracts)
        return msgspec.structs.replace(problem, options=options, contracts=contracts)
    if one.what == "supply":
        return msgspec.structs.replace(problem, options=options)
    gone = {at for at, contract in enumerate(problem.contracts) if _of(contract) <= mine}
    held = tuple(each for each in problem.held if each.contract not in gone)
    contracts = tuple(
        msgspec.structs.replace(contract, most=0.0) if at in gone else contract
        for at, contract in enumerate(problem.contracts)
    )
    return msgspec.structs.replace(problem, options=options, contracts=contracts, held=held)


def _of(contract: Contract) -> set[int]:
    """Return the options that a contract is of."""
    if isinstance(contract, UnitContract):
        return {contract.option, *(at for at, _ in contract.flexible)}
    return set(contract.options)


def _option(option: Option, one: Change) -> Option:
    """Return an option with the change."""
    if one.what == "price":
        return msgspec.structs.replace(
            option,
            on_demand_usd_per_h=_times(option.on_demand_usd_per_h, one.value),
            spot_usd_per_h=_times(option.spot_usd_per_h, one.value),
        )
    most = one.value if one.what == "supply" else 0.0
    return msgspec.structs.replace(
        option,
        supply=most,
        on_demand_limit=np.minimum(option.on_demand_limit, most),
        spot_limit=np.minimum(option.spot_limit, most),
    )


def _times(path: Path, factor: float) -> Path:
    """Return prices with a factor; what is not offered stays so."""
    array = np.asarray(path, np.float64)
    return np.where(np.isfinite(array), array * factor, INF)


def _dearer(contract: Contract, mine: set[int], factor: float) -> Contract:
    """Return a contract with other prices, where it is of some options and not signed."""
    if not contract.orders:
        return contract
    if isinstance(contract, UnitContract):
        if contract.option not in mine:
            return contract
        rights = tuple(_right(right, factor) for right in contract.rights)
        return msgspec.structs.replace(
            contract,
            upfront_usd=_times(contract.upfront_usd, factor),
            monthly_usd=_times(contract.monthly_usd, factor),
            rights=rights,
        )
    assert isinstance(contract, DollarContract | SpendContract)
    rates = tuple(
        _times(rate, factor) if at in mine else rate
        for at, rate in zip(contract.options, contract.rate_usd_per_h, strict=True)
    )
    return msgspec.structs.replace(contract, rate_usd_per_h=rates)


def _right(right: Right, factor: float) -> Right:
    """Return a right whose prices change with those of its contract."""
    if right.kind == "sell":
        return right
    return msgspec.structs.replace(right, monthly_usd=right.monthly_usd * factor)
