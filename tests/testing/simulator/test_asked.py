"""Test how the simulator handles short forms of requests, unusual answers, and its own failures."""

from __future__ import annotations

import openai
import pytest

from streamcore import Message, ProviderError, Request, stream_request
from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked
from streamcore.testing.simulator.asked import asked_on
from tests.support import RUNS, provider_at


def test_a_plain_text_is_one_message() -> None:
    asked = asked_on("openai-responses", {"model": "m", "input": "Hello"})
    assert (asked.text, asked.model, asked.answered) == ("Hello", "m", None)


@pytest.mark.anyio
async def test_the_responses_api_takes_a_plain_text(simulator: Simulator) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=simulator.base_url("openai-responses"), timeout=10) as client:
        answer = await client.responses.create(model="m", input="Hello", stream=True)
        text = "".join([event.delta async for event in answer if event.type == "response.output_text.delta"])
    assert "“Hello”" in text


@pytest.mark.parametrize(("anyio_backend", "name"), RUNS)
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
