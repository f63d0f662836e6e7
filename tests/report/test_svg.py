from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from polysilicon.report import svg


def test_charts_are_well_formed_and_escaped() -> None:
    shapes = [
        svg.titled(svg.rect(0.25, 0.75, (1, 8), "k-llm"), "</title><script>"),
        svg.line((0, 0), (1, 9), "grid"),
        svg.dot(0.5, 4, 3, "dot"),
        svg.text(1, 9, "a & b", "tick", "end"),
    ]
    root = ET.fromstring(svg.svg(20, 'say "<this>"', shapes))
    assert root.attrib["aria-label"] == 'say "<this>"'
    assert root.attrib["height"] == "20"
    assert [child.tag for child in root] == ["g", "line", "circle", "text"]
    assert root[0][0].text == "</title><script>"
    assert root[0][1].attrib["x"] == "25.00%"
    assert root[0][1].attrib["width"] == "50.00%"


def test_places_stay_inside() -> None:
    assert svg.percent(-1) == "0.00%"
    assert svg.percent(7) == "100.00%"


def test_unknown_kinds_have_a_colour() -> None:
    assert svg.kind_class("train") == "k-train"
    assert svg.kind_class('"><script>') == "k-other"


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        (0, [0]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (35.2, [0, 10, 20, 30]),
        (0.07, [0, 0.02, 0.04, 0.06]),
    ],
)
def test_ticks_are_round(largest: float, ticks: list[float]) -> None:
    assert svg.nice_ticks(largest) == pytest.approx(ticks)


@pytest.mark.parametrize("largest", [0.003, 1, 17, 99.9, 12345])
def test_ticks_are_few(largest: float) -> None:
    ticks = svg.nice_ticks(largest)
    assert 3 <= len(ticks) <= 6
    assert ticks[-1] <= largest * 1.001


def test_logarithmic_places() -> None:
    assert svg.log_place(1, 0.1, 10) == pytest.approx(0.5)
    assert svg.log_place(0, 0.1, 10) == 0
    assert svg.log_place(1, 1, 1) == 0
    assert svg.log_place(100, 0.1, 10) == 1
    assert svg.log_ticks(0.1, 100) == pytest.approx([0.1, 1, 10, 100])
