"""Test agents on the wires of all vendors: real sockets and SDKs against the simulator, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import anyio
import pytest

from streamcore import (
    AgentLimitReached,
    Chunk,
    Message,
    Request,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
    ToolCall,
    get_provider,
    stream_agent,
)
from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked, PlannedCall
from streamcore.tools import Deny, ToolContext, tool
from tests.support import KEY, RUNS, eventually, provider_at, wait_until

ASK = Request([Message("user", "Do it.")], max_tokens=1000)
SHORT = {("asyncio", "openai"), ("trio", "anthropic")}
WIRE_RUNS = [run if run in SHORT else pytest.param(*run, marks=pytest.mark.long) for run in RUNS]
Test = Callable[[Simulator, str], Any]


@tool
async def work(n: int, context: ToolContext) -> str:
    """Work.

    Args:
        n: the number of the work.
    """
    context.progress({"begun": n})
    await anyio.sleep(0.001 * (20 - n))  # the first call ends last
    if n % 5 == 3:
        raise ValueError(f"not {n}")
    return f"worked {n}"


@tool(needs_approval=True)
async def delete(path: str) -> str:
    """Delete."""
    return f"deleted {path}"


def planned(*answers: Answer | str) -> Callable[[Asked], Answer]:
    """Return a function that gives these answers in turn, and the last one again and again."""
    left: Iterator[Answer | str] = iter(answers)
    current: list[Answer | str] = []

    def decide(asked: Asked) -> Answer:
        found = next(left, None)
        if found is not None:
            current[:] = [found]
        return Answer.of(current[0]) if isinstance(current[0], str) else current[0]

    return decide


def asks(*wanted: tuple[str, dict[str, Any]], text: str = "") -> Answer:
    """Return an answer that asks for these calls."""
    calls = [PlannedCall(name, arguments, f"call{number:05}") for number, (name, arguments) in enumerate(wanted)]
    return Answer.of(text, calls=calls)


def on(backend: str, name: str, decide: Callable[[Asked], Answer], test: Test) -> None:
    """Run a test on one wire and one event loop."""
    with Simulator(decide) as simulator:
        anyio.run(partial(test, simulator, name), backend=backend)
        wait_until(lambda: simulator.open == 0, "every response was closed")


def sent_results(body: Mapping[str, Any]) -> list[str]:
    """Return the results in a vendor's request, in order."""
    found: list[str] = []
    turns: list[dict[str, Any]] = body.get("messages") or body.get("input") or body.get("contents") or []
    for turn in turns:
        parts = cast("list[dict[str, Any]]", [] if isinstance(turn.get("content"), str) else turn.get("content") or [])
        if "parts" in turn:
            answers = [part["functionResponse"]["response"] for part in turn["parts"] if "functionResponse" in part]
            found += [str(next(iter(answer.values()))) for answer in answers]
        elif turn.get("role") == "tool":
            found.append(str(parts[0]["text"] if parts else turn["content"]))
        elif turn.get("type") == "function_call_output":
            found.append(str(turn["output"]))
        else:
            found += [str(part["content"]) for part in parts if part.get("type") == "tool_result"]
            found += [str(part["toolResult"]["content"][0]["text"]) for part in parts if "toolResult" in part]
    return found


@pytest.mark.parametrize("number", [1, 3, 20])
@pytest.mark.parametrize(("backend", "name"), WIRE_RUNS)
def test_parallel_calls_with_errors_and_progress(backend: str, name: str, number: int) -> None:
    async def test(simulator: Simulator, name: str) -> None:
        stream = stream_agent(ASK, provider=provider_at(simulator, name), tools=[work], max_parallel=number)
        chunks: list[Chunk] = []
        async with stream:
            chunks = [chunk async for chunk in stream]
        wanted = [f"Error: ValueError: not {n}" if n % 5 == 3 else f"worked {n}" for n in range(number)]
        results = stream.partial.steps[0].tool_results
        assert [result.content for result in results] == wanted
        assert sent_results(simulator.requests[1].body) == wanted
        progress = [chunk.data for chunk in chunks if chunk.kind == "tool_progress"]
        assert sorted(str(one) for one in progress) == sorted(str({"progress": {"begun": n}}) for n in range(number))
        answer = stream.partial
        assert (answer.text, answer.complete, len(answer.steps)) == ("All done.", True, 2)
        assert answer.usage is not None
        assert answer.usage.output_tokens == sum(step.usage.output_tokens or 0 for step in answer.steps if step.usage)

    asked = asks(*[("work", {"n": n}) for n in range(number)], text="Let me see. ")
    on(backend, name, planned(asked, "All done."), test)


