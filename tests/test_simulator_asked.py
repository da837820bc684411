"""What the simulator reads out of requests in the vendors' shorter forms."""

from __future__ import annotations

import openai
import pytest

from streamcore.testing import Simulator
from streamcore.testing.asked import asked_on


def test_a_plain_text_is_one_message() -> None:
    asked = asked_on("openai-responses", {"model": "m", "input": "Hello"})
    assert (asked.text, asked.model, asked.answered) == ("Hello", "m", None)


@pytest.mark.anyio
async def test_the_responses_api_takes_a_plain_text(simulator: Simulator) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=simulator.base_url("openai-responses"), timeout=10) as client:
        answer = await client.responses.create(model="m", input="Hello", stream=True)
        text = "".join([event.delta async for event in answer if event.type == "response.output_text.delta"])
    assert "“Hello”" in text
