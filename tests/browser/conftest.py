"""Start Debian's Chromium; give each test a page that reports scripts, errors, and requests to other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.watched_page import watched_page
from tests.support import require

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run a headless Chromium for one module; while it is open, an event loop runs in this thread."""
    require(CHROMIUM.exists(), f"there is no {CHROMIUM} (apt-get install chromium)")
    expect.set_options(timeout=60_000)  # a machine may be busy
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a page; an error in it, or a request to another host, fails the test."""
    with watched_page(browser) as opened:
        yield opened
