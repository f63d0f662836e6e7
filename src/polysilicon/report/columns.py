"""Charts of columns side by side, with words under both ends."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from polysilicon.report import svg

LABEL_PX = 16.0


def columns(
    values: Sequence[float], titles: Sequence[str], height_px: float, style: str
) -> list[Markup]:
    """Return columns from zero, side by side over the whole width.

    Args:
        values: height of each.
        titles: what each is, shown under the mouse.
        height_px: of the highest.
        style: CSS classes.
    """
    largest, shapes = max(values), []
    for i, (value, title) in enumerate(zip(values, titles, strict=True)):
        tall = value / largest * height_px if largest > 0 else 0.0
        if value > 0:
            tall = max(tall, 1.0)  # any at all is seen
        place = (height_px - tall, tall)
        column = svg.rect(i / len(values), (i + 1) / len(values), place, f"{style} part")
        shapes.append(svg.titled(column, title))
    shapes.append(svg.line((0, height_px), (1, height_px), "grid"))
    return shapes


def labelled(shapes: list[Markup], ends: tuple[str, str], height_px: float, label: str) -> Markup:
    """Return a chart with words under both of its ends."""
    below = height_px + LABEL_PX - 4
    texts = [svg.text(0, below, ends[0], "tick"), svg.text(1, below, ends[1], "tick", "end")]
    return svg.svg(height_px + LABEL_PX, label, shapes + texts)
