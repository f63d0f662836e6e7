"""Placements and plans on the dashboard, in real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from browsing import PHONE, axe_complaints, complaints, seen
from planned_files import write_a_plan, write_placement
from polysilicon.errors import InputError
from served_gateway import Served, endpoint_pool, serving

POOL = endpoint_pool("http://127.0.0.1:9/v1")  # a machine of own/box in us-east-1


def test_what_was_named_is_shown_beside_the_fleet(browser: Browser, tmp_path: Path) -> None:
    files = {
        "placement": write_placement(tmp_path / "placed.json"),
        "plan": write_a_plan(tmp_path / "planned.json"),
    }
    with serving(tmp_path, POOL, **files) as served:
        with seen(browser, served.address) as reader:
            page = reader.go("/placement")
            row = page.get_by_role("row").filter(has_text="scripted on own/box")
            expect(row.get_by_role("cell").last).to_have_text("1")  # of two
            expect(row.get_by_role("img")).to_have_accessible_name("llm: used 40 %, cap 90 %")
            expect(page.get_by_text("$7.00 to $11.00")).to_be_visible()
            expect(page.get_by_text("SLO of <support>: a second more")).to_be_visible()
            page = reader.go("/plan")
            table = page.get_by_role("table", name="Commitments in force")
            expect(table.get_by_role("row")).to_have_count(2)
            expect(table.get_by_role("row").last).to_contain_text("three years")
            page.get_by_role("link", name="the whole plan").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("A year")
            title = page.get_by_role("heading", level=1)
            assert title.evaluate("each => getComputedStyle(each).fontSize") == "28px"
            page = reader.go("/money")
            expect(page.locator("#commitments")).to_contain_text("$2,920.00 a month")
        _is_for_everybody(browser, served)


def _is_for_everybody(browser: Browser, served: Served) -> None:
    with seen(browser, served.address, viewport=PHONE, color_scheme="dark") as reader:
        for path in ("/placement", "/plan"):
            page = reader.go(path)
            assert complaints(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path


def test_axe_finds_nothing_in_plans(browser: Browser, tmp_path: Path) -> None:
    files = {
        "placement": write_placement(tmp_path / "placed.json"),
        "plan": write_a_plan(tmp_path / "planned.json"),
    }
    with serving(tmp_path, POOL, **files) as served, seen(browser, served.address) as reader:
        for path in ("/placement", "/plan"):
            assert axe_complaints(reader.go(path)) == [], path


def test_files_in_the_folder_are_shown_when_they_come(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path, POOL) as served, seen(browser, served.address) as reader:
        page = reader.go("/placement")
        expect(page.get_by_role("heading", name="No placement is shown")).to_be_visible()
        (tmp_path / "gateway/placement.json").write_text('{"pools": [')
        page = reader.go("/placement")
        expect(page.get_by_role("note")).to_contain_text("no placement: ")
        write_placement(tmp_path / "gateway/placement.json")
        page = reader.go("/placement")
        expect(page.get_by_role("heading", name="The fleet")).to_be_visible()
        (tmp_path / "gateway/plan.json").write_text("[" * 100_000)
        page = reader.go("/plan")
        expect(page.get_by_role("note")).to_contain_text("plan.json: it is no plan file")
        assert page.get_by_role("note").count() == 1


@pytest.mark.parametrize("option", ["placement", "plan"])
def test_a_file_that_was_named_must_be_one(tmp_path: Path, option: str) -> None:
    wrong = tmp_path / "wrong.json"
    gateway = serving(tmp_path, POOL, **{option: wrong})
    with pytest.raises(InputError, match="wrong.json"), gateway:
        pass
