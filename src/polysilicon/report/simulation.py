"""What `simulate` prints and writes: tables, small charts, and a page with time series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from polysilicon import units
from polysilicon.disk import write_whole
from polysilicon.report.columns import columns, labelled
from polysilicon.report.html import template
from polysilicon.report.terminal import (
    BLANK,
    escape,
    house_table,
    seconds,
    share,
    spaced,
    spark,
    usd,
)
from polysilicon.simulate import Result
from polysilicon.simulate.tally import Quantiles

CHART_PX = 80.0
_SPARKS = 60


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Two charts of a pool: steps that ran and that waited."""

    pool: str
    charts: list[tuple[str, Any]]


def simulation_page(results: Mapping[str, Result]) -> RenderableType:
    """Return what `simulate` prints.

    Args:
        results: by the name of the fleet; one, or two that are compared.
    """
    parts: list[RenderableType] = []
    for name, result in results.items():
        parts += [_head(name, result), _pools(result), _tasks(result)]
        if result.intervals:
            parts.append(_intervals(result))
        parts += _series(result)
        if result.notes:
            parts.append(Text("\n".join(result.notes), style="dim"))
    if len(results) > 1:
        parts.append(comparison(results))
    return spaced(parts)


def facts(result: Result) -> list[tuple[str, str]]:
    """Return the main figures in words."""
    energy = BLANK if result.energy_j is None else units.energy(result.energy_j)
    return [
        ("tasks", f"{result.tasks:,}"),
        ("steps", f"{result.steps:,}"),
        ("simulated", seconds(result.sim_s)),
        ("mode", result.mode),
        ("took", f"{seconds(result.wall_s)}, playing at {units.count(result.steps_per_s)} steps/s"),
        ("cost of the fleet", f"{usd(result.cost_usd)}, {usd(_usd_per_hour(result))} an hour"),
        ("energy", energy),
        ("prefix reuse", share(result.prefix_reuse)),
        ("begun again", f"{result.again:,} steps"),
    ]


def _usd_per_hour(result: Result) -> float:
    """Return dollars of all machines for an hour."""
    return result.cost_usd / result.sim_s * units.SECONDS_PER_HOUR if result.sim_s else 0.0


def _head(name: str, result: Result) -> Table:
    """Return the main figures."""
    table = house_table(f"Fleet {escape(name)}", "", "")
    table.show_header = False
    for title, words in facts(result):
        table.add_row(title, words)
    return table


