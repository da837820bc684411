"""End answers, agents and graphs at the limit of their cost, and keep the received text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamcore import (
    AgentLimitReached,
    Chunk,
    ConfigError,
    Message,
    Request,
    RunLimitReached,
    Usage,
    execute_prompt_streaming,
    stream_agent,
    stream_graph_with_tokens,
    stream_prompt,
    stream_request,
)
from streamcore.chunk import ToolCall
from streamcore.graph.limits import RunLimits
from streamcore.pricing import limit, price_list, use_prices
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import FINISH
from streamcore.tools import tool
from tests.graphs import write_two_answers

pytestmark = pytest.mark.anyio
REQUEST = Request([Message("user", "Hello")])
START = Chunk("start", model="m")
# A dollar for a token.
PRICES = {"m": {"input": 1_000_000, "output": 1_000_000}}


def used(input_tokens: int, output_tokens: int = 0) -> Chunk:
    return Chunk("usage", usage=Usage(input_tokens, output_tokens))


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(limit, "_warned", set[Any]())
    use_prices(PRICES)
    yield
    use_prices(None)


async def test_an_answer_ends_once_its_vendor_reports_too_much() -> None:
    provider = ScriptedProvider([START, used(3), "One ", used(3, 2), "two ", used(3, 3), "three", FINISH])
    stream = stream_request(REQUEST, provider=provider, max_cost=5)
    with pytest.raises(RunLimitReached, match="max_cost is 5 US dollars, and 6 were spent") as caught:
        await stream.collect()
    assert caught.value.limit == "max_cost"
    assert caught.value.partial is not None
    assert caught.value.partial.text == stream.partial.text == "One two "
    assert not stream.partial.complete
    assert not provider.open_requests


async def test_an_answer_that_has_ended_is_given_whatever_it_cost() -> None:
    provider = ScriptedProvider([START, "All.", FINISH, used(50, 50)])
    answer = await stream_request(REQUEST, provider=provider, max_cost=5).collect()
    assert answer.complete
    assert answer.cost is not None
    assert answer.cost.amount == 100


async def test_an_expensive_prompt_ends_the_answer_before_its_text() -> None:
    provider = ScriptedProvider([START, used(9), "never read", FINISH])
    texts: list[str] = []
    with pytest.raises(RunLimitReached):
        async for text in stream_request(REQUEST, provider=provider, max_cost="5").text():  # type: ignore[arg-type]
            texts.append(text)
    assert texts == []


async def test_attempts_are_added_up() -> None:
    bad: list[Any] = [START, "no JSON", FINISH, used(4)]
    provider = ScriptedProvider(bad)
    stream = stream_request(REQUEST, provider=provider, output_model={"type": "object"}, retries=5, max_cost=7)
    with pytest.raises(RunLimitReached, match="8 were spent"):
        await stream.collect()
    assert len(provider.requests) == 2
    assert len(stream.partial.attempts) == 2


async def test_what_a_gateway_reports_counts_first() -> None:
    cost = {"amount": 0.75, "currency": "USD", "source": "usage.cost"}
    provider = ScriptedProvider([START, Chunk("usage", usage=Usage(1, 1), data={"cost": cost}), "x", FINISH])
    with pytest.raises(RunLimitReached, match=r"0\.75 were spent"):
        await stream_request(REQUEST, provider=provider, max_cost=0.5).collect()


async def test_below_the_limit_nothing_changes() -> None:
    script: list[Any] = [START, used(2), "One ", "two.", FINISH, used(2, 2)]
    limited = [chunk async for chunk in stream_request(REQUEST, provider=ScriptedProvider(script), max_cost=4)]
    plain = [chunk async for chunk in stream_request(REQUEST, provider=ScriptedProvider(script))]
    assert limited == plain


async def test_a_model_without_a_price_is_not_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider([Chunk("start", model="unknown"), used(9), "x", used(9, 9), FINISH])
    with caplog.at_level(logging.WARNING, "streamcore"):
        for _ in range(2):
            assert (await stream_request(REQUEST, provider=provider, max_cost=1).collect()).complete
    (record,) = (record for record in caplog.records if "'unknown'" in record.message)
    assert record.message == (
        "the cost of model 'unknown' of provider 'scripted' is not known, so that max_cost does not count it; give its "
        "price with streamcore.pricing.use_prices or STREAMCORE_PRICES"
    )


@pytest.mark.parametrize("amount", [0, -1, True, "much", float("nan"), float("inf")])
async def test_what_is_no_limit(amount: Any) -> None:
    with pytest.raises(ConfigError, match="max_cost is an amount in US dollars"):
        await stream_request(REQUEST, provider=ScriptedProvider("x"), max_cost=amount).collect()


async def test_without_any_prices_a_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_prices({})
    monkeypatch.setattr(limit, "installed", lambda: False)
    provider = ScriptedProvider("x")
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[cost\]'"):
        await stream_request(REQUEST, provider=provider, max_cost=1).collect()
    assert not provider.requests
    assert price_list.own_prices().entries == ()


@tool
def look() -> str:
    """Look."""
    return "seen"


CALL = Chunk("tool_call", tool_call=ToolCall("1", "look", "{}"))
STEP: list[Any] = [START, used(3), CALL, Chunk("finish", finish_reason="tool_calls", raw_finish_reason="tool_calls")]


async def test_an_agent_ends_between_two_answers() -> None:
    provider = ScriptedProvider(STEP)
    stream = stream_agent(REQUEST, provider=provider, tools=[look], max_cost=Decimal(5))
    with pytest.raises(AgentLimitReached, match="max_cost=5 US dollars, and 6 were spent") as caught:
        await stream.collect()
    assert caught.value.limit == "max_cost"
    assert len(provider.requests) == 2
    assert [message.role for message in caught.value.messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert caught.value.partial is not None
    assert len(caught.value.partial.steps) == 2


async def test_an_agent_counts_what_its_tools_ask() -> None:
    inner = ScriptedProvider([START, "inner", FINISH, used(10)])

    @tool
    async def ask() -> str:
        """Ask another model."""
        return (await stream_request(REQUEST, provider=inner).collect()).text

    call = Chunk("tool_call", tool_call=ToolCall("1", "ask", "{}"))
    provider = ScriptedProvider([*STEP[:2], call, STEP[3]])
    with pytest.raises(AgentLimitReached, match="13 were spent"):
        await stream_agent(REQUEST, provider=provider, tools=[ask], max_cost=12).collect()
    assert len(provider.requests) == 1


async def test_the_last_answer_of_an_agent_is_given() -> None:
    provider = ScriptedProvider(STEP, [START, used(9), "Done.", FINISH])
    answer = await stream_agent(REQUEST, provider=provider, tools=[look], max_cost=5).collect()
    assert answer.text == "Done."


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_two_answers(tmp_path, "costs")


async def test_a_graph_ends_before_its_next_node(graph: Path) -> None:
    provider = ScriptedProvider([START, "Yes.", FINISH, used(60, 30)])
    config: dict[str, Any] = {"provider": provider, "limits": RunLimits(max_cost=80)}
    completed: list[str] = []
    with pytest.raises(RunLimitReached, match="max_cost=80 US dollars, and 90 were spent, at 'two'") as caught:
        async for event in stream_graph_with_tokens(graph, {"message": "x"}, config):
            if event["type"] == "node_complete":
                completed.append(event["node"])
    assert caught.value.limit == "max_cost"
    assert completed == ["one"]
    assert len(provider.requests) == 1


async def test_a_prompt_file_takes_a_limit(graph: Path) -> None:
    script: list[Any] = [START, used(9), "x", FINISH]
    more: dict[str, Any] = {"provider": ScriptedProvider(script), "max_cost": 5}
    with pytest.raises(RunLimitReached):
        await stream_prompt("plain", {"message": "x"}, **more).collect()
    with pytest.raises(RunLimitReached):
        async for _ in execute_prompt_streaming("plain", {"message": "x"}, **more):
            pass
