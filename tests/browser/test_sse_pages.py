"""Test in a real Chromium that the examples' pages, and the seed's own, show a stream to the last character."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page
from starlette.responses import HTMLResponse

from streamcore import Message, Request, Stream, stream_request
from streamcore.sse import Format, sse_response
from streamcore.testing import Answer, Simulator
from tests.sse_support import HOSTILE, RETURNS, ROOT, process, service
from tests.support import first_short, provider_at, require, wait_until
from tests.test_seed_snippets import FASTAPI, SEED

TOKENS = [*HOSTILE, *RETURNS, " the end"]
TEXT = "".join(TOKENS)
IN_LINES = TEXT.replace("\r\n", "\n").replace("\r", "\n")
ENDLESS = Answer([f"token {n} " for n in range(10_000)])

SEEDS_PAGE = """
const eventSource = new EventSource('/stream?prompt=hello');
eventSource.onmessage = (e) => {
    if (e.data === '[DONE]') {
        eventSource.close();
    } else {
        document.getElementById('output').textContent += e.data;
    }
};
"""
SEEDS_HTMX = """<div hx-ext="sse" sse-connect="/stream/session123">
    <div sse-swap="message" hx-swap="beforeend"></div>
</div>
"""


@pytest.fixture
def vendor() -> Iterator[Simulator]:
    """Answer with hostile text."""
    with Simulator(Answer(TOKENS)) as simulator:
        yield simulator


class FastapiPage:
    """The page of examples/fastapi_sse.py."""

    script = "examples/fastapi_sse.py"
    path = "/"

    def __init__(self, fmt: str) -> None:
        self.fmt = fmt

    def ask(self, page: Page) -> None:
        page.select_option("select", self.fmt)
        page.click("button")

    answer = "#output"
    error = "#state.error"


class HtmxPage:
    """A page of examples/htmx/app.py."""

    script = "examples/htmx/app.py"

    def __init__(self, version: int) -> None:
        self.path = f"/htmx{version}"

    def ask(self, page: Page) -> None:
        page.click("button")

    answer = "article:last-of-type .answer"
    error = "article:last-of-type .error:not(:empty)"


PAGES = [FastapiPage("text"), FastapiPage("json"), HtmxPage(2), HtmxPage(4)]
ids = ["eventsource-text", "eventsource-json", "htmx2", "htmx4"]
each_page = pytest.mark.parametrize("example", first_short(PAGES), ids=ids)


def until_text(page: Page, where: str, text: str) -> None:
    """Wait until an element has exactly this text; say how it differs if it never does."""
    try:
        page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.textContent === text", arg=[where, text]
        )
    except Exception:
        found = page.text_content(where)
        assert found == text
        raise


def still(page: Page, simulator: Simulator, requests: int) -> None:
    """Check that no page reconnects; EventSource would after 3 seconds, htmx 4 after half a second."""
    page.wait_for_timeout(4000)
    assert len(simulator.requests) == requests


@pytest.mark.real
@pytest.mark.long
@each_page
def test_everything_arrives_and_nothing_runs(page: Page, vendor: Simulator, example: Any) -> None:
    with process(example.script, vendor) as (_, port):
        page.goto(f"http://127.0.0.1:{port}{example.path}")
        example.ask(page)
        until_text(page, example.answer, IN_LINES if getattr(example, "fmt", "") == "text" else TEXT)
        assert page.query_selector(f"{example.answer} :is(script, img, b, svg)") is None
        assert page.query_selector(example.error) is None
        still(page, vendor, 1)
        example.ask(page)  # and once more, below or instead of the first
        wait_until(lambda: len(vendor.requests) == 2, "it is asked again")
        until_text(page, example.answer, IN_LINES if getattr(example, "fmt", "") == "text" else TEXT)


@pytest.mark.real
@pytest.mark.long
@each_page
def test_an_error_is_shown_and_not_requested_again(page: Page, example: Any) -> None:
    with Simulator(Answer(["Hi ", "<b>"], cut=2)) as simulator, process(example.script, simulator) as (_, port):
        page.goto(f"http://127.0.0.1:{port}{example.path}")
        example.ask(page)
        page.wait_for_selector(example.error)
        assert "the answer was cut off" in (page.text_content(example.error) or "")
        assert page.text_content(example.answer) == "Hi <b>"
        still(page, simulator, 1)


@pytest.mark.real
@pytest.mark.long
@each_page
def test_a_lost_connection_sends_no_second_request(page: Page, example: Any) -> None:
    """Restart the service during a stream: the page reconnects and receives the error that the rest is lost."""
    with Simulator(ENDLESS, rate=50) as simulator:
        with process(example.script, simulator) as (_, port):
            page.goto(f"http://127.0.0.1:{port}{example.path}")
            example.ask(page)
            page.wait_for_function(f"document.querySelector('{example.answer}')?.textContent.includes('token 3')")
        wait_until(lambda: simulator.abandoned == 1, "the upstream is closed")
        with process(example.script, simulator, port=port):
            page.wait_for_selector(example.error)
            assert "ask again" in (page.text_content(example.error) or "")
        assert len(simulator.requests) == 1


def seeds_app(simulator: Simulator, page: str, fmt: Format) -> FastAPI:
    """Serve a page of the seed's and, where its endpoints were, the response in their place."""

    def answer() -> Stream:
        return stream_request(Request([Message("user", "Hi")]), provider=provider_at(simulator, "openai"))

    def by_prompt(prompt: str) -> Any:
        return sse_response(answer(), fmt)

    def by_session(session_id: str) -> Any:
        return sse_response(answer(), fmt)

    app = FastAPI()
    app.get("/")(lambda: HTMLResponse(page))
    app.get("/stream")(by_prompt)
    app.get("/stream/{session_id}")(by_session)
    return app


