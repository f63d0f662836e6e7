"""Real Chromium for tests, and what is looked at in each page: faults, requests, accessibility."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

PATH = shutil.which("chromium")
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}

WAIT_S = 30.0
"""How long to wait for what must come, also on a machine that does much else."""

OUTSIDE = "evil.example"
"""A name that points to this machine, as an attacker's may."""

# A root user, as in a container, has no sandbox of Chromium's.
OPTIONS = ["--no-sandbox", f"--host-resolver-rules=MAP {OUTSIDE} 127.0.0.1"]

_CHECKS = (Path(__file__).parent / "browsing.js").read_text()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; where there is none, tests are skipped."""
    if PATH is None:
        pytest.skip("no chromium is installed (Debian's package is `chromium`)")
    expect.set_options(timeout=WAIT_S * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def seen(browser: Browser, address: str, **options: Any) -> Iterator[Seen]:
    """Give a page of a reader's own; nothing may go wrong in it."""
    context = browser.new_context(**({"viewport": WIDE} | options))
    context.set_default_timeout(WAIT_S * 1000)
    found = Seen(context, address)
    try:
        yield found
        assert found.faults == []
    finally:
        context.close()


class Seen:
    """A page, and what went wrong in it: errors, refused content, requests to elsewhere."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._request)
        self._address = address

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith(self._address):
            self.faults.append(f"asks for {request.url}")

    def go(self, path: str) -> Page:
        """Open a page of the gateway."""
        self.page.goto(self._address + path)
        return self.page


def complaints(page: Page) -> list[str]:
    """Return what of a page a person with a screen reader, keyboard or weak eyes would miss."""
    return page.evaluate(_CHECKS)


def axe_complaints(page: Page) -> list[str]:
    """Return what axe-core finds, where the package that carries it is installed."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python is not installed")
    page.evaluate((Path(spec.origin).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")
    return [f"{one['id']}: {one['help']}: {[n['html'][:200] for n in one['nodes'][:3]]}"
            for one in found["violations"]]  # fmt: skip
