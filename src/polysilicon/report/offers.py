"""One step on many offers: a table and bars for the terminal, and a page with a scatter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from markupsafe import Markup
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from polysilicon import units
from polysilicon.catalog.processors import KINDS, ProcessorKind
from polysilicon.cost import Estimate
from polysilicon.disk import atomic
from polysilicon.report import terminal
from polysilicon.report.html import template
from polysilicon.report.loglog import Plot, axis_around
from polysilicon.report.svg import log_place, titled

KIND_STYLES: dict[ProcessorKind, str] = {"cpu": "green", "gpu": "blue", "asic": "yellow"}
BAR_CELLS = 40
PAGE_ROWS = 200


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An offer's estimate.

    Attributes:
        estimate: of the step.
        kind: of the processors.
        tokens_per_s: that such steps make, or take in, on the machine's share; None of tools.
        unsure: it keeps the SLO, but a band of its seconds reaches above.
    """

    estimate: Estimate
    kind: ProcessorKind
    tokens_per_s: float | None = None
    unsure: bool = False


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why offers were refused: the first of them, and how many."""

    offer: str
    reason: str
    count: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One step on many offers.

    Attributes:
        title: the step in words.
        answers: in the order asked for, all of them.
        refused: by reason.
        slo: what was promised, in words; blank where nothing was.
        missed: offers that were estimated and do not keep it.
    """

    title: str
    answers: Sequence[Answer]
    refused: Sequence[Refusal]
    slo: str = ""
    missed: int = 0


def comparison_page(found: Comparison, limit: int) -> RenderableType:
    """Return table, bars and what was left out, for a terminal; `limit` rows at most."""
    shown = found.answers[:limit]
    parts: list[RenderableType] = [_table(shown)]
    parts += [Text(), _bars(shown), Text()]
    parts += [Text(f"{len(shown)} of {len(found.answers)} offers; {_left_out(found)}")]
    if any(answer.unsure for answer in shown):
        parts.append(Text("? a band of its seconds reaches above the SLO"))
    return Stack(*parts)


def _left_out(found: Comparison) -> str:
    """Return in words how many offers are not among the answers, and why."""
    words = []
    if found.slo:
        words.append(f"{found.missed} more miss {found.slo}")
    total = sum(refusal.count for refusal in found.refused)
    words.append(f"{total} refused for want of facts" if total else "none refused")
    if total:
        most = max(found.refused, key=lambda refusal: refusal.count)
        words.append(f"most often: {most.reason} (all reasons: --json)")
    return "; ".join(words)


def _table(answers: Sequence[Answer]) -> Table:
    """Return the figures of each offer."""
    table = Table(box=None, pad_edge=False)
    table.add_column("offer", overflow="fold", ratio=3)
    table.add_column("region", overflow="fold", ratio=2)
    llm = any(answer.estimate.ttft_s is not None for answer in answers)
    heads = ("time", "first", "next token") if llm else ("time",)
    for head in (*heads, "$ per 1,000"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    for answer in answers:
        one = answer.estimate
        times = (one.service_s, one.ttft_s, one.tpot_s) if llm else (one.service_s,)
        table.add_row(
            escape(one.offer),
            escape(one.region),
            *(terminal.seconds(t) for t in times),
            units.usd(one.cost_usd * 1000),
            one.basis,
        )
    return table


def _bars(answers: Sequence[Answer]) -> RenderableType:
    """Return times with their bands on one logarithmic axis."""
    axis = axis_around(_times(answers), "", units.seconds)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("time and its band")
    ends = axis.words(axis.low), axis.words(axis.high)
    table.add_column(ends[0] + ends[1].rjust(BAR_CELLS - len(ends[0])), no_wrap=True)
    table.add_column("")
    for answer in answers:
        one = answer.estimate
        places = [log_place(t, axis.low, axis.high) for t in (one.low_s, one.service_s, one.high_s)]
        low, best, high = (round(place * (BAR_CELLS - 1)) for place in places)
        cells = [" "] * BAR_CELLS
        cells[low : high + 1] = "─" * (high + 1 - low)
        cells[best] = "●"
        words = terminal.band(one.low_s, one.high_s) + (" ?" if answer.unsure else "")
        bar = Text("".join(cells), style=KIND_STYLES[answer.kind])
        table.add_row(escape(one.offer), bar, words)
    return table


def _times(answers: Sequence[Answer]) -> list[float]:
    """Return all seconds that a chart must hold."""
    return [
        t
        for answer in answers
        for t in (answer.estimate.low_s, answer.estimate.service_s, answer.estimate.high_s)
    ]


def write_comparison(found: Comparison, path: Path) -> None:
    """Write the page with the scatter, all or not at all.

    Raises:
        PolysiliconError: the file cannot be written.
    """
    shown = list(found.answers[:PAGE_ROWS])
    page = template("offers.html.j2").render(
        found=found,
        shown=shown,
        left_out=_left_out(found).replace(" (all reasons: --json)", ""),
        kinds=[kind for kind in KINDS if any(a.kind == kind for a in found.answers)],
        chart=scatter(found),
        llm=any(answer.estimate.ttft_s is not None for answer in found.answers),
        band=terminal.band,
    )
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def scatter(found: Comparison) -> Markup:
    """Return dollars over seconds, both logarithmic; a dot for each offer, a line for its band."""
    dollars = [answer.estimate.cost_usd * 1000 for answer in found.answers]
    plot = Plot(
        x=axis_around(_times(found.answers), "time of the step", units.seconds),
        y=axis_around(dollars, "$ per 1,000 steps", units.usd),
    )
    shapes = []
    # The cheapest are drawn last, so that they lie on top.
    for answer, usd in sorted(zip(found.answers, dollars, strict=True), key=lambda pair: -pair[1]):
        one = answer.estimate
        band = plot.line([(one.low_s, usd), (one.high_s, usd)], f"whisker o-{answer.kind}")
        dot = plot.dot((one.service_s, usd), f"o-{answer.kind}")
        words = (
            f"{one.offer} in {one.region}: {units.seconds(one.service_s)},"
            f" {units.usd(usd)} per 1,000, band {terminal.band(one.low_s, one.high_s)}, {one.basis}"
        )
        shapes.append(titled(band + dot, words))
    label = f"{found.title} on {len(found.answers)} offers: dollars over seconds, with bands"
    return plot.svg(label, shapes)