def _pools(result: Result) -> Table:
    """Return what came of each pool."""
    table = house_table("Pools")
    table.add_column("pool", overflow="fold", max_width=20)
    table.add_column("machines", overflow="fold", max_width=22)
    for heading in ("in use", "wait p99", "cost", "band of seconds", "basis"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, pool in result.pools.items():
        table.add_row(
            escape(name),
            f"{pool.units:,} {pool.offer}",
            share(pool.utilisation),
            seconds(pool.wait_s.p99),
            usd(pool.cost_usd),
            _band(pool.low, pool.high),
            pool.basis or BLANK,
        )
    return table


def _band(low: float | None, high: float | None) -> str:
    """Return the factors between which the truth of a step's seconds lies."""
    return (
        BLANK if low is None or high is None else f"\N{MULTIPLICATION SIGN}{low:.2f} to {high:.2f}"
    )


class Row(NamedTuple):
    """A line of the table of seconds."""

    name: str
    number: int
    found: Sequence[float | None]
    kept: str = BLANK
    band: str = BLANK


def rows(result: Result) -> Iterable[Row]:
    """Yield quantiles of seconds: of tasks by agent, of steps by kind and pool, of tokens."""
    for agent, of in result.agents.items():
        kept, own = result.slo.get(agent), result.own_s[agent]
        paused = own.p99 != of.p99
        told, band = BLANK if paused else share(kept), _band(of.low, of.high)
        yield Row(f"tasks of {agent}", of.count, (of.p50, of.p90, of.p99), told, band)
        if paused:
            yield Row("  less persons' pauses", of.count, _three(own), share(kept))
        if len(result.agents) > 1 and of.ttft_s.p50 is not None:
            yield Row("  time to first token", 0, _three(of.ttft_s))
    for kind, found in result.kinds.items():
        yield Row(f"{kind} steps", found.count, (found.p50, found.p90, found.p99))
    for name, pool in result.pools.items():
        if len(result.pools) > 1 and pool.steps:
            band = _band(pool.low, pool.high)
            yield Row(f"steps on {name}", pool.steps, _three(pool.service_s), band=band)
    for name, tokens in (
        ("time to first token", result.ttft_s),
        ("time per output token", result.tpot_s),
        ("wait in queues", result.wait_s),
    ):
        if tokens.p50 is not None:
            yield Row(name, 0, _three(tokens))


def _three(of: Quantiles) -> tuple[float | None, float | None, float | None]:
    """Return the three that are shown."""
    return of.p50, of.p90, of.p99


def _tasks(result: Result) -> Table:
    """Return seconds of tasks and steps."""
    table = house_table("Seconds", "")
    for heading in ("n", "p50", "p90", "p99", "in SLO", "band"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows(result):
        told = units.count(row.number) if row.number else BLANK
        found = (seconds(value) for value in row.found)
        table.add_row(escape(row.name), told, *found, row.kept, row.band)
    return table


def _intervals(result: Result) -> Table:
    """Return the main figures over replications."""
    table = house_table(f"Over {result.replications} replications", "figure")
    for heading in ("mean", "95 % from", "to"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in result.intervals.items():
        table.add_row(escape(name), *(f"{v:.4g}" for v in (found.mean, found.low, found.high)))
    return table


def _series(result: Result) -> list[RenderableType]:
    """Return steps that ran over time, a line a pool."""
    if not result.series["at_s"]:
        return []
    table = house_table("Steps that ran, over time", "pool", "")
    table.add_column("at most", justify="right")
    for name, values in result.series["running"].items():
        table.add_row(escape(name), spark(_fewer(values)), f"{max(values):.3g}")
    return [table]


def _fewer(values: Sequence[float]) -> list[float]:
    """Return means of parts, few enough for a line."""
    width = -(-len(values) // _SPARKS)
    parts = [values[at : at + width] for at in range(0, len(values), width)]
    return [sum(part) / len(part) for part in parts]


def comparison(results: Mapping[str, Result]) -> Table:
    """Return the main figures of two fleets side by side."""
    (first, one), (second, two) = results.items()
    table = house_table("Compared", "figure")
    for heading in (escape(first), escape(second), "ratio"):
        table.add_column(heading, justify="right")
    for name, form, a, b in (
        ("cost of the fleet", usd, one.cost_usd, two.cost_usd),
        ("task p50", seconds, one.task_s.p50, two.task_s.p50),
        ("task p99", seconds, one.task_s.p99, two.task_s.p99),
        ("time to first token p99", seconds, one.ttft_s.p99, two.ttft_s.p99),
        ("wait p99", seconds, one.wait_s.p99, two.wait_s.p99),
    ):
        ratio = BLANK if not a or b is None else f"{b / a:.2f}"
        table.add_row(name, form(a), form(b), ratio)
    for agent in one.slo:
        table.add_row(f"{escape(agent)} in SLO", share(one.slo[agent]), share(two.slo.get(agent)),
                      BLANK)  # fmt: skip
    return table


def write_simulation(results: Mapping[str, Result], workload: str, path: Path) -> None:
    """Write the HTML page, all or not at all.

    Args:
        results: by the name of the fleet.
        workload: its name.
        path: of the page.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    page = template("simulate.html.j2").render(
        workload=workload,
        fleets=[
            (name, facts(result), result, list(rows(result)), _charts(result))
            for name, result in results.items()
        ],
        seconds=seconds,
        usd=usd,
        share=share,
        band=_band,
        blank=BLANK,
    )
    write_whole(path, page.encode("utf-8", errors="replace"))


def _charts(result: Result) -> list[Series]:
    """Return time series of each pool."""
    at_s = result.series["at_s"]
    found = []
    for pool in result.series["running"]:
        charts = []
        for what in ("running", "waiting"):
            values = result.series[what][pool]
            titles = [f"{v:.4g} at {units.seconds(t)}" for v, t in zip(values, at_s, strict=True)]
            words = f"{pool}: {what}, at most {max(values, default=0.0):.4g}"
            ends = (units.seconds(at_s[0]), units.seconds(at_s[-1])) if at_s else ("", "")
            style = "k-llm" if what == "running" else "k-tool"
            shapes = columns(values, titles, CHART_PX, style) if values else []
            charts.append((words, labelled(shapes, ends, CHART_PX, words)))
        found.append(Series(pool=pool, charts=charts))
    return found
