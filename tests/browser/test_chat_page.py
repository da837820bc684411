"""Test the chat page in a real Chromium: what arrives, what must not run, and every way that a run can end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked
from streamcore.web import PageOptions, create_app
from tests.serving import serving
from tests.support import TRIES, first_short, provider_at, wait_until

pytestmark = [pytest.mark.real, pytest.mark.long]
ROOT = Path(__file__).resolve().parent.parent.parent
HACK = "window.hacked=1"
HOSTILE = [
    "  leading spaces\n\n\n",
    *"\ttab\r\nCRLF and \r CR   \n \n",
    "[DONE]",
    "data: [DONE]\n\n",
    f"<script>{HACK}</script>\n",
    f"\n<img src=x onerror='{HACK}'> inline <img src=x onerror='{HACK}'> and <b>bold</b> <img src=x onerror={HACK}>\n",
    f"\n<svg onload='{HACK}'><a href='javascript:{HACK}'>x</a>\n\n<details open ontoggle='{HACK}'>\n\n",
    f"<iframe srcdoc='<script>parent.{HACK}</script>'></iframe>\n\n<style>*{{display:none}}</style>\n\n",
    f"[a](javascript:{HACK}) [b]( JaVaScRiPt:{HACK}) [c](&#106;avascript:{HACK}) ![d](javascript:{HACK})\n",
    f"[e](<data:text/html,<script>{HACK}</script>>) [f][r] <javascript:{HACK}> [g](java\tscript:{HACK})\n",
    f"[h](https://e.org/\"onmouseover='{HACK}') ![i](https://outside.example/i.png 't') [j](//outside.example)\n\n",
    f"[r]: javascript:{HACK}\n\n```html\n<script>{HACK}</script>\n```\n\n| a | b |\n|---|---|\n| <u>x</u> | `y` |\n\n",
    *"漢字かな 한글 👩‍👩‍👧‍👦 é ÿ \u2028 \u0085 \ufeff\u200b",
    "&lt;i&gt; &amp; \0 \x01\n",
    "the end  \n",
]


@contextmanager
def chat(
    page: Page,
    simulator: Simulator,
    target: str = "chat",
    *,
    page_options: PageOptions | None = None,
    ready: bool = True,
    **options: Any,
) -> Generator[str]:
    provider = provider_at(simulator, "openai")
    settings: dict[str, Any] = {"prompts_dir": ROOT / "prompts", "page": page_options or True, **options}
    with serving(create_app(target, provider=provider, **settings)) as url:
        if not ready:
            yield url
            page.goto("about:blank")
            return
        page.goto(url)
        expect(page.locator("#title")).not_to_have_text("streamcore")
        yield url
        page.goto("about:blank")


@contextmanager
def served(*arguments: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Run `streamcore serve` as people do, and give its address."""
    command = [sys.executable, "-W", "error", "-m", "streamcore.cli", "serve", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found, process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def say(page: Page, text: str) -> None:
    page.locator("#input").fill(text)
    page.keyboard.press("Enter")


def over(page: Page) -> None:
    expect(page.locator("#send")).to_be_visible(timeout=120_000)


def plain(page: Page) -> str:
    """Return the last answer exactly as it came."""
    page.locator(".answer").last.get_by_role("button", name="Plain").click()
    text: str = page.locator(".answer .raw").last.evaluate("element => element.textContent")
    return text


def test_hostile_text_arrives_to_the_last_character_and_runs_nothing(page: Page) -> None:
    with Simulator(Answer(HOSTILE)) as simulator, chat(page, simulator):
        say(page, f"<img src=x onerror='{HACK}'>")
        over(page)
        body = page.locator(".answer .body")
        page.locator("code.language-html").evaluate("fenced => fenced.remove()")  # where it may be shown as text
        for shown in (
            f"<script>{HACK}</script>",
            f"<img src=x onerror='{HACK}'> inline <img",
            "<svg onload=",
            "<style>",
        ):
            expect(body).to_contain_text(shown)
        for name in "abcdfg":
            expect(body).to_contain_text(f"[{name}]")
        assert page.locator("main :is(script, img, svg, iframe, style, form)").count() == 0
        links = body.locator("a").evaluate_all("found => found.map((one) => one.href)")
        assert links
        assert all(link.startswith("https://") for link in links)
        listeners = body.locator("*").evaluate_all(
            "found => found.flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith('on'))"
        )
        assert listeners == []
        expect(page.locator(".user .body")).to_have_text(f"<img src=x onerror='{HACK}'>")
        assert plain(page) == "".join(HOSTILE)


def test_markdown_is_rendered_while_it_grows(page: Page) -> None:
    text = (
        "# Title\n\nSome *text*.\n\n- one\n- two\n\n```python\nprint('<b>')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    with Simulator(Answer(list(text) + ["word "] * 3000), rate=300) as simulator, chat(page, simulator):
        say(page, "x")
        expect(page.locator(".answer h1")).to_have_text("Title")
        expect(page.locator(".answer td").first).to_have_text("1")
        expect(page.locator(".answer pre code")).to_have_text("print('<b>')\n")
        assert page.locator("#stop").is_visible()


def test_a_long_answer_stays_readable_to_its_end(page: Page) -> None:
    tokens = [f"{number}{' ' if number % 20 else chr(10) * 2}" for number in range(30_000)]
    with Simulator(Answer(tokens)) as simulator, chat(page, simulator):
        say(page, "x")
        over(page)
        expect(page.locator(".answer .body")).to_contain_text("29999")
        at_end = "document.getElementById('log').scrollTop + document.getElementById('log').clientHeight >= "
        assert page.evaluate(at_end + "document.getElementById('log').scrollHeight - 80")
        assert plain(page) == "".join(tokens)


@pytest.mark.parametrize("how", first_short(["button", "Escape"]))
def test_stop_closes_the_upstream_and_keeps_the_text(page: Page, how: str) -> None:
    endless = Answer([f"w{number} " for number in range(9000)])
    with Simulator(endless, rate=100) as simulator, chat(page, simulator):
        times: list[float] = []
        number = 0
        while number < TRIES and (not times or times[-1] >= 1):
            number += 1
            say(page, "x")
            expect(page.locator(".answer .body")).to_have_count(number)
            expect(page.locator(".answer .body").last).to_contain_text("w5 ")
            begun = time.monotonic()
            if how == "button":
                page.get_by_role("button", name="Stop").click()
            else:
                page.keyboard.press("Escape")
            wait_until(lambda: simulator.open == 0, "the upstream was closed")
            times.append(time.monotonic() - begun)
            expect(page.locator(".answer .note")).to_have_text(["Stopped."] * number)
            assert page.locator(".trouble").count() == 0
            assert plain(page).startswith("w0 w1 w2 ")
        assert simulator.abandoned == number
    assert min(times) < 1


def test_leaving_the_page_for_good_closes_the_upstream(page: Page) -> None:
    with Simulator(Answer(["w "] * 9000), rate=100) as simulator, chat(page, simulator, grace=10):
        say(page, "x")
        expect(page.locator(".answer .body")).to_contain_text("w w w")
        page.goto("about:blank")
        wait_until(lambda: simulator.open == 0, "the upstream was closed")


def test_an_error_is_shown_the_text_stays_and_retrying_works(page: Page) -> None:
    answers = iter([Answer(["Half ", "an ", "answer"], cut=2), Answer(["Whole."])])
    with Simulator(lambda asked: next(answers)) as simulator, chat(page, simulator):
        say(page, "x")
        expect(page.get_by_role("alert")).to_contain_text("the answer was cut off")
        expect(page.locator(".answer .body")).to_have_text("Half an")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".answer .body").last).to_have_text("Whole.")
        assert page.locator(".user").count() == 1
        assert len(simulator.requests) == 2


