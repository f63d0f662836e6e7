"""The report's charts of sums: where the time went, how the agents did, and the cost elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from polysilicon import units
from polysilicon.catalog.fleet import LOCAL
from polysilicon.report import svg
from polysilicon.report.source import ElsewhereRow
from polysilicon.report.terminal import BLANK, band, cheapest, seconds, share, usd
from polysilicon.workload.describe import Group

BAR_PX = 20.0


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a chart: a label, a second line, the shapes, and the value in words."""

    label: str
    detail: str = ""
    chart: Any
    value: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One offer of the cost chart: its row, a bar for the cost, a dot with a band for the time."""

    row: Any
    cost: str
    cost_chart: Any
    p50: str
    band: str
    time_chart: Any
    here: bool


class OfferChart(msgspec.Struct, frozen=True, kw_only=True):
    """The cost chart: offers, cheapest first, and the axis of the time column."""

    offers: list[Offer]
    time_axis: Any


def time_bars(groups: Sequence[Group]) -> list[Bar]:
    """Return a stacked bar for each agent: seconds of service, by kind and name."""
    by_agent: dict[str, list[Group]] = {}
    for group in groups:
        by_agent.setdefault(group.agent, []).append(group)
    totals = {agent: sum(g.time_s for g in parts) for agent, parts in by_agent.items()}
    longest, everything = max(totals.values(), default=0.0), sum(totals.values())
    bars = []
    for agent in sorted(totals, key=lambda name: -totals[name]):
        total_s = totals[agent]
        parts = sorted(by_agent[agent], key=lambda g: (svg.kind_class(g.kind), -g.time_s))
        top = sorted(parts, key=lambda g: -g.time_s)[:4]
        words = [f"{g.name} {share(g.time_s / total_s)}" for g in top if total_s > 0]
        part = share(total_s / everything) if everything > 0 else BLANK
        bars.append(
            Bar(
                label=agent,
                detail=" · ".join(words),
                chart=_stack(parts, longest, f"{agent}: {', '.join(words)}"),
                value=f"{units.seconds(total_s)} ({part})",
            )
        )
    return bars


def outcome_bar(tasks: int, ok: int | None, quality: float | None) -> Markup:
    """Return a bar of the tasks that ended well, with a mark where the quality is."""
    shapes = [svg.rect(0, 1, (6, 8), "track")]
    words = [f"{tasks} tasks"]
    if ok is not None and tasks:
        shapes.append(
            svg.titled(svg.rect(0, ok / tasks, (6, 8), "ok"), f"{ok} of {tasks} ended ok")
        )
        words.append(f"{ok} ended ok")
    if quality is not None:
        mark = svg.line((quality, 1), (quality, 19), "mark")
        shapes.append(svg.titled(mark, f"quality {share(quality)}"))
        words.append(f"quality {share(quality)}")
    return svg.svg(BAR_PX, ", ".join(words), shapes)


def offer_chart(rows: Sequence[ElsewhereRow]) -> OfferChart:
    """Return the cost of the same work on each offer: cost bars from zero, times on a log axis."""
    ordered = sorted(rows, key=cheapest)
    dearest = max((row.usd_per_1000_tasks or 0.0 for row in ordered), default=0.0)
    low_s, high_s = _time_range(ordered)
    offers = [
        Offer(
            row=row,
            cost=usd(row.usd_per_1000_tasks),
            cost_chart=_cost_bar(row, dearest, "here" if row.offer == LOCAL else "cost"),
            p50=seconds(row.p50_s),
            band=band(row.low_s, row.high_s),
            time_chart=_time_dot(row, low_s, high_s),
            here=row.offer == LOCAL,
        )
        for row in ordered
    ]
    return OfferChart(offers=offers, time_axis=_time_axis(low_s, high_s))


def _stack(parts: Sequence[Group], longest_s: float, label: str) -> Markup:
    """Return one stacked bar; the longest agent's bar fills the width."""
    shapes, left = [svg.rect(0, 1, (0, BAR_PX), "track")], 0.0
    for group in parts:
        right = left + (group.time_s / longest_s if longest_s > 0 else 0.0)
        shape = svg.rect(left, right, (0, BAR_PX), f"{svg.kind_class(group.kind)} part")
        title = (
            f"{group.kind} {group.name}: {units.seconds(group.time_s)} in {group.steps} steps, "
            f"p50 {seconds(group.p50_s)}"
        )
        shapes.append(svg.titled(shape, title))
        left = right
    return svg.svg(BAR_PX, label, shapes)


def _cost_bar(row: ElsewhereRow, dearest_usd: float, style: str) -> Markup:
    """Return the cost of one offer as a bar from zero; no bar where the cost is not known."""
    shapes = [svg.rect(0, 1, (4, 12), "track")]
    cost = row.usd_per_1000_tasks
    if cost is not None and dearest_usd > 0:
        shapes.append(svg.rect(0, max(cost / dearest_usd, 0.004), (4, 12), style))
    return svg.svg(BAR_PX, f"{row.offer}: {usd(cost)} per 1,000 tasks", shapes)


def _time_range(rows: Sequence[ElsewhereRow]) -> tuple[float, float]:
    """Return the powers of ten around all times and bands."""
    times = [
        t for row in rows for t in (row.p50_s, row.low_s, row.high_s) if t is not None and t > 0
    ]
    if not times:
        return 1.0, 10.0
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _time_dot(row: ElsewhereRow, low_s: float, high_s: float) -> Markup:
    """Return the p50 of one offer as a dot and its band as a line, on the log axis."""
    middle = BAR_PX / 2
    places = [svg.log_place(tick, low_s, high_s) for tick in svg.log_ticks(low_s, high_s)]
    shapes = [svg.line((place, 0), (place, BAR_PX), "grid") for place in places]
    if row.low_s is not None and row.high_s is not None:
        ends = [svg.log_place(t, low_s, high_s) for t in (row.low_s, row.high_s)]
        shapes.append(svg.line((ends[0], middle), (ends[1], middle), "band"))
    if row.p50_s is not None:
        shapes.append(svg.dot(svg.log_place(row.p50_s, low_s, high_s), middle, 4.5, "dot"))
    words = (
        f"{row.offer}: p50 {seconds(row.p50_s)}, band {band(row.low_s, row.high_s)}, {row.basis}"
    )
    return svg.svg(BAR_PX, words, shapes)


def _time_axis(low_s: float, high_s: float) -> Markup:
    """Return the labels of the log axis."""
    ticks = svg.log_ticks(low_s, high_s)
    shapes = []
    for tick in ticks:
        anchor = "start" if tick == ticks[0] else "end" if tick == ticks[-1] else "middle"
        place = svg.log_place(tick, low_s, high_s)
        shapes.append(svg.text(place, 11, units.seconds(tick), "tick", anchor))
    return svg.svg(14, "logarithmic axis of seconds", shapes)
