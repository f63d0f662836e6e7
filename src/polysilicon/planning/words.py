"""A plan in words, for the person who signs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polysilicon import units
from polysilicon.planning.plan import Commitment, NeedServed, Plan

_MOST = 12


def sentences(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """Yield headings and sentences: what to sign, what it costs, why, and what it rests on."""
    yield "What to sign", _sign(plan)
    yield "What it costs", _costs(plan)
    yield "Who serves what", [line for need in plan.needs for line in _serves(need)]
    if plan.drawdown:
        yield "Contracts about money", _drawdown(plan)
    why = _why(plan)
    if why:
        yield "Why", why
    if plan.alternatives:
        yield "Nearly as good", [_alternative(plan, at) for at in range(len(plan.alternatives))]
    yield "What it rests on", _rests(plan)


def money(value: float) -> str:
    """Return dollars as plans need them: cents below a thousand, four digits of millions."""
    sign, amount = "-" if value < 0 else "", abs(value)
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if amount >= scale * 0.99995:
            return f"{sign}${amount / scale:,.4g}{letter}"
    return f"{sign}${amount:,.0f}" if amount >= 1000 else units.usd(value)


def size(one: Commitment) -> str:
    """Return how much of a contract, in words."""
    if one.unit == "$/h":
        return f"{money(one.units)} an hour"
    if one.unit == "MW":
        return f"{one.units:,.3g} MW ({one.machines:,.0f} machines)"
    if one.unit == "contracts":
        return "signed" if one.units == 1 else f"{one.units:,.3g} times"
    whole = abs(one.units - round(one.units)) < 1e-6
    return f"{round(one.units):,}" if whole else f"{one.units:,.1f}"


def _sign(plan: Plan) -> list[str]:
    """Say what to sign."""
    new = [one for one in plan.commitments if not one.held]
    held = [one for one in plan.commitments if one.held]
    if not new:
        lines = ["Nothing: what is needed is cheaper by the hour, or is held already."]
    else:
        lines = [
            order_words(one) for one in sorted(new, key=lambda c: (c.order_month, -c.usd))[:_MOST]
        ]
        rest = new[_MOST:]
        if rest:
            usd = sum(one.usd for one in rest)
            lines.append(f"{len(rest)} later orders of {money(usd)} in all (all: --json).")
    if held:
        usd = sum(one.usd for one in held)
        lines.append(f"Held already: {len(held)} commitments, {money(usd)} until the end.")
    return lines


def order_words(one: Commitment) -> str:
    """Say an order."""
    what = f"{one.order_month}: {size(one)} {one.program}, {one.offer} {one.region}"
    use = "" if one.utilisation is None else f", {units.share(one.utilisation)} used"
    return f"{what}, to {one.end_month}: {money(one.usd_per_month)} a month{use}."


def _costs(plan: Plan) -> list[str]:
    """Say what it costs."""
    end = plan.scenarios
    dear = max(end, key=lambda one: one.cost_usd)
    cheap = min(end, key=lambda one: one.cost_usd)
    lines = [
        (
            f"{money(plan.cost_usd)} over {plan.months} months from {plan.start_month}; no plan"
            f" costs less than {money(plan.lower_bound_usd)} (gap {plan.gap:.2%})."
        ),
        (
            f"With all seconds of the cost model at the ends of their bands:"
            f" {money(plan.low_usd)} to {money(plan.high_usd)}."
        ),
    ]
    if len(end) > 1:
        lines.append(
            f"By scenario {money(cheap.cost_usd)} ({cheap.scenario}) to"
            f" {money(dear.cost_usd)} ({dear.scenario}); the dearest"
            f" {units.share(1 - plan.cvar_alpha)} cost {money(plan.cvar_usd)} on average."
        )
    regret = [one for one in end if one.regret_usd is not None]
    if regret:
        worst = max(regret, key=lambda one: one.regret_usd or 0.0)
        lines.append(
            f"At most {money(worst.regret_usd or 0.0)} more than had one known what comes"
            f" ({worst.scenario})."
        )
    worth = plan.worth
    if worth.stochastic_usd == 0:
        lines.append("A plan for the mean of the scenarios costs no more.")
    elif worth.stochastic_usd is not None:
        lines.append(
            f"Reckoning with scenarios saves {money(worth.stochastic_usd)} over a plan for the"
            " mean of them."
        )
    if worth.perfect_usd is not None:
        lines.append(f"Knowing which comes would save {money(worth.perfect_usd)} on average.")
    if worth.nothing_usd is not None:
        saved = 1 - plan.cost_usd / worth.nothing_usd if worth.nothing_usd else 0.0
        lines.append(
            f"Signing nothing costs {money(worth.nothing_usd)}: the plan saves"
            f" {units.share(saved)}."
        )
    lines.append(
        f"Left to pay by the hour and on the spot market: {money(plan.left_usd)}"
        f" ({units.share(plan.left_share)} of all)."
    )
    return lines


def _serves(need: NeedServed) -> list[str]:
    """Say who serves a need."""
    parts = [f"{one.by} {units.share(one.share)}" for one in need.supplied[:5]]
    more = "" if len(need.supplied) <= 5 else f" and {len(need.supplied) - 5} more"
    ends = f"{units.count(need.demand[0])} to {units.count(need.demand[-1])} {need.unit}"
    return [f"{need.need} ({ends}): {', '.join(parts)}{more}."]


def _drawdown(plan: Plan) -> list[str]:
    """Say how contracts about money are drawn down."""
    lines = []
    for one in plan.drawdown:
        short = sum(one.shortfall_usd)
        text = (
            f"{one.contract} from {one.start_month}: {money(sum(one.commitment_usd))} promised,"
            f" {money(sum(one.spend_usd))} spent"
        )
        lines.append(text + (f", {money(short)} paid for nothing." if short >= 1 else "."))
    return lines


def _why(plan: Plan) -> list[str]:
    """Say why: break-evens of what is bought, the nearest not bought, and limits that bind."""
    bought = [one for one in plan.break_even if one.used is not None]
    others = [one for one in plan.break_even if one.used is None and one.utilisation <= 1]
    lines = [
        f"{one.words}; it is used {units.share(one.used or 0.0)}." for one in bought[: _MOST // 2]
    ]
    lines += [f"{one.words}; it is not bought." for one in others[:3]]
    lines += [f"{one.words}." for one in plan.duals[:4]]
    for one in plan.rights[:3]:
        lines.append(
            f"In {one.scenario} the right to {one.right} is used: {units.count(one.units)} of"
            f" {one.contract} in {one.month}."
        )
    return lines


def _alternative(plan: Plan, at: int) -> str:
    """Say an alternative."""
    one = plan.alternatives[at]
    shares = ", ".join(f"{vendor} {units.share(share)}" for vendor, share in one.share.items())
    return f"{one.name}: {money(one.cost_usd)}, {one.extra:.1%} more ({shares})."


def _rests(plan: Plan) -> list[str]:
    """Say what figures rest on."""
    by_basis: dict[str, set[str]] = {}
    for fact in plan.facts:
        by_basis.setdefault(fact.basis, set()).add(fact.offer)
    lines = [
        f"Work of {_names(sorted(offers))}: {basis}." for basis, offers in sorted(by_basis.items())
    ]
    prices = dict.fromkeys(fact.price_basis for fact in plan.facts)
    lines += [f"Prices: {basis}." for basis in list(prices)[:4]]
    return lines + [f"{note[:1].upper()}{note[1:]}." for note in plan.notes]


def _names(names: Sequence[str]) -> str:
    """Return a few names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
