"""The HTML page of a plan: one file, for the person who signs."""

from __future__ import annotations

from pathlib import Path

from polysilicon.disk import write_whole
from polysilicon.errors import InputError
from polysilicon.planning.plan import Plan
from polysilicon.planning.words import money, sentences, size
from polysilicon.report import plan_charts
from polysilicon.report.html import template
from polysilicon.report.plan import dollars
from polysilicon.report.terminal import BLANK, share

_MOST_NEEDS = 6
_MOST_ROWS = 100


def write_plan_page(plan: Plan, path: Path) -> None:
    """Write the page, all or not at all.

    Raises:
        InputError: the path does not end in `.html`.
        PolysiliconError: it cannot be written.
    """
    if path.suffix != ".html":
        raise InputError("a page ends in .html", where=str(path))
    write_whole(path, plan_html(plan).encode("utf-8", errors="replace"))


def plan_html(plan: Plan) -> str:
    """Return the page."""
    kinds = {one.kind for need in plan.needs for one in need.supplied}
    needs = sorted(plan.needs, key=lambda need: -max(need.high))[:_MOST_NEEDS]
    return template("plan.html.j2").render(
        plan=plan,
        tiles=_tiles(plan),
        sentences=list(sentences(plan)),
        needs=[(need, plan_charts.served_chart(plan, need)) for need in needs],
        needs_left=len(plan.needs) - len(needs),
        kinds=[(kind, words) for kind, words in plan_charts.KINDS.items() if kind in kinds],
        money=plan_charts.money_chart(plan),
        fan=plan_charts.fan_chart(plan),
        ladder=plan_charts.ladder(plan),
        shares=[
            (title, shares, plan_charts.share_chart(shares, title))
            for title, shares in (("by vendor", plan.vendors), ("by region", plan.regions))
            if shares
        ],
        drawdown=[(one, plan_charts.drawdown_chart(plan, one)) for one in plan.drawdown],
        rows=_MOST_ROWS,
        size=size,
        usd_or_blank=dollars,
        share_or_blank=share,
        blank=BLANK,
    )


def _band(plan: Plan) -> str:
    """Return how far the cost may be off, as it fits a tile."""
    if plan.cost_usd <= 0:
        return BLANK
    low, high = (usd / plan.cost_usd - 1.0 for usd in (plan.low_usd, plan.high_usd))
    return f"{low:+.0%} to {high:+.0%}"


def _tiles(plan: Plan) -> list[tuple[str, str, str]]:
    """Return the main figures: name, figure, what it means."""
    ends = f"{money(plan.low_usd)} to {money(plan.high_usd)}"
    found = [
        ("cost", money(plan.cost_usd), f"{plan.months} months from {plan.start_month}"),
        ("band", _band(plan), f"{ends}, with all seconds at the ends of their bands"),
        ("certified gap", f"{plan.gap:.2%}", "no plan is cheaper by more"),
        ("left by the hour", share(plan.left_share), f"{money(plan.left_usd)}, spot included"),
    ]  # fmt: skip
    if len(plan.scenarios) > 1:
        words = f"mean of the dearest {share(1 - plan.cvar_alpha)} of scenarios"
        found.append(("dear scenarios", money(plan.cvar_usd), words))
    if plan.worth.nothing_usd:
        saved = share(1 - plan.cost_usd / plan.worth.nothing_usd)
        found.append(("saved", saved, f"over signing nothing, {money(plan.worth.nothing_usd)}"))
    return found
