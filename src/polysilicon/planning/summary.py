"""What a solver's answer says, in the words of the problem file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.placement.program import Numbers
from polysilicon.planning.answer import Answer, Bought, Served
from polysilicon.planning.bands import band_of, facts_of
from polysilicon.planning.compose import Composed
from polysilicon.planning.plan import (
    Alternative,
    Commitment,
    Drawn,
    DualUsd,
    Money,
    NeedServed,
    Plan,
    RightUsed,
    Supplied,
    Worth,
)
from polysilicon.planning.problem import DollarContract, SpendContract, UnitContract
from polysilicon.planning.sensitivity import break_evens
from polysilicon.planning.shapes import Units
from polysilicon.planning.totals import left_usd, scenario_costs, told_of_rights
from polysilicon.planning.trim import trimmed
from polysilicon.planning.words import money

WAYS = {
    "committed": "commitments",
    "dollars": "hourly dollars",
    "spend": "drawdown",
    "on_demand": "by the hour",
    "spot": "spot market",
    "unmet": "left undone",
}
_LEAST = 1e-9


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of a plan beside itself.

    Attributes:
        regret_usd: by scenario, or nothing.
        alternatives: plans nearly as good.
        worth: of reckoning with scenarios.
    """

    regret_usd: Sequence[float] = ()
    alternatives: Sequence[Alternative] = ()
    worth: Worth = Worth()


NOTHING = Explored()


def plan_of(composed: Composed, answer: Answer, explored: Explored = NOTHING) -> Plan:
    """Return a plan in words and figures."""
    problem = composed.problem
    answer = trimmed(problem, answer)
    low, high = band_of(composed, answer)
    commitments, left = _commitments(composed, answer), left_usd(problem, answer)
    return Plan(
        title=composed.file.title,
        status=answer.status,
        cost_usd=answer.cost_usd,
        low_usd=answer.cost_usd * low,
        high_usd=answer.cost_usd * high,
        lower_bound_usd=answer.lower_bound_usd,
        gap=answer.gap,
        mean_usd=answer.mean_usd,
        cvar_usd=answer.cvar_usd,
        cvar_alpha=problem.cvar_alpha,
        risk_weight=problem.risk_weight,
        seconds=answer.seconds,
        start_month=composed.calendar.name(0),
        months=composed.calendar.months,
        scenarios=scenario_costs(problem, answer, explored.regret_usd),
        commitments=commitments,
        money=_money(composed, answer),
        needs=_needs(composed, answer),
        worth_of_month=problem.money.tolist(),
        left_usd=left,
        left_share=left / answer.mean_usd if answer.mean_usd > 0 else 0.0,
        drawdown=_drawn(composed, answer),
        rights=_rights(composed, answer),
        vendors=_shares(commitments, "vendor"),
        regions=_shares(commitments, "region"),
        alternatives=list(explored.alternatives),
        duals=_duals(composed, answer),
        break_even=break_evens(composed, commitments),
        worth=explored.worth,
        facts=facts_of(composed),
        notes=[*composed.notes, *told_of_rights(problem)],
    )


def _commitments(composed: Composed, answer: Answer) -> list[Commitment]:
    """Return all orders."""
    found = [
        _commitment(composed, answer, one)
        for one in answer.bought
        if not isinstance(composed.problem.contracts[one.contract], SpendContract)
    ]
    return found + [_spending(composed, answer, at) for at in range(len(answer.spend))]


def _commitment(composed: Composed, answer: Answer, bought: Bought) -> Commitment:
    """Return an order of units or of hourly dollars."""
    calendar = composed.calendar
    contract = composed.problem.contracts[bought.contract]
    asked = composed.agreements.asked[bought.contract]
    assert not isinstance(contract, SpendContract)
    units_contract = isinstance(contract, UnitContract)
    if isinstance(contract, UnitContract):
        options: Sequence[int] = [contract.option, *(at for at, _ in contract.flexible)]
    else:
        options = contract.options
    places = [composed.places[at] for at in options]
    unit = asked.unit if isinstance(asked, Units) else "units"
    months = bought.last - bought.first + 1
    start = bought.order + contract.lead_months
    return Commitment(
        contract=asked.name,
        shape=shape_of(asked),
        offer=_joined([place.asked.name for place in places]),
        region=_joined([place.region for place in places]),
        vendor=places[0].vendor,
        program=contract.program,
        order_month=calendar.name(bought.order),
        start_month=calendar.name(start),
        end_month=calendar.name(start + contract.term_months - 1),
        term_months=contract.term_months,
        units=bought.units,
        unit=unit if units_contract else "$/h",
        machines=bought.units * contract.per_unit if isinstance(contract, UnitContract) else 0.0,
        usd_per_month=float(bought.usd.sum()) / max(months, 1),
        usd=float(bought.usd.sum()),
        utilisation=_utilisation(composed, answer, bought),
        whole=isinstance(contract, UnitContract) and contract.whole,
        held=bought.held,
        basis=composed.agreements.basis[bought.contract],
    )


