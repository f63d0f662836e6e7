from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from synthetic_run import ELSEWHERE, OfferRow

from polysilicon.report.charts import offer_chart, outcome_bar, time_bars
from polysilicon.report.terminal import BLANK
from polysilicon.workload.describe import Group


def group(agent: str, kind: str, name: str, time_s: float) -> Group:
    return Group(
        agent=agent, kind=kind, name=name, steps=4, p50_s=time_s / 4, p99_s=None, time_s=time_s,
        share_of_time=None, cost_usd=None, unpriced=4, failed=0,
    )  # fmt: skip


def widths(chart: str, style: str) -> list[float]:
    rects = ET.fromstring(chart).iter("rect")
    return [float(r.attrib["width"].rstrip("%")) for r in rects if style in r.attrib["class"]]


def test_time_bars_share_one_scale() -> None:
    bars = time_bars(
        [
            group("a", "llm", "chat", 6.0),
            group("b", "tool", "run", 4.0),
            group("a", "tool", "x", 2.0),
        ]
    )
    assert [(bar.label, bar.value) for bar in bars] == [("a", "8 s (67 %)"), ("b", "4 s (33 %)")]
    assert bars[0].detail == "chat 75 % · x 25 %"
    assert widths(bars[0].chart, "part") == [75.0, 25.0]
    assert widths(bars[1].chart, "k-tool") == [50.0]


def test_time_bars_of_nothing() -> None:
    assert time_bars([]) == []
    assert widths(time_bars([group("a", "llm", "chat", 0.0)])[0].chart, "part") == [0.0]


@pytest.mark.parametrize(
    ("tasks", "ok", "quality", "label"),
    [
        (4, 3, 0.5, "4 tasks, 3 ended ok, quality 50 %"),
        (4, None, None, "4 tasks"),
        (0, 0, None, "0 tasks"),
    ],
)
def test_outcome_bars(tasks: int, ok: int | None, quality: float | None, label: str) -> None:
    root = ET.fromstring(outcome_bar(tasks, ok, quality))
    assert root.attrib["aria-label"] == label
    assert len(list(root.iter("line"))) == (quality is not None)


def test_offers_are_sorted_by_cost_and_blanks_come_last() -> None:
    chart = offer_chart(ELSEWHERE)
    costs = [offer.row.usd_per_1000_tasks for offer in chart.offers]
    assert costs[:-1] == sorted(costs[:-1])
    assert costs[-1] is None
    assert [offer.row.offer for offer in chart.offers if offer.here] == ["local"]
    dearest = chart.offers[-2]
    assert widths(dearest.cost_chart, "cost") == [100.0]
    assert widths(chart.offers[-1].cost_chart, "cost") == []
    assert (chart.offers[-1].cost, chart.offers[-1].band) == (BLANK, BLANK)
    assert "circle" not in chart.offers[-1].time_chart


def test_the_time_axis_spans_all_bands() -> None:
    labels = [text.text for text in ET.fromstring(offer_chart(ELSEWHERE).time_axis).iter("text")]
    assert labels == ["100 ms", "1 s", "10 s", "100 s"]


def test_offers_without_any_time() -> None:
    row = OfferRow(offer="x", usd_per_1000_tasks=0.0, p50_s=None, basis="roofline")
    chart = offer_chart([row])
    assert chart.offers[0].p50 == BLANK
    assert widths(chart.offers[0].cost_chart, "cost") == []
