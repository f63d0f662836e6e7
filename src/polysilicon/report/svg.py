"""The few SVG shapes that the charts are made of, as escaped strings.

Horizontal positions are percentages of the chart's width and vertical ones are pixels, so that a
chart fits any screen while its text and line widths keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from markupsafe import Markup, escape

from polysilicon.workload.record import KINDS


def kind_class(kind: str) -> str:
    """Return the CSS class that colours a step kind."""
    return f"k-{kind}" if kind in KINDS else "k-other"


def percent(fraction: float) -> str:
    """Return `fraction` (0 to 1, clipped) as an SVG percentage."""
    return f"{min(max(fraction, 0.0), 1.0) * 100:.2f}%"


def svg(height_px: float, label: str, shapes: Iterable[Markup]) -> Markup:
    """Return a chart of full width; `label` is what a screen reader says."""
    open_tag = Markup('<svg role="img" aria-label="{}" width="100%" height="{:g}">').format(
        label, height_px
    )
    return open_tag + Markup().join(shapes) + Markup("</svg>")


def rect(left: float, right: float, top_height_px: tuple[float, float], style: str) -> Markup:
    """Return a rectangle between two fractions of the width.

    Args:
        left: fraction of the width.
        right: fraction of the width.
        top_height_px: top and height.
        style: CSS classes.
    """
    # Put together by hand: a page of a thousand shapes takes a fifth of the time of Markup.format.
    place = f'x="{percent(left)}" y="{top_height_px[0]:g}" width="{percent(right - left)}"'
    look = f'height="{top_height_px[1]:g}" class="{escape(style)}"'
    return Markup(f"<rect {place} {look}/>")  # noqa: S704 - the only text is escaped


def titled(shape: Markup, title: str) -> Markup:
    """Return a shape that shows `title` under the mouse."""
    return Markup(f"<g><title>{escape(title)}</title>{escape(shape)}</g>")  # noqa: S704 - escaped


def line(start: tuple[float, float], end: tuple[float, float], style: str) -> Markup:
    """Return a line between two points (fraction of the width, pixels from the top)."""
    ends = f'x1="{percent(start[0])}" y1="{start[1]:g}" x2="{percent(end[0])}" y2="{end[1]:g}"'
    return Markup(f'<line {ends} class="{escape(style)}"/>')  # noqa: S704 - the only text is escaped


def dot(at: float, top_px: float, radius_px: float, style: str) -> Markup:
    """Return a circle around a point (fraction of the width, pixels from the top)."""
    return Markup('<circle cx="{}" cy="{:g}" r="{:g}" class="{}"/>').format(
        percent(at), top_px, radius_px, style
    )


def text(at: float, top_px: float, content: str, style: str = "", anchor: str = "start") -> Markup:
    """Return text at a point (fraction of the width, pixels from the top)."""
    return Markup('<text x="{}" y="{:g}" text-anchor="{}" class="{}">{}</text>').format(
        percent(at), top_px, anchor, style, content
    )


def nice_ticks(largest: float, count: int = 5) -> list[float]:
    """Return round numbers from 0 up to `largest`, at most `count` steps of 1, 2 or 5 tens."""
    if largest <= 0:
        return [0.0]
    raw = largest / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [step * i for i in range(int(largest / step * 1.000001) + 1)]


def log_place(value: float, low: float, high: float) -> float:
    """Return where `value` lies between `low` and `high` on a logarithmic axis, 0 to 1."""
    if value <= 0 or low <= 0 or high <= low:
        return 0.0
    return min(max(math.log(value / low) / math.log(high / low), 0.0), 1.0)


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten between `low` and `high`."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]
