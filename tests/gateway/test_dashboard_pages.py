"""The dashboard in real Chromium: every page, in every state, on every screen."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from browsing import PHONE, WIDE, Seen, axe_complaints, complaints, seen
from polysilicon.gateway.dashboard.snapshot import grouped
from polysilicon.runtime.journal import JournalError
from scripted_endpoint import Endpoint, Reply
from served_gateway import Served, endpoint_pool, serving

PAGES = ("/", "/tasks", "/money", "/elsewhere", "/placement")
HOSTILE = '<img src=x onerror="document.title=1"></script>'
KNOWN = "smollm2-135m-instruct"
NOBODY_THERE = "http://127.0.0.1:9/v1"
FAULTY = """<title>x</title><header></header><nav></nav><main><h1>one</h1><h1 id="a">two</h1>
<h3 id="a">three</h3><p style="color: #999">pale</p><svg></svg><input><button></button>
<table><caption>t</caption><tr><th>head</th></tr></table><a href="/" tabindex="2">go</a></main>"""
LET_GO = threading.Event()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that has done some work: with failures, a lost engine, an attacker's names."""

    def reply(asked: Reply) -> Reply:
        text = asked["messages"][-1]["content"]
        if text == "wait":
            return {"content": "word " * 1000, "held": LET_GO}
        return {"status": 400} if text == "bad" else {"content": "one two"}

    with Endpoint(reply).served() as endpoint:
        offer = {"offer": "gcp/a2-highgpu-8g", "region": "us-central1"}
        far = endpoint_pool(endpoint.address, **offer).partition("price = ")[0]
        gone = endpoint_pool(NOBODY_THERE, "gone", model="other", serves=["llm:other"])
        folder = tmp_path_factory.mktemp("busy")
        known = endpoint_pool(endpoint.address, "known", model=KNOWN, serves=[f"llm:{KNOWN}"])
        with serving(folder, far + 'price = "1y"\n', gone, known) as served:
            served.chat(model=KNOWN)
            for n in range(6):
                about = {"task": f"ticket-{n % 3}", "agent": "support"}
                served.chat("bad" if n == 4 else "hi", metadata=about)
            served.chat(metadata={"task": HOSTILE, "agent": HOSTILE})
            for _ in range(3):
                served.chat(model="other")
            yield served


def test_what_looks_for_faults_finds_them(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(FAULTY)
    found = " ".join(complaints(page))
    for fault in ("no language", "2 of h1", "id a twice", "h1 is followed by h3", "no name: <nav",
                  "without scope", "no words for <svg", "no label", "no words: <button",
                  "contrast 2.8", "an order of its own"):  # fmt: skip
        assert fault in found
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_page_can_be_read_by_everybody(
    browser: Browser, busy: Served, theme: Any, screen: Any
) -> None:
    with seen(browser, busy.address, color_scheme=theme, viewport=screen) as reader:
        for path in PAGES:
            page = reader.go(path)
            for each in page.locator("details:not([open]) > summary").all():
                each.click()
            assert complaints(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= screen["width"], path
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(255, 255, 255)") == (theme == "light")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, busy: Served, theme: Any) -> None:
    with seen(browser, busy.address, color_scheme=theme) as reader:
        for path in (*PAGES, "/task?id=ticket-1"):
            page = reader.go(path)
            for each in page.locator("details:not([open]) > summary").all():
                each.click()
            assert axe_complaints(page) == [], path


def test_the_pages_say_what_was(browser: Browser, busy: Served) -> None:
    with seen(browser, busy.address) as reader:
        page = reader.go("/")
        lost = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="gone"))
        expect(lost).to_contain_text("drained: 3 failures in a row")
        expect(page.get_by_role("note")).to_contain_text("Pool gone: its engine failed")
        far = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="far"))
        expect(far).to_contain_text("reserved for a year, prices of 20")
        expect(far).to_contain_text("7 steps, 1 failed")

        page.get_by_role("link", name="Tasks").click()
        rows = page.get_by_role("table").get_by_role("row")
        expect(rows.filter(has_text="ticket-1")).to_contain_text("failed")
        expect(rows.filter(has_text="ticket-0")).to_contain_text("support")
        assert page.get_by_text(HOSTILE).count() >= 2
        assert page.title().startswith("Tasks ")
        page.get_by_role("link", name=HOSTILE).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Task {HOSTILE}")
        expect(page.get_by_role("row").nth(1)).to_contain_text("chat")

        page.get_by_text("Where its steps went, and why").click()
        why = page.get_by_role("region", name="Where its steps went").get_by_role("row")
        expect(why.filter(has_text="gone")).to_contain_text("it does not serve such steps")
        expect(why.filter(has_text="it does not")).to_have_count(3)
        assert complaints(page) == []

        page.get_by_role("link", name="Money").click()
        used = page.locator("#commitments").get_by_role("row").filter(has_text="far")
        expect(used.get_by_role("img")).to_have_accessible_name("far: used 0.0 %")
        total = page.locator("#ledger .total").get_by_role("cell")
        expect(total.first).to_have_text(str(busy.gateway.totals.all.steps))


