"""What `plan update` prints: drift of needs, cover of offers, and the next purchase."""

from __future__ import annotations

import msgspec
from rich.console import RenderableType
from rich.text import Text

from polysilicon import units
from polysilicon.planning.drift import Coverage, Drift
from polysilicon.planning.plan import Commitment, Plan
from polysilicon.planning.words import order_words
from polysilicon.report.plan import dollars
from polysilicon.report.terminal import escape, house_table, spaced


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Usage against a plan.

    Attributes:
        drift: of needs.
        coverage: of offers, where a bill tells.
        buy: the next purchase; nothing where the plan stands.
        notes: what was left out.
    """

    drift: list[Drift]
    coverage: list[Coverage]
    buy: list[Commitment]
    notes: list[str]


def update_page(found: Update, plan: Plan) -> RenderableType:
    """Return tables of an update."""
    parts: list[RenderableType] = []
    table = house_table("Drift", "need")
    for name in ("expected", "scenarios", "used", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for one in found.drift:
        table.add_row(
            escape(one.need),
            f"{units.count(one.expected)} {one.unit}",
            f"{units.count(one.low)} to {units.count(one.high)}",
            units.count(one.used),
            f"{one.ratio:.2f}",
            "within the plan" if one.within else f"demand times {one.factor:.2f} from now on",
        )
    parts.append(table)
    if found.coverage:
        cover = house_table("Cover", "offer", "region")
        for name in ("signed", "unused", "by the hour"):
            cover.add_column(name, justify="right", no_wrap=True)
        cover.add_column("")
        for each in found.coverage:
            figures = (each.committed + each.unused, each.unused, each.by_the_hour)
            told = (f"{value:,.1f}" for value in figures)
            cover.add_row(escape(each.offer), escape(each.region), *told, each.words)
        parts.append(cover)
    lines = [order_words(one) for one in found.buy] or ["Nothing: the plan in force stands."]
    parts.append(Text("\n".join(["Next purchase", *(f"  {line}" for line in lines)])))
    rest = f"From {plan.start_month} on: {dollars(plan.cost_usd)}, gap {plan.gap:.2%}."
    parts.append(Text("\n".join([rest, *found.notes]), style="dim"))
    return spaced(parts)