def script_page(script: str) -> str:
    return f"<!doctype html><div id=output style='white-space: pre-wrap'></div><script>{script}</script>"


@pytest.mark.real
@pytest.mark.long
def test_the_seeds_page(page: Page, vendor: Simulator) -> None:
    with service(seeds_app(vendor, script_page(SEEDS_PAGE), "text")) as port:
        page.goto(f"http://127.0.0.1:{port}/")
        until_text(page, "#output", IN_LINES)
        still(page, vendor, 1)


@pytest.mark.real
@pytest.mark.long
def test_the_seeds_page_with_the_seeds_endpoint(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are pasted unchanged; that endpoint cannot send a newline, so the text has none."""
    text = "Hello, World!  Two blanks, 😀, 漢字 and <b>no markup</b>."
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PROVIDER", "openai")
    with Simulator(text) as simulator:
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
        monkeypatch.setenv("OPENAI_API_KEY", "seed-key")
        names: dict[str, Any] = {"__name__": "seed"}
        exec(compile(FASTAPI, "<seed>", "exec"), names)  # noqa: S102
        app: FastAPI = names["app"]
        app.get("/")(lambda: HTMLResponse(script_page(SEEDS_PAGE)))
        with service(app) as port:
            page.goto(f"http://127.0.0.1:{port}/")
            until_text(page, "#output", text)
            still(page, simulator, 1)


@pytest.mark.real
@pytest.mark.long
def test_the_seeds_page_does_not_reconnect_after_an_error(page: Page) -> None:
    more = "eventSource.addEventListener('stream-error', (e) => { document.title = e.data; });"
    with Simulator(Answer(["Hi"], cut=1)) as simulator:
        with service(seeds_app(simulator, script_page(SEEDS_PAGE + more), "text")) as port:
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_function("document.title.includes('cut off')")
            assert page.text_content("#output") == "Hi"
            still(page, simulator, 1)


@pytest.mark.real
@pytest.mark.long
def test_the_seeds_htmx_snippet(page: Page, vendor: Simulator) -> None:
    """It does not close at the end, so it reconnects, and receives the end again and no second answer."""
    scripts = "".join(
        f"<script>{(ROOT / 'examples/htmx/vendor' / name).read_text('utf-8')}</script>"
        for name in ("htmx-2.0.11.min.js", "htmx-ext-sse-2.2.4.min.js")
    )
    document = f"<!doctype html><body>{SEEDS_HTMX}{scripts}"
    with service(seeds_app(vendor, document, "html")) as port:
        page.goto(f"http://127.0.0.1:{port}/")
        until_text(page, "[sse-swap]", TEXT)
        still(page, vendor, 1)
        until_text(page, "[sse-swap]", TEXT)


@pytest.mark.parametrize("block", [SEEDS_PAGE, SEEDS_HTMX])
def test_blocks_are_the_seeds(block: str) -> None:
    require(SEED.exists(), "the seeds are not next to the checkout")
    seeds = "".join(path.read_text("utf-8") for path in sorted(SEED.parent.glob("*.txt")))
    assert block.strip() in seeds
