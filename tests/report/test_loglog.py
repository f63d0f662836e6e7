from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from polysilicon.report.loglog import (
    HEIGHT_PX,
    LEFT_PX,
    RIGHT_PX,
    TOP_PX,
    WIDTH_PX,
    Axis,
    Plot,
    axis_around,
)


def axis(low, high):
    return Axis(low=low, high=high, title="t", words=str)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([3.0, 40.0], 2.0, 50.0),
        ([1.0, 10.0], 1.0, 10.0),
        ([0.0021, 0.6], 0.002, 1.0),
        ([5.0], 5.0, 50.0),
        ([5.0, 5.0, 5.0], 5.0, 50.0),
        ([7.0, 7.0], 5.0, 10.0),
        ([0.0, -3.0, math.inf, math.nan, 2.0, 4.0], 2.0, 5.0),
        ([], 1.0, 10.0),
    ],
)
def test_an_axis_begins_and_ends_at_round_numbers_around_the_values(values, low, high):
    found = axis_around(values, "t", str)
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_ticks_are_powers_of_ten_and_more_where_these_are_few():
    assert axis(1e-3, 1e3).ticks() == pytest.approx([10.0**power for power in range(-3, 4)])
    assert axis(2.0, 50.0).ticks() == pytest.approx([2.0, 5.0, 10.0, 20.0, 50.0])


def test_corners_lie_on_the_frame_and_the_middle_between():
    plot = Plot(x=axis(1.0, 100.0), y=axis(1.0, 100.0))
    left, bottom = plot.at((1.0, 1.0))
    right, top = plot.at((100.0, 100.0))
    assert (left, top) == (LEFT_PX, TOP_PX)
    assert right == WIDTH_PX - RIGHT_PX
    assert plot.at((10.0, 10.0)) == pytest.approx(((left + right) / 2, (top + bottom) / 2))
    assert bottom < HEIGHT_PX


def test_what_is_outside_lies_on_the_edge():
    plot = Plot(x=axis(1.0, 100.0), y=axis(1.0, 100.0))
    assert plot.at((1e9, 1e-9)) == plot.at((100.0, 1.0))


def test_the_chart_is_well_formed_and_escapes_text():
    plot = Plot(x=axis(1.0, 100.0), y=axis(1.0, 100.0))
    shapes = [
        plot.dot((3.0, 4.0), "o"),
        plot.line([(1.0, 1.0), (2.0, 3.0)], "l"),
        plot.area([(1.0, 1.0), (2.0, 3.0), (3.0, 1.0)], "a"),
        plot.words((2.0, 2.0), "<b>", "w"),
    ]
    text = plot.svg('"<x>"', shapes, ".l{stroke:red}")
    assert isinstance(text, Markup)
    root = ET.fromstring(text)
    tags = [child.tag.rpartition("}")[2] for child in root]
    assert {"style", "circle", "polyline", "polygon", "text"} <= set(tags)
    assert root.attrib["aria-label"] == '"<x>"'
    assert "<b>" in [child.text for child in root]
    assert "style" not in plot.svg("none", [])
