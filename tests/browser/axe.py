"""Check the chat page for barriers with axe-core, in both themes, on a desktop and on a narrow phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

from tests.node_clients import PACKAGES
from tests.support import require

AXE = PACKAGES / "axe-core" / "axe.min.js"
SIZES: tuple[Any, ...] = ({"width": 320, "height": 640}, {"width": 1280, "height": 800})
THEMES: tuple[Any, ...] = ("light", "dark")


def findings(page: Page) -> list[str]:
    """Return what axe-core finds in the page as it is now: the rule, the element, and what to do."""
    require(AXE.is_file(), f"there is no {AXE} (make node)")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))  # past the content security policy
    violations: list[dict[str, Any]] = page.evaluate(
        "async () => (await axe.run(document, { resultTypes: ['violations'] })).violations"
    )
    return [
        f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}" for one in violations for node in one["nodes"]
    ]


def barriers(page: Page, view: str, prepare: Callable[[], object] = lambda: None) -> list[str]:
    """Return what axe-core finds in one view, in both sizes and themes; also that the page is wider than its window.

    Args:
        page: the page.
        view: the name of the view, for the findings.
        prepare: called in each size.
    """
    found: list[str] = []
    for size in SIZES:
        page.set_viewport_size(size)
        prepare()
        for theme in THEMES:
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            found += [f"{view}, {theme}, {size['width']} px: {one}" for one in findings(page)]
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > size["width"]:
            found.append(f"{view}: the page has {width} px in a window of {size['width']} px")
    return found
