"""Charts of a plan: who serves, ladder of commitments, fan of costs, shares, drawdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec
import numpy as np
from markupsafe import Markup

from polysilicon import units
from polysilicon.planning.dates import Calendar
from polysilicon.planning.plan import Commitment, Drawn, NeedServed, Plan
from polysilicon.planning.words import money, size
from polysilicon.report import svg
from polysilicon.report.columns import labelled

CHART_PX = 180.0
ROW_PX = 20.0
KINDS = {
    "committed": "commitments",
    "dollars": "hourly dollars",
    "spend": "drawdown",
    "on_demand": "by the hour",
    "spot": "spot market",
    "unmet": "left undone",
}


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ladder."""

    label: str
    detail: str
    chart: Markup
    value: str


def calendar(plan: Plan) -> Calendar:
    """Return the months of a plan."""
    year, month = plan.start_month.split("-")
    return Calendar(year=int(year), month=int(month), months=plan.months)


def _ends(plan: Plan) -> tuple[str, str]:
    """Return the names of the first and the last month."""
    return plan.start_month, calendar(plan).name(plan.months - 1)


def _column(at: int, count: int, low: float, high: float, scale: float, style: str) -> Markup:
    """Return a column of a month between two values."""
    top, bottom = (CHART_PX * (1 - min(v / scale, 1.0)) for v in (high, low))
    return svg.rect(at / count, (at + 1) / count, (top, bottom - top), style)


def _tick(at: int, count: int, value: float, scale: float, style: str) -> Markup:
    """Return a mark of a month at a value."""
    place = CHART_PX * (1 - min(value / scale, 1.0))
    return svg.line((at / count, place), ((at + 1) / count, place), style)


def _framed(plan: Plan, shapes: list[Markup], scale: float, form: str, label: str) -> Markup:
    """Return a chart with lines at round values behind it."""
    behind: list[Markup] = []
    front: list[Markup] = []
    for value in svg.nice_ticks(scale, 4):
        place = CHART_PX * (1 - value / scale)
        behind.append(svg.line((0, place), (1, place), "grid"))
        words = units.count(value) if form == "count" else money(value)
        front.append(svg.text(0, place - 3, words, "tick"))
    return labelled([*behind, *shapes, *front], _ends(plan), CHART_PX, label)


def served_chart(plan: Plan, need: NeedServed) -> Markup:
    """Return who serves a need by month, stacked, with the spread and busiest hour of demand."""
    count, months = plan.months, calendar(plan)
    scale = max(*need.high, *need.busiest, 1e-12)
    shapes = []
    ordered = sorted(need.supplied, key=lambda one: list(KINDS).index(one.kind))
    for at in range(count):
        low = 0.0
        for one in ordered:
            high = low + one.work[at]
            if one.work[at] > 0:
                shape = _column(at, count, low, high, scale, f"w-{one.kind} part")
                title = f"{months.name(at)}: {one.by}, {units.count(one.work[at])} {need.unit}"
                shapes.append(svg.titled(shape, title))
            low = high
        middle = (at + 0.5) / count
        ends = [CHART_PX * (1 - value / scale) for value in (need.low[at], need.high[at])]
        shapes.append(svg.line((middle, ends[0]), (middle, ends[1]), "whisker"))
        shapes.append(_tick(at, count, need.busiest[at], scale, "peak"))
    return _framed(plan, shapes, scale, "count", f"{need.need}: who serves it, by month")


def money_chart(plan: Plan) -> Markup:
    """Return mean dollars of each month, stacked by how they are paid."""
    names = ("committed", "spend", "on_demand", "spot", "unmet")
    probability = np.array([one.probability for one in plan.scenarios])
    parts = {
        name: probability @ np.array([getattr(one, name) for one in plan.money]) for name in names
    }
    running = probability @ np.array([one.running for one in plan.money])
    parts["committed"] = parts["committed"] + running
    scale = max(float(sum(parts.values()).max()), 1e-9)
    months, shapes = calendar(plan), []
    for at in range(plan.months):
        low = 0.0
        for name, values in parts.items():
            high = low + max(float(values[at]), 0.0)
            if high > low:
                title = f"{months.name(at)}: {KINDS[name]} {money(high - low)}"
                shape = _column(at, plan.months, low, high, scale, f"w-{name} part")
                shapes.append(svg.titled(shape, title))
            low = high
    return _framed(plan, shapes, scale, "usd", "dollars of each month, by how they are paid")


