from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from synthetic_run import ELSEWHERE, MODEL, make_run

from polysilicon.report.html import decimals, figure, render, write_report
from polysilicon.report.source import Source, load, of_folder
from polysilicon.report.summary import summarise
from polysilicon.report.terminal import BLANK
from polysilicon.workload.files import write
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

VOID = {"meta", "br", "img", "input", "link"}


class Page(HTMLParser):
    """Reads a page as a browser does: tags, attributes, text, and whether tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.labelled_by: list[str] = []
        self.open: list[str] = []
        self.unlabelled: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "action")]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        self.ids += [values["id"] or ""] if "id" in values else []
        self.labelled_by += [values["aria-labelledby"] or ""] if "aria-labelledby" in values else []
        if tag == "svg" and not {"aria-label", "aria-hidden"} & set(values):
            self.unlabelled.append(tag)


def page_of(folder: Path, **more: int) -> tuple[str, Page]:
    run, _, _ = make_run(folder, **more)
    source = of_folder(run)
    write_report(source, ELSEWHERE, None, [("aws/inf2.xlarge", "no <basis>")])
    text = run.report_path.read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text, page = page_of(tmp_path / "demo")
    assert page.links == []
    assert page.handlers == []
    assert not {"script", "img", "link", "iframe", "object", "foreignobject"} & set(page.tags)
    for word in ("http:", "https:", "url(", "@import"):
        assert word not in text
    assert "default-src 'none'" in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    text, page = page_of(tmp_path / "demo")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert '<script>alert(\\"x\\")</script>' in page.text
    assert "\u202e" not in text
    assert "\x00" not in text
    assert "ToolError: no such order <b>" in page.text
    assert "no <basis>" in page.text


def test_the_page_has_all_its_parts(tmp_path: Path) -> None:
    _, page = page_of(tmp_path / "demo")
    assert page.ids == ["where", "timeline", "elsewhere", "agents", "ledger", "failed", "samples"]
    assert sorted(page.labelled_by) == sorted(page.ids)
    assert page.unlabelled == []
    for text in (
        MODEL,
        "support",
        "priced as aws/m8g.medium",
        "roofline",
        "ended ok",
        "(this machine)",
    ):
        assert text in page.text


def test_light_dark_and_phone(tmp_path: Path) -> None:
    text, _ = page_of(tmp_path / "demo")
    assert "prefers-color-scheme: dark" in text
    assert "max-width: 680px" in text
    assert 'name="viewport"' in text


def test_a_large_run_stays_small(tmp_path: Path) -> None:
    text, page = page_of(tmp_path / "demo", tasks_per_agent=500)
    assert len(text.encode()) < 2_000_000
    assert "Drawn: 48 of 2,000 tasks" in page.text
    assert "The first 100 are shown" in page.text


def test_a_workload_file_has_a_report_too(tmp_path: Path) -> None:
    run, _, _ = make_run(tmp_path / "demo")
    write(run.workload(), tmp_path / "w.jsonl")
    summary = write_report(load(tmp_path / "w.jsonl"), [], tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text(encoding="utf-8"))
    assert summary.report == str(tmp_path / "out.html")
    assert page.ids == ["where", "timeline", "agents", "ledger"]
    assert "A workload file" in page.text


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    run, tasks, _ = make_run(tmp_path / "demo")
    run.write_info(msgspec.structs.replace(run.info(), finished=False))
    run.write_tasks([task for task in tasks if task.ok])
    source = of_folder(run)
    page = Page(render(source, summarise(source)))
    assert "This run is not finished" in page.text
    assert "None." in page.text


def test_bare_steps_make_a_page() -> None:
    record = StepRecord(task_id="t", step_id="0", name="x", kind="tool")
    workload = Workload.from_records([record])
    source = Source(name="n", path=Path("n"), report_path=Path("n.html"), workload=workload)
    page = Page(render(source, summarise(source)))
    assert "timeline" not in page.ids
    assert "1 of 1 steps have no price" in page.text


def test_where_no_offer_can_be_estimated_the_reasons_are_shown(tmp_path: Path) -> None:
    run, _, _ = make_run(tmp_path / "demo")
    source = of_folder(run)
    page = Page(render(source, summarise(source), [("aws/x", "no facts")]))
    assert "No offer could be estimated" in page.text
    assert "aws/x: no facts" in page.text


@pytest.mark.parametrize(
    ("total", "shown"), [(0.0039512, "0.0039512"), (12.3, "12.300"), (123456.7, "123,456.70")]
)
def test_a_column_of_money_has_one_number_of_decimals(total: float, shown: str) -> None:
    assert figure(total, decimals(total)) == shown
    assert figure(None, decimals(None)) == BLANK
    assert decimals(0.0) == 2
