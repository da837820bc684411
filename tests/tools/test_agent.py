"""Test the loop of an agent on scripted answers: order, errors, limits, approval, saving, nesting and closing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel

from streamcore import (
    AgentLimitReached,
    Chunk,
    Completion,
    ConfigError,
    FinishReason,
    Message,
    Request,
    Stream,
    StreamcoreError,
    StreamInterrupted,
    StreamTimeout,
    Tool,
    ToolCall,
    Usage,
    stream_agent,
)
from streamcore.testing import FINISH, ScriptedProvider
from streamcore.testing.scripted import Step
from streamcore.tools import AgentState, Approve, Deny, ToolContext, tool
from tests.support import eventually, patient

pytestmark = pytest.mark.anyio

ASK = Request([Message("user", "Hello")])
CALLS = Chunk("finish", finish_reason="tool_calls", raw_finish_reason="tool_calls")
FOREVER = 3600.0


def call(name: str, arguments: str = "{}", *, call_id: str | None = None, position: int = 0) -> list[Step]:
    """Return the chunks of a call, its arguments in two fragments."""
    half = len(arguments) // 2
    return [
        Chunk("tool_call", tool_call=ToolCall(call_id or f"call_{position}", name, "", position)),
        Chunk("tool_call", tool_call=ToolCall(None, None, arguments[:half], position)),
        Chunk("tool_call", tool_call=ToolCall(None, None, arguments[half:], position)),
    ]


def calls(*wanted: tuple[str, str]) -> list[Step]:
    """Return the chunks of an answer that asks for these calls."""
    steps: list[Step] = [Chunk("start", id="r"), "Well. "]
    for position, (name, arguments) in enumerate(wanted):
        steps += call(name, arguments, position=position)
    return [*steps, CALLS, Chunk("usage", usage=Usage(input_tokens=10, output_tokens=2))]


def agent(*answers: Any, tools: Sequence[Any] = (), **options: Any) -> tuple[Stream, ScriptedProvider]:
    provider = ScriptedProvider(*answers)
    return stream_agent(options.pop("request", ASK), provider=provider, tools=tools, **options), provider


async def read(stream: Stream) -> list[Chunk]:
    async with stream:
        return [chunk async for chunk in stream]


async def failure(stream: Stream) -> StreamcoreError:
    with pytest.raises(StreamcoreError) as caught:
        await stream.collect()
    return caught.value


def kinds(chunks: Iterable[Chunk]) -> list[str]:
    """Return the kinds in order, a kind that is repeated once; without results, which may come at any time."""
    found: list[str] = []
    for chunk in chunks:
        if chunk.kind == "tool_result":
            continue
        if not found or found[-1] != chunk.kind:
            found.append(chunk.kind)
    return found


def results(request: Request) -> list[str]:
    return [message.text for message in request.messages if message.role == "tool"]


@tool
async def double(n: int) -> int:
    """Double a number."""
    return 2 * n


@tool
async def fail(why: str = "no") -> None:
    """Fail."""
    raise ValueError(why)


# Steps


async def test_the_model_is_asked_again_with_the_results() -> None:
    stream, provider = agent(calls(("double", '{"n": 4}')), "It is 8.", tools=[double])
    chunks = await read(stream)
    assert kinds(chunks) == [
        "step", "start", "text", "tool_call", "finish", "usage",
        "step", "start", "text", "finish", "usage",
    ]  # fmt: skip
    assert [chunk.data for chunk in chunks if chunk.kind == "step"] == [{"step": 1}, {"step": 2}]
    result = next(chunk.tool_result for chunk in chunks if chunk.tool_result is not None)
    assert (result.call_id, result.name, result.content, result.error) == ("call_0", "double", "8", None)
    assert [one.name for one in provider.requests[0].tools] == ["double"]
    assert [message.role for message in provider.requests[1].messages] == ["user", "assistant", "tool"]
    assert provider.requests[1].messages[1].tool_calls == (ToolCall("call_0", "double", '{"n": 4}'),)
    assert results(provider.requests[1]) == ["8"]
    answer = stream.partial
    assert answer.complete
    assert answer.text == "It is 8."
    assert [step.text for step in answer.steps] == ["Well. ", "It is 8."]
    assert answer.steps[0].tool_results == (result,)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 6)
    assert [message.role for message in stream.messages] == ["user", "assistant", "tool", "assistant"]
    assert Completion.from_json(answer.to_json()) == answer


async def test_text_is_that_of_all_answers() -> None:
    stream, _ = agent(calls(("double", '{"n": 4}')), "It is 8.", tools=[double])
    assert "".join([text async for text in stream.text()]) == "Well. It is 8."


async def test_a_run_without_calls_is_one_answer() -> None:
    stream, provider = agent("Hello.", tools=[double])
    answer = await stream.collect()
    assert (answer.text, len(answer.steps), len(provider.requests)) == ("Hello.", 1, 1)


async def test_plain_functions_are_tools() -> None:
    def triple(n: int) -> int:
        return 3 * n

    stream, provider = agent(calls(("triple", '{"n": 4}')), "12", tools=[triple])
    await stream.collect()
    assert results(provider.requests[1]) == ["12"]


async def test_a_pause_ends_by_itself() -> None:
    pause = Chunk("finish", finish_reason="pause", raw_finish_reason="pause_turn")
    stream, provider = agent([Chunk("start"), "Search", pause], "found.", tools=[double])
    answer = await stream.collect()
    assert answer.text == "found."
    assert [message.role for message in provider.requests[1].messages] == ["user", "assistant"]


async def test_a_forced_choice_holds_for_the_first_answer_only() -> None:
    request = Request([Message("user", "Hello")], tool_choice="required")
    stream, provider = agent(calls(("double", '{"n": 1}')), "2", tools=[double], request=request)
    await stream.collect()
    assert [one.tool_choice for one in provider.requests] == ["required", None]


# Several calls at the same time


def test_an_unknown_option_is_an_error_of_the_call() -> None:
    with pytest.raises(
        TypeError, match=r"stream_agent\(\) got an unexpected .* 'max_tokens'; set it in the Request, as"
    ):
        agent("Hello", max_tokens=5)
    with pytest.raises(TypeError, match=r"stream_agent\(\) got an unexpected keyword argument 'max_step'$"):
        agent("Hello", max_step=5)


@pytest.mark.parametrize("first", [None, "x"])
@pytest.mark.parametrize("options", [{}, {"on_interrupt": "restart"}], ids=["early", "at the end"])
async def test_the_chunks_of_calls_have_the_ids_of_their_results(first: str | None, options: dict[str, Any]) -> None:
    """A server may send no ids, or one id twice."""

    async def one() -> str:
        return "1"

    async def two() -> str:
        return "2"

    def part(position: int, arguments: str, name: str | None = None) -> Chunk:
        return Chunk("tool_call", tool_call=ToolCall(first, name, arguments, position))

    answer = [Chunk("start", id="r"), part(0, "{", "one"), part(0, "}"), part(1, "{", "two"), part(1, "}"), CALLS]
    stream, _ = agent(answer, "Done.", tools=[one, two], **options)
    chunks = await read(stream)

    named: dict[str, str | None] = {}
    for chunk in chunks:
        if chunk.tool_call is not None:
            name = ("one", "two")[chunk.tool_call.position]
            named[name] = chunk.tool_call.id or named.get(name)
    results = {chunk.tool_result.name: chunk.tool_result.call_id for chunk in chunks if chunk.tool_result is not None}
    assert named == results
    assert len(set(named.values())) == 2
    assert None not in named.values()
    assert {call.name: call.id for call in stream.partial.steps[0].tool_calls} == named


@pytest.mark.parametrize("number", [1, 2, 7, 20])
@pytest.mark.parametrize("backwards", [False, True])
async def test_calls_run_at_the_same_time_and_results_keep_their_order(number: int, backwards: bool) -> None:
    ended: list[int] = []
    turn = anyio.Condition()

    @tool
    async def work(n: int) -> str:
        async with turn:
            while len(ended) != (number - 1 - n if backwards else n):
                await turn.wait()
            ended.append(n)
            turn.notify_all()
        return f"result {n}"

    asked = calls(*[("work", f'{{"n": {n}}}') for n in range(number)])
    stream, provider = agent(asked, "done", tools=[work], max_parallel=20)
    chunks = await read(stream)
    order = list(reversed(range(number))) if backwards else list(range(number))
    assert ended == order
    assert [chunk.tool_result.content for chunk in chunks if chunk.tool_result] == [f"result {n}" for n in order]
    assert results(provider.requests[1]) == [f"result {n}" for n in range(number)]
    assert [result.call_id for result in stream.partial.steps[0].tool_results] == [f"call_{n}" for n in range(number)]


@pytest.mark.parametrize("limit", [1, 3])
async def test_at_most_so_many_run_at_the_same_time(limit: int) -> None:
    running = most = 0

    @tool
    async def work(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1
        return n

    asked = calls(*[("work", f'{{"n": {n}}}') for n in range(9)])
    stream, provider = agent(asked, "done", tools=[work], max_parallel=limit)
    await stream.collect()
    assert most == limit
    assert results(provider.requests[1]) == [str(n) for n in range(9)]


async def test_a_sequential_tool_runs_alone() -> None:
    log: list[str] = []

    def working(name: str, **settings: Any) -> Tool:
        @tool(name=name, **settings)
        async def work(n: int) -> None:
            log.append(f"+{n}")
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            log.append(f"-{n}")

        return work

    tools = [working("free"), working("alone", sequential=True)]
    names = ["free", "free", "alone", "free", "free"]
    asked = calls(*[(name, f'{{"n": {n}}}') for n, name in enumerate(names)])
    stream, _ = agent(asked, "done", tools=tools)
    await stream.collect()
    assert sorted(log[:4]) == ["+0", "+1", "-0", "-1"]
    assert log[4:6] == ["+2", "-2"]
    assert sorted(log[6:]) == ["+3", "+4", "-3", "-4"]


async def test_a_call_begins_as_soon_as_its_arguments_are_whole() -> None:
    begun = anyio.Event()

    @tool
    async def work() -> str:
        begun.set()
        return "ok"

    # The answer ends only once the tool has begun, so that a tool which waited for its end would wait for ever.
    first: list[Step] = [Chunk("start"), *call("work"), begun.wait, "and more", CALLS]
    stream, provider = agent(first, "done", tools=[work])
    with anyio.fail_after(60):
        chunks = await read(stream)
    assert results(provider.requests[1]) == ["ok"]
    assert next(chunk.text for chunk in chunks if chunk.kind == "text") == "and more"


@pytest.mark.parametrize("options", [{"on_interrupt": "restart"}, {"save": None}])
async def test_no_call_begins_early_if_its_answer_may_begin_again(options: dict[str, Any]) -> None:
    if "save" in options:
        options = {"save": _forget}
    count = 0

    @tool
    async def work() -> str:
        nonlocal count
        count += 1
        return "ok"

    cut: list[Step] = [Chunk("start"), *call("work"), *[anyio.lowlevel.checkpoint] * 20]
    if options.get("on_interrupt"):
        stream, _ = agent(cut, calls(("work", "{}")), "done", tools=[work], **options)
        assert (await stream.collect()).text == "done"
        assert count == 1
    else:
        stream, _ = agent(cut, tools=[work], max_retries=0, **options)
        assert isinstance(await failure(stream), StreamInterrupted)
        assert count == 0


async def _forget(state: AgentState) -> None:
    """Save nothing."""


# What goes wrong in a tool


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("fail", '{"why": "no such city"}', "ValueError: no such city"),
        ("fail", '{"why": ""}', "ValueError"),
        ("double", '{"n": "x"}', "ToolArgumentsError: the arguments of tool 'double' do not fit: n: Input should be"),
        ("double", '{"n": ', "ToolArgumentsError: the arguments of tool call 'double' ('call_0') are not JSON"),
        ("double", "[1]", "ToolArgumentsError: the arguments are not a JSON object, but '[1]'"),
        ("treble", "{}", "Unknown tool 'treble'; the tools are: double, fail"),
    ],
)
async def test_the_model_gets_the_error(name: str, arguments: str, error: str) -> None:
    stream, provider = agent(calls((name, arguments), ("double", '{"n": 1}')), "I see.", tools=[double, fail])
    answer = await stream.collect()
    assert answer.text == "I see."
    bad, good = answer.steps[0].tool_results
    assert bad.error is not None
    assert bad.error.startswith(error)
    assert "Traceback" not in bad.content
    assert bad.content == f"Error: {bad.error}"
    assert (good.content, good.error) == ("2", None)
    message = provider.requests[1].messages[2]
    assert (message.text, message.is_error) == (bad.content, True)
    assert all(one.complete for one in provider.requests[1].messages[1].tool_calls)  # can be sent back


async def test_a_tool_that_takes_too_long_is_an_error() -> None:
    @tool(timeout=0.02)
    async def slow() -> None:
        await anyio.sleep(FOREVER)

    @tool(timeout=0.02)
    def blocked(context: ToolContext) -> str:
        while not context.cancelled:  # a thread cannot be stopped, so it looks
            time.sleep(0.001)
        return "late"

    stream, provider = agent(calls(("slow", "{}"), ("blocked", "{}")), "done", tools=[slow, blocked])
    await stream.collect()
    assert results(provider.requests[1]) == ["Error: TimeoutError: the tool did not end within 0.02 s"] * 2


async def test_a_failed_call_is_repeated_as_often_as_the_tool_says() -> None:
    tries = 0

    @tool(retries=2)
    async def flaky(until: int) -> int:
        nonlocal tries
        tries += 1
        if tries < until:
            raise ConnectionError("gone")
        return tries

    stream, provider = agent(calls(("flaky", '{"until": 3}')), "done", tools=[flaky])
    await stream.collect()
    assert results(provider.requests[1]) == ["3"]
    tries = 0
    stream, provider = agent(calls(("flaky", '{"until": 9}')), "done", tools=[flaky])
    await stream.collect()
    assert (tries, results(provider.requests[1])) == (3, ["Error: ConnectionError: gone"])


async def test_progress_is_in_the_stream_and_not_in_the_conversation() -> None:
    @tool
    async def work(context: ToolContext) -> str:
        context.progress("half")
        await context.progress({"percent": 90})
        return "ok"

    @tool
    def thread(context: ToolContext) -> str:
        context.progress("from a thread")
        return "ok"

    stream, provider = agent(calls(("work", "{}"), ("thread", "{}")), "done", tools=[work, thread])
    chunks = [chunk for chunk in await read(stream) if chunk.kind == "tool_progress"]
    found = {(chunk.tool_call.name if chunk.tool_call else None, chunk.text, str(chunk.data)) for chunk in chunks}
    assert found == {
        ("work", "half", "None"),
        ("work", "", "{'progress': {'percent': 90}}"),
        ("thread", "from a thread", "None"),
    }
    assert results(provider.requests[1]) == ["ok", "ok"]


async def test_a_tool_that_awaits_its_progress_is_as_slow_as_the_reader() -> None:
    sent = 0

    @tool
    async def flood(context: ToolContext) -> None:
        nonlocal sent
        while sent < 100_000:
            sent += 1
            await context.progress("x")

    stream, _ = agent(calls(("flood", "{}")), "done", tools=[flood])
    async with stream:
        async for chunk in stream:
            if chunk.kind == "tool_progress":
                break
        for _ in range(2000):
            await anyio.lowlevel.checkpoint()
        assert sent < 1000


# Limits, clocks, cuts


async def test_the_limit_of_steps() -> None:
    stream, provider = agent(calls(("double", '{"n": 1}')), tools=[double], max_steps=3)
    error = await failure(stream)
    assert isinstance(error, AgentLimitReached)
    assert error.limit == "max_steps"
    assert len(provider.requests) == 3
    assert error.partial is not None
    assert not error.partial.complete
    assert [step.tool_results[0].content for step in error.partial.steps] == ["2", "2", "2"]
    assert [message.role for message in error.messages] == ["user", *["assistant", "tool"] * 3]
    stream, provider = agent("enough", tools=[double], messages=error.messages)
    assert (await stream.collect()).text == "enough"


async def test_the_limit_of_calls() -> None:
    asked = calls(*[("double", f'{{"n": {n}}}') for n in range(5)])
    stream, _ = agent(asked, tools=[double], max_tool_calls=7)
    error = await failure(stream)
    assert isinstance(error, AgentLimitReached)
    assert error.limit == "max_tool_calls"
    contents = [message.text for message in error.messages if message.role == "tool"]
    assert contents[:7] == ["0", "2", "4", "6", "8", "0", "2"]
    assert contents[7:] == ["Error: NotRun: the limit of 7 calls was reached"] * 3


@pytest.mark.parametrize("name", ["max_steps", "max_tool_calls", "max_parallel"])
async def test_a_limit_is_a_number(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    assert isinstance(await failure(agent("x", **options)[0]), ConfigError)


async def test_a_cut_in_the_second_step_keeps_all_that_arrived() -> None:
    cut: list[Step] = [Chunk("start"), "It is", " abou"]
    stream, provider = agent(calls(("double", '{"n": 4}')), cut, tools=[double], max_retries=0)
    error = await failure(stream)
    assert isinstance(error, StreamInterrupted)
    assert error.partial is not None
    assert (error.partial.text, error.partial.complete) == ("It is abou", False)
    assert error.partial.steps[0].tool_results[0].content == "8"
    assert [message.role for message in stream.messages] == ["user", "assistant", "tool"]
    assert provider.open == 0
    with pytest.raises(StreamInterrupted):
        await stream.collect()


async def test_a_cut_while_a_tool_runs_cancels_it() -> None:
    ended = anyio.Event()

    @tool
    async def slow() -> None:
        try:
            await anyio.sleep(FOREVER)
        finally:
            ended.set()

    cut: list[Step] = [Chunk("start"), *call("slow"), *[anyio.lowlevel.checkpoint] * 9, "then"]
    stream, _ = agent(cut, tools=[slow], max_retries=0)
    error = await failure(stream)
    assert isinstance(error, StreamInterrupted)
    assert ended.is_set()
    assert error.partial is not None
    assert error.partial.text == "then"
    assert [message.role for message in stream.messages] == ["user"]


@pytest.mark.parametrize(("timeouts", "clock"), [({"stall": 0.03}, "stall"), ({"total": 0.03}, "total")])
@patient
async def test_the_clocks_hold_while_tools_run(timeouts: dict[str, float], clock: str, pace: float) -> None:
    timeouts = {name: seconds * pace for name, seconds in timeouts.items()}

    @tool
    async def slow(context: ToolContext) -> None:
        while True:
            await anyio.sleep(0.001)
            if clock == "total":
                context.progress("x")

    stream, _ = agent(calls(("slow", "{}")), "done", tools=[slow], timeouts=timeouts)
    error = await failure(stream)
    assert isinstance(error, StreamTimeout)
    assert error.clock == clock
    assert f"s: 'slow' (clock '{clock}')" in str(error)


@patient
async def test_progress_and_a_longer_timeout_of_the_tool_keep_the_clock_stall_from_running_out(pace: float) -> None:
    @tool
    async def talks(context: ToolContext) -> None:
        for _ in range(20):
            await anyio.sleep(0.02 * pace)
            context.progress("x")

    @tool(timeout=FOREVER)
    async def silent() -> None:
        await anyio.sleep(0.4 * pace)

    for one in (talks, silent):
        stream, _ = agent(calls((one.name, "{}")), "done", tools=[one], timeouts={"stall": 0.3 * pace})
        assert (await stream.collect()).text == "done"


async def test_a_fallback_stays_for_the_rest_of_the_run() -> None:
    first = ScriptedProvider(calls(("double", '{"n": 4}')), ConnectionRefused(), name="first")
    second = ScriptedProvider(calls(("double", '{"n": 5}')), "done", name="second")
    stream = stream_agent(ASK, provider=first, tools=[double], fallback=[second], max_retries=0)
    answer = await stream.collect()
    assert [attempt.provider for attempt in answer.attempts] == ["first", "first", "second", "second"]
    assert len(first.requests) == 2
    assert results(second.requests[1]) == ["8", "10"]


class ConnectionRefused(StreamInterrupted):
    """A connection that failed before any content."""

    def __init__(self) -> None:
        super().__init__("refused")


async def test_the_last_answer_is_checked_against_the_schema() -> None:
    class Sum(BaseModel):
        value: int

    stream, _ = agent(calls(("double", '{"n": 4}')), '{"value": 8}', tools=[double], output_model=Sum)
    assert (await stream.collect()).parsed == Sum(value=8)
    stream, provider = agent(
        calls(("double", '{"n": 4}')), "eight", '{"value": 8}', tools=[double], output_model=Sum, retries=1
    )
    assert (await stream.collect()).parsed == Sum(value=8)
    assert len(provider.requests) == 3


async def test_smoothed_text_keeps_its_order_among_the_other_chunks() -> None:
    stream, _ = agent(calls(("double", '{"n": 4}')), "It is 8.", tools=[double], stream_options={"buffer_size": 1000})
    assert kinds(await read(stream)) == [
        "step", "start", "text", "tool_call", "finish", "usage",
        "step", "start", "text", "finish", "usage",
    ]  # fmt: skip


# Tools without a function


async def test_calls_of_a_tool_that_cannot_run_return_to_the_caller() -> None:
    schema = Tool("lookup", "Look up.")
    stream, provider = agent(calls(("lookup", "{}"), ("double", '{"n": 4}')), "done", tools=[schema, double])
    answer = await stream.collect()
    assert answer.complete
    assert answer.finish_reason == "tool_calls"
    assert [one.name for one in answer.tool_calls] == ["lookup", "double"]
    assert [result.name for result in answer.tool_results] == ["double"]
    assert answer.pending == ()
    messages = [*stream.messages, Message("tool", "found", tool_call_id="call_0")]
    stream, provider = agent("done", tools=[schema, double], messages=messages)
    await stream.collect()
    assert sorted(results(provider.requests[0])) == ["8", "found"]


async def test_two_tools_of_one_name_are_refused() -> None:
    stream, _ = agent("x", tools=[double, double])
    assert "two tools have the name 'double'" in str(await failure(stream))


class Set:
    """Provide tools as an MCP server does."""

    def __init__(self, name: str, *brought: Tool) -> None:
        self.name = name
        self._brought = brought

    async def tools(self) -> Sequence[Tool]:
        return self._brought


async def test_a_set_of_tools_gets_its_name_in_front_where_names_collide() -> None:
    stream, provider = agent("x", tools=[double, Set("math", double, fail)])
    await stream.collect()
    assert [one.name for one in provider.requests[0].tools] == ["double", "math_double", "fail"]


# Approval


@tool(needs_approval=True)
async def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


DELETE = calls(("double", '{"n": 4}'), ("delete", '{"path": "/a"}'))


@pytest.mark.parametrize(
    ("decision", "content"),
    [
        (True, "deleted /a"),
        (Approve({"path": "/b"}), "deleted /b"),
        ({"approve": True, "arguments": {"path": "/b"}}, "deleted /b"),
        (False, "This call was denied"),
        (Deny("not today"), "This call was denied: not today"),
        ({"approve": False, "reason": "not today"}, "This call was denied: not today"),
    ],
)
@pytest.mark.parametrize("way", ["function", "async function", "resume"])
async def test_a_call_is_approved_denied_or_edited(decision: Any, content: str, way: str) -> None:
    asked: list[ToolCall] = []

    def decide(one: ToolCall) -> Any:
        asked.append(one)
        return decision

    async def decide_later(one: ToolCall) -> Any:
        await anyio.lowlevel.checkpoint()
        return decide(one)

    approve: Any = {"function": decide, "async function": decide_later, "resume": None}[way]
    stream, provider = agent(DELETE, "done", tools=[double, delete], approve=approve)
    answer = await stream.collect()
    if way == "resume":
        assert answer.complete
        assert [one.name for one in answer.pending] == ["delete"]
        assert [result.content for result in answer.tool_results] == ["8"]
        saved = [Message.from_json(message.to_json()) for message in stream.messages]
        assert Completion.from_json(answer.to_json()).pending == answer.pending
        provider = ScriptedProvider("done")
        decisions = {answer.pending[0].id or "": decision}
        stream = stream_agent(ASK, provider=provider, tools=[double, delete], messages=saved, resume=decisions)
        answer = await stream.collect()
    else:
        assert [one.name for one in asked] == ["delete"]
    assert answer.text == "done"
    assert results(provider.requests[-1]) == ["8", content]


async def test_approval_may_depend_on_the_arguments() -> None:
    @tool(needs_approval=lambda arguments: arguments["n"] > 5)
    async def spend(n: int) -> str:
        return f"spent {n}"

    stream, _ = agent(calls(("spend", '{"n": 5}'), ("spend", '{"n": "6"}'), ("spend", "{}")), tools=[spend])
    answer = await stream.collect()
    assert [one.arguments for one in answer.pending] == ['{"n": "6"}']
    assert [result.content[:13] for result in answer.tool_results] == ["spent 5", "Error: ToolAr"]


async def test_without_a_decision_a_call_continues_to_wait() -> None:
    stream, _ = agent(DELETE, tools=[double, delete])
    first = await stream.collect()
    again, provider = agent("done", tools=[double, delete], messages=stream.messages)
    answer = await again.collect()
    assert answer.pending == first.pending
    assert provider.requests == []
    assert again.messages == stream.messages


async def test_results_keep_the_order_of_their_calls_across_a_resume() -> None:
    stream, _ = agent(calls(("delete", '{"path": "/a"}'), ("double", '{"n": 4}')), tools=[double, delete])
    await stream.collect()
    again, provider = agent("done", tools=[double, delete], messages=stream.messages, resume=True)
    await again.collect()
    assert results(provider.requests[0]) == ["deleted /a", "8"]


@pytest.mark.parametrize(
    ("resume", "message"),
    [({"call_9": True}, "decides about the call 'call_9', but open are"), ({"call_1": "yes"}, "not 'yes'")],
)
async def test_a_decision_that_is_none_is_refused(resume: dict[str, Any], message: str) -> None:
    stream, _ = agent(DELETE, tools=[double, delete])
    await stream.collect()
    again, _ = agent("done", tools=[double, delete], messages=stream.messages, resume=resume)
    error = await failure(again)
    assert isinstance(error, ConfigError)
    assert message in str(error)


async def test_an_error_of_the_approving_function_ends_the_run() -> None:
    def decide(one: ToolCall) -> bool:
        raise LookupError("no database")

    stream, provider = agent(DELETE, tools=[double, delete], approve=decide)
    with pytest.raises(LookupError, match="no database"):
        await stream.collect()
    assert provider.open == 0


@patient
async def test_while_a_person_decides_no_clock_but_total_runs(pace: float) -> None:
    async def decide(one: ToolCall) -> bool:
        await anyio.sleep(0.4 * pace)
        return True

    stream, _ = agent(DELETE, "done", tools=[double, delete], approve=decide, timeouts={"stall": 0.3 * pace})
    assert (await stream.collect()).text == "done"


# Saving


async def test_what_is_saved_is_never_computed_again() -> None:
    """Stop after each save in turn, and continue from the saved state."""
    ran: list[int] = []

    @tool
    async def work(n: int) -> str:
        ran.append(n)
        return f"result {n}"

    @tool(idempotent=True)
    async def again(n: int) -> str:
        return f"again {n}"

    answers = [calls(("work", '{"n": 0}'), ("again", '{"n": 1}')), calls(("work", '{"n": 2}')), "done"]
    states: list[AgentState] = []

    async def save(state: AgentState) -> None:
        states.append(AgentState.from_json(state.to_json()))

    stream, _ = agent(*answers, tools=[work, again], save=save)
    await stream.collect()
    assert len(states) == 6  # three answers, three results
    for state in tuple(states):
        ran.clear()
        left = answers[sum(message.role == "assistant" for message in state.messages) :]
        stream, provider = agent(*left or ["unused"], tools=[work, again], messages=state, save=save)
        answer = await stream.collect()
        contents = [message.text for message in stream.messages if message.role == "tool"]
        done = {message.text for message in state.messages if message.role == "tool"}
        assert contents[1:2] == ["again 1"]
        for n in (0, 2):
            interrupted = f"call_{0}" in state.begun and f"result {n}" not in done and n not in ran
            assert f"result {n}" in contents or (interrupted and any("Interrupted" in one for one in contents))
            assert not (f"result {n}" in done and n in ran)
        assert answer.complete
        assert answer.text == "done"
        assert len(provider.requests) == len(left)
    assert [state.complete for state in states].index(True) == 5


async def test_a_save_that_fails_ends_the_run_before_its_calls() -> None:
    count = 0

    @tool
    async def work() -> None:
        nonlocal count
        count += 1

    async def save(state: AgentState) -> None:
        raise OSError("disk full")

    stream, _ = agent(calls(("work", "{}")), tools=[work], save=save)
    with pytest.raises(OSError, match="disk full"):
        await stream.collect()
    assert count == 0


# Nesting


async def test_a_nested_run_has_a_path() -> None:
    inner = ScriptedProvider(calls(("double", '{"n": 4}')), "inner text", name="inner")

    @tool
    async def research(context: ToolContext) -> str:
        return (await context.forward(stream_agent(ASK, provider=inner, tools=[double]))).text

    stream, provider = agent(calls(("research", "{}")), "outer text", tools=[research])
    chunks = await read(stream)
    nested = [chunk for chunk in chunks if chunk.path]
    assert {chunk.path for chunk in nested} == {("research",)}
    assert kinds(nested)[:4] == ["step", "start", "text", "tool_call"]
    assert "".join(chunk.text for chunk in nested if chunk.kind == "text") == "Well. inner text"
    assert "".join(chunk.text for chunk in chunks if chunk.kind == "text" and not chunk.path) == "Well. outer text"
    assert results(provider.requests[1]) == ["inner text"]
    assert stream.partial.text == "outer text"
    stream, _ = agent(calls(("research", "{}")), "outer text", tools=[research])
    assert "".join([text async for text in stream.text()]) == "Well. outer text"


async def test_agents_inside_agents_end_somewhere() -> None:
    provider = ScriptedProvider(calls(("deeper", "{}")))

    @tool
    async def deeper(context: ToolContext) -> str:
        return (await context.forward(stream_agent(ASK, provider=provider, tools=[deeper], max_steps=1))).text

    stream = stream_agent(ASK, provider=provider, tools=[deeper], max_steps=1)
    chunks: list[Chunk] = []
    with pytest.raises(AgentLimitReached):
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401, RUF100  the chunks before the error count
    assert max(len(chunk.path) for chunk in chunks) == 4
    assert any("max_depth" in (chunk.tool_result.error or "") for chunk in chunks if chunk.tool_result)


# Ending


def _slow_tools() -> tuple[list[Tool], Callable[[], int]]:
    open_calls = 0

    @tool
    async def slow(n: int, context: ToolContext) -> int:
        nonlocal open_calls
        open_calls += 1
        try:
            for _ in range(10):
                context.progress("x")
                await anyio.lowlevel.checkpoint()
            return n
        finally:
            open_calls -= 1

    return [slow], lambda: open_calls


async def test_cancellation_at_every_await_leaves_nothing_open() -> None:
    asked = calls(("slow", '{"n": 1}'), ("slow", '{"n": 2}'))
    before = _tasks()
    for turns in range(200):
        tools, open_calls = _slow_tools()
        stream, provider = agent(asked, asked, "done", tools=tools)
        finished = False
        async with anyio.create_task_group() as group:

            async def cancel(scope: anyio.CancelScope, turns: int = turns) -> None:
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            with anyio.CancelScope() as scope:
                group.start_soon(cancel, scope)
                async with stream:
                    async for _ in stream:
                        pass
                finished = True
                group.cancel_scope.cancel()
            assert open_calls() == 0, turns
            assert provider.open == 0, turns
        if finished:
            break
    else:
        pytest.fail("the run never came to its end")
    assert turns > 20
    await eventually(lambda: _tasks() <= before, "the tasks to end")


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # trio
        return 0


async def test_leaving_the_stream_cancels_its_tools_before_the_next_statement() -> None:
    tools, open_calls = _slow_tools()
    stream, provider = agent(calls(("slow", '{"n": 1}')), "done", tools=tools)
    async with stream:
        async for chunk in stream:
            if chunk.kind == "tool_progress":
                assert open_calls() == 1
                break
    assert (open_calls(), provider.open) == (0, 0)
    assert not stream.partial.complete


@pytest.mark.parametrize("when", ["text", "tool_progress", "tool_result"])
async def test_stop_ends_the_run_well_where_it_is(when: str) -> None:
    tools, open_calls = _slow_tools()
    stream, provider = agent(calls(("slow", '{"n": 1}')), "done", tools=tools)
    chunks: list[Chunk] = []
    async with stream:
        async for chunk in stream:
            chunks.append(chunk)
            if chunk.kind == when:
                stream.stop()
        assert open_calls() == 0
    assert not stream.partial.complete
    assert len(provider.requests) == 1
    assert provider.open == 0


async def test_the_result_of_a_thread_is_dropped_when_the_reader_leaves() -> None:
    begun, release = threading.Event(), threading.Event()
    seen: list[bool] = []

    @tool
    def blocked(context: ToolContext) -> str:
        begun.set()
        release.wait(60)
        seen.append(context.cancelled)
        context.progress("late")
        return "late"

    stream, _ = agent(calls(("blocked", "{}")), "done", tools=[blocked])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.collect)
        await eventually(lambda: begun.is_set() and len(stream.messages) == 2, "only the tool runs")
        tasks.cancel_scope.cancel()
    release.set()
    await eventually(lambda: seen == [True], "the thread to end")
    assert [message.role for message in stream.messages] == ["user", "assistant"]


@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_calls_of_an_answer_with_another_finish_reason_run_if_they_are_whole(reason: FinishReason) -> None:
    finish = Chunk("finish", finish_reason=reason, raw_finish_reason=reason)
    stream, provider = agent([Chunk("start"), *call("double", '{"n": 4}'), finish], "done", tools=[double])
    await stream.collect()
    assert results(provider.requests[1]) == ["8"]


async def test_the_provider_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCORE_PROVIDER", "demo")
    answer = await stream_agent(ASK, tools=[double]).collect()
    assert answer.text.startswith("The tool says: ")
    stream = stream_agent(ASK, provider=ScriptedProvider([FINISH]), prompts_dir=".")
    assert "prompts_dir belongs to a prompt file" in str(await failure(stream))
