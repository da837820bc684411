"""Test the chat page in a real Chromium in German, in a language without texts, and with text from right to left."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from streamcore import Chunk, ProviderError, Usage
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import Step
from streamcore.web import PageOptions, create_app
from tests.browser.test_chat_page import ROOT, over, say
from tests.browser.watched_page import watched_page
from tests.serving import serving

pytestmark = [pytest.mark.real, pytest.mark.long]
ARABIC = "مرحبا بالعالم"
HEBREW = "שלום עולם"
START = Chunk("start", id="1", model="m")
WHOLE: list[Step] = [
    *(START, "Eine Antwort."),
    Chunk("finish", finish_reason="stop", raw_finish_reason="stop"),
    Chunk("usage", usage=Usage(input_tokens=12_345, output_tokens=6_789)),
]
FAILED: list[Step] = [START, "Halb", ProviderError("out of order", provider="p", model="m")]
MIXED = (
    f"{ARABIC} `f(x)`\n\n- {HEBREW} $a+b$\n\n```python\nprint('{HEBREW}', 1)\n```\n\n"
    f"| {HEBREW} | 1 |\n|---|---|\n| a | b |\n"
)
ENGLISH = """async () => {
  const load = async (name) => (await import(new URL(`assets/texts/${name}.js`, document.baseURI))).default;
  const german = new Set(Object.values(await load("de")));
  const english = new Set(Object.values(await load("en")).filter((text) => !german.has(text)));
  const own = (one) => [...one.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data);
  const said = (one) => ["title", "aria-label", "placeholder"].map((name) => one.getAttribute(name) ?? "");
  return [...document.body.querySelectorAll("*")]
    .flatMap((one) => [...own(one), ...said(one)])
    .filter((text) => english.has(text.trim()));
}"""
"""Return the texts of the page that are English and have a translation."""


def test_the_page_uses_the_language_of_the_browser(browser: Browser) -> None:
    app = create_app(
        "chat",
        provider=ScriptedProvider(WHOLE, FAILED),
        prompts_dir=ROOT / "prompts",
        page=PageOptions(title="Auskunft", show_usage=True, on_feedback=lambda _: None),
    )
    with serving(app) as url, watched_page(browser, locale="de-AT") as page:
        page.goto(url)
        expect(page).to_have_title("Auskunft")
        expect(page.locator("html")).to_have_attribute("lang", "de")
        expect(page.get_by_text("Was möchten Sie wissen?")).to_be_visible()
        expect(page.get_by_placeholder("Nachricht")).to_be_focused()
        expect(page.get_by_role("button", name="Neu", exact=True)).to_have_attribute(
            "title", "Ein neues Gespräch beginnen"
        )
        assert page.evaluate(ENGLISH) == []
        page.locator("#input").fill("Hallo")
        page.get_by_role("button", name="Senden").click()
        over(page)
        # Numbers have the separators of the language.
        expect(page.locator(".answer .foot")).to_contain_text("12.345 + 6.789 Token · erstes Token nach ")
        for name in ("Kopieren", "Roh", "Neu fragen", "Gute Antwort", "Schlechte Antwort", "Bearbeiten"):
            expect(page.locator("#log").get_by_role("button", name=name)).to_be_visible()
        say(page, "Noch eine")
        trouble = page.get_by_role("alert")
        expect(trouble).to_contain_text("Das Modell konnte nicht antworten.")
        expect(trouble.get_by_role("button")).to_have_text("Noch einmal")
        expect(trouble.locator("summary")).to_have_text("Einzelheiten")
        over(page)
        assert page.evaluate(ENGLISH) == []
        page.goto("about:blank")
        with watched_page(browser, locale="fr-FR") as other:
            other.goto(url)
            expect(other.get_by_role("button", name="Send")).to_be_visible()
            expect(other.locator("html")).to_have_attribute("lang", "en")
            other.goto("about:blank")


def direction(element: Locator) -> str:
    """Return the direction in which the text of an element is written: `ltr` or `rtl`."""
    found: str = element.evaluate("element => getComputedStyle(element).direction")
    return found


def test_text_from_right_to_left(page: Page) -> None:
    provider = ScriptedProvider([START, *MIXED, *WHOLE[2:]], [START, "In English.", *WHOLE[2:]])
    with serving(create_app("chat", provider=provider, prompts_dir=ROOT / "prompts", page=True)) as url:
        page.goto(url)
        box = page.locator("#input")
        for text, expected in (("Hello", "ltr"), (ARABIC, "rtl"), (f"{HEBREW} hello", "rtl")):
            box.fill(text)
            assert direction(box) == expected
        page.keyboard.press("Enter")
        over(page)
        answer = page.locator(".answer").first
        expect(answer.locator(".katex").first).to_be_visible()
        expect(page.locator("#conversations a")).to_have_count(1)
        for shown in (
            page.locator(".user .body"),
            page.locator("#conversations a"),
            *(answer.locator(f".body {name}") for name in ("p", "li", "th >> nth=0")),
        ):
            assert direction(shown) == "rtl"
        for shown in (answer.locator("p code"), answer.locator("li .katex").first, answer.locator("pre code")):
            assert direction(shown) == "ltr"
        assert answer.locator("pre").evaluate("element => getComputedStyle(element).textAlign") == "left"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        say(page, "Hello")
        over(page)
        assert direction(page.locator(".user .body").last) == "ltr"
        assert direction(page.locator(".answer .body").last) == "ltr"
        page.goto("about:blank")