def shape_of(asked: object) -> str:
    """Return the shape of a contract, as its file names it."""
    return str(type(asked).__struct_config__.tag)  # type: ignore[attr-defined]


def _joined(names: Sequence[str]) -> str:
    """Return names once each, a few of them."""
    each = list(dict.fromkeys(names))
    return ", ".join(each[:4]) + (f" and {len(each) - 4} more" if len(each) > 4 else "")


def _utilisation(composed: Composed, answer: Answer, bought: Bought) -> float | None:
    """Return how much of a commitment is used, on average over scenarios and its months.

    Units of one option are alike: they share what is used of it.
    """
    problem = composed.problem
    contract = problem.contracts[bought.contract]
    months = slice(bought.first, bought.last + 1)

    def mine(one: Served) -> bool:
        if isinstance(contract, DollarContract):
            return one.kind == "dollars" and one.contract == bought.contract
        assert isinstance(contract, UnitContract)
        if contract.flexible:
            return one.kind == "committed" and one.contract == bought.contract
        return one.kind == "committed" and one.contract < 0 and one.option == contract.option

    found = [one for one in answer.served if mine(one)]
    used = sum(float(problem.probability @ one.used[:, months].sum(axis=1)) for one in found)
    there = sum(float(problem.probability @ one.capacity[:, months].sum(axis=1)) for one in found)
    return used / there if np.isfinite(there) and there > _LEAST else None


def _spending(composed: Composed, answer: Answer, at: int) -> Commitment:
    """Return a contract about money spent."""
    drawn = answer.spend[at]
    calendar, problem = composed.calendar, composed.problem
    contract = problem.contracts[drawn.contract]
    assert isinstance(contract, SpendContract)
    places = [composed.places[option] for option in contract.options]
    committed = float(drawn.commitment_usd.sum())
    short = float(problem.probability @ drawn.shortfall_usd.sum(axis=1))
    start = drawn.order + contract.lead_months
    last = min(start + contract.term_months, calendar.months)
    months = max(last - max(start, 0), 1)
    return Commitment(
        contract=composed.agreements.asked[drawn.contract].name,
        shape=shape_of(composed.agreements.asked[drawn.contract]),
        offer=_joined([place.asked.name for place in places]),
        region=_joined([place.region for place in places]),
        vendor=contract.vendor,
        program=contract.program,
        order_month=calendar.name(drawn.order),
        start_month=calendar.name(start),
        end_month=calendar.name(start + contract.term_months - 1),
        term_months=contract.term_months,
        units=drawn.units,
        unit="contracts",
        machines=0.0,
        usd_per_month=committed / months,
        usd=committed,
        utilisation=1.0 - min(short / committed, 1.0) if committed > 0 else None,
        whole=contract.whole,
        held=drawn.order < 0,
        basis=composed.agreements.basis[drawn.contract],
    )


def _money(composed: Composed, answer: Answer) -> list[Money]:
    """Return dollars by month and scenario."""
    shape = answer.fixed_usd.shape
    by_kind = {kind: np.zeros(shape) for kind in WAYS}
    for one in answer.served:
        by_kind[one.kind] = by_kind[one.kind] + one.usd
    return [
        Money(
            scenario=name,
            committed=(
                answer.fixed_usd[at] - answer.drawn_usd[at] + by_kind["dollars"][at]
            ).tolist(),
            spend=(answer.drawn_usd[at] + by_kind["spend"][at]).tolist(),
            on_demand=by_kind["on_demand"][at].tolist(),
            spot=by_kind["spot"][at].tolist(),
            running=by_kind["committed"][at].tolist(),
            unmet=by_kind["unmet"][at].tolist(),
        )
        for at, name in enumerate(composed.problem.scenarios)
    ]


def _needs(composed: Composed, answer: Answer) -> list[NeedServed]:
    """Return who serves each need."""
    problem = composed.problem
    mean = np.einsum("sthk,th->stk", problem.demand, problem.hours)
    mean = mean / problem.month_hours[None, :, None]
    expected = np.einsum("s,stk->tk", problem.probability, mean)
    busiest = np.einsum("s,sthk->thk", problem.probability, problem.demand).max(axis=1)
    found = []
    for at, need in enumerate(composed.needs):
        found.append(
            NeedServed(
                need=need.name,
                unit=need.unit,
                demand=expected[:, at].tolist(),
                low=mean[:, :, at].min(axis=0).tolist(),
                high=mean[:, :, at].max(axis=0).tolist(),
                busiest=busiest[:, at].tolist(),
                supplied=_supplied(composed, answer, at),
            )
        )
    return found