def test_refusals_of_the_service_show(page: Page) -> None:
    with Simulator("x") as simulator, chat(page, simulator, max_input=10, max_streams=0):
        say(page, "much too long")
        expect(page.get_by_role("alert")).to_contain_text("A message may have at most 10 characters")
        say(page, "short")
        expect(page.get_by_role("alert").last).to_contain_text("may run at once")


def test_a_conversation_continues_after_a_reload_and_begins_again(page: Page) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer([f"You said {asked.text}."])

    with Simulator(answer) as simulator, chat(page, simulator):
        say(page, "one")
        expect(page.locator(".answer .body")).to_have_text("You said one.")
        page.reload()
        expect(page.locator(".answer .body")).to_have_text("You said one.")
        over(page)
        say(page, "two")
        expect(page.locator(".answer .body").last).to_have_text("You said two.")
        over(page)
        assert [len(one.body["messages"]) for one in simulator.requests] == [2, 4]
        page.get_by_role("button", name="New").click()
        expect(page.locator("article")).to_have_count(0)
        say(page, "three")
        expect(page.locator(".answer .body")).to_have_text("You said three.")
        assert len(simulator.requests[-1].body["messages"]) == 2


def test_everything_works_with_the_keyboard(page: Page) -> None:
    with Simulator("x") as simulator, chat(page, simulator):
        box = page.locator("#input")
        expect(box).to_be_focused()
        page.keyboard.type("one")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("two")
        assert box.input_value() == "one\ntwo"
        # Enter that confirms a word of an input method does not send the message.
        box.evaluate(
            "box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
        )
        assert box.input_value() == "one\ntwo"
        page.keyboard.press("Enter")
        over(page)
        assert simulator.requests[0].body["messages"][-1]["content"] == "one\ntwo"
        expect(page.locator(".user .body")).to_have_text("one\ntwo")
        expect(box).to_be_focused()
        page.keyboard.press("Enter")  # nothing to send
        assert len(simulator.requests) == 1


