"""Test in a real Chromium what the chat page sends, files, images and a chosen model, and the footer of answers."""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from streamcore import Chunk, Usage
from streamcore.testing import Answer, ScriptedProvider, Simulator
from streamcore.web import FileOptions, PageOptions, create_app
from tests.browser.axe import barriers
from tests.browser.test_chat_page import HACK, ROOT, over, say
from tests.browser.test_page_conversations import echo
from tests.serving import serving
from tests.support import eventually, provider_at, wait_until

pytestmark = [pytest.mark.real, pytest.mark.long]
PDF = b"%PDF-1.4\n% a small one\n"
MAKE_TRANSFER = """(files) => {
    const transfer = new DataTransfer();
    for (const [name, type, data] of files) {
        const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type }));
    }
    return transfer;
}"""
PASTE = """(transfer) => document.getElementById("input").dispatchEvent(
    new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }))"""
DROP = """(transfer) => {
    for (const type of ["dragover", "drop"]) {
        const event = new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
        document.getElementById("log").dispatchEvent(event);
        if (!event.defaultPrevented) throw new Error(`the browser would show the file: ${type}`);
    }
}"""
File = tuple[str, str, bytes]


def png(width: int = 300, height: int = 200) -> bytes:
    """Return a picture of one color."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x23\x60\x4f" * width) * height
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


@contextmanager
def chat(page: Page, simulator: Simulator, look: PageOptions | None = None, **options: Any) -> Generator[str]:
    provider = provider_at(simulator, "openai", model="gpt-4o-mini")
    app = create_app("chat", provider=provider, prompts_dir=ROOT / "prompts", page=look or True, **options)
    with serving(app) as url:
        page.goto(url)
        expect(page.locator("#title")).to_have_text(re.compile("^chat|Gespräch"))
        yield url
        page.goto("about:blank")


def give(page: Page, how: str, *files: File) -> None:
    """Drop or paste files as the operating system does."""
    encoded = [[name, kind, base64.b64encode(data).decode()] for name, kind, data in files]
    page.evaluate_handle(MAKE_TRANSFER, encoded).evaluate(PASTE if how == "paste" else DROP)


def stored(page: Page) -> str:
    """Return the conversations in the browser's database, as JSON."""
    found: str = page.evaluate(
        "new Promise((go) => { indexedDB.open('streamcore:/').onsuccess = ({ target }) => { target.result"
        ".transaction('conversations').objectStore('conversations').getAll().onsuccess = (event) => {"
        " target.result.close(); go(JSON.stringify(event.target.result)); }; }; })"
    )
    return found


def parts(simulator: Simulator, message: int = -1) -> list[dict[str, Any]]:
    """Return the parts of a message in a request to the model."""
    found: list[dict[str, Any]] = simulator.requests[-1].body["messages"][message]["content"]
    return found


def test_files_are_dropped_pasted_and_chosen_and_stay(page: Page, tmp_path: Path) -> None:
    picture = png()
    (tmp_path / "paper.pdf").write_bytes(PDF)
    with Simulator(echo) as simulator, chat(page, simulator, files=True):
        give(page, "drop", ("dropped.png", "image/png", picture))
        give(page, "paste", ("pasted.png", "image/png", picture))
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Add files").click()
        chooser.value.set_files(tmp_path / "paper.pdf")
        names = ["dropped.png", "pasted.png", "paper.pdf"]
        expect(page.locator("#attached li span")).to_have_text(names)
        expect(page.locator("#attached img")).to_have_count(2)
        page.get_by_role("button", name="Remove pasted.png").click()
        expect(page.locator("#attached li span")).to_have_text(["dropped.png", "paper.pdf"])
        say(page, "What are they?")
        expect(page.locator(".answer .body")).to_contain_text("You said What are they?")
        over(page)
        expect(page.locator("#attached li")).to_have_count(0)
        image, document, text = parts(simulator)
        data = base64.b64encode(picture).decode()
        assert image == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        assert document["file"]["filename"] == "paper.pdf"
        assert document["file"]["file_data"].endswith(base64.b64encode(PDF).decode())
        assert text == {"type": "text", "text": "What are they?"}
        assert [set(file) & {"data", "preview"} for file in json.loads(stored(page))[0]["turns"][0]["files"]] == [
            {"preview"},
            set(),
        ]
        page.reload()
        expect(page.locator(".user .files li span")).to_have_text(["dropped.png", "paper.pdf"])
        expect(page.locator(".user .files img")).to_have_count(1)
        assert page.locator(".user .files img").evaluate("async (image) => (await image.decode(), image.naturalWidth)")
        page.get_by_role("button", name="Ask again").click()
        expect(page.get_by_role("img", name="Version 2 of 2")).to_be_visible()
        over(page)
        assert parts(simulator) == [image, document, text]  # the service still had them
        say(page, "And now?")
        expect(page.locator(".answer .body").last).to_contain_text("You said And now?")
        over(page)
        assert parts(simulator, -3) == [image, document, text]


