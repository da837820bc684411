"""Take the pictures of the chat page, docs/img/chat*.png, in a real Chromium: `python -m docs.make_chat_images`."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from streamcore import get_provider
from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import tokens
from streamcore.web import PageOptions, create_app
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.serving import serving

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "img"
ANSWER = """Yes: `execute_prompt_streaming` yields **text**, and `stream_prompt` yields *chunks*.

```python
async with stream_prompt("greet", {"name": "Ada"}) as stream:
    async for chunk in stream:
        print(chunk.kind, chunk.text)
```

| function | yields | knows how it ended |
|---|---|---|
| `execute_prompt_streaming` | `str` | by its error |
| `stream_prompt` | `Chunk` | `stream.partial` |

1. Leave `async with`, and the vendor's response is closed.
2. The text that arrived stays in `stream.partial`: 全部、最後の一文字まで 🙂

The mean of the gaps is $\\bar g = \\frac{1}{n}\\sum_{i=1}^{n} g_i$.
"""
REASONING = "The reader asks about functions. Two of them matter here; a table will do."

ABOUT_FILES = """The picture shows an answer on the chat page; the paper is about the gaps between two tokens.

- **The picture**: a table, and the mean of the gaps.
- **The paper**: how they were measured.
"""


def say(page: Page, text: str) -> None:
    """Send a message."""
    page.locator("#input").fill(text)
    page.keyboard.press("Enter")


def over(page: Page) -> None:
    """Wait for the end of an answer."""
    page.locator("#send").wait_for()


def interview(browser: Browser) -> None:
    """Answer the questions of graphs/interview.yaml, and take its picture while it still streams."""
    app = create_app(ROOT / "graphs" / "interview.yaml", provider="demo")
    page = browser.new_page(viewport={"width": 860, "height": 820}, device_scale_factor=1.5)
    with serving(app) as url:
        page.goto(url)
        page.get_by_role("button", name="Begin").click()
        for number, answer in enumerate(("Ada Lovelace", "Write the first program.")):
            page.locator(".question").nth(number).wait_for()
            over(page)
            say(page, answer)
        page.get_by_text("generate response").wait_for()
        page.locator(".answer").last.get_by_text("No model was called").wait_for()
        page.screenshot(path=IMAGES / "chat-interview.png")
        over(page)
        page.close()


def markdown(browser: Browser) -> None:
    """Ask a question whose answer has everything, in light colors, and on a phone in dark ones."""
    with Simulator(Answer(tokens(ANSWER), tokens(REASONING))) as simulator:
        provider = get_provider("openai", api_key="none", model="m", base_url=simulator.base_url("openai"))
        with serving(create_app("chat", provider=provider, prompts_dir=ROOT / "prompts")) as url:
            page = browser.new_page(viewport={"width": 860, "height": 720}, device_scale_factor=1.5)
            page.goto(url)
            say(page, "Can I have text and chunks?")
            over(page)
            page.locator("details.reasoning summary").click()
            page.locator(".math .katex").wait_for()
            page.screenshot(path=IMAGES / "chat.png")
            page.set_viewport_size({"width": 1180, "height": 720})
            page.get_by_role("button", name="Ask again").click()
            over(page)
            page.screenshot(path=IMAGES / "chat-conversations.png")
            page.set_viewport_size({"width": 390, "height": 760})
            page.emulate_media(color_scheme="dark")
            page.reload()
            over(page)
            page.locator(".math .katex").wait_for()
            page.locator(".hljs-keyword").first.wait_for()
            page.screenshot(path=IMAGES / "chat-phone-dark.png")
            page.close()


def files(browser: Browser) -> None:
    """Ask about two files, with a choice of models and the foot of the answer; then add one that is too large."""
    with Simulator(Answer(tokens(ABOUT_FILES)), rate=60) as simulator:
        provider = get_provider("openai", api_key="none", model="gpt-4o-mini", base_url=simulator.base_url("openai"))
        app = create_app(
            "chat",
            provider=provider,
            prompts_dir=ROOT / "prompts",
            files=True,
            allow_models=["anthropic/claude-haiku-4-5", "openai/gpt-5-mini"],
            page=PageOptions(show_usage=True),
        )
        with serving(app) as url:
            page = browser.new_page(viewport={"width": 860, "height": 640}, device_scale_factor=1.5)
            page.goto(url)
            page.locator("#attach").wait_for()
            chart = FilePayload(name="gaps.png", mimeType="image/png", buffer=(IMAGES / "chat.png").read_bytes())
            paper = FilePayload(name="paper.pdf", mimeType="application/pdf", buffer=b"%PDF-1.4\n")
            page.locator("#file").set_input_files([chart, paper])
            page.locator("#attached li").nth(1).wait_for()
            say(page, "What do they show?")
            page.locator(".answer .foot").wait_for()
            large = FilePayload(name="film.pdf", mimeType="application/pdf", buffer=b"%PDF-1.4\n" * 700_000)
            page.locator("#file").set_input_files([chart, large])
            page.locator("#file-trouble").wait_for()
            page.screenshot(path=IMAGES / "chat-files.png")
            page.close()


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        interview(browser)
        markdown(browser)
        files(browser)
        browser.close()


if __name__ == "__main__":
    main()
