from __future__ import annotations

from html.parser import HTMLParser

import pytest

from plan_problems import BOX, SMALL, solved
from polysilicon.errors import InputError
from polysilicon.report.plan_html import plan_html, write_plan_page

DRAW = """
[[contract]]
shape = "drawdown"
name = "a <b>deal</b>"
offers = ["own/*"]
term_months = 12
period_months = 6
commitment_usd = [1e4, 1e4]
discount = 0.3
buy = false
[[contract.signed]]
order = 0
units = 1
[[scenario]]
name = "plain"
probability = 0.5
[[scenario]]
name = "more"
probability = 0.5
demand = 1.6
"""


class Tags(HTMLParser):
    """Counts tags, and checks that they are closed."""

    VOID = ("meta", "br", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    other = BOX.replace("own/box", "gcp/box").replace("= 1.0\n", "= 1.1\n")
    return solved(tmp_path_factory.mktemp("page"), SMALL + other + DRAW).plan


def test_the_page_has_its_charts_and_runs_nothing(plan):
    page = plan_html(plan)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.count
    assert tags.count["svg"] >= 8
    for heading in ("Commitments", "Capacity against demand", "Dollars", "Drawdown",
                    "Shares of commitment dollars", "What a unit does"):  # fmt: skip
        assert heading in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_names_are_escaped(plan):
    page = plan_html(plan)
    assert "<b>deal" not in page
    assert "a &lt;b&gt;deal" in page


def test_a_page_ends_in_html(plan, tmp_path):
    with pytest.raises(InputError, match="ends in .html"):
        write_plan_page(plan, tmp_path / "page.txt")
    write_plan_page(plan, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == plan_html(plan)
