"""A page that sets predictions against measurements: a parity plot a metric, groups, refusals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from polysilicon import units
from polysilicon.cost.types import BASES
from polysilicon.cost.validate import GROUPS, GroupScore, Point, Validation
from polysilicon.disk import write_whole
from polysilicon.report import svg
from polysilicon.report.html import template

HEIGHT_PX = 320.0
# Points that fall into one cell of this grid are one dot, so that any file makes a small page.
COLUMNS, ROWS = 120, 64
MAX_GROUPS = 200


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """The parity plot of one metric: its scores in words, chart, axis, and the axes' range."""

    metric: str
    words: str
    bases: list[str]
    scale: str
    chart: Any
    axis: Any


def write_parity(
    found: Validation, groups: Sequence[GroupScore], path: Path, file: str, held_out: str = ""
) -> None:
    """Write the page, all or not at all.

    Args:
        found: predictions and scores.
        groups: scores to be listed.
        path: of the page.
        file: name of the measurement file.
        held_out: what was held out, or blank.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    page = render(found, groups, file, held_out)
    write_whole(path, page.encode(errors="replace"))


def render(found: Validation, groups: Sequence[GroupScore], file: str, held_out: str = "") -> str:
    """Return the page; see `write_parity`."""
    return template("parity.html.j2").render(
        file=file,
        found=found,
        held_out=held_out,
        plots=[_plot(metric, found) for metric in found.overall()],
        names=[name for name in GROUPS if any(getattr(g, name) for g in groups)],
        groups=[msgspec.to_builtins(group) for group in groups[:MAX_GROUPS]],
        left_out=max(len(groups) - MAX_GROUPS, 0),
    )


def _plot(metric: str, found: Validation) -> Plot:
    """Return the plot of one metric."""
    points = [p for p in found.points if p.metric == metric]
    score = found.overall()[metric]
    low, high = _range(points)
    fit = "" if score.r2 is None else f", r² {score.r2:.3f}"
    return Plot(
        metric=metric,
        words=(
            f"{units.count(score.n)} values: median error {units.share(score.median_ape)}, "
            f"mean {units.share(score.mape)}, {units.share(score.coverage)} in their bands{fit}."
        ),
        bases=[basis for basis in BASES if any(p.basis == basis for p in points)],
        scale=f"{units.count(low)} to {units.count(high)}",
        chart=_chart(points, low, high, metric),
        axis=_axis(low, high),
    )


def _chart(points: Sequence[Point], low: float, high: float, metric: str) -> Markup:
    """Return the dots, larger where more points are, and the line of equality."""
    cells: Counter[tuple[str, int, int]] = Counter()
    for point in points:
        column = svg.log_place(point.measured, low, high) * (COLUMNS - 1)
        row = svg.log_place(point.predicted, low, high) * (ROWS - 1)
        cells[point.basis, round(column), round(row)] += 1
    shapes = []
    for tick in svg.log_ticks(low, high):
        place = svg.log_place(tick, low, high)
        top_px = (1 - place) * HEIGHT_PX
        shapes.append(svg.line((place, 0), (place, HEIGHT_PX), "grid"))
        shapes.append(svg.line((0, top_px), (1, top_px), "grid"))
    shapes.append(svg.line((0, HEIGHT_PX), (1, 0), "even"))
    for (basis, column, row), count in sorted(cells.items()):
        top_px = (1 - row / (ROWS - 1)) * HEIGHT_PX
        radius_px = min(2.0 + math.log2(count), 7.0)
        dot = svg.dot(column / (COLUMNS - 1), top_px, radius_px, f"p-{basis} cell")
        shapes.append(svg.titled(dot, f"{count} {basis}"))
    return svg.svg(HEIGHT_PX, f"{metric}: predicted over measured", shapes)


def _axis(low: float, high: float) -> Markup:
    """Return the labels of the horizontal axis."""
    ticks = svg.log_ticks(low, high)
    shapes = []
    for tick in ticks:
        anchor = "start" if tick == ticks[0] else "end" if tick == ticks[-1] else "middle"
        words = f"{tick:g}" if tick < 1 else units.count(tick)
        shapes.append(svg.text(svg.log_place(tick, low, high), 11, words, "tick", anchor))
    return svg.svg(14, "logarithmic axis", shapes)


def _range(points: Sequence[Point]) -> tuple[float, float]:
    """Return the powers of ten around all values."""
    values = [value for p in points for value in (p.measured, p.predicted)]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return 10.0**low, 10.0 ** max(high, low + 1)
