"""Test how the simulator handles short forms of requests, unusual answers, and its own failures."""

from __future__ import annotations

import openai
import pytest

from streamcore import Message, ProviderError, Request, stream_agent, stream_request
from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked, PlannedCall
from streamcore.testing.simulator.asked import asked_on
from tests.support import EVERY_RUN, provider_at


def test_a_plain_text_is_one_message() -> None:
    asked = asked_on("openai-responses", {"model": "m", "input": "Hello"})
    assert (asked.text, asked.model, asked.answered) == ("Hello", "m", None)


@pytest.mark.anyio
async def test_the_responses_api_takes_a_plain_text(simulator: Simulator) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=simulator.base_url("openai-responses"), timeout=60) as client:
        answer = await client.responses.create(model="m", input="Hello", stream=True)
        text = "".join([event.delta async for event in answer if event.type == "response.output_text.delta"])
    assert "“Hello”" in text


@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
@pytest.mark.anyio
async def test_halves_of_a_surrogate_pair_are_sent_as_they_are(name: str) -> None:
    tokens = ["a\ud83d", "\ude00b"]
    with Simulator(Answer(tokens)) as simulator:
        async with stream_request(Request([Message("user", "x")]), provider=provider_at(simulator, name)) as stream:
            assert [chunk.text async for chunk in stream if chunk.kind == "text"] == ["a", "\U0001f600b"]


@pytest.mark.anyio
async def test_an_answer_that_cannot_be_given_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    def decide(asked: Asked) -> Answer:
        raise ValueError("no answer for that")

    with Simulator(decide) as simulator, pytest.raises(ProviderError, match="no answer for that") as caught:
        await stream_request(Request([Message("user", "x")]), provider=provider_at(simulator, "openai")).collect()
    assert caught.value.status == 500
    assert "could not answer" in caplog.text


@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
@pytest.mark.anyio
async def test_an_agent_of_several_steps(name: str) -> None:
    """Calls are scripted for each step, on every wire: two at the same time, then one, then the answer."""

    async def double(number: int) -> int:
        return 2 * number

    def call(number: int) -> PlannedCall:
        return PlannedCall("double", {"number": number})

    script: list[Answer | str] = [Answer.of("One. ", calls=[call(1), call(2)]), Answer(calls=[call(3)]), "Done."]
    with Simulator(script) as simulator:
        request = Request([Message("user", "x")])
        stream = stream_agent(request, provider=provider_at(simulator, name), tools=[double])
        answer = await stream.collect()
        results = [[result.content for result in step.tool_results] for step in answer.steps]
        assert results == [["2", "4"], ["6"], []]
        assert (answer.text, answer.steps[0].text) == ("Done.", "One. ")
        ids = [result.call_id for step in answer.steps for result in step.tool_results]
        assert len(set(ids)) == 3
        go_on = [*stream.messages, Message("user", "y")]
        again = stream_agent(Request(go_on), provider=provider_at(simulator, name), tools=[double])
        assert len((await again.collect()).steps) == 3


@pytest.mark.parametrize(
    ("wire", "turns", "step"),
    [
        ("openai-chat", [], 0),
        ("openai-chat", ["user"], 0),
        ("openai-chat", ["user", "assistant", "user"], 0),
        ("openai-chat", ["user", "assistant", "tool", "tool"], 1),
        ("openai-chat", ["user", "assistant", "tool", "assistant", "tool"], 2),
    ],
)
def test_the_step_of_an_agent(wire: str, turns: list[str], step: int) -> None:
    messages = [{"role": role, "content": "x"} for role in turns]
    assert asked_on(wire, {"messages": messages}).step == step


def test_the_text_is_that_of_the_last_message_of_the_user() -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "4"}]}
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "x"}, result]
    asked = asked_on("anthropic", {"messages": messages})
    assert (asked.text, asked.answered, asked.step) == ("Hello", "4", 1)


def test_a_list_without_answers_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Simulator([])
