from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from polysilicon import catalog
from polysilicon.catalog.offers import Offer
from polysilicon.report.price_performance import page, write
from polysilicon.report.price_performance.__main__ import main
from polysilicon.report.price_performance.capacity import Capacity
from polysilicon.report.price_performance.charts import Line, load_chart
from polysilicon.report.price_performance.studies import MIXES, MODELS, SLOS, loads
from polysilicon.report.price_performance.study import Work, model_work, study_of, tool_work

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def text():
    return (DOCS / "price_performance.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tools():
    return tool_work(catalog.load())


@pytest.fixture(scope="module")
def largest():
    """The model with the fewest machines that can serve it, so the quickest to work out."""
    return model_work(MODELS[-1][1], catalog.load())


def test_the_page_begins_as_the_generator_says(text):
    assert text.startswith(page.head().strip())


def test_tool_work_in_the_page_is_what_is_made_now(text, tools):
    assert page.tool_section(tools).strip() in text
    for name, chart in write.tool_chart(tools).items():
        assert (DOCS / name).read_text(encoding="utf-8") == chart


def test_a_model_in_the_page_is_what_is_made_now(text, largest):
    label, name = MODELS[-1]
    assert page.model_section(label, name, largest).strip() in text
    rows = [r for r in page.summary_section({label: largest}).splitlines() if f"| {label} |" in r]
    assert len(rows) == len(MIXES) * len(SLOS)
    assert all(row in text for row in rows)
    for file, chart in write.model_charts({label: largest}).items():
        assert (DOCS / file).read_text(encoding="utf-8") == chart


def test_committed_prices_in_the_page_are_what_is_made_now(text):
    assert write.committed(catalog.load()).strip() in text


def test_all_models_charts_and_their_links_are_there(text):
    for label, name in MODELS:
        assert f"## {label}: {name}" in text
    linked = {part.partition(")")[0] for part in text.split("](")[1:]}
    files = {f"price_performance/{path.name}" for path in (DOCS / "price_performance").iterdir()}
    assert linked == files
    assert len(files) == len(MODELS) * len(SLOS) + 1
    for file in files:
        ET.parse(DOCS / file)


def test_everything_is_written_all_over_again(tmp_path, monkeypatch, tools, largest, text):
    monkeypatch.setattr(write, "MODELS", MODELS[-1:])
    monkeypatch.setattr(write, "COMMITTED_MODEL", MODELS[-1][0])
    monkeypatch.setattr(write, "model_work", lambda _name, _catalog: largest)
    monkeypatch.setattr(write, "tool_work", lambda _catalog: tools)
    ended = CliRunner().invoke(main, [str(tmp_path)])
    assert ended.exit_code == 0
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert sorted(Path(line).relative_to(tmp_path) for line in ended.output.split()) == written
    assert page.tool_section(tools).strip() in (tmp_path / "price_performance.md").read_text(
        "utf-8"
    )


def capacity(kind, name, usd, per_s, slow=None, fast=None, basis="calibrated"):
    return Capacity(
        offer=Offer(name=name, region="here", kind=kind, on_demand_usd_per_hour=usd),
        per_s=per_s,
        slow_per_s=per_s if slow is None else slow,
        fast_per_s=per_s if fast is None else fast,
        at_once=1,
        basis=basis,
    )


def summary(*capacities):
    studies = {(mix.name, slo.name): study_of(capacities) for mix in MIXES for slo in SLOS}
    return page.summary_section({"X": Work(studies=studies, refused={})})


GPU = capacity("gpu", "gpu", 4.0, 40.0, slow=20.0, fast=80.0)


def test_a_crossing_is_told_with_its_range():
    found = summary(capacity("cpu", "cpu", 1.0, 1.0, slow=0.5, fast=2.0), GPU)
    # Five CPUs cost more than a GPU: above 4/s; above 2/s and 8/s at the ends.
    assert "| X | agent step | interactive | 4/s | 2/s to 8/s |" in found
    assert "a CPU is the cheapest up to 4 requests/s" in found
    assert "a full CPU is 10 times as dear as a full accelerator" in found


def test_where_there_is_no_crossing_that_is_told():
    assert "no CPU keeps the SLO" in summary(GPU)
    assert "| no load | no load |" in summary(GPU)
    alone = summary(capacity("cpu", "cpu", 1.0, 1.0))
    assert "a CPU is the cheapest at all loads" in alone
    assert "| all loads | all loads |" in alone
    dear = summary(capacity("cpu", "cpu", 9.0, 1.0), GPU)
    assert "an accelerator is cheaper than any CPU even when nearly idle" in dear
    cheap = summary(capacity("cpu", "cpu", 1.0, 20.0), GPU)
    assert "a full CPU is 2 times cheaper than a full accelerator" in cheap


def test_a_slow_end_that_misses_the_slo_leaves_the_band_open():
    found = summary(capacity("cpu", "cpu", 1.0, 1.0, slow=0.0, fast=2.0), GPU)
    assert "no load to 8/s" in found
    assert "or more" in found


def test_machines_by_data_sheets_alone_are_left_out_and_counted():
    found = study_of([capacity("cpu", "cpu", 1.0, 1.0, basis="roofline"), GPU])
    assert found.by_facts == 1
    assert found.sides["cpu"].capacities == []


def test_a_chart_breaks_where_nothing_serves():
    at = loads()
    best = 1.0 / at
    best[400:600] = np.inf
    line = Line(best=best, low=best / 2, high=np.full(len(at), np.inf))
    none = Line(best=np.full(len(at), np.inf), low=at, high=at)
    titles = ("x", "y", "all")
    root = ET.fromstring(load_chart({"cpu": line, "gpu": none}, at, titles, (0.01, 5.0, np.inf)))
    kinds = [child.attrib.get("class", "") for child in root]
    assert kinds.count("l-cpu") == kinds.count("b-cpu") == 2
    assert "l-gpu" not in kinds
    assert kinds.count("cross") == kinds.count("between") == 1
