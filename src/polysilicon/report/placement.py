"""A placement for a terminal: the fleet, what it is compared with, and why it is as it is."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from polysilicon import units
from polysilicon.placement.types import Placement
from polysilicon.report import terminal

_CLASSES = 8
_REFUSED = 4


def placement_page(found: Placement) -> RenderableType:
    """Return tables of a placement."""
    parts: list[RenderableType] = [_head(found), Text(), _pools(found), Text(), _fleets(found)]
    if found.alternatives:
        parts += [Text(), _alternatives(found)]
    parts += [Text(), _tasks(found), Text(), _classes(found)]
    parts += [Text(), *(Text(line) for line in _notes(found))]
    return Stack(*parts)


def _head(found: Placement) -> Text:
    """Return the cost, its band, and how sure it is."""
    band = f"{units.usd(found.low_usd_per_hour)} to {units.usd(found.high_usd_per_hour)}"
    checked = "" if found.checked else ", checked: no"
    text = f"{units.usd(found.cost_usd_per_hour)} an hour ({band} over the bands of all seconds)"
    return Text(
        f"{text} · {found.status}, gap {found.gap:.2%}{checked} · {units.seconds(found.seconds)}",
        style="bold",
    )


def _table(*heads: str, left: int = 1) -> Table:
    """Return a table whose first columns hold words."""
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        if place < left:
            table.add_column(head, overflow="fold")
        else:
            table.add_column(head, justify="right", no_wrap=True)
    return table


def _pools(found: Placement) -> Table:
    """Return the pools of the fleet."""
    table = _table(
        "pool", "region", "units", "used", "cap", "at once", "$ an hour", "basis", left=2
    )
    for pool in found.pools:
        price = "" if pool.price == "on-demand" else f" {pool.price}"
        table.add_row(
            terminal.escape(f"{pool.model or 'tools'} on {pool.offer}"),
            terminal.escape(pool.region),
            f"{pool.units:,}",
            units.share(pool.utilisation),
            units.share(pool.cap),
            f"{pool.concurrency:,}",
            units.usd(pool.usd_per_hour) + price,
            pool.basis,
        )
    return table


def _fleets(found: Placement) -> Table:
    """Return what simpler fleets cost."""
    table = _table("compared with", "$ an hour", "saved", "", left=1)
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False
    for one in found.baselines:
        if one.usd_per_hour is None:
            table.add_row(one.name, terminal.BLANK, terminal.BLANK, terminal.escape(one.note))
            continue
        saved = 1.0 - found.cost_usd_per_hour / one.usd_per_hour if one.usd_per_hour else 0.0
        words = f"{saved:.0%}" if one.meets_slo else terminal.BLANK
        table.add_row(
            terminal.escape(one.name), units.usd(one.usd_per_hour), words, terminal.escape(one.note)
        )
    return table


def _alternatives(found: Placement) -> Table:
    """Return fleets that are nearly as good."""
    table = _table("nearly as good", "$ an hour", "worse by", "units", left=1)
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False
    for one in found.alternatives:
        made = ", ".join(f"{count:,} {name}" for name, count in one.pools.items())
        table.add_row(
            one.name, units.usd(one.usd_per_hour), f"{one.extra:.1%}", terminal.escape(made)
        )
    return table


def _tasks(found: Placement) -> Table:
    """Return what becomes of each agent's tasks."""
    table = _table("agent", "tasks/s", "SLO p99", "by queues", "simulated", "$ per 1,000", left=1)
    for name, one in found.slo.items():
        table.add_row(
            terminal.escape(name),
            f"{one.tasks_per_s:.3g}",
            terminal.seconds(one.p99_s),
            terminal.seconds(one.foreseen_s),
            terminal.seconds(one.checked_s),
            units.usd(one.usd_per_1000_tasks),
        )
    return table


def _classes(found: Placement) -> Table:
    """Return the classes that cost most, and what they would cost elsewhere."""
    table = _table("dearest classes", "$ per 1,000", "next best, and what it costs more", left=1)
    table.columns[-1].justify = "left"
    table.columns[-1].no_wrap = False
    order = sorted(found.classes, key=lambda one: -one.rate_per_s * one.usd_per_1000_steps)
    for one in order[:_CLASSES]:
        others = (f"{n.offer} +{units.usd(n.extra_usd_per_1000_steps)}" for n in one.next)
        table.add_row(
            terminal.escape(one.class_),
            units.usd(one.usd_per_1000_steps),
            terminal.escape("; ".join(others) or "no other offer can"),
        )
    return table


def _notes(found: Placement) -> Iterator[str]:
    """Yield what binds, what would change it, and what was left out."""
    yield f"Sized for {found.sized_for}."
    for dual in found.duals:
        yield f"{dual.constraint}: {dual.words}."
    for change in found.changes[:2]:
        less = 1.0 - change.pays_below_usd_per_hour / change.usd_per_hour
        what = change.model or "tools"
        yield f"{change.offer} would be taken for {what} if it cost {less:.0%} less."
    for reason, count in found.untold.items():
        yield f"{count:,} steps take no machine: {reason}."
    if found.refused:
        yield f"Refused: {sum(one.count for one in found.refused)} (all reasons: --json)"
    for one in found.refused[:_REFUSED]:
        yield f"  {one.offer}, {one.what}: {one.reason}" + (
            f" ({one.count})" if one.count > 1 else ""
        )
