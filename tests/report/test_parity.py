from __future__ import annotations

from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.predict import Prediction, Refusal, Value
from polysilicon.cost.validate import tally
from polysilicon.report.parity import render, write_parity


def answers(count):
    rows = [
        Measurement(row=i, processor="<b>chip", engine="vllm", model="m", tpot_ms=1.0 + i)
        for i in range(count)
    ]
    return [
        Prediction(
            row=r,
            values={"tpot_ms": Value(value=r.tpot_ms * 1.1, low=r.tpot_ms, high=r.tpot_ms * 2)},
            basis="roofline" if i % 2 else "measured",
        )
        for i, r in enumerate(rows)
    ]


def test_page_has_scores_plot_groups_and_refusals(tmp_path):
    refused = Refusal(row=Measurement(row=9, model="m"), reason="no <i>facts</i>")
    found = tally([*answers(9), refused])
    write_parity(found, found.groups(), tmp_path / "p.html", "runs & more.csv", "model")
    page = (tmp_path / "p.html").read_text("utf-8")
    assert "runs &amp; more.csv" in page
    assert "each predicted by a fit without its model" in page
    assert "<h2>tpot_ms</h2>" in page
    assert "median error 10 %" in page
    assert "&lt;b&gt;chip" in page
    assert "no &lt;i&gt;facts&lt;/i&gt;" in page
    assert page.count('class="p-measured cell"') + page.count('class="p-roofline cell"') == 9
    assert "<script" not in page


def test_many_points_make_a_small_page():
    found = tally(answers(20_000))
    page = render(found, found.groups(), "runs.csv")
    assert len(page) < 300_000
    assert "r² " in page


def test_a_page_without_predictions_and_with_many_groups():
    nothing = tally([])
    assert "<svg" not in render(nothing, nothing.groups(), "runs.csv")
    found = tally(answers(3))
    assert "50 more groups are not shown" in render(found, found.groups() * 250, "runs.csv")