def test_files_that_do_not_fit_are_explained(page: Page) -> None:
    options = FileOptions(max_bytes=2_000_000, max_files=2, max_total=3_000_000)
    with Simulator(echo) as simulator, chat(page, simulator, files=options):
        trouble = page.locator("#file-trouble")
        give(page, "drop", ("a.svg", "image/svg+xml", b"<svg/>"), ("b.png", "image/png", b"no picture"))
        expect(trouble).to_contain_text("a.svg: this type of file is not accepted.")
        expect(trouble).to_contain_text("b.png cannot be read")
        give(page, "paste", ("large.pdf", "application/pdf", PDF + b" " * 2_000_000))
        expect(trouble).to_have_text("large.pdf is larger than 2.0 MB.")
        half = PDF + b" " * 1_600_000
        give(page, "drop", ("one.pdf", "application/pdf", half), ("two.pdf", "application/pdf", half))
        expect(trouble).to_contain_text("two.pdf is left out: all files of a message may have 3.0 MB together.")
        give(page, "drop", ("three.pdf", "application/pdf", PDF), ("four.pdf", "application/pdf", PDF))
        expect(trouble).to_contain_text("four.pdf is left out: a message may have 2 files at most.")
        expect(page.locator("#attached li span")).to_have_text(["one.pdf", "three.pdf"])
        page.get_by_role("button", name="Remove one.pdf").click()
        expect(trouble).to_be_hidden()
        hostile = f"<img src=x onerror='{HACK}'>.pdf"
        give(page, "drop", (hostile, "application/pdf", f"<script>{HACK}</script>".encode()))
        expect(page.locator("#attached li span").last).to_have_text(hostile)
        page.locator("#input").focus()
        page.keyboard.press("Enter")  # without a text
        expect(page.get_by_role("alert")).to_contain_text("The service does not accept this message.")
        page.get_by_text("Details").click()
        expect(page.get_by_role("alert")).to_contain_text("is not 'application/pdf'")
        expect(page.locator(".user .files li span").last).to_have_text(hostile)
        assert page.locator("main img").count() == 0
        assert simulator.requests == []


def test_files_and_models_have_no_barrier(page: Page) -> None:
    look = PageOptions(show_usage=True)
    with Simulator(echo) as simulator, chat(page, simulator, look, files=True, allow_models=["demo/small"]):
        give(page, "drop", ("a.png", "image/png", png()), ("paper.pdf", "application/pdf", PDF))
        expect(page.locator("#attached li")).to_have_count(2)
        say(page, "x")
        over(page)
        expect(page.locator(".answer .foot")).to_be_visible()
        give(page, "drop", ("b.png", "image/png", png()), ("c.svg", "image/svg+xml", b"<svg/>"))
        expect(page.locator("#attached li")).to_have_count(1)
        expect(page.locator("#file-trouble")).to_be_visible()
        assert barriers(page, "files") == []


def test_without_files_the_page_has_no_button_and_shows_no_dropped_file(page: Page) -> None:
    with Simulator(echo) as simulator, chat(page, simulator):
        expect(page.get_by_role("button", name="Add files")).to_be_hidden()
        give(page, "drop", ("a.png", "image/png", png()))
        say(page, "x")
        over(page)
        expect(page.locator(".user .files")).to_have_count(0)