def fan_chart(plan: Plan) -> Markup:
    """Return all dollars up to each month: the range over scenarios, its middle half, the mean."""
    totals = np.array(
        [list(accumulate(np.multiply(one.months, plan.worth_of_month))) for one in plan.money]
    )
    probability = np.array([one.probability for one in plan.scenarios])
    scale = max(float(totals.max()), 1e-9)
    months, shapes = calendar(plan), []
    for at in range(plan.months):
        values = totals[:, at]
        low, first, third, high = (
            _quantile(values, probability, share) for share in (0.0, 0.25, 0.75, 1.0)
        )
        mean = float(probability @ values)
        wide = _column(at, plan.months, low, high, scale, "fan")
        title = f"to {months.name(at)}: {money(low)} to {money(high)}, mean {money(mean)}"
        shapes.append(svg.titled(wide, title))
        shapes.append(_column(at, plan.months, first, third, scale, "fan"))
        shapes.append(_tick(at, plan.months, mean, scale, "mean"))
    return _framed(plan, shapes, scale, "usd", "all dollars up to each month, over scenarios")


def _quantile(values: np.ndarray, probability: np.ndarray, share: float) -> float:
    """Return the least value that so much probability lies at or below."""
    order = np.argsort(values)
    reached = np.cumsum(probability[order])
    at = min(int(np.searchsorted(reached, share - 1e-12)), len(values) - 1)
    return float(values[order][at])


def ladder(plan: Plan, most: int = 40) -> list[Rung]:
    """Return a bar for each commitment from its first month to its last, dearest first."""
    months = calendar(plan)
    ordered = sorted(plan.commitments, key=lambda one: (one.start_month, -one.usd))
    return [_rung(plan, months, one) for one in ordered[:most]]


def _rung(plan: Plan, months: Calendar, one: Commitment) -> Rung:
    """Return a row of the ladder; what goes on after the horizon ends in a mark."""
    first = max(months.place(one.start_month, "plan"), 0)
    last = months.place(one.end_month, "plan") + 1
    shapes = [svg.rect(0, 1, (6, 8), "track")]
    bar = svg.rect(first / plan.months, min(last / plan.months, 1.0), (3, 14),
                   "w-dollars" if one.unit == "$/h" else "w-committed")  # fmt: skip
    shapes.append(svg.titled(bar, f"{one.start_month} to {one.end_month}"))
    if last > plan.months:
        shapes.append(svg.line((1, 0), (1, ROW_PX), "mark"))
    used = "" if one.utilisation is None else f" · {units.share(one.utilisation)} used"
    label = f"{one.start_month} to {one.end_month}"
    return Rung(
        label=f"{one.program}{' (held)' if one.held else ''}",
        detail=f"{size(one)} · {one.offer} {one.region} · {label}{used}",
        chart=svg.svg(ROW_PX, f"{one.program}: {label}", shapes),
        value=f"{money(one.usd_per_month)}/month",
    )


def share_chart(shares: Mapping[str, float], label: str) -> Markup:
    """Return a stacked bar of shares."""
    shapes, left = [svg.rect(0, 1, (0, ROW_PX), "track")], 0.0
    for place, (name, value) in enumerate(shares.items()):
        shape = svg.rect(left, left + value, (0, ROW_PX), f"s-{place % 6} part")
        shapes.append(svg.titled(shape, f"{name} {units.share(value)}"))
        left += value
    return svg.svg(ROW_PX, label, shapes)


def drawdown_chart(plan: Plan, drawn: Drawn) -> Markup:
    """Return what is spent up to each month, over what is promised up to each period's end."""
    months = calendar(plan)
    spent = list(accumulate(drawn.spend_usd))
    promised = _promised(plan, drawn)
    scale = max(*spent, *promised, 1e-9)
    shapes = []
    for at, value in enumerate(spent):
        title = f"to {months.name(at)}: {money(value)} spent, {money(promised[at])} promised"
        column = _column(at, plan.months, 0.0, value, scale, "w-spend part")
        shapes.append(svg.titled(column, title))
        shapes.append(_tick(at, plan.months, promised[at], scale, "mean"))
    return _framed(plan, shapes, scale, "usd", f"{drawn.contract}: spent and promised")


def _promised(plan: Plan, drawn: Drawn) -> list[float]:
    """Return what is promised up to each month: a period's commitment, month by month."""
    begin = max(calendar(plan).place(drawn.start_month, "plan"), 0)
    periods: Sequence[float] = drawn.commitment_usd
    length = -(-(plan.months - begin) // max(len(periods), 1))
    found, total = [], 0.0
    for at in range(plan.months):
        place = (at - begin) // max(length, 1)
        if at >= begin and place < len(periods):
            total += periods[place] / length
        found.append(total)
    return found