def test_reasoning_is_folded_and_calls_are_shown(page: Page) -> None:
    from streamcore.testing import PlannedCall

    calls = [PlannedCall("look_up", {"city": "Bern"}), PlannedCall("look_up", {"city": "Biel"}, "call_2")]
    with Simulator(Answer(["Well."], ["Think ", "<b>hard</b>"], calls)) as simulator, chat(page, simulator):
        say(page, "x")
        over(page)
        folded = page.locator("details.reasoning")
        expect(folded.locator("div")).to_be_hidden()
        folded.locator("summary").click()
        expect(folded.locator("div")).to_have_text("Think <b>hard</b>")
        expect(page.locator(".answer .body")).to_have_text("Well.")
        expect(page.locator("details.call summary")).to_have_text(["Asks to call look_up"] * 2)
        assert '"Biel"' in page.locator("details.call div").last.evaluate("element => element.textContent")


def test_structured_output_is_shown_as_names_and_values(page: Page) -> None:
    text = '{"intent": "greet", "scores": [1, null], "html": "<b>x</b>"}'
    with Simulator(Answer(list(text))) as simulator, chat(page, simulator):
        say(page, "x")
        over(page)
        expect(page.locator(".tree > dt").first).to_have_text("intent")
        expect(page.locator(".tree > dd").first).to_have_text("greet")
        expect(page.locator(".tree .tree > dd")).to_have_text(["1", "–"])
        expect(page.locator(".tree > dd").last).to_have_text("<b>x</b>")
        assert plain(page) == text


