"""Test the scripted provider: whole answers, single steps, errors, several calls, and what it records."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from streamcore import (
    Chunk,
    OverloadedError,
    Provider,
    Request,
    ServerError,
    StreamInterrupted,
    StreamTimeout,
    stream_request,
)
from streamcore.testing import FINISH, Answer, PlannedCall, ScriptedProvider
from streamcore.testing.scripted import Step
from tests.support import ask, patient

pytestmark = pytest.mark.anyio


def test_it_is_a_provider() -> None:
    provider: Provider = ScriptedProvider("Hello")
    assert isinstance(provider, Provider)
    assert provider.name == "scripted"
    assert ScriptedProvider("Hello", name="fake").name == "fake"


def test_without_an_answer_it_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ScriptedProvider()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (3, "answer 0 of ScriptedProvider is a text, an Answer, .* not 3"),
        ({"text": "Hello"}, "not {'text': 'Hello'}"),
        (ServerError, r"is a class; give an instance, as ServerError\('...'\)"),
    ],
)
def test_what_is_no_answer_is_refused_when_it_is_made(answer: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        ScriptedProvider(answer)


async def test_what_is_no_step_is_refused() -> None:
    steps: Any = ["Hello", {"text": "World"}]
    with pytest.raises(TypeError, match=r"a step of ScriptedProvider is a text, .* not {'text': 'World'}"):
        await stream_request(ask(), provider=ScriptedProvider(steps)).collect()


async def test_a_text_is_a_complete_answer_token_by_token() -> None:
    stream = stream_request(ask(), provider=ScriptedProvider("Hello, World!"))
    kinds = [chunk.kind async for chunk in stream]
    assert kinds == ["start", "text", "text", "text", "text", "finish", "usage"]
    answer = stream.partial
    assert (answer.text, answer.finish_reason, answer.complete) == ("Hello, World!", "stop", True)
    assert answer.usage is not None
    assert answer.usage.output_tokens == 4


async def test_an_answer_carries_reasoning_and_calls() -> None:
    calls = [PlannedCall("weather", {"city": "Zürich", "days": 3}, "call_1"), PlannedCall("clock", {}, "call_2")]
    planned = Answer(["One", " moment."], reasoning=["Let me", " think."], calls=calls, model="m")
    answer = await stream_request(ask(), provider=ScriptedProvider(planned)).collect()
    assert (answer.reasoning, answer.text, answer.model) == ("Let me think.", "One moment.", "m")
    assert [(call.id, call.name, call.parse()) for call in answer.tool_calls] == [
        (call.id, call.name, call.arguments) for call in calls
    ]
    assert answer.finish_reason == "tool_calls"


async def test_planned_calls_without_an_id_get_one_of_their_own() -> None:
    provider = ScriptedProvider(Answer(calls=[PlannedCall("a"), PlannedCall("b"), PlannedCall("c", id="mine")]))
    answers = [await stream_request(ask(), provider=provider).collect() for _ in range(2)]
    ids = [call.id for answer in answers for call in answer.tool_calls]
    assert ids == ["call_simulated_1", "call_simulated_2", "mine", "call_simulated_4", "call_simulated_5", "mine"]


async def test_a_cut_answer_is_interrupted() -> None:
    with pytest.raises(StreamInterrupted) as caught:
        await stream_request(ask(), provider=ScriptedProvider(Answer(["a", "b", "c"], cut=2))).collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "ab"


async def test_each_step_is_one_read() -> None:
    provider = ScriptedProvider([Chunk("start"), "a", ["b", Chunk("ping")], [], FINISH])
    reads = [read async for read in provider.stream(ask())]
    assert reads == [
        [Chunk("start")],
        [Chunk("text", "a")],
        [Chunk("text", "b"), Chunk("ping")],
        [],
        [FINISH],
    ]


async def test_steps_without_a_finish_chunk_are_interrupted() -> None:
    with pytest.raises(StreamInterrupted):
        await stream_request(ask(), provider=ScriptedProvider(["Hello"])).collect()


async def test_errors_are_raised_at_once_or_between_reads() -> None:
    provider = ScriptedProvider(OverloadedError("busy"), ["Hel", ServerError("broken", retryable=False)])
    with pytest.raises(ServerError, match="broken") as caught:
        await stream_request(ask(), provider=provider, max_retries=1).collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    assert len(provider.requests) == 2


async def test_answers_play_in_turn_and_the_last_is_repeated() -> None:
    provider = ScriptedProvider("one", "two")
    texts = [(await stream_request(ask(str(number)), provider=provider).collect()).text for number in range(3)]
    assert texts == ["one", "two", "two"]
    assert [request.messages[0].text for request in provider.requests] == ["0", "1", "2"]


async def test_an_answer_may_depend_on_the_request() -> None:
    provider = ScriptedProvider(lambda request: request.messages[-1].text.upper())
    assert (await stream_request(ask("hello"), provider=provider).collect()).text == "HELLO"


@pytest.mark.parametrize("pause", [3600, anyio.sleep_forever])
@patient
async def test_a_pause_lets_a_clock_expire(pause: Step, pace: float) -> None:
    timeouts = {"stall": 0.02 * pace}
    with pytest.raises(StreamTimeout) as caught:
        await stream_request(ask(), provider=ScriptedProvider(["Hel", pause]), timeouts=timeouts).collect()
    assert caught.value.clock == "stall"


async def test_a_function_as_a_step_is_awaited() -> None:
    gate = anyio.Event()
    provider = ScriptedProvider(["Hel", gate.wait, "lo", FINISH])
    async with stream_request(ask(), provider=provider) as stream:
        assert (await anext(stream)).text == "Hel"
        assert provider.open == 1
        gate.set()
        assert (await stream.collect()).text == "Hello"


async def test_it_records_what_is_open_and_what_was_closed() -> None:
    def endless(request: Request) -> Iterator[Step]:
        return itertools.repeat("word ")

    provider = ScriptedProvider(endless)
    first, second = ask("first", temperature=0), ask("second", temperature=0)
    async with stream_request(first, provider=provider) as one:
        await anext(one)
        async with stream_request(second, provider=provider) as two:
            await anext(two)
            assert provider.open_requests == [first, second]
        assert provider.closed_requests == [second]
    assert provider.closed_requests == [second, first]
    assert (provider.open, provider.most_open) == (0, 2)


async def test_a_stream_whose_closing_is_cancelled_counts_as_open() -> None:
    provider = ScriptedProvider(["a", FINISH])
    batches = provider.stream(ask())
    await anext(batches)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await batches.aclose()
    assert provider.open == 1


async def test_it_records_that_it_was_closed() -> None:
    provider = ScriptedProvider("Hello")
    assert not provider.closed
    await provider.aclose()
    assert provider.closed


async def test_it_takes_schemas_where_asked() -> None:
    schema = {"type": "object"}
    assert not ScriptedProvider("{}").takes_schema(schema)
    provider = ScriptedProvider('{"a": 1}', takes_schema=True)
    answer = await stream_request(ask(), provider=provider, output_model=schema).collect()
    assert answer.parsed == {"a": 1}
    assert provider.requests[0].output_schema == schema
