"""The HTML page of `describe`: one file with everything in it, which opens without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from polysilicon import units
from polysilicon.disk import write_whole
from polysilicon.report import description as words
from polysilicon.report import svg
from polysilicon.report.columns import LABEL_PX, columns, labelled
from polysilicon.report.html import cut, template
from polysilicon.report.terminal import BLANK, share
from polysilicon.workload.arrivals import Rhythm
from polysilicon.workload.concurrency import ALL
from polysilicon.workload.describe import Description
from polysilicon.workload.spreads import Histogram
from polysilicon.workload.time_split import CLIENT, QUEUE, TimeSplit

CHART_PX = 110.0
HISTOGRAM_PX = 90.0
BAR_PX = 24.0
PLAIN = "cost"
"""The colour of what is of no kind."""

_PART_STYLES = {QUEUE: PLAIN, CLIENT: "k-other"}


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart with its title, a line under that, and the chart's own labels."""

    title: str
    detail: str
    chart: Any


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the time of tasks, for the legend under the bar."""

    name: str
    style: str
    time: str
    share: str


def write_description(description: Description, name: str, path: Path) -> None:
    """Write the HTML page of a description, all or not at all.

    Args:
        description: of a workload.
        name: of the workload.
        path: of the page.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    page = render(description, name)
    write_whole(path, page.encode("utf-8", errors="replace"))


def render(description: Description, name: str) -> str:
    """Return the HTML page of a description; see `write_description`."""
    d = description
    return template("describe.html.j2").render(
        name=name,
        facts=words.facts(d),
        notes=d.notes,
        tallies=[(title, cut(title, list(names.items()))) for title, names in words.tallies(d)],
        arrivals=_arrivals(d),
        rhythms=[_rhythm(rhythm) for rhythm in d.arrivals.rhythms],
        windows=d.arrivals.windows,
        split=_split(d.task_time) if d.task_time.shares else None,
        parts=_parts(d.task_time),
        split_of=d.task_time,
        flights=_flights(d),
        shapes=[
            (title, spread.n, words.spread_words(spread, form))
            for title, spread, form in words.shape_rows(d)
        ],
        histograms=[_histogram(key, found) for key, found in d.histograms.items() if found.counts],
        operations=cut("operations", [*d.by_kind, *d.by_name]),
        pair=words.pair,
        seconds_form=units.seconds,
        count_form=units.count,
        groups=cut("steps", d.groups),
        timed=d.service_s > 0,
    )


def _arrivals(d: Description) -> Chart | None:
    """Return arrivals over time."""
    found = d.arrivals
    if not found.counts or found.bucket_s is None or found.span_s is None:
        return None
    bucket_s = found.bucket_s
    titles = [
        f"{units.count(count)} tasks from {units.seconds(i * bucket_s)}"
        for i, count in enumerate(found.counts)
    ]
    peak = f"at most {units.count(max(found.counts))} in {units.seconds(bucket_s)}"
    rate = d.arrival_rate_per_s
    detail = f"{BLANK if rate is None else words.rate_words(rate)}; {peak}"
    return Chart(
        title="Arrivals over time",
        detail=detail,
        chart=labelled(
            columns(found.counts, titles, CHART_PX, PLAIN),
            ("0", units.seconds(found.span_s)),
            CHART_PX,
            f"arrivals over time: {detail}",
        ),
    )


def _rhythm(rhythm: Rhythm) -> Chart:
    """Return arrivals by part of a day or week."""
    part = "hour" if rhythm.period == "day" else "day"
    titles = [f"{part} {i}: {units.count(count)} tasks" for i, count in enumerate(rhythm.counts)]
    detail = words.rhythm_words(rhythm)
    return Chart(
        title=f"Rhythm of the {rhythm.period}",
        detail=detail,
        chart=labelled(
            columns(rhythm.counts, titles, HISTOGRAM_PX, PLAIN),
            (f"{part} 0", f"{part} {len(titles) - 1}"),
            HISTOGRAM_PX,
            f"arrivals {detail}",
        ),
    )


def _split(split: TimeSplit) -> Markup:
    """Return the time of tasks as one bar in parts."""
    left, shapes = 0.0, []
    for name, part in words.shown_parts(split):
        piece = svg.rect(left, left + part, (0, BAR_PX), f"{_style(name)} part")
        shapes.append(svg.titled(piece, f"{words.PART_WORDS.get(name, name)}: {share(part)}"))
        left += part
    said = ", ".join(f"{name} {share(part)}" for name, part in words.shown_parts(split))
    return svg.svg(BAR_PX, f"the time of tasks: {said}", shapes)


def _parts(split: TimeSplit) -> list[Part]:
    """Return the parts of the time of tasks."""
    return [
        Part(
            name=words.PART_WORDS.get(name, name),
            style=_style(name),
            time=units.seconds(split.parts_s[name]) if part else "none",
            share=share(part),
        )
        for name, part in words.shown_parts(split)
    ]


def _style(part: str) -> str:
    """Return the colour of a part of the time of tasks."""
    return _PART_STYLES.get(part) or svg.kind_class(part)


def _flights(d: Description) -> list[Chart]:
    """Return steps in flight over time: of all, then of each kind."""
    charts = []
    for name, flight in d.in_flight.items():
        if not flight.counts or flight.mean is None or (name != ALL and len(d.kinds) == 1):
            continue
        detail = f"mean {units.count(flight.mean)}, peak {units.count(flight.peak)}"
        titles = [f"{units.count(value)} at once" for value in flight.counts]
        style = "k-other" if name == ALL else svg.kind_class(name)
        shapes = columns(flight.counts, titles, HISTOGRAM_PX, style)
        title = "all steps" if name == ALL else f"{name} steps"
        label = f"{title} in flight: {detail}"
        chart = labelled(shapes, ("first start", "last end"), HISTOGRAM_PX, label)
        charts.append(Chart(title=title, detail=detail, chart=chart))
    return charts


def _histogram(name: str, found: Histogram) -> Chart:
    """Return a histogram on the ladder of 1, 2, 5, 10, 20, 50, and so on."""
    edges = [words.edge_words(name, edge) for edge in found.edges]
    titles = [
        f"above {low} to {high}: {units.count(count)}"
        for low, high, count in zip(edges[:-1], edges[1:], found.counts, strict=True)
    ]
    style = svg.kind_class(name.removesuffix("_s")) if name != "task_s" else PLAIN
    tokens = name.endswith("_tokens")
    shapes = columns(found.counts, titles, HISTOGRAM_PX, PLAIN if tokens else style)
    middle = len(found.counts) // 2
    if len(found.counts) > 3:
        at = middle / len(found.counts)
        place = HISTOGRAM_PX + LABEL_PX - 4
        shapes.append(svg.text(at, place, edges[middle], "tick", "middle"))
    detail = f"{units.count(sum(found.counts))} values"
    if found.zeros:
        detail += f", and {units.count(found.zeros)} that are 0"
    title = words.HISTOGRAM_WORDS[name]
    chart = labelled(shapes, (edges[0], edges[-1]), HISTOGRAM_PX, f"{title}: {detail}")
    return Chart(title=title, detail=detail, chart=chart)