def test_the_work_is_estimated_elsewhere(browser: Browser, busy: Served) -> None:
    with seen(browser, busy.address) as reader:
        page = reader.go("/elsewhere")
        page.get_by_text("The offers as a table").click(timeout=60_000)
        table = page.get_by_role("region", name="Cost elsewhere")
        row = table.get_by_role("row").filter(has_text="gcp/g2-standard-4")
        expect(row).to_contain_text(re.compile("measured|calibrated"))
        expect(row).to_contain_text(" to ")  # its band
        expect(page.locator("#elsewhere")).to_contain_text("The last task that ended here")
        expect(page.locator("#elsewhere")).to_contain_text("knows nothing: other, scripted")
        assert complaints(page) == []


def test_nothing_has_run_yet(browser: Browser, tmp_path: Path) -> None:
    gateway = serving(tmp_path, endpoint_pool(NOBODY_THERE))
    with gateway as served, seen(browser, served.address) as reader:
        for path, words in (
            ("/", "no steps yet"),
            ("/tasks", "Nothing has run yet"),
            ("/money", "No step has cost anything yet."),
            ("/elsewhere", "No task has ended yet"),
            ("/placement", "polysilicon place RUN"),
        ):
            page = reader.go(path)
            expect(page.locator("main")).to_contain_text(words)
            assert complaints(page) == [], path
        assert page.locator("nav [aria-current=page]").inner_text() == "Placement"


def test_it_works_without_script(browser: Browser, busy: Served) -> None:
    with seen(browser, busy.address, java_script_enabled=False) as reader:
        page = reader.go("/tasks")
        page.get_by_role("link", name="ticket-0").click()
        expect(page.get_by_role("table", name="Steps in the order")).to_contain_text("far")
        expect(page.get_by_role("link", name="Reload")).to_be_visible()
        expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()
        assert page.url.startswith(f"{busy.address}/task?id=")


def test_the_keyboard_reaches_everything(browser: Browser, busy: Served) -> None:
    with seen(browser, busy.address, viewport=PHONE) as reader:
        page = reader.go("/money")
        chosen = "a, button:not([hidden]), summary, [tabindex='0']"
        wanted = page.evaluate(f'document.querySelectorAll("{chosen}").length')
        page.evaluate("window.reached = new Set()")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        for _ in range(wanted):
            ring = page.evaluate(
                "(() => { const at = document.activeElement; reached.add(at);"
                " return getComputedStyle(at).outlineStyle })()"
            )
            assert ring == "solid"
            page.keyboard.press("Tab")
        assert page.evaluate("reached.size") == wanted
        page = reader.go("/money")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()


def test_the_ledger_adds_up_however_it_is_grouped(busy: Served) -> None:
    books = grouped(busy.gateway.totals)
    whole = asdict(busy.gateway.totals.all)
    assert whole["steps"] >= 10
    for name, sums in books.items():
        for field, total in whole.items():
            assert sum(asdict(one)[field] for one in sums.values()) == pytest.approx(total), name


