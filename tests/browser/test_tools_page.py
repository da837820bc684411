"""Test in a real Chromium that the chat page shows the calls of tools, and asks for approval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from streamcore.testing import Answer, PlannedCall, Simulator
from streamcore.web import create_app
from tests.browser.test_chat_page import over, say
from tests.serving import serving
from tests.support import provider_at

pytestmark = [pytest.mark.real, pytest.mark.long]
FUNCTIONS = '''
from streamcore.tools import tool

async def weather(city: str):
    """Tell the weather."""
    if city == "Atlantis":
        raise LookupError("no such city")
    yield "looking out of the window"
    yield f"<b>sun</b> in {city}"

@tool(needs_approval=True)
async def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"
'''
PROMPT = """
user: "{message}"
tools: [{python: "functions.py:weather"}, {python: "functions.py:delete"}]
"""
SCRIPT: list[Answer | str] = [
    Answer.of(
        "First the weather.",
        calls=[PlannedCall("weather", {"city": "Bonn"}, "w1"), PlannedCall("weather", {"city": "Atlantis"}, "w2")],
    ),
    Answer.of("Now three files.", calls=[PlannedCall("delete", {"path": name}, f"d-{name}") for name in "abc"]),
    "All done.",
]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    (tmp_path / "p.yaml").write_text(PROMPT, "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    with Simulator(SCRIPT) as found:
        yield found


def test_calls_results_and_approval(page: Page, simulator: Simulator, tmp_path: Path) -> None:
    app = create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=tmp_path)
    with serving(app) as url:
        page.goto(url)
        expect(page.locator("#title")).to_have_text("p")
        say(page, "Please")
        over(page)
        # Calls and results are folded, as text; the text of both answers is there.
        answer = page.locator(".answer").last
        expect(answer.locator(".body")).to_contain_text("First the weather.")
        expect(answer.locator(".body")).to_contain_text("Now three files.")
        bonn, atlantis = answer.locator("details.call").nth(0), answer.locator("details.call").nth(1)
        expect(bonn.locator("summary")).to_have_text("Called weather")
        expect(bonn.locator(".result")).to_be_hidden()
        bonn.locator("summary").click()
        expect(bonn.locator(".arguments")).to_have_text('{"city": "Bonn"}')
        expect(bonn.locator(".progress")).to_have_text("looking out of the window")
        expect(bonn.locator(".result")).to_have_text("<b>sun</b> in Bonn")
        expect(atlantis.locator("summary")).to_have_text("weather failed")
        # The card survives a reload.
        card = page.locator(".approval")
        expect(card.locator(".title")).to_have_text(["delete needs your approval"] * 3)
        page.reload()
        expect(card.locator(".title")).to_have_count(3)
        expect(page.locator(".answer").last.locator("details.call").nth(0).locator("summary")).to_have_text(
            "Called weather"
        )
        # One is approved, one denied with a reason, one edited; what is not JSON is refused.
        first, second, third = (card.locator("section").nth(number) for number in range(3))
        first.get_by_text("Approve", exact=True).click()
        second.get_by_label("Reason").fill("not this one")
        second.get_by_text("Deny", exact=True).click()
        third.get_by_label("Arguments").fill("{")
        third.get_by_text("Approve", exact=True).click()
        expect(third.get_by_role("alert")).to_have_text("The arguments must be a JSON object.")
        third.get_by_label("Arguments").fill('{"path": "other"}')
        third.get_by_text("Approve", exact=True).click()
        over(page)
        expect(card).to_have_count(0)
        last = page.locator(".answer").last
        expect(last.locator(".body")).to_contain_text("All done.")
        summaries = last.locator("details.call > summary")
        expect(summaries).to_have_count(3)  # in the order in which they ended
        assert sorted(summaries.all_inner_texts()) == ["Called delete", "Called delete", "delete was denied"]
        page.reload()
        expect(page.locator(".answer").last.locator(".body")).to_contain_text("All done.")
        expect(card).to_have_count(0)
        page.goto("about:blank")
    sent = [message["content"] for message in simulator.requests[-1].body["messages"] if message["role"] == "tool"]
    assert sent[2:] == ["deleted a", "This call was denied: not this one", "deleted other"]
    assert sent[1] == "Error: LookupError: no such city"


GRAPH = """
prompts_relative: true
state: {message: str}
tools:
  weather: {type: python, path: plain.py, function: weather, description: Tells the weather.}
  delete: {type: python, path: plain.py, function: delete, description: Deletes a file.}
nodes:
  helper: {type: agent, prompt: ask, tools: [weather, delete], approve: [delete], state_key: answer}
edges: [{from: START, to: helper}, {from: helper, to: END}]
"""
PLAIN = """
async def weather(city: str) -> str:
    return f"sun in {city}"

async def delete(path: str) -> str:
    return f"deleted {path}"
"""


def test_an_agent_of_a_graph_asks_for_approval_with_a_card(page: Page, tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text(GRAPH, "utf-8")
    (tmp_path / "ask.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "plain.py").write_text(PLAIN, "utf-8")
    script: list[Answer | str] = [
        Answer.of("Let me see.", calls=[PlannedCall("weather", {"city": "Bonn"}, "w1")]),
        Answer.of("", calls=[PlannedCall("delete", {"path": name}, f"d-{name}") for name in "ab"]),
        "All done.",
    ]
    with Simulator(script) as simulator:
        app = create_app(str(tmp_path / "graph.yaml"), provider=provider_at(simulator, "openai"))
        with serving(app) as url:
            page.goto(url)
            say(page, "Please")
            over(page)
            called = page.locator(".answer").last.locator("details.call > summary").first
            expect(called).to_have_text("Called weather")
            card = page.locator(".approval")
            expect(card.locator(".title")).to_have_text("delete needs your approval")
            page.reload()
            expect(card.get_by_label("Arguments")).to_have_value('{\n  "path": "a"\n}')
            card.get_by_label("Arguments").fill('{"path": "other"}')
            card.get_by_text("Approve", exact=True).click()
            over(page)
            expect(card.get_by_label("Arguments")).to_have_value('{\n  "path": "b"\n}')
            card.get_by_label("Reason").fill("not this one")
            card.get_by_text("Deny", exact=True).click()
            over(page)
            expect(card).to_have_count(0)
            expect(page.locator(".answer").last.locator(".body")).to_contain_text("All done.")
            page.goto("about:blank")
        sent = [message["content"] for message in simulator.requests[-1].body["messages"] if message["role"] == "tool"]
    assert sent == ["sun in Bonn", "deleted other", "This call was denied: not this one"]
