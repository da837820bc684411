"""Open the page of examples/nextjs-chat in a real Chromium: cuts, a reload, a stop; and its transport under Node.js."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.responses import HTMLResponse, Response
from playwright.sync_api import Page, expect

from streamcore.testing import Answer, Simulator
from streamcore.web import create_app
from tests.browser.test_relay_pages import CUTS, LONG, WORDS, cutting
from tests.node_clients import NodeClients
from tests.serving import serving
from tests.sse_support import ROOT
from tests.support import provider_at, wait_until

pytestmark = [pytest.mark.real, pytest.mark.long]
HTML = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<div id="root"></div><script src="page.js"></script>"""
TEXT = "[...document.querySelectorAll('article.assistant p')].map(part => part.textContent).join('')"


@contextmanager
def served(node: NodeClients, simulator: Simulator) -> Generator[str]:
    """Serve the page and the endpoint that it uses."""
    script = node.bundle("example_page.jsx", "--jsx=automatic", '--define:process.env.NODE_ENV="production"')
    app = create_app("chat", provider=provider_at(simulator, "openai"), prompts_dir=ROOT / "prompts")

    async def page() -> Response:
        return HTMLResponse(HTML)

    async def page_script() -> Response:
        return Response(script, media_type="text/javascript; charset=utf-8")

    app.add_api_route("/example/", page)
    app.add_api_route("/example/page.js", page_script)
    with serving(app) as url:
        yield url


def send(page: Page, url: str) -> None:
    page.goto(f"{url}/example/")
    page.locator("input").fill("Hello")
    page.get_by_role("button", name="Send").click()


def test_twenty_cuts_and_the_text_is_exact(page: Page, node: NodeClients) -> None:
    with Simulator(Answer(LONG), rate=800) as simulator, served(node, simulator) as url:
        with cutting(int(url.rpartition(":")[2]), 11, b"POST /api/chat", b"GET /api/chat") as cutter:
            send(page, f"http://127.0.0.1:{cutter.port}")
            expect(page.locator("article.assistant")).to_contain_text("w1499", timeout=90_000)
            expect(page.locator("#status")).to_have_text("ready", timeout=90_000)
            assert page.evaluate(TEXT) == "".join(LONG)
            assert (cutter.cuts, len(simulator.requests)) == (CUTS, 1)
            assert page.locator("article").count() == 2
            page.goto("about:blank")


def test_a_reload_in_the_middle_of_an_answer(page: Page, node: NodeClients) -> None:
    with Simulator(Answer(WORDS), rate=300) as simulator, served(node, simulator) as url:
        send(page, url)
        for word in ("w20 ", "w60 "):
            expect(page.locator("article.assistant")).to_contain_text(word, timeout=60_000)
            page.reload()
        expect(page.locator("article.assistant")).to_contain_text("w1499", timeout=90_000)
        expect(page.locator("#status")).to_have_text("ready", timeout=90_000)
        assert page.evaluate(TEXT) == "".join(WORDS)
        assert (len(simulator.requests), page.locator("article").count()) == (1, 2)
        page.goto("about:blank")


def test_stop_closes_the_upstream(page: Page, node: NodeClients) -> None:
    with Simulator(Answer(["w "] * 100_000), rate=100) as simulator, served(node, simulator) as url:
        send(page, url)
        expect(page.locator("article.assistant")).to_contain_text("w w w", timeout=60_000)
        before = time.monotonic()
        page.get_by_role("button", name="Stop").click()
        wait_until(lambda: simulator.open == 0, "the upstream was closed")
        print(f"the upstream was closed after {time.monotonic() - before:.3f} s")
        expect(page.locator("#status")).to_have_text("ready", timeout=60_000)
        assert page.get_by_role("alert").count() == 0
        assert (simulator.abandoned, len(simulator.requests)) == (1, 1)
        page.goto("about:blank")


@pytest.mark.parametrize("stop", [False, True])
def test_the_transport_of_the_example(node: NodeClients, tmp_path: Path, stop: bool) -> None:
    script = tmp_path / "example_chat.mjs"
    script.write_text(node.bundle("example_chat.mjs", "--platform=node", "--format=esm"), "utf-8")
    answer = Answer(["w "] * 100_000) if stop else Answer.of("Hello, World!")
    with Simulator(answer, rate=100) as simulator:
        app = create_app("chat", provider=provider_at(simulator, "openai"), prompts_dir=ROOT / "prompts")
        with serving(app) as url:
            found = node.run(script, {"api": url, "stop": stop})
            wait_until(lambda: simulator.open == 0, "the upstream was closed")
    if stop:
        assert (found["last"], found["stopped"]) == ("abort", True)
    else:
        assert found == {"text": "Hello, World!", "last": "finish", "stopped": None}
