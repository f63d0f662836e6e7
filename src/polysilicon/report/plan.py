"""A plan for a terminal: what to sign, what it costs, who serves what, and why."""

from __future__ import annotations

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from polysilicon import units
from polysilicon.planning.difference import Difference
from polysilicon.planning.plan import Plan
from polysilicon.planning.words import money, sentences, size
from polysilicon.report.terminal import BLANK, escape, house_table, share, spaced, spark

_ROWS = 16

PARTS = {
    "committed": "fixed",
    "spend": "drawn",
    "on_demand": "by the hour",
    "spot": "spot",
    "running": "power",
    "unmet": "undone",
}


def dollars(value: float | None) -> str:
    """Return dollars, or a blank."""
    return BLANK if value is None else money(value)


def plan_page(plan: Plan) -> RenderableType:
    """Return what `plan` prints."""
    parts: list[RenderableType] = [_head(plan), _commitments(plan), _money(plan), _needs(plan)]
    if plan.alternatives:
        parts.append(_alternatives(plan))
    if plan.duals:
        parts.append(Text("\n".join(f"{one.words}." for one in plan.duals[:3])))
    if plan.notes:
        parts.append(Text("\n".join(plan.notes), style="dim"))
    return spaced(parts)


def _head(plan: Plan) -> Text:
    """Return the cost, its band, and how sure it is."""
    title = f"{plan.title}: " if plan.title else ""
    text = (
        f"{title}{dollars(plan.cost_usd)} over {plan.months} months from {plan.start_month}"
        f" ({dollars(plan.low_usd)} to {dollars(plan.high_usd)} over the bands of all seconds)"
        f" · {plan.status}, gap {plan.gap:.2%} · {units.seconds(plan.seconds)}"
    )
    return Text(text, style="bold")


def _commitments(plan: Plan) -> Table:
    """Return what to sign, and what is held."""
    table = house_table("Commitments")
    table.add_column("sign", no_wrap=True)
    for name in ("program", "offer", "region"):
        table.add_column(name, overflow="fold")
    for name in ("units", "to", "$ a month", "used"):
        table.add_column(name, justify="right", no_wrap=True)
    ordered = sorted(plan.commitments, key=lambda one: (not one.held, one.order_month, -one.usd))
    for one in ordered[:_ROWS]:
        table.add_row(
            "held" if one.held else one.order_month,
            escape(one.program),
            escape(one.offer),
            escape(one.region),
            escape(size(one)),
            one.end_month,
            dollars(one.usd_per_month),
            share(one.utilisation),
        )
    left = len(ordered) - _ROWS
    if left > 0:
        total = sum(one.usd for one in ordered[_ROWS:])
        table.add_row("", f"{left} more", "", "", "", "", dollars(total) + " in all", "")
    if not ordered:
        table.add_row("", "none: by the hour is cheaper", "", "", "", "", "", "")
    return table


def _money(plan: Plan) -> Table:
    """Return dollars by scenario, which its parts sum to, and the months as a line."""
    rows = [
        (told, paid, paid.present(plan.worth_of_month))
        for told, paid in zip(plan.scenarios, plan.money, strict=True)
    ]
    rows.sort(key=lambda row: -row[0].cost_usd)
    parts = [name for name in PARTS if any(now[name] >= 0.5 for *_, now in rows)]
    table = house_table("Dollars")
    table.add_column("scenario", min_width=12)
    for name in ("chance", "cost", *(PARTS[part] for part in parts), "regret"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by month", no_wrap=True)
    for told, paid, now in rows[:8]:
        table.add_row(
            escape(told.scenario),
            f"{told.probability:.2f}",
            dollars(told.cost_usd),
            *(dollars(now[part]) for part in parts),
            dollars(told.regret_usd),
            spark(_spans(paid.months, max(32 - 6 * len(parts), 8))),
        )
    if len(rows) > 8:
        table.add_row(f"{len(rows) - 8} cheaper ones", *([""] * (len(parts) + 4)))
    return table


def _spans(values: list[float], most: int) -> list[float]:
    """Return means of so many months that some columns are enough."""
    width = -(-len(values) // most)
    parts = [values[at : at + width] for at in range(0, len(values), width)]
    return [sum(part) / len(part) for part in parts]


def _needs(plan: Plan) -> Table:
    """Return who serves what."""
    table = house_table("Who serves what", "need", "by")
    table.add_column("share", justify="right", no_wrap=True)
    for need in plan.needs[:8]:
        first = f"{need.need} ({units.count(need.demand[0])} {need.unit} at first)"
        for one in need.supplied[:5]:
            table.add_row(escape(first), escape(one.by), share(one.share))
            first = ""
    if len(plan.needs) > 8:
        table.add_row(f"{len(plan.needs) - 8} more", "", "")
    return table


def _alternatives(plan: Plan) -> Table:
    """Return plans nearly as good."""
    table = house_table("Nearly as good", "plan")
    for name in ("cost", "more", "vendors"):
        table.add_column(name, justify="right")
    for one in plan.alternatives:
        vendors = ", ".join(f"{escape(v)} {units.share(s)}" for v, s in one.share.items())
        table.add_row(escape(one.name), dollars(one.cost_usd), f"{one.extra:.1%}", vendors)
    return table


def explained_page(plan: Plan) -> RenderableType:
    """Return what `plan explain` prints."""
    title = f"{plan.title}, {plan.months} months from {plan.start_month}".lstrip(", ")
    parts: list[RenderableType] = [Text(title, style="bold")]
    for heading, lines in sentences(plan):
        inner = Padding(Text("\n".join(lines)), (0, 0, 0, 2))
        parts.append(Stack(Text(heading, style="bold"), inner))
    return spaced(parts)


def difference_page(found: Difference) -> RenderableType:
    """Return two plans side by side."""
    head = house_table(f"What if {', '.join(map(escape, found.changes))}", "")
    for name in ("before", "after", "more"):
        head.add_column(name, justify="right", no_wrap=True)
    for name, (before, after) in (
        ("cost", found.cost_usd),
        ("dearest scenarios", found.cvar_usd),
        ("by the hour and spot", found.left_usd),
    ):
        head.add_row(name, dollars(before), dollars(after), _more(before, after))
    for vendor, (before, after) in found.vendors.items():
        head.add_row(f"commitments with {escape(vendor)}", share(before), share(after), "")
    return spaced([head, _moved(found)])


def _more(before: float, after: float) -> str:
    """Return a change in per cent."""
    return f"{after / before - 1:+.1%}" if before else BLANK


def _moved(found: Difference) -> Table:
    """Return the commitments that are other."""
    table = house_table("Commitments that change", "contract", "offer", "region")
    for name in ("units before", "after", "$ before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.commitments[:_ROWS]:
        table.add_row(
            escape(one.contract),
            escape(one.offer),
            escape(one.region),
            *(f"{value:,.1f}" for value in (one.units_before, one.units_after)),
            *(dollars(value) for value in (one.usd_before, one.usd_after)),
        )
    if not found.commitments:
        table.add_row("none", "", "", "", "", "", "")
    return table
