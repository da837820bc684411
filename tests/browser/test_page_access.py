"""Test in a real Chromium that everybody can use the chat page: axe-core finds no barrier in any of its views."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from streamcore import Chunk, ProviderError, ToolCall, Usage
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import Step
from streamcore.web import PageOptions, create_app
from tests.browser.axe import barriers
from tests.browser.test_chat_page import ROOT, over, say
from tests.browser.test_page_content import CONTENT
from tests.serving import serving
from tests.support import eventually

pytestmark = [pytest.mark.real, pytest.mark.long]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FUNCTIONS = '''
from streamcore.tools import tool

async def weather(city: str):
    """Tell the weather."""
    if city == "Atlantis":
        raise LookupError("no such city")
    yield "looking out of the window"
    yield f"sun in {city}"

@tool(needs_approval=True)
async def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"
'''
PROMPT = """
description: Answers with everything that an answer may have
user: "{message}"
suggestions: ["What can you do?", "Show me a table"]
tools: [{python: "functions.py:weather"}, {python: "functions.py:delete"}]
"""
YELLOW = "#ffe000"
"""A color that cannot be read on white."""
LINK = "https://docs.example.org/streams"


def call(name: str, position: int, **arguments: str) -> Chunk:
    """Return a whole call of a tool."""
    return Chunk("tool_call", tool_call=ToolCall(f"{name}{position}", name, json.dumps(arguments), position))


def ending(reason: Any) -> list[Chunk]:
    usage = Chunk("usage", usage=Usage(input_tokens=120, output_tokens=40))
    return [Chunk("finish", finish_reason=reason, raw_finish_reason=reason), usage]


ASKS: list[Step] = [
    *(Chunk("start", id="1", model="m"), Chunk("reasoning", "Two cities, then a file.")),
    *("First the ", "weather."),
    *(call("weather", 0, city="Bonn"), call("weather", 1, city="Atlantis"), *ending("tool_calls")),
]
DELETES: list[Step] = [
    Chunk("start", id="2", model="m"),
    "Now a file.",
    call("delete", 0, path="a"),
    *ending("tool_calls"),
]
SHOWS: list[Step] = [
    *(
        Chunk("start", id="3", model="m"),
        f"# Streams\n\n## What they are\n\n[A link]({LINK}) and `code`.\n\n> A quote\n\n",
    ),
    *(CONTENT, "\n\n1. one\n2. two\n\n| a | b |\n|---|---|\n| [c](https://example.org) | d |\n"),
    Chunk("citation", data={"url": LINK, "title": "Streams explained", "cited_text": "A stream is a sequence."}),
    Chunk("citation", data={"title": "A file without an address"}),
    Chunk("other", raw=json.dumps({"type": "image", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}).encode()),
    *ending("stop"),
]


@contextmanager
def page_of(folder: Path, provider: ScriptedProvider, color: str | None = None, **options: Any) -> Generator[str]:
    """Serve a prompt with tools whose page has everything that an operator can switch on."""
    (folder / "p.yaml").write_text(PROMPT, "utf-8")
    (folder / "functions.py").write_text(FUNCTIONS, "utf-8")
    look = PageOptions(greeting="Ask me anything", show_usage=True, on_feedback=lambda _: None, color=color)
    with serving(create_app("p", provider=provider, prompts_dir=folder, page=look, **options)) as url:
        yield url


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('#log details').forEach((one) => { one.open = true; })")


def test_no_view_has_a_barrier(page: Page, tmp_path: Path) -> None:
    found: list[str] = []
    go_on = threading.Event()

    async def until_allowed() -> None:
        await eventually(go_on.is_set, "the test lets the answer go on")

    slow: list[Step] = [
        Chunk("start", id="4", model="m"),
        "It grows:\n\n```python\nx = 1\n",
        until_allowed,
        "```\n",
        *ending("length"),
    ]
    failed: list[Step] = [
        Chunk("start", id="5", model="m"),
        "Half an answer",
        ProviderError("out of order", provider="p", model="m"),
    ]
    provider = ScriptedProvider(ASKS, DELETES, SHOWS, slow, failed)
    with page_of(tmp_path, provider) as url:
        page.goto(url)
        expect(page.get_by_role("button", name="Show me a table")).to_be_visible()
        found += barriers(page, "empty")

        say(page, "Please show me everything")
        expect(page.locator(".approval .title")).to_have_text("delete needs your approval")
        over(page)
        unfold(page)
        page.get_by_label("Arguments").fill("{")
        page.get_by_role("button", name="Approve").click()
        found += barriers(page, "approval")
        page.get_by_label("Arguments").fill('{"path": "b"}')
        page.get_by_role("button", name="Approve").click()
        expect(page.locator(".sources li")).to_have_count(2)
        over(page)
        expect(page.locator(".katex").first).to_be_visible()
        expect(page.locator(".hljs-keyword").first).to_be_visible()
        expect(page.locator("img.picture")).to_be_visible()
        expect(page.locator(".foot").last).to_contain_text("40")
        unfold(page)
        found += barriers(page, "answer")
        page.locator(".answer").last.get_by_role("button", name="Plain").click()
        found += barriers(page, "plain")
        page.get_by_role("button", name="Good answer").click()

        page.get_by_role("button", name="Edit").click()
        found += barriers(page, "edit")
        page.get_by_label("Edit the message").fill("Slowly")
        page.keyboard.press("Enter")
        expect(page.locator(".answer code")).to_have_text("x = 1\n")
        say(page, "And then?")
        expect(page.locator("#queue")).to_contain_text("Next: And then?")
        page.context.set_offline(True)
        expect(page.locator("#banner")).to_contain_text("offline")
        found += barriers(page, "growing, with a message that waits, offline")
        page.context.set_offline(False)
        expect(page.locator("#banner")).to_be_hidden()
        page.get_by_role("button", name="Do not send").click()
        go_on.set()
        over(page)
        expect(page.locator(".versions")).to_have_count(1)
        found += barriers(page, "versions")

        say(page, "Fail")
        expect(page.locator(".trouble")).to_contain_text("The model could not answer")
        over(page)
        unfold(page)
        found += barriers(page, "error")

        def open_list() -> None:
            narrow = page.evaluate("innerWidth < 1024")
            expect(page.locator("body")).to_have_attribute("data-side", "closed" if narrow else "open")
            if narrow:
                page.get_by_role("button", name="Conversations").click()
            page.evaluate("document.querySelector('#side details').open = true")

        found += barriers(page, "list", open_list)
        page.get_by_role("button", name="Rename").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        found += barriers(page, "dialog")
    assert not found, "\n".join(found)


def test_signing_in_and_questions_have_no_barrier(page: Page, tmp_path: Path) -> None:
    found: list[str] = []
    with page_of(tmp_path, ScriptedProvider("Hello."), api_keys=["correct"], color=YELLOW) as url:
        page.goto(url)
        page.get_by_role("textbox", name="Key").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
        found += barriers(page, "signing in")
    with serving(create_app(str(ROOT / "graphs" / "interview.yaml"), provider="demo")) as url:
        page.goto(url)
        expect(page.get_by_role("button", name="Begin")).to_be_visible()
        found += barriers(page, "begin")
        page.get_by_role("button", name="Begin").click()
        expect(page.locator(".question")).to_have_text("What is your name?")
        over(page)
        found += barriers(page, "question")
        say(page, "Ada")
        expect(page.locator(".question")).to_have_count(2)
        over(page)
        say(page, "To fly")
        expect(page.locator(".tree dd")).to_have_text(["Ada", "To fly"])
        over(page)
        found += barriers(page, "nodes")
    assert not found, "\n".join(found)