def test_an_interview_is_answered_on_the_page_offline(page: Page) -> None:
    with served("graphs/interview.yaml", "--provider", "demo", "--port", "0") as (process, url):
        page.goto(url)
        page.get_by_role("button", name="Begin").click()
        expect(page.locator(".question")).to_have_text("What is your name?")
        page.reload()  # the question is unchanged
        expect(page.get_by_placeholder("Your answer")).to_be_visible()
        say(page, "Ada")
        expect(page.locator(".question")).to_have_count(2)
        expect(page.locator(".question").last).to_contain_text("Ask Ada what they would like to achieve")
        assert page.locator(".answer:not(.question)").count() == 0  # the tokens of the question are shown once
        over(page)
        say(page, "To fly")
        expect(page.locator(".node")).to_have_text(["extract", "generate summary", "generate response"])
        expect(page.locator(".tree dd")).to_have_text(["Ada", "To fly"])
        over(page)
        expect(page.locator(".answer").last).to_contain_text("with nothing lost.")
        assert page.locator(".trouble").count() == 0
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_a_lost_connection_is_shown_and_the_text_stays(page: Page) -> None:
    with Simulator(Answer(["w "] * 9000), rate=100) as simulator:
        environment = ["--provider", "openai", "--model", "m"]
        page.context.set_default_timeout(30_000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
            patch.setenv("OPENAI_API_KEY", "k")
            with served("chat", *environment, "--port", "0") as (first, url):
                page.goto(url)
                say(page, "x")
                expect(page.locator(".answer .body")).to_contain_text("w w w")
                first.kill()
                first.wait()
                expect(page.locator("#banner")).to_have_text("The connection was lost. Reconnecting…")
            with served("chat", *environment, "--port", url.rpartition(":")[2].strip("/")):
                expect(page.get_by_role("alert")).to_contain_text("ask again", timeout=30_000)
                expect(page.locator("#banner")).to_be_hidden()
                assert plain(page).startswith("w w w")
                assert len(simulator.requests) == 1
                page.goto("about:blank")


@pytest.mark.parametrize("scheme", first_short(["light", "dark"]))
def test_the_page_fits_a_phone(page: Page, scheme: Any) -> None:
    wide = f"{'x' * 300} `{'y' * 300}`\n\n```\n{'z' * 300}\n```\n\n|{'h|' * 30}\n|{'-|' * 30}\n|{'c|' * 30}\n"
    page.set_viewport_size({"width": 360, "height": 640})
    page.emulate_media(color_scheme=scheme)
    with Simulator(Answer([wide])) as simulator, chat(page, simulator):
        say(page, "q" * 300)
        over(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth")
        for name in ("Send", "New"):
            box = page.get_by_role("button", name=name, exact=True).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            assert box["height"] >= 36
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(paper.removeprefix("rgb(").partition(",")[0]) > 128) == (scheme == "light")
        page.get_by_role("button", name="Light or dark").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 6000 + "]" * 6000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        "[" + ",".join("0" for _ in range(20_000)) + "]",
        ">" * 8000 + " deep",
        "".join("  " * depth + "- x\n" for depth in range(400)),
    ],
    ids=["list", "object", "wide", "quotes", "nested list"],
)
def test_no_answer_blocks_the_page(page: Page, answer: str) -> None:
    """A text that cannot be rendered is shown plain, also after a reload, and the page accepts the next message."""
    pieces = [answer[start : start + 2000] for start in range(0, len(answer), 2000)]
    with Simulator(Answer(pieces)) as simulator, chat(page, simulator):
        say(page, "deep")
        expect(page.locator("#send")).to_be_visible()
        expect(page.locator("#stop")).to_be_hidden()
        page.reload()
        expect(page.locator("article")).to_have_count(2)
        say(page, "next")
        expect(page.locator("article.user")).to_have_count(2)
        expect(page.locator("#send")).to_be_visible()


def test_a_broken_conversation_in_the_storage_is_left_out(page: Page) -> None:
    broken: dict[str, Any] = json.loads(
        '{"id": "broken", "title": 7, "turns": [null, {"id": "a"}, {"id": "b", "text": "kept", "answers": [null, {}]}]}'
    )
    with Simulator("Yes.") as simulator, chat(page, simulator) as url:
        page.evaluate(
            """broken => new Promise((done) => {
              const opening = indexedDB.open(`streamcore:${location.pathname}`);
              opening.onsuccess = () => {
                const change = opening.result.transaction("conversations", "readwrite");
                change.objectStore("conversations").put(broken);
                change.oncomplete = () => { opening.result.close(); done(); };
              };
            })""",
            broken,
        )
        page.goto("about:blank")
        page.goto(f"{url}/#broken")
        expect(page.locator(".user .body")).to_have_text("kept")
        say(page, "next")
        expect(page.locator(".answer .body").last).to_have_text("Yes.")
