"""A page about the local engine: tokens a second beside what the machine can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from markupsafe import Markup

from polysilicon.disk import write_whole
from polysilicon.report.html import template
from polysilicon.report.loglog import Plot, axis_around
from polysilicon.runtime.engines.native.bench import WHEEL, Bench, Row

_WHOLE: Callable[[float], str] = "{:,.0f}".format


def write_page(found: Bench, path: Path) -> None:
    """Write the page, all or not at all.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    page = template("engine.html.j2").render(
        found=msgspec.to_builtins(found),
        prefill=_plot(found, "prefill", "tokens of the prompt", lambda row: row.tokens),
        decode=_plot(found, "decode", "sequences at once", lambda row: float(row.sequences)),
    )
    write_whole(path, page.encode(errors="replace"))


def _plot(found: Bench, what: str, across: str, place: Callable[[Row], float]) -> Markup:
    """Return the chart of prompts, or that of decoding with the shortest context; and a ceiling."""
    rows = [row for row in found.rows if row.what == what]
    if what == "decode":
        short = {row.sequences: row.tokens for row in sorted(rows, key=lambda r: -r.tokens)}
        rows = [row for row in rows if row.tokens <= 1.5 * short[row.sequences]]
    own = found.ceilings
    ceiling = own.prefill_tokens_per_s if what == "prefill" else own.decode_tokens_per_s
    rates = [row.tokens_per_s for row in rows]
    plot = Plot(
        x=axis_around(map(place, rows), across, _WHOLE),
        y=axis_around([*rates, *([ceiling] if ceiling else [])], "tokens/s", _WHOLE),
    )
    shapes = []
    if ceiling:
        shapes.append(plot.line([(plot.x.low, ceiling), (plot.x.high, ceiling)], "ceiling"))
        words = "peak rate" if what == "prefill" else "reading the weights, one sequence"
        shapes.append(plot.words((plot.x.low, ceiling), words, "lead"))
    for name in sorted({row.kernels for row in rows}):
        style = "wheel" if name == WHEEL else "built"
        points = sorted((place(row), row.tokens_per_s) for row in rows if row.kernels == name)
        shapes.append(plot.line(points, f"line {style}"))
        shapes += [plot.dot(point, style) for point in points]
    return plot.svg(f"{what}: tokens a second over {across}", shapes)