def test_a_model_is_chosen_and_stays_with_its_conversation(page: Page) -> None:
    with Simulator(echo) as simulator, chat(page, simulator, allow_models=["demo/small", "openai/*"]):
        picker = page.get_by_role("combobox", name="Model")
        expect(picker.locator("option")).to_have_text(["Default model", "demo/small"])
        picker.select_option("demo/small")
        say(page, "Who are you?")
        expect(page.locator(".answer .body")).to_contain_text("No model was called")
        over(page)
        assert simulator.requests == []
        page.reload()
        expect(page.locator(".answer .body")).to_contain_text("No model was called")
        expect(picker).to_have_value("demo/small")
        picker.select_option("Default model")
        say(page, "And now?")
        expect(page.locator(".answer .body").last).to_contain_text("You said And now?")
        over(page)
        page.get_by_role("button", name="New").click()
        expect(picker).to_have_value("")


def test_the_footer_has_tokens_cost_and_times(page: Page) -> None:
    with Simulator(Answer(["word "] * 40)) as simulator:
        with chat(page, simulator, PageOptions(show_usage=True)):
            say(page, "x")
            over(page)
            foot = page.locator(".answer .foot")
            expect(foot).to_have_text(re.compile(r"^[\d,?]+ \+ 40 tokens · 0\.0\d+ USD · first token after [\d.]+ s"))
            shown = foot.text_content() or ""
            wait_until(
                lambda: json.dumps(shown, ensure_ascii=False) in stored(page), "the answer is saved with its foot"
            )
            page.reload()
            expect(foot).to_have_text(shown)
        with chat(page, simulator):
            say(page, "x")
            over(page)
            expect(page.locator(".answer .foot")).to_have_count(0)


def test_the_footer_has_the_rate_of_an_answer_that_streams(page: Page) -> None:
    go_on = threading.Event()

    async def until_allowed() -> None:
        await eventually(go_on.is_set, "the test lets the answer go on")

    usage = Chunk("usage", usage=Usage(input_tokens=1200, output_tokens=40))
    provider = ScriptedProvider(["It ", until_allowed, "ends.", Chunk("finish", finish_reason="stop"), usage])
    app = create_app("chat", provider=provider, prompts_dir=ROOT / "prompts", page=PageOptions(show_usage=True))
    with serving(app) as url:
        page.goto(url)
        say(page, "x")
        expect(page.locator(".answer .body")).to_contain_text("It")
        page.wait_for_function("start => performance.now() - start > 200", arg=page.evaluate("performance.now()"))
        go_on.set()
        over(page)
        expect(page.locator(".answer .foot")).to_have_text(
            re.compile(r"^1,200 \+ 40 tokens · first token after [\d.]+ s · [\d.]+ tokens/s$")
        )
        page.goto("about:blank")


GRAPH = """name: two
state: {message: str}
nodes:
  one: {type: llm, prompt: say, variables: {message: "{state.message}"}, state_key: first}
  two: {type: llm, prompt: say, variables: {message: "{state.message}"}, state_key: second}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: END}]
"""


def test_the_footer_of_a_graph_has_the_sums_of_its_run(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMCORE_PROMPTS_DIR", str(tmp_path))
    (tmp_path / "say.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "two.yaml").write_text(GRAPH, "utf-8")
    with Simulator(Answer(["word "] * 20)) as simulator:
        provider = provider_at(simulator, "openai", model="gpt-4o-mini")
        app = create_app(tmp_path / "two.yaml", provider=provider, page=PageOptions(show_usage=True))
        with serving(app) as url:
            page.goto(url)
            expect(page.locator("#title")).to_have_text("two")
            say(page, "x")
            over(page)
            expect(page.locator(".answer")).to_have_count(2)
            expect(page.locator(".answer .foot")).to_have_count(1)
            foot = page.locator(".answer").last.locator(".foot")
            expect(foot).to_have_text(re.compile(r"\+ 40 tokens · 0\.0\d+ USD · first token after"))
            page.goto("about:blank")
