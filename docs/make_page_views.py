"""Take pictures of all views of the chat page, docs/img/views/*.png, in Chromium: `python -m docs.make_page_views`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page, expect, sync_playwright

from streamcore import Chunk, ProviderError
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import Step
from streamcore.web import create_app
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.test_page_access import ASKS, DELETES, SHOWS, page_of, unfold
from tests.serving import serving

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "img" / "views"
NO_THUMBS = "[data-rating] { display: none }"  # their font is not on every machine
FAILS: list[Step] = [
    Chunk("start", id="5", model="m"),
    "Half an ans",
    ProviderError("out of order", provider="p", model="m"),
]


def take(page: Page, view: str, prepare: Callable[[], object] = lambda: None) -> None:
    """Take the pictures of a view: on a desktop in light colors, on a phone in dark ones."""
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 760})
    prepare()
    page.screenshot(path=IMAGES / f"{view}-phone.png", animations="disabled", style=NO_THUMBS)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1180, "height": 760})
    page.screenshot(path=IMAGES / f"{view}.png", animations="disabled", style=NO_THUMBS)


def say(page: Page, text: str) -> None:
    """Send a message, and wait for the end of its answer."""
    page.locator("#input").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#send")).to_be_visible()


def show(page: Page, selector: str) -> None:
    """Scroll to the first element that a selector finds."""
    page.locator(selector).first.evaluate("one => one.scrollIntoView({ block: 'start' })")


def conversation(page: Page) -> None:
    """Take the pictures of a conversation: empty, an approval, an answer, editing, an error, the list."""
    expect(page.locator(".suggestions button").first).to_be_visible()
    take(page, "empty")
    say(page, "What is the weather in Bonn? Then delete a.")
    expect(page.locator(".approval .title")).to_be_visible()
    unfold(page)
    take(page, "approval", lambda: show(page, ".approval"))
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(".sources li")).to_have_count(2)
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator(".katex").first).to_be_visible()
    expect(page.locator(".hljs-keyword").first).to_be_visible()
    take(page, "answer", lambda: show(page, ".answer h1"))
    page.get_by_role("button", name="Edit").click()
    take(page, "edit", lambda: show(page, "form.edit"))
    page.get_by_label("Edit the message").fill("Fail, please")
    page.keyboard.press("Enter")
    expect(page.locator(".trouble")).to_be_visible()
    expect(page.locator(".versions")).to_be_visible()
    unfold(page)
    take(page, "error")

    def open_list() -> None:
        expect(page.locator("body")).to_have_attribute("data-side", "closed")
        page.get_by_role("button", name="Conversations").click()
        page.evaluate("document.querySelector('#side details').open = true")

    take(page, "list", open_list)


def question(page: Page) -> None:
    """Take the picture of a graph's question."""
    page.get_by_role("button", name="Begin").click()
    expect(page.locator(".question")).to_have_text("What is your name?")
    expect(page.locator("#send")).to_be_visible()
    take(page, "question")


def pictures(browser: Browser, folder: Path) -> None:
    """Serve what the pictures show, and take them."""
    page = browser.new_page(viewport={"width": 1180, "height": 760})
    with page_of(folder, ScriptedProvider(ASKS, DELETES, SHOWS, FAILS)) as url:
        page.goto(url)
        conversation(page)
    with serving(create_app(ROOT / "graphs" / "interview.yaml", provider="demo")) as url:
        page.goto(url)
        question(page)
    with page_of(folder, ScriptedProvider("Hello."), api_keys=["key"]) as url:
        page.goto(url)
        expect(page.get_by_role("dialog")).to_be_visible()
        take(page, "signing-in")
        page.goto("about:blank")


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        pictures(browser, Path(folder))
        browser.close()


if __name__ == "__main__":
    main()