def test_news_come_by_themselves(browser: Browser, busy: Served) -> None:
    with seen(browser, busy.address) as reader:
        page = reader.go("/")
        page.get_by_text("What each pool serves").click()
        far = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="far"))
        load = far.get_by_role("img")
        expect(load).to_have_accessible_name("engine: 0 of 64")
        with _streaming(busy, 5):
            expect(load).to_have_accessible_name("engine: 5 of 64")
            assert page.get_by_text("llm:*").is_visible()  # what was open stays open
            summary = page.get_by_text("What each pool serves")
            summary.focus()
            page.get_by_role("button", name="Pause updates").click()
            expect(page.get_by_role("status")).to_have_text("Paused")
        time.sleep(2.5)
        expect(load).to_have_accessible_name("engine: 5 of 64")
        page.get_by_role("button", name="Pause updates").click()
        expect(load).to_have_accessible_name("engine: 0 of 64")


def test_a_running_task_grows(browser: Browser, busy: Served) -> None:
    with seen(browser, busy.address) as reader:
        with _streaming(busy, 2, task="long"):
            page = reader.go("/task?id=long")
            expect(page.locator("#now")).to_contain_text("running")
            expect(page.get_by_role("row").filter(has_text="running")).to_have_count(2)
            page = reader.go("/tasks")
            row = page.get_by_role("row").filter(has_text="long")
            expect(row).to_contain_text("chat, chat")
        expect(row).to_contain_text("ok")
        assert row.count() == 1


def test_a_task_is_cancelled_with_and_without_script(browser: Browser, tmp_path: Path) -> None:
    agent = tmp_path / "sleepy.py"
    agent.write_text(
        "import asyncio\n\nasync def sleepy(ctx, value):\n"
        "    await ctx.call(len, 'abc')\n    await asyncio.Event().wait()\n"
    )
    gateway = serving(tmp_path, endpoint_pool(NOBODY_THERE), agents=(f"{agent}:sleepy",))
    with gateway as served:
        for script in (True, False):
            asked = {"agent": "sleepy", "input": {}}
            task_id = served.client.post("/v1/tasks", json=asked).json()["id"]
            with seen(browser, served.address, java_script_enabled=script) as reader:
                page = reader.go("/")
                while not page.get_by_role("link", name=task_id).count():
                    page = reader.go("/tasks")
                page.get_by_role("link", name=task_id).click()
                expect(page.locator("#now")).to_contain_text("running")
                if script:  # by itself
                    expect(page.get_by_role("row").filter(has_text="len")).to_contain_text("ok")
                page.get_by_role("button", name="Cancel this task").click()
                expect(page.locator("#now")).to_contain_text("cancelled")
                expect(page.get_by_role("button", name="Cancel this task")).to_have_count(0)
            told = served.client.get(f"/v1/tasks/{task_id}").json()
            assert told["status"] == "cancelled"


def test_troubles_come_first(tmp_path: Path) -> None:
    with serving(tmp_path, endpoint_pool(NOBODY_THERE)) as served:
        assert 'role="note"' not in served.client.get("/").text
        served.gateway.runner.fatal = JournalError("cannot write <journal>: the disk is full")
        served.gateway.draining = True
        served.gateway.audit.lost = 3
        page = served.client.get("/").text
        assert page.count('role="note"') == 3
        assert "Nothing more is run: cannot write &lt;journal&gt;: the disk is full" in page
        assert "The gateway is draining" in page
        assert "3 lines of the audit log could not be written." in page


def test_it_says_when_the_gateway_is_gone(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    try:
        with serving(tmp_path, endpoint_pool(NOBODY_THERE)) as served:
            page = Seen(context, served.address).go("/")
            expect(page.get_by_role("status")).to_have_text("Live")
        expect(page.get_by_role("status")).to_have_text("The gateway does not answer; trying again")
        expect(page.get_by_role("heading", name="Pools")).to_be_visible()
        assert page.get_by_role("heading", name="Pools").count() == 1
    finally:
        context.close()


@contextmanager
def _streaming(served: Served, count: int, task: str = "") -> Iterator[None]:
    """Have calls under way meanwhile; they end well when the block does."""
    about = {"metadata": {"task": task, "agent": "support"}} if task else {}
    with ThreadPoolExecutor(count) as clients:
        calls = [clients.submit(served.chat, "wait", stream=True, **about) for _ in range(count)]
        try:
            yield
        finally:
            LET_GO.set()
            assert [call.result().status_code for call in calls] == [200] * count
            LET_GO.clear()