@pytest.mark.parametrize(("backend", "name"), WIRE_RUNS)
def test_a_cut_in_the_second_step(backend: str, name: str) -> None:
    async def test(simulator: Simulator, name: str) -> None:
        stream = stream_agent(ASK, provider=provider_at(simulator, name), tools=[work], max_retries=0)
        with pytest.raises(StreamInterrupted) as caught:
            await stream.collect()
        partial_answer = caught.value.partial
        assert partial_answer.text
        assert "All is done. Really.".startswith(partial_answer.text)
        assert not partial_answer.complete
        assert [result.content for result in partial_answer.steps[0].tool_results] == ["worked 0", "worked 1"]
        # The conversation up to the cut can be continued.
        again = stream_agent(ASK, provider=provider_at(simulator, name), tools=[work], messages=stream.messages)
        assert (await again.collect()).text == "Now it is."

    cut = Answer.of("All is done. Really.", cut=3)
    asked = asks(("work", {"n": 0}), ("work", {"n": 1}))
    on(backend, name, planned(asked, cut, "Now it is."), test)


@pytest.mark.parametrize(("backend", "name"), WIRE_RUNS)
def test_denial_and_approval_across_a_restart(backend: str, name: str) -> None:
    async def test(simulator: Simulator, name: str) -> None:
        provider = provider_at(simulator, name)
        first = stream_agent(ASK, provider=provider, tools=[work, delete])
        answer = await first.collect()
        assert [call.parse() for call in answer.pending] == [{"path": "/a"}, {"path": "/b"}]
        saved = [Message.from_json(message.to_json()) for message in first.messages]
        one, other = (call.id or "" for call in answer.pending)
        second = stream_agent(
            ASK, provider=provider, tools=[work, delete], messages=saved, resume={one: True, other: Deny("not that")}
        )
        assert (await second.collect()).text == "All done."
        assert sent_results(simulator.requests[1].body) == [
            "deleted /a",
            "worked 1",
            "This call was denied: not that",
        ]

    asked = asks(("delete", {"path": "/a"}), ("work", {"n": 1}), ("delete", {"path": "/b"}))
    on(backend, name, planned(asked, "All done."), test)


@pytest.mark.parametrize(("backend", "name"), WIRE_RUNS)
def test_a_limit_leaves_a_conversation_that_can_be_continued(backend: str, name: str) -> None:
    async def test(simulator: Simulator, name: str) -> None:
        provider = provider_at(simulator, name)
        with pytest.raises(AgentLimitReached) as caught:
            await stream_agent(ASK, provider=provider, tools=[work], max_tool_calls=1).collect()
        messages = [*caught.value.messages, Message("user", "Go on.")]
        again = stream_agent(ASK, provider=provider, tools=[work], messages=messages)
        assert (await again.collect()).text == "All done."

    asked = asks(("work", {"n": 0}), ("work", {"n": 1}))
    on(backend, name, planned(asked, "All done."), test)


@pytest.mark.parametrize(("backend", "name"), WIRE_RUNS)
def test_closing_during_a_call_leaves_no_connection_and_no_task(backend: str, name: str) -> None:
    ended: list[str] = []

    @tool
    async def slow(context: ToolContext) -> None:
        try:
            context.progress("begun")
            await anyio.sleep(3600)
        finally:
            ended.append("slow")

    async def test(simulator: Simulator, name: str) -> None:
        stream = stream_agent(ASK, provider=provider_at(simulator, name), tools=[slow])
        with anyio.move_on_after(60):
            async with stream:
                async for chunk in stream:
                    if chunk.kind == "tool_progress":
                        break
        assert ended == ["slow"]
        await eventually(lambda: simulator.open == 0, "the vendor's response is closed")

    on(backend, name, planned(asks(("slow", {}))), test)


@pytest.mark.parametrize(("backend", "name"), WIRE_RUNS)
def test_a_fallback_to_another_vendor_in_the_middle_of_a_run(backend: str, name: str) -> None:
    other = "anthropic" if name != "anthropic" else "openai"

    async def test(simulator: Simulator, name: str) -> None:
        broken = provider_at(simulator, name)
        with Simulator(planned("The other one answers.")) as second:
            fallback = get_provider(other, api_key=KEY, model="m2", base_url=second.base_url(other))
            stream = stream_agent(ASK, provider=broken, tools=[work], fallback=[fallback], max_retries=0)
            answer = await stream.collect()
        assert answer.text == "The other one answers."
        assert [attempt.error is None for attempt in answer.attempts] == [True, False, True]
        assert sent_results(second.requests[0].body) == ["worked 0"]

    # The second request to the first vendor is cut before any content.
    on(backend, name, planned(asks(("work", {"n": 0})), Answer.of("never", cut=0)), test)


def test_errors_of_a_vendor_have_the_steps_so_far() -> None:
    async def test() -> StreamcoreError:
        with Simulator(planned(asks(("work", {"n": 0})))) as simulator:
            provider = provider_at(simulator, "openai")
            stream = stream_agent(ASK, provider=provider, tools=[work], max_retries=0)
            async with stream:
                async for chunk in stream:
                    if chunk.kind == "tool_result":
                        simulator.stop()
                        break
                with pytest.raises(StreamcoreError) as caught:
                    async for _ in stream:
                        pass
            return caught.value

    error = anyio.run(test)
    assert not isinstance(error, ServerError)
    assert error.partial is not None
    assert error.partial.steps[0].tool_calls == (ToolCall("call00000", "work", '{"n": 0}'),)
