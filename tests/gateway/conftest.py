"""Chromium for the tests of the gateway's pages.

One for each module: as long as it is open, Playwright keeps an event loop running in this thread,
which `asyncio.run` in other modules' tests would trip over.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from browsing import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found