def _supplied(composed: Composed, answer: Answer, need: int) -> list[Supplied]:
    """Return who serves a need, the largest share first."""
    problem = composed.problem
    hours = problem.month_hours
    work: dict[tuple[str, str, str], Numbers] = {}
    for one in answer.served:
        each = problem.probability @ one.work[:, :, need] / hours
        if each.max(initial=0.0) <= _LEAST:
            continue
        key = (*_words(composed, one), one.kind)
        work[key] = work.get(key, np.zeros(len(each))) + each
    total = float(sum(each @ hours for each in work.values()))
    found = [
        Supplied(
            by=by, kind=kind, vendor=vendor, share=float(each @ hours) / total, work=each.tolist()
        )
        for (by, vendor, kind), each in work.items()
    ]
    return sorted(found, key=lambda one: -one.share)


def _words(composed: Composed, one: Served) -> tuple[str, str]:
    """Return who serves, and the vendor."""
    if one.kind == "unmet":
        return "nobody", ""
    words = WAYS[one.kind]
    if one.contract >= 0:
        contract = composed.problem.contracts[one.contract]
        words = composed.agreements.asked[one.contract].name
        if one.option < 0:
            if isinstance(contract, UnitContract):
                return words, composed.places[contract.option].vendor
            return words, contract.vendor
    place = composed.places[one.option]
    return f"{words}: {place.asked.name} {place.region}", place.vendor


def _drawn(composed: Composed, answer: Answer) -> list[Drawn]:
    """Return how contracts about money spent are drawn down."""
    probability = composed.problem.probability
    return [
        Drawn(
            contract=composed.agreements.asked[one.contract].name,
            start_month=composed.calendar.name(
                one.order + composed.problem.contracts[one.contract].lead_months
            ),
            commitment_usd=one.commitment_usd.tolist(),
            spend_usd=(probability @ one.spend_usd).tolist(),
            shortfall_usd=(probability @ one.shortfall_usd).tolist(),
            carried_usd=(probability @ one.carried_usd).tolist(),
        )
        for one in answer.spend
    ]


def _rights(composed: Composed, answer: Answer) -> list[RightUsed]:
    """Return the rights that are used."""
    problem = composed.problem
    found = []
    for one in answer.rights:
        contract = problem.contracts[one.contract]
        assert isinstance(contract, UnitContract)
        found.append(
            RightUsed(
                contract=composed.agreements.asked[one.contract].name,
                right=contract.rights[one.right].kind,
                scenario=problem.scenarios[one.scenario],
                month=composed.calendar.name(one.month),
                units=one.units,
            )
        )
    return found


def _shares(commitments: Sequence[Commitment], of: str) -> dict[str, float]:
    """Return the share of commitment dollars by vendor or region."""
    totals: dict[str, float] = {}
    for one in commitments:
        totals[getattr(one, of)] = totals.get(getattr(one, of), 0.0) + one.usd
    total = sum(totals.values())
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return {name: usd / total for name, usd in ranked} if total > 0 else {}


_DUALS = {
    "supply": "one unit more of {subject} would save {usd}",
    "cap": "one more in {subject} would save {usd}",
    "vendor": "one point more of {subject}'s share would save {usd}",
    "redundancy": "that {subject} may be lost binds",
    "most": "one unit more of {subject} would save {usd}",
}


def _duals(composed: Composed, answer: Answer) -> list[DualUsd]:
    """Return what limits cost over all months in which they bind, the dearest first."""
    sums: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for one in answer.duals:
        if one.usd > _LEAST:
            sums.setdefault((one.kind, one.subject), []).append((one.usd, one.month))
    found = []
    for (kind, subject), each in sums.items():
        total, most = sum(usd for usd, _ in each), max(each)[1]
        month = composed.calendar.name(most) if most >= 0 else ""
        text = _DUALS.get(kind, "one more of {subject} would save {usd}")
        words = text.format(subject=subject, usd=money(total))
        if month:
            words += f" in {month}" if len(each) == 1 else f" in {len(each)} months, {month} most"
        dual = DualUsd(
            kind=kind, subject=subject, month=month, months=len(each), usd=total, words=words
        )
        found.append(dual)
    return sorted(found, key=lambda dual: -dual.usd)
