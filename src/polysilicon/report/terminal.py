"""What a terminal shows: tables with small bars, as rich renderables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich import markup
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from polysilicon import units
from polysilicon.errors import visible
from polysilicon.report.source import ElsewhereRow
from polysilicon.report.summary import Summary
from polysilicon.workload.describe import Group

KIND_STYLES = {"llm": "blue", "embed": "cyan", "tool": "yellow", "train": "green"}
BLANK = "\N{EN DASH}"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = " ▁▂▃▄▅▆▇█"


def escape(text: str) -> str:
    """Return a name that a trace or a user gave, such that it is shown and nothing obeys it."""
    return markup.escape(visible(text))


def bar(fraction: float, width: int = 16, style: str = "") -> Text:
    """Return a bar of `fraction` (0 to 1) of `width` cells, in eighths; none where it is NaN."""
    if math.isnan(fraction):
        fraction = 0.0
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    if fraction > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return Text(("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width), style=style)


def spark(values: Sequence[float], style: str = "") -> Text:
    """Return a column of up to eight eighths for each value; a blank is 0, any more is seen.

    What is infinite or NaN is not known, and blank.
    """
    values = [value if math.isfinite(value) else 0.0 for value in values]
    largest = max(values, default=0.0)
    heights = (round(value / largest * 8) if largest > 0 else 0 for value in values)
    cells = (
        _HEIGHTS[max(height, 1) if value > 0 else 0]
        for height, value in zip(heights, values, strict=True)
    )
    return Text("".join(cells), style=style)


def seconds(value: float | None) -> str:
    """Format seconds, or a blank."""
    return BLANK if value is None or not math.isfinite(value) else units.seconds(value)


def usd(value: float | None) -> str:
    """Format dollars, or a blank."""
    return BLANK if value is None or not math.isfinite(value) else units.usd(value)


def share(value: float | None) -> str:
    """Format a fraction, or a blank."""
    return BLANK if value is None or not math.isfinite(value) else units.share(value)


def headline(summary: Summary) -> Text:
    """Return one line: tasks, how many ended well, seconds, tasks a minute, steps, cached share."""
    ended = "" if summary.ok is None else f" ({summary.ok} ok)"
    parts = [f"{summary.tasks} tasks{ended}", f"{units.count(summary.steps)} steps"]
    if summary.wall_s is not None:
        parts.append(units.seconds(summary.wall_s))
    if summary.tasks_per_min is not None:
        parts.append(f"{units.count(summary.tasks_per_min)} tasks/min")
    many = len(summary.prefix_reuse) > 1
    for pool, reuse in summary.prefix_reuse.items():
        of = f" of {visible(pool)}" if many else ""
        parts.append(f"prefix cache{of}: {share(reuse)} of prompt tokens")
    return Text(" · ".join(parts), style="bold")


def agent_table(summary: Summary) -> Table:
    """Return tasks, ok, quality, p50, p99 and cost of each agent."""
    table = house_table("Agents", "agent")
    for heading in ("tasks", "ok", "quality", "p50", "p99", "cost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, agent in summary.agents.items():
        table.add_row(
            escape(name),
            str(agent.tasks),
            BLANK if agent.ok is None else str(agent.ok),
            share(agent.quality),
            seconds(agent.p50_s),
            seconds(agent.p99_s),
            usd(agent.cost_usd),
        )
    return table


def step_table(groups: Iterable[Group]) -> Table:
    """Return count, p50, p99, share of time and cost by agent and step kind and name."""
    table = house_table("Steps by agent and kind", "agent", "kind", "name")
    for heading in ("steps", "p50", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("share of time", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    groups = list(groups)
    largest = max((group.share_of_time or 0.0 for group in groups), default=0.0)
    for group in groups:
        part = (group.share_of_time or 0.0) / largest if largest > 0 else 0.0
        style = KIND_STYLES.get(group.kind, "")
        table.add_row(
            escape(group.agent),
            Text(group.kind, style=style),
            escape(group.name),
            units.count(group.steps),
            seconds(group.p50_s),
            seconds(group.p99_s),
            bar(part, 12, style) + Text(f" {share(group.share_of_time)}"),
            usd(group.cost_usd) + ("*" if 0 < group.unpriced < group.steps else ""),
        )
    return table


def elsewhere_table(rows: Iterable[ElsewhereRow]) -> Table:
    """Return cost per 1,000 tasks, p50 with its band, and basis of each offer, cheapest first."""
    table = house_table("The same work elsewhere (estimates)", "offer", "region")
    table.caption = "one task alone, without queueing; local is as recorded, under this run's load"
    table.caption_justify = "left"
    table.add_column("$ / 1,000 tasks", no_wrap=True)
    table.add_column("p50 of a task", justify="right", no_wrap=True)
    table.add_column("band", justify="right", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    ordered = sorted(rows, key=cheapest)
    dearest = max((row.usd_per_1000_tasks or 0.0 for row in ordered), default=0.0)
    for row in ordered:
        cost = row.usd_per_1000_tasks
        part = cost / dearest if cost is not None and dearest > 0 else 0.0
        table.add_row(
            escape(row.offer),
            escape(row.region or BLANK),
            bar(part, 8, "magenta") + Text(f" {usd(cost)}"),
            seconds(row.p50_s),
            band(row.low_s, row.high_s),
            escape(row.basis),
        )
    return table


def cheapest(row: ElsewhereRow) -> tuple[bool, float, str]:
    """Return a key that sorts offers by cost; those without one come last."""
    cost = row.usd_per_1000_tasks
    return cost is None, cost or 0.0, row.offer


def band(low_s: float | None, high_s: float | None) -> str:
    """Format an error band, or a blank."""
    if low_s is None or high_s is None:
        return BLANK
    return f"{units.seconds(low_s)} to {units.seconds(high_s)}"


def run_page(
    summary: Summary, groups: Iterable[Group], elsewhere: Iterable[ElsewhereRow]
) -> RenderableType:
    """Return what a run prints when it ended: headline, agents, steps, and the work elsewhere."""
    groups, rows = list(groups), list(elsewhere)
    parts: list[RenderableType] = [headline(summary), agent_table(summary), step_table(groups)]
    if any(0 < group.unpriced < group.steps for group in groups):
        parts.append(Text("* some steps have no price; their cost is not in the sum", style="dim"))
    if rows:
        parts.append(elsewhere_table(rows))
    return spaced(parts)


def spaced(parts: Iterable[RenderableType]) -> RenderableType:
    """Return the parts with a blank line after each."""
    return Stack(*(piece for part in parts for piece in (part, Text())))


def house_table(title: str | None, *names: str) -> Table:
    """Return an empty table in the house style, with columns of names."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.header_style = "dim"
    for name in names:
        table.add_column(name, overflow="fold")
    return table
