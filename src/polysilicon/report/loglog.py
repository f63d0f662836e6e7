"""Charts with two logarithmic axes, as SVG of a fixed shape that scales with its width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec
from markupsafe import Markup

from polysilicon.report.svg import log_place

WIDTH_PX, HEIGHT_PX = 760.0, 400.0
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 74.0, 26.0, 12.0, 46.0

Point = tuple[float, float]


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """A logarithmic axis.

    Attributes:
        low: where it begins, greater than 0.
        high: where it ends, more than `low`.
        title: what is on it, with its unit.
        words: how a value is written.
    """

    low: float
    high: float
    title: str
    words: Callable[[float], str]

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; what is outside lies on the edge."""
        return log_place(value, self.low, self.high)

    def ticks(self) -> list[float]:
        """Return powers of ten on the axis; where these are few, also twice and five times them."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1.0, 2.0, 5.0) if last - first <= 2 else (1.0,)
        ticks = [f * 10.0**power for power in range(first, last + 1) for f in factors]
        return [t for t in ticks if self.low * (1 - 1e-9) <= t <= self.high * (1 + 1e-9)]


def axis_around(values: Iterable[float], title: str, words: Callable[[float], str]) -> Axis:
    """Return an axis that holds all values, from one of 1, 2 and 5 times a power of ten to another.

    Values that are not finite or not greater than 0 have no place on it and are left out.
    """
    good = [v for v in values if 0.0 < v < math.inf]
    low, high = (min(good), max(good)) if good else (1.0, 1.0)
    power = math.floor(math.log10(low))
    low_end = max(f * 10.0**power for f in (1.0, 2.0, 5.0) if f * 10.0**power <= low * (1 + 1e-9))
    power = math.floor(math.log10(high))
    ends = [f * 10.0**power for f in (1.0, 2.0, 5.0, 10.0)]
    high_end = min(end for end in ends if end >= high * (1 - 1e-9))
    if high_end <= low_end:
        high_end = low_end * 10.0
    return Axis(low=low_end, high=high_end, title=title, words=words)


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """A frame into which shapes are drawn; x runs to the right and y upwards."""

    x: Axis
    y: Axis

    def at(self, point: Point) -> Point:
        """Return pixels of a point."""
        wide, tall = WIDTH_PX - LEFT_PX - RIGHT_PX, HEIGHT_PX - TOP_PX - BOTTOM_PX
        return (
            LEFT_PX + wide * self.x.place(point[0]),
            HEIGHT_PX - BOTTOM_PX - tall * self.y.place(point[1]),
        )

    def dot(self, point: Point, style: str, radius_px: float = 4.0) -> Markup:
        """Return a dot."""
        x, y = self.at(point)
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:g}" class="{}"/>').format(
            x, y, radius_px, style
        )

    def line(self, points: Sequence[Point], style: str) -> Markup:
        """Return a line through points."""
        return Markup('<polyline points="{}" class="{}"/>').format(self._joined(points), style)

    def area(self, points: Sequence[Point], style: str) -> Markup:
        """Return a filled shape around which points go."""
        return Markup('<polygon points="{}" class="{}"/>').format(self._joined(points), style)

    def words(self, point: Point, text: str, style: str, anchor: str = "start") -> Markup:
        """Return text above and beside a point."""
        x, y = self.at(point)
        return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
            x, y - 5.0, anchor, style, text
        )

    def svg(self, label: str, shapes: Iterable[Markup], style: str = "") -> Markup:
        """Return the chart: axes, then shapes; `label` is what a screen reader says.

        Args:
            label: in words what there is to see.
            shapes: what is drawn, first at the bottom.
            style: CSS that the file carries where no page around it does.
        """
        opened = Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:g} {:g}" role="img"'
            ' aria-label="{}">'
        ).format(WIDTH_PX, HEIGHT_PX, label)
        # The CSS is the program's own, so it is not escaped.
        own = Markup(f"<style>{style}</style>") if style else Markup()  # noqa: S704
        frame = [*self._across(), *self._upwards()]
        return opened + own + Markup("\n").join([*frame, *shapes]) + Markup("</svg>\n")

    def _joined(self, points: Sequence[Point]) -> str:
        """Return pixels of points as SVG writes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, points))

    def _across(self) -> list[Markup]:
        """Return the horizontal axis."""
        shapes = []
        for tick in self.x.ticks():
            shapes.append(self.line([(tick, self.y.low), (tick, self.y.high)], "grid"))
            x, _ = self.at((tick, self.y.low))
            shapes.append(_text((x, HEIGHT_PX - BOTTOM_PX + 16), self.x.words(tick), "middle"))
        middle = (LEFT_PX + WIDTH_PX - RIGHT_PX) / 2
        return [*shapes, _text((middle, HEIGHT_PX - 8), self.x.title, "middle")]

    def _upwards(self) -> list[Markup]:
        """Return the vertical axis."""
        shapes = []
        for tick in self.y.ticks():
            shapes.append(self.line([(self.x.low, tick), (self.x.high, tick)], "grid"))
            _, y = self.at((self.x.low, tick))
            shapes.append(_text((LEFT_PX - 6, y + 4), self.y.words(tick), "end"))
        middle = (TOP_PX + HEIGHT_PX - BOTTOM_PX) / 2
        turned = Markup(
            '<text x="14" y="{:.1f}" text-anchor="middle" class="tick"'
            ' transform="rotate(-90 14 {:.1f})">{}</text>'
        ).format(middle, middle, self.y.title)
        return [*shapes, turned]


def _text(at: Point, content: str, anchor: str) -> Markup:
    """Return text at pixels."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="tick">{}</text>').format(
        at[0], at[1], anchor, content
    )
