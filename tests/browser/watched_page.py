"""Open a page in Chromium that notices a hostile script that ran, an error, or a request to another host."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Request

REPORT = """
let hacked;
Object.defineProperty(window, "hacked", {
  get: () => hacked,
  set: (value) => { hacked = value; reportHack(String(value)); },
});
"""
"""Report at once that a hostile script has set `window.hacked`: later the page may show another document."""


def report_hacks(context: BrowserContext) -> list[str]:
    """Return a list that gets a text for each hostile script that runs in a page of the context."""
    found: list[str] = []

    def report(_source: object, value: str) -> None:
        found.append(f"a script set window.hacked = {value}")

    untyped: Any = context  # Playwright does not say what the callback returns
    untyped.expose_binding("reportHack", report)
    context.add_init_script(REPORT)
    return found


@contextmanager
def watched_page(browser: Browser, *allowed: str, **options: Any) -> Generator[Page]:
    """Open a page in a new context, and check at the end that it had no errors.

    Args:
        browser: where it is opened.
        allowed: how the addresses of other requests begin than those to 127.0.0.1 and for `about:blank`.
        options: of the context.
    """
    context = browser.new_context(**options)
    wrong = report_hacks(context)
    try:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def asked(request: Request) -> None:
            known = "://127.0.0.1:" in request.url or request.url == "about:blank"
            if not known and not request.url.startswith(allowed):
                wrong.append(request.url)

        page.on("request", asked)
        yield page
    finally:
        context.close()
    assert not wrong, "; ".join(wrong)
