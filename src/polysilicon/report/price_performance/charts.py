"""The page's charts: dollars over load, as SVG files that need no page around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from markupsafe import Markup

from polysilicon import units
from polysilicon.cost.llm.law import Numbers
from polysilicon.report.loglog import Axis, Plot, axis_around

THIN = 4
"""Each so many'th load is drawn."""

COLOURS = {
    "cpu": "#009e73",
    "gpu": "#0072b2",
    "asic": "#c77700",
    "arm": "#009e73",
    "x86": "#6f5aa8",
}
"""Of kinds of processors; they differ for the colour-blind too."""

STYLE = (
    "svg{background:#fff;font:11px system-ui,sans-serif}"
    ".tick{fill:#5b6470}.grid{stroke:#e3e7ec;stroke-width:1;fill:none}"
    ".between{fill:#8a8f98;opacity:.14}.cross{stroke:#1c2024;stroke-dasharray:4 3;fill:none}"
    ".key{font-weight:600;font-size:12px}"
) + "".join(
    f".l-{kind}{{stroke:{colour};stroke-width:2;fill:none}}.b-{kind}{{fill:{colour};opacity:.13}}"
    f".t-{kind}{{fill:{colour}}}"
    for kind, colour in COLOURS.items()
)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars over load of one kind; arrays are (loads,), infinite where nothing serves.

    Attributes:
        best: best estimates.
        low: lower end of the band.
        high: upper end.
    """

    best: Numbers
    low: Numbers
    high: Numbers


def load_chart(
    lines: Mapping[str, Line],
    loads: Numbers,
    titles: tuple[str, str, str],
    crossed: tuple[float, float, float] | None = None,
) -> Markup:
    """Return the chart.

    Args:
        lines: by kind, a key of `COLOURS`.
        loads: of the points.
        titles: of the horizontal axis, of the vertical one, and of all in words.
        crossed: low, best and high load at which a CPU stops being the cheapest.
    """
    drawn = {kind: line for kind, line in lines.items() if np.isfinite(line.best).any()}
    values = [value for line in drawn.values() for value in line.best.tolist()]
    plot = Plot(
        x=Axis(low=float(loads[0]), high=float(loads[-1]), title=titles[0], words=_load),
        y=axis_around(values, titles[1], units.usd),
    )
    shapes: list[Markup] = []
    if crossed is not None:
        shapes += _crossed(plot, crossed)
    for kind, line in drawn.items():
        shapes += _line(plot, kind, line, loads)
    for place, kind in enumerate(drawn):
        at = plot.x.low * (plot.x.high / plot.x.low) ** (0.62 + 0.13 * place)
        shapes.append(plot.words((at, plot.y.high * 0.62), kind, f"key t-{kind}"))
    return plot.svg(titles[2], shapes, STYLE)


def _crossed(plot: Plot, crossed: tuple[float, float, float]) -> list[Markup]:
    """Return the range of loads in which the crossing lies, and its best estimate."""
    low, best, high = (min(max(value, plot.x.low), plot.x.high) for value in crossed)
    floor, top = plot.y.low, plot.y.high
    shapes = [plot.area([(low, floor), (low, top), (high, top), (high, floor)], "between")]
    if plot.x.low < best < plot.x.high:
        shapes.append(plot.line([(best, floor), (best, top)], "cross"))
    return shapes


def _line(plot: Plot, kind: str, line: Line, loads: Numbers) -> list[Markup]:
    """Return a line and its band, in pieces where nothing serves."""
    shapes: list[Markup] = []
    for piece in _pieces(line.best):
        shown = sorted({*piece[::THIN], piece[-1]})
        best = [(float(loads[i]), float(line.best[i])) for i in shown]
        lower = [(float(loads[i]), float(line.low[i])) for i in shown]
        upper = [(float(loads[i]), min(float(line.high[i]), plot.y.high)) for i in reversed(shown)]
        shapes += [plot.area([*lower, *upper], f"b-{kind}"), plot.line(best, f"l-{kind}")]
    return shapes


def _pieces(values: Numbers) -> list[Sequence[int]]:
    """Return runs of indices at which values are finite."""
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return []
    parts = np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1)
    return [part.tolist() for part in parts]


def _load(value: float) -> str:
    """Write a load."""
    return f"{value:g}" if value < 1 or not math.isclose(value, round(value)) else f"{value:,.0f}"
