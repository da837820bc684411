"""Break the connections of every kind of page in a real Chromium: the text is exact, and the model was asked once."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from streamcore.relay import Relay
from streamcore.testing import Answer, Simulator
from streamcore.web import create_app, router
from tests.browser.test_chat_page import plain, say
from tests.browser.test_sse_pages import FastapiPage, HtmxPage, until_text
from tests.serving import listen, serving
from tests.sse_support import HOSTILE, ROOT, process
from tests.support import provider_at, wait_until

pytestmark = [pytest.mark.real, pytest.mark.long]
CUTS = 20
WORDS = [f"w{number} " for number in range(1500)]
LONG = [word for number, word in enumerate(WORDS) for word in (word, HOSTILE[number % len(HOSTILE)])]


class Cutter:
    """Proxy between a page and its service that cuts streams after a random number of bytes.

    Args:
        ports: the ports of the service's workers, which get the connections in turn.
        cuts: the number of streams to cut.
        seed: the seed of the random numbers.
        requests: the beginnings of the requests whose responses are cut.
    """

    def __init__(self, ports: Sequence[int], cuts: int, seed: int, requests: tuple[bytes, ...]) -> None:
        self.cuts = 0
        self._wanted = cuts
        self._random = random.Random(seed)
        self._workers = cycle(ports)
        self._requests = requests
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                service = socket.create_connection(("127.0.0.1", next(self._workers)))
                left: list[int] = []  # the bytes of the stream before the cut
                for one, other, down in ((client, service, False), (service, client, True)):
                    threading.Thread(target=self._pass, args=(one, other, down, left), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, down: bool, left: list[int]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not down and b" HTTP/1.1\r\n" in data:
                    cut = data.startswith(self._requests) and self.cuts < self._wanted
                    # Cut after the headers: with half of them, Chromium does not see an event stream.
                    left[:] = [self._random.randint(500, 5000)] if cut else []
                elif down and left:
                    if len(data) >= left[0]:
                        target.sendall(data[: left[0]])
                        self.cuts += 1
                        break
                    left[0] -= len(data)
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def cutting(port: int | Sequence[int], seed: int, *requests: bytes, cuts: int = CUTS) -> Generator[Cutter]:
    cutter = Cutter([port] if isinstance(port, int) else port, cuts, seed, requests or (b"GET /stream",))
    try:
        yield cutter
    finally:
        cutter.close()


EXAMPLES = [FastapiPage("text"), HtmxPage(2), HtmxPage(4)]
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=["eventsource", "htmx2", "htmx4"])


@each_example
def test_twenty_cuts_and_the_text_is_exact(page: Page, example: Any) -> None:
    page.set_default_timeout(90_000)
    with (
        Simulator(Answer(LONG), rate=800) as simulator,
        process(example.script, simulator) as (_, port),
        cutting(port, seed=len(example.path)) as cutter,
    ):
        page.goto(f"http://127.0.0.1:{cutter.port}{example.path}")
        example.ask(page)
        until_text(page, example.answer, "".join(LONG))
        assert (cutter.cuts, len(simulator.requests)) == (CUTS, 1)
        assert page.query_selector(example.error) is None


def test_twenty_cuts_of_the_chat_page(page: Page) -> None:
    page.set_default_timeout(90_000)
    with Simulator(Answer(LONG), rate=800) as simulator:
        app = create_app("chat", provider=provider_at(simulator, "openai"), prompts_dir=ROOT / "prompts")
        with serving(app) as url, cutting(int(url.rpartition(":")[2]), seed=7) as cutter:
            page.goto(f"http://127.0.0.1:{cutter.port}/")
            say(page, "x")
            expect(page.locator("#send")).to_be_visible(timeout=90_000)
            expect(page.locator(".answer .body")).to_contain_text("w1499", timeout=120_000)
            assert plain(page) == "".join(LONG)
            assert (cutter.cuts, len(simulator.requests)) == (CUTS, 1)
            assert page.locator(".trouble").count() == 0
            page.goto("about:blank")


def test_a_reload_in_the_middle_of_an_answer(page: Page) -> None:
    with Simulator(Answer(WORDS), rate=300) as simulator:
        app = create_app("chat", provider=provider_at(simulator, "openai"), prompts_dir=ROOT / "prompts")
        with serving(app) as url:
            page.goto(url)
            say(page, "x")
            for word in ("w20 ", "w60 ", "w120 "):
                expect(page.locator(".answer .body")).to_contain_text(word)
                page.reload()
            expect(page.locator("#stop")).to_be_visible()
            expect(page.locator("#send")).to_be_visible(timeout=90_000)
            assert plain(page) == "".join(WORDS)
            assert page.locator("article").count() == 2
            page.reload()  # after the end nothing is read again
            assert plain(page) == "".join(WORDS)
            say(page, "y")
            wait_until(lambda: len(simulator.requests) == 2, "the second request")
            assert [one["role"] for one in simulator.requests[1].body["messages"]] == [
                *("system", "user", "assistant", "user"),
            ]
            page.get_by_role("button", name="Stop").click()
            expect(page.locator("#send")).to_be_visible()
            page.goto("about:blank")


def test_compacted_events_are_delivered_at_once(page: Page) -> None:
    """A page that is reloaded shows the whole text, although the relay has compacted the events before."""
    relay = Relay(max_items=50)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with relay:
            yield

    with Simulator(Answer(WORDS), rate=300) as simulator:
        app = FastAPI(lifespan=lifespan)
        provider = provider_at(simulator, "openai")
        app.include_router(router("chat", provider=provider, prompts_dir=ROOT / "prompts", relay=relay))
        with serving(app) as url:
            page.goto(url)
            say(page, "x")
            expect(page.locator(".answer .body")).to_contain_text("w200 ")
            with page.expect_request("**/stream/*") as asked:
                page.reload()
            expect(page.locator("#stop")).to_be_visible()
            expect(page.locator("#send")).to_be_visible(timeout=90_000)
            assert plain(page) == "".join(WORDS)
            assert page.locator("article").count() == 2
            session = urlsplit(asked.value.url).path.rpartition("/")[2]
            assert listen(url, f"/stream/{session}?format=json")[0].json["type"] == "gap"
            assert len(simulator.requests) == 1
            page.goto("about:blank")


def test_an_interview_continues_after_a_reload(page: Page) -> None:
    with serving(create_app(str(ROOT / "graphs" / "interview.yaml"), provider="demo")) as url:
        page.goto(url)
        page.get_by_role("button", name="Begin").click()
        for number, said in ((1, "Ada"), (2, "To fly")):
            expect(page.locator(".question")).to_have_count(number)
            expect(page.locator("#send")).to_be_visible()
            page.reload()
            with page.expect_request("**/resume/*"):
                say(page, said)
            page.reload()
        expect(page.locator(".answer").last).to_contain_text("with nothing lost.", timeout=90_000)
        expect(page.locator("#send")).to_be_visible()
        expect(page.locator(".node")).to_have_text(["extract", "generate summary", "generate response"])
        page.goto("about:blank")


def hide(page: Page, hidden: bool) -> None:
    """Set whether the page is in the background; a Chromium without a window never does."""
    page.evaluate(
        """hidden => {
            const say = (name, value) => Object.defineProperty(document, name, {value, configurable: true});
            say('hidden', hidden);
            say('visibilityState', hidden ? 'hidden' : 'visible');
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
        hidden,
    )


@each_example
def test_a_hidden_tab_misses_nothing(page: Page, example: Any) -> None:
    with Simulator(Answer(WORDS), rate=300) as simulator, process(example.script, simulator) as (_, port):
        page.goto(f"http://127.0.0.1:{port}{example.path}")
        example.ask(page)
        page.wait_for_function(f"document.querySelector('{example.answer}')?.textContent.includes('w20 ')")
        hide(page, True)
        wait_until(lambda: simulator.open == 0, "the answer went on to its end")
        hide(page, False)
        until_text(page, example.answer, "".join(WORDS))
        assert (len(simulator.requests), simulator.abandoned) == (1, 0)


@each_example
def test_no_reader_returns(page: Page, example: Any) -> None:
    endless = Answer(["w "] * 100_000)
    with Simulator(endless, rate=50) as simulator, process(example.script, simulator, GRACE="10") as (_, port):
        page.goto(f"http://127.0.0.1:{port}{example.path}")
        example.ask(page)
        page.wait_for_function(f"document.querySelector('{example.answer}')?.textContent.includes('w w w')")
        page.goto("about:blank")
        wait_until(lambda: simulator.abandoned == 1 and not simulator.open, "the upstream is closed")
