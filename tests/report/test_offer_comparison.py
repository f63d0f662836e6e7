from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from polysilicon.cost import Estimate
from polysilicon.errors import PolysiliconError
from polysilicon.report.offers import (
    PAGE_ROWS,
    Answer,
    Comparison,
    Refusal,
    comparison_page,
    scatter,
    write_comparison,
)


def answer(name, service_s=1.0, usd=0.001, kind="cpu", **more):
    llm = {"ttft_s": service_s / 2, "tpot_s": 0.01} if more.pop("llm", True) else {}
    found = Estimate(
        offer=name,
        region="here",
        service_s=service_s,
        cost_usd=usd,
        basis="calibrated",
        low_s=service_s / 2,
        high_s=service_s * 2,
        note="by a <law>",
        **llm,
    )
    return Answer(estimate=found, kind=kind, **more)


def comparison(answers, **more):
    return Comparison(title="a <step>", answers=answers, refused=more.pop("refused", []), **more)


def shown(found, limit=20):
    console = Console(width=100)
    with console.capture() as captured:
        console.print(comparison_page(found, limit))
    return captured.get()


def test_bars_lie_in_order_of_time():
    text = shown(comparison([answer("fast", 1.0), answer("slow", 10.0)]))
    bars = {line.split()[0]: line for line in text.splitlines() if "●" in line}
    assert bars["fast"].index("●") < bars["slow"].index("●")
    assert "500 ms to 2 s" in bars["fast"]
    for line in bars.values():
        assert line.index("─") < line.index("●") < line.rindex("─")


def test_what_is_left_out_is_told():
    refused = [
        Refusal(offer="a", reason="small", count=2),
        Refusal(offer="b", reason="odd", count=5),
    ]
    found = comparison(
        [answer("one", unsure=True), answer("two")],
        refused=refused,
        slo="the SLO (≤ 2 s)",
        missed=4,
    )
    text = " ".join(shown(found, 1).split())
    assert "1 of 2 offers; 4 more miss the SLO (≤ 2 s); 7 refused for want of facts" in text
    assert "most often: odd" in text
    assert "? a band" in text
    assert "two" not in text


def test_steps_that_are_no_llm_calls_have_no_tokens():
    assert "next token" not in shown(comparison([answer("one", llm=False)]))


def test_markup_in_names_is_text():
    assert "[red]x" in shown(comparison([answer("[red]x")]))


def test_the_scatter_has_a_dot_and_a_whisker_for_each_offer():
    found = comparison([answer("one", 1.0, 0.01), answer("two", 3.0, 0.0, kind="gpu")])
    root = ET.fromstring(scatter(found))
    groups = [child for child in root if child.tag.endswith("}g")]
    assert len(groups) == 2
    titles = [group[0].text for group in groups]
    # The cheaper is drawn last; a step that costs nothing lies on the lower edge.
    assert titles[0].startswith("one in here: 1 s, $10.00 per 1,000")
    assert [group[2].attrib["class"] for group in groups] == ["o-cpu", "o-gpu"]


def test_the_page_escapes_and_is_cut(tmp_path):
    path = tmp_path / "page.html"
    many = [answer(f"offer-{i}") for i in range(PAGE_ROWS + 3)]
    refused = [Refusal(offer="x", reason="no <fact>", count=2)]
    write_comparison(comparison(many, refused=refused), path)
    text = path.read_text(encoding="utf-8")
    assert "a &lt;step&gt;" in text
    assert "by a &lt;law&gt;" in text
    assert "2: no &lt;fact&gt; (x and others)" in text
    assert "3 more offers are only in the chart" in text
    assert text.count("<circle") == PAGE_ROWS + 3
    assert "--json" not in text


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(PolysiliconError, match="cannot be written"):
        write_comparison(comparison([answer("one")]), tmp_path / "no" / "page.html")
