"""Test the chat page in a real Chromium with two workers that share a Redis and get its connections in turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from streamcore.testing import Answer, PlannedCall, Simulator
from streamcore.testing.simulator.answers import Asked
from streamcore.testing.simulator.pacer import Line, Pacer, Schedule
from tests.browser.test_chat_page import over, plain, say, served
from tests.browser.test_relay_pages import cutting
from tests.browser.test_tools_page import FUNCTIONS, PROMPT
from tests.servers import RedisServer
from tests.support import KEY, wait_until

pytestmark = [pytest.mark.real, pytest.mark.long]
CUTS = 6
WORD = "w{:05} "


def answer(asked: Asked) -> Answer:
    """Answer with a word that `GrowingAnswer` repeats, or with a call that needs approval."""
    if asked.answered is not None:
        return Answer(["The tool says: ", asked.answered])
    if asked.text == "delete":
        return Answer(calls=[PlannedCall("delete", {"path": "a"}, "d1")])
    return Answer([WORD.format(0), "the end"])


class GrowingAnswer(Pacer):
    """Send numbered words until the test ends the answer, however long the test takes."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.end = threading.Event()

    @property
    def text(self) -> str:
        """The whole text, when the answer has ended."""
        return "".join(WORD.format(number) for number in range(self.sent)) + "the end"

    async def play(self, schedule: Schedule, line: Line) -> None:
        """Send the start, the first word again and again, each time with the next number, and at last the end."""
        *start, (_, word), (_, end) = schedule
        for _, piece in start:
            line.write(piece)
        while not self.end.is_set():
            line.write(word.replace(WORD.format(0).encode(), WORD.format(self.sent).encode()))
            self.sent += 1
            await asyncio.sleep(0.005)
        line.write(end)


@contextmanager
def two_workers(redis: RedisServer, *arguments: str) -> Generator[list[int]]:
    """Run `streamcore serve` twice, and yield the ports."""
    with ExitStack() as stack:
        given = (*arguments, "--port", "0", "--relay", redis.url)
        urls = [stack.enter_context(served(*given))[1] for _ in range(2)]
        yield [int(url.strip("/").rpartition(":")[2]) for url in urls]


def test_cuts_reloads_tabs_stop_and_approval_with_two_workers(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.yaml").write_text(PROMPT.replace("{message}", "{query}"), "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    with Simulator(answer, rate=200) as simulator, RedisServer(tmp_path) as redis:
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        target = ("p", "--provider", "openai", "--model", "m", "--prompts-dir", str(tmp_path))
        with two_workers(redis, *target) as ports, cutting(ports, seed=3, cuts=CUTS) as cutter:
            steady = simulator.pacer
            simulator.pacer = growing = GrowingAnswer()
            page.goto(f"http://127.0.0.1:{cutter.port}/")
            say(page, "grow")
            expect(page.locator(".answer .body")).to_contain_text(WORD.format(5))
            page.reload()
            expect(page.locator(".answer .body")).to_contain_text(WORD.format(growing.sent))
            other = page.context.new_page()
            other.set_default_timeout(60_000)
            other.goto(page.url)
            expect(other.locator(".answer .body")).to_contain_text(WORD.format(growing.sent))
            # Two streams that are open at the last cut may both be cut.
            wait_until(lambda: cutter.cuts >= CUTS, "the streams were cut")
            growing.end.set()
            for tab in (page, other):
                expect(tab.locator(".answer .body")).to_contain_text("the end", timeout=120_000)
                over(tab)
                assert plain(tab) == growing.text
            assert len(simulator.requests) == 1

            simulator.pacer = GrowingAnswer()
            say(page, "grow without an end")
            expect(other.locator(".answer .body").last).to_contain_text(WORD.format(5))
            other.get_by_role("button", name="Stop").click()  # in the other tab, and perhaps at the other worker
            for tab in (page, other):
                expect(tab.locator(".answer .note").last).to_have_text("Stopped.")
                over(tab)
            wait_until(lambda: simulator.open == 0, "the upstream was closed")

            simulator.pacer = steady
            say(page, "delete")
            for tab in (page, other):
                expect(tab.locator(".approval .title")).to_have_text("delete needs your approval")
            other.reload()
            other.get_by_role("button", name="Approve").click()
            for tab in (other, page):
                expect(tab.locator(".answer .body").last).to_contain_text("The tool says: deleted a")
                expect(tab.locator(".approval")).to_have_count(0)
                over(tab)
            assert page.locator(".trouble").count() == 0
            other.close()
            page.goto("about:blank")


def test_questions_of_a_graph_with_two_workers(page: Page, tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path) as redis,
        two_workers(redis, "graphs/interview.yaml", "--provider", "demo") as ports,
        cutting(ports, seed=4, cuts=2) as cutter,
    ):
        page.goto(f"http://127.0.0.1:{cutter.port}/")
        page.get_by_role("button", name="Begin").click()
        for number, said in ((1, "Ada"), (2, "To fly")):
            expect(page.locator(".question")).to_have_count(number)
            over(page)
            page.reload()
            expect(page.get_by_placeholder("Your answer")).to_be_visible()
            say(page, said)
        expect(page.locator(".tree dd")).to_have_text(["Ada", "To fly"])
        expect(page.locator(".answer").last).to_contain_text("with nothing lost.", timeout=120_000)
        over(page)
        assert page.locator(".trouble").count() == 0
        page.goto("about:blank")
