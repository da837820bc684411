"""Test the AG-UI encoder: any chunks make a valid run, to the last character, with one honest end."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import (
    Chunk,
    Completion,
    ConfigError,
    Opaque,
    RateLimitError,
    StreamInterrupted,
    ToolCall,
    ToolResult,
    Usage,
)
from streamcore.chunk import ChunkKind, FinishReason
from streamcore.sse.agui.encoder import AguiEncoder, AguiRun
from streamcore.sse.agui.encrypted_value import opaque_of
from streamcore.wire.encoding.wire import Problem
from tests.agui_support import checked, events_of, kinds, text_of, texts, user
from tests.sse_support import HOSTILE, RETURNS

FINISH = Chunk("finish", finish_reason="stop")


def problem(error: Exception) -> Problem:
    return Problem("failed", str(error), code=type(error).__name__)


def encoder(*, waits: bool = False, **run: Any) -> AguiEncoder:
    return AguiEncoder(AguiRun("t1", "r1", **run), problem, waits=waits)


def body(items: Sequence[Any], completion: Completion | None = None, **run: Any) -> bytes:
    one = encoder(**run)
    return b"".join([one.start(), *(one.feed([item]) for item in items), one.end(completion)])


def call(position: int, arguments: str, *, id: str | None = None, name: str | None = None, **more: Any) -> Chunk:  # noqa: A002
    return Chunk("tool_call", tool_call=ToolCall(id, name, arguments, position), **more)


def result(call_id: str, content: str = "ok", *, name: str = "look", path: tuple[str, ...] = ()) -> Chunk:
    return Chunk("tool_result", tool_result=ToolResult(call_id, name, content), path=path)


def test_a_text_is_one_message() -> None:
    found = checked(body([Chunk("start", model="m"), Chunk("text", "Hel"), Chunk("text", "lo"), FINISH]))
    assert kinds(found) == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert text_of(found) == "Hello"
    assert found[0] == {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}
    assert found[-1]["outcome"] == {"type": "success"}
    assert found[-1]["result"] == {"finishReason": "stop"}


def test_hostile_texts_arrive_to_the_last_character() -> None:
    pieces = [*HOSTILE, *RETURNS, "\0"]
    found = checked(body([*(Chunk("text", piece) for piece in pieces), FINISH]))
    assert [event["delta"] for event in found if event["type"] == "TEXT_MESSAGE_CONTENT"] == pieces


def test_half_of_a_surrogate_pair_is_an_escape() -> None:
    found = events_of(body([Chunk("text", "\ud83d"), Chunk("text", "\ude00"), FINISH]))
    assert text_of(found) == "\ud83d\ude00"


def test_reasoning_is_a_span_with_a_message_a_part() -> None:
    chunks = [
        Chunk("reasoning", data={"part": 0}),
        Chunk("reasoning", "One"),
        Chunk("reasoning", data={"part": 1}),
        Chunk("reasoning", "Two"),
        Chunk("text", "So"),
        FINISH,
    ]
    found = checked(body(chunks))
    assert kinds(found)[1:9] == [
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
    ]


def test_parallel_calls_belong_to_one_message_and_wait_for_the_client() -> None:
    chunks = [
        Chunk("text", "I look."),
        call(0, "", id="a", name="look"),
        call(1, '{"x":', id="b", name="look"),
        call(0, '{"x": 1}'),
        call(1, " 2}"),
        Chunk("finish", finish_reason="tool_calls"),
    ]
    found = checked(body(chunks))
    starts = [event for event in found if event["type"] == "TOOL_CALL_START"]
    message = next(event["messageId"] for event in found if event["type"] == "TEXT_MESSAGE_START")
    assert {event["toolCallId"] for event in starts} == {"a", "b"}
    assert {event["parentMessageId"] for event in starts} == {message}
    arguments = {
        one: "".join(e["delta"] for e in found if e["type"] == "TOOL_CALL_ARGS" and e["toolCallId"] == one)
        for one in "ab"
    }
    assert arguments == {"a": '{"x": 1}', "b": '{"x": 2}'}
    assert found[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["a", "b"]}


def test_a_call_without_id_or_with_a_known_one_gets_a_new_one() -> None:
    earlier = [user("Hi"), {"id": "m", "role": "assistant", "toolCalls": [{"id": "a"}]}]
    chunks = [
        call(0, "{}", id="a", name="look"),
        call(1, "{}", name="look"),
        Chunk("finish", finish_reason="tool_calls"),
        result("a"),
    ]
    found = checked(body(chunks, messages=earlier))
    ids = [event["toolCallId"] for event in found if event["type"] == "TOOL_CALL_START"]
    assert "a" not in ids
    assert len(set(ids)) == 2
    assert [event["toolCallId"] for event in found if event["type"] == "TOOL_CALL_RESULT"] == ids[:1]


def test_a_message_id_of_the_conversation_is_not_used_again() -> None:
    found = checked(body([Chunk("text", "x"), FINISH], messages=[user("Hi", "r1:1")]))
    assert [*texts(found)] == ["r1:2"]


def test_free_text_for_a_tool_becomes_json() -> None:
    part = Chunk("tool_call", tool_call=ToolCall("a", "run", 'say "hi"\n', 0, custom=True))
    found = checked(body([part, part, Chunk("finish", finish_reason="tool_calls")]))
    arguments = "".join(event["delta"] for event in found if event["type"] == "TOOL_CALL_ARGS")
    assert json.loads(arguments) == {"input": 'say "hi"\n' * 2}


def test_a_call_that_was_cut_by_a_limit_is_an_error() -> None:
    one = encoder()
    one.feed([call(0, '{"x": ', id="a", name="look"), Chunk("finish", finish_reason="length")])
    with pytest.raises(StreamInterrupted, match="'look'") as raised:
        one.end()
    assert kinds(events_of(one.error(raised.value))) == ["RUN_ERROR"]


def test_an_agent_is_steps_with_results() -> None:
    chunks = [
        Chunk("step", data={"step": 1}),
        Chunk("start", model="m"),
        call(0, '{"x": 1}', id="a", name="look"),
        Chunk("finish", finish_reason="tool_calls"),
        Chunk("usage", usage=Usage(10, 2)),
        Chunk("tool_progress", "half", tool_call=ToolCall("a", "look")),
        result("a", "sunny"),
        Chunk("step", data={"step": 2}),
        Chunk("start", model="m"),
        Chunk("text", "Sunny."),
        FINISH,
        Chunk("usage", usage=Usage(20, 3, cache_read_tokens=5)),
    ]
    found = checked(body(chunks, returned=frozenset()))
    assert [event["stepName"] for event in found if event["type"] == "STEP_STARTED"] == ["step 1", "step 2"]
    got = next(event for event in found if event["type"] == "TOOL_CALL_RESULT")
    assert (got["toolCallId"], got["content"]) == ("a", "sunny")
    progress = next(event for event in found if event["type"] == "CUSTOM")
    assert progress["value"] == {"toolCallId": "a", "name": "look", "progress": "half"}
    assert found[-1]["outcome"] == {"type": "success"}
    assert found[-1]["usage"] == [
        {"model": "m", "inputTokens": 30, "outputTokens": 5, "totalTokens": 35, "cachedInputTokens": 5}
    ]


def test_cached_tokens_that_a_vendor_counts_apart_are_added_to_the_prompt() -> None:
    usage = Usage(10, 1, 30, 5, raw={"cache_read_input_tokens": 30})
    found = checked(body([Chunk("start", usage=usage), Chunk("text", "x"), FINISH], model="served"))
    assert found[-1]["usage"] == [
        {
            "model": "served",
            "inputTokens": 45,
            "outputTokens": 1,
            "totalTokens": 46,
            "cachedInputTokens": 30,
            "cacheWriteInputTokens": 5,
        }
    ]


def test_calls_that_wait_for_approval_are_interrupts() -> None:
    asked = ToolCall("a", "delete", "{}")
    chunks = [call(0, "{}", id="a", name="delete"), Chunk("finish", finish_reason="tool_calls")]
    found = checked(body(chunks, Completion(pending=(asked,)), returned=frozenset()))
    (interrupt,) = found[-1]["outcome"]["interrupts"]
    assert (interrupt["id"], interrupt["reason"], interrupt["toolCallId"]) == ("a", "tool_call", "a")
    assert interrupt["responseSchema"]["required"] == ["approved"]


def test_a_nested_run_is_a_subagent() -> None:
    path = ("ask",)
    chunks = [
        call(0, "{}", id="a", name="ask"),
        Chunk("text", "Inner", path=path),
        call(0, "{}", id="b", name="look", path=path),
        result("b", path=path),
        Chunk("text", "Deep", path=("ask", "deep")),
        result("a", name="ask"),
        Chunk("text", "Again", path=path),
        FINISH,
    ]
    found = checked(body(chunks))
    started = [event for event in found if event["type"] == "SUBAGENT_STARTED"]
    assert [event["name"] for event in started] == ["ask", "deep", "ask"]
    assert started[1]["parentSubagentRunId"] == started[0]["subagentRunId"]
    assert len({event["subagentRunId"] for event in started}) == 3
    inner = next(event for event in found if event.get("delta") == "Inner")
    assert inner["subagentRunId"] == started[0]["subagentRunId"]


def test_an_answer_that_began_again_is_taken_back() -> None:
    chunks = [Chunk("text", "Wrong"), Chunk("restart"), Chunk("text", "Right"), FINISH]
    found = checked(body(chunks, messages=[user("Hi")]))
    snapshot = next(event for event in found if event["type"] == "MESSAGES_SNAPSHOT")
    assert snapshot["messages"] == [user("Hi")]
    assert [*texts(found).values()] == ["Wrong", "Right"]
    with pytest.raises(ConfigError, match="run_input"):
        body(chunks)


def test_earlier_steps_stay_when_an_answer_begins_again() -> None:
    chunks = [
        Chunk("step", data={"step": 1}),
        Chunk("text", "I look."),
        call(0, "{}", id="a", name="look"),
        result("a", "sunny"),
        Chunk("step", data={"step": 2}),
        Chunk("text", "Wro"),
        Chunk("restart"),
        Chunk("text", "Right"),
        FINISH,
    ]
    found = checked(body(chunks, messages=[user("Hi")]))
    (snapshot,) = [event["messages"] for event in found if event["type"] == "MESSAGES_SNAPSHOT"]
    assert [message["role"] for message in snapshot] == ["user", "assistant", "tool"]
    assert snapshot[1]["content"] == "I look."
    assert snapshot[1]["toolCalls"] == [
        {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ]
    assert (snapshot[2]["toolCallId"], snapshot[2]["content"]) == ("a", "sunny")


def test_the_result_of_an_earlier_runs_call_comes_after_the_conversation() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    earlier = [user("Hi"), {"id": "m", "role": "assistant", "toolCalls": calls}]
    found = checked(body([result("a"), Chunk("step", data={"step": 1}), Chunk("text", "x"), FINISH], messages=earlier))
    assert kinds(found)[1:3] == ["MESSAGES_SNAPSHOT", "TOOL_CALL_RESULT"]


@pytest.mark.parametrize(
    ("items", "completion", "outcome"),
    [
        ([Chunk("text", "x")], None, "cancelled"),
        ([Chunk("text", "x"), FINISH], None, "success"),
        ([Chunk("text", "x")], Completion("x", complete=False), "cancelled"),
        (["x", "y"], None, "success"),
        ([], None, "success"),
        ([{"type": "node_start", "node": "n"}], None, "cancelled"),
        ([FINISH, Chunk("step", data={"step": 2})], None, "cancelled"),
    ],
)
def test_a_run_that_was_stopped_is_cancelled(items: list[Any], completion: Completion | None, outcome: str) -> None:
    assert checked(body(items, completion))[-1]["outcome"]["type"] == outcome


def test_an_agent_that_was_stopped_before_its_next_answer_is_cancelled() -> None:
    chunks = [call(0, "{}", id="a", name="look"), Chunk("finish", finish_reason="tool_calls"), result("a")]
    assert checked(body(chunks, returned=frozenset()))[-1]["outcome"]["type"] == "cancelled"


def test_an_error_leaves_open_what_is_open() -> None:
    one = encoder()
    data = one.start() + one.feed([Chunk("text", "Hal"), Chunk("usage", usage=Usage(1, 2))])
    found = checked(data + one.error(StreamInterrupted("cut")))
    assert "TEXT_MESSAGE_END" not in kinds(found)
    assert (found[-1]["type"], found[-1]["message"], found[-1]["code"]) == ("RUN_ERROR", "cut", "StreamInterrupted")
    assert found[-1]["usage"] == [{"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}]


def test_with_waits_nothing_comes_before_the_first_content() -> None:
    one = encoder(waits=True)
    assert one.feed([Chunk("start"), Chunk("step", data={"step": 1}), Chunk("ping")]) == b""
    data = one.feed([Chunk("text", "x")]) + one.feed([FINISH]) + one.end()
    assert kinds(checked(data))[:3] == ["RUN_STARTED", "STEP_STARTED", "TEXT_MESSAGE_START"]
    refusal = encoder(waits=True).refusal(RateLimitError("slow", retry_after=3))
    assert (refusal.status, refusal.headers) == (500, {"retry-after": "3"})
    assert json.loads(refusal.body)["error"]["code"] == "RateLimitError"


def test_what_has_no_event_is_custom_or_raw() -> None:
    chunks = [
        Chunk("text", "x"),
        Chunk("citation", data={"url": "u"}),
        Chunk("other", event="odd", raw=b'{"a": 1}'),
        FINISH,
    ]
    found = checked(body(chunks))
    assert [event for event in found if event["type"] == "RAW"] == [{"type": "RAW", "event": {"a": 1}, "source": "odd"}]
    custom = next(event for event in found if event["type"] == "CUSTOM")
    assert custom["value"] == {"messageId": "r1:1", "citation": {"url": "u"}}
    assert "RAW" not in kinds(checked(body(chunks, raw=False)))


THINKING = {"type": "thinking", "thinking": "Hm", "signature": "s"}


def test_what_the_vendor_needs_again_is_kept_with_the_message() -> None:
    kept = Opaque("w", (THINKING, {"type": "text", "text": "x"}), {"reasoning": "Hm", "role": "system"}, "server")
    chunks = [Chunk("reasoning", "Hm"), Chunk("text", "x"), Chunk("finish", finish_reason="stop", opaque=kept)]
    found = checked(body(chunks))
    (event,) = [event for event in found if event["type"] == "REASONING_ENCRYPTED_VALUE"]
    assert (event["subtype"], event["entityId"]) == ("message", next(iter(texts(found))))
    assert opaque_of(event["encryptedValue"]) == Opaque("w", kept.items, {"reasoning": "Hm"}, "server")
    plain = Opaque("w", ({"type": "text", "text": "x"},), {"container": "c"})
    chunks[-1] = Chunk("finish", finish_reason="stop", opaque=plain)
    assert "REASONING_ENCRYPTED_VALUE" not in kinds(checked(body(chunks)))


@pytest.mark.parametrize("fields", [{"role": "system"}, {"container": "c", "model": "m"}])
def test_a_client_cannot_write_other_keys_of_the_vendors_request(fields: dict[str, str]) -> None:
    forged = json.dumps({"wire": "w", "items": [THINKING], "fields": fields, "source": None}).encode()
    assert opaque_of(base64.b64encode(forged).decode()) == Opaque("w", (THINKING,), {})
    for broken in ("", "x", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"wire": 1}').decode()):
        assert opaque_of(broken) is None


BROKEN = ['{"city": "Par', '{"city": Paris}', "{'city': 1}", '{"city": "a\nb"}', '{"a": 1}{"a": 2}', "Paris"]


@pytest.mark.parametrize("arguments", BROKEN)
@pytest.mark.parametrize("size", [1, 100])
def test_a_call_with_broken_arguments_that_ran_here_is_valid_json(arguments: str, size: int) -> None:
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    chunks = [
        Chunk("step", data={"step": 1}),
        *(Chunk("tool_call", tool_call=ToolCall("c1", "look", piece)) for piece in pieces),
        Chunk("finish", finish_reason="tool_calls"),
        Chunk("tool_result", tool_result=ToolResult("c1", "look", "Error: no JSON", "no JSON")),
        Chunk("step", data={"step": 2}),
        Chunk("text", "Sorry."),
        FINISH,
    ]
    found = checked(body(chunks))
    sent = json.loads("".join(one["delta"] for one in found if one["type"] == "TOOL_CALL_ARGS"))
    assert sent.get("INVALID_JSON", arguments) == arguments
    assert found[-1]["type"] == "RUN_FINISHED"


@pytest.mark.parametrize("arguments", BROKEN)
def test_a_call_with_broken_arguments_is_not_left_to_the_client(arguments: str) -> None:
    one = encoder()
    data = one.start()
    data += one.feed([Chunk("tool_call", tool_call=ToolCall("c1", "look", arguments))])
    data += one.feed([Chunk("finish", finish_reason="tool_calls")])
    with pytest.raises(StreamInterrupted, match="arguments of a call of 'look'") as raised:
        one.end()
    found = checked(data + one.error(raised.value))
    assert "TOOL_CALL_END" not in kinds(found)
    assert found[-1]["type"] == "RUN_ERROR"


def test_a_restart_within_arguments_leaves_valid_json() -> None:
    chunks = [
        Chunk("tool_call", tool_call=ToolCall("c1", "look", '{"city": ["Par')),
        Chunk("restart"),
        Chunk("text", "Hello."),
        FINISH,
    ]
    found = checked(body(chunks, messages=[user("Hi")]))
    assert found[-1]["type"] == "RUN_FINISHED"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
PATHS = st.sampled_from([(), (), (), ("look",), ("look", "inner")])
REASONS = st.sampled_from([*get_args(FinishReason), None])


@st.composite
def any_chunk(draw: st.DrawFn) -> Chunk:
    """Return a chunk of any kind, as odd as the types allow."""
    kind: ChunkKind = draw(st.sampled_from([*get_args(ChunkKind), "text", "tool_call", "tool_call"]))
    more: dict[str, Any] = {"path": draw(PATHS), "choice": draw(st.sampled_from([0, 0, 0, 1]))}
    ids = st.sampled_from(["a", "b", "r1:1", None])
    names = st.sampled_from(["look", "ask", None])
    match kind:
        case "text" | "reasoning" | "refusal":
            data = draw(st.sampled_from([None, {"part": 1}]))
            return Chunk(kind, draw(TEXT), data=data, **more)
        case "tool_call":
            arguments = draw(st.sampled_from(["", " ", '{"x": 1}', "[]", '{"x": "a', '{"x": b}', "Paris", ', "y"]}']))
            return Chunk(kind, tool_call=ToolCall(draw(ids), draw(names), arguments, draw(st.integers(0, 2))), **more)
        case "tool_progress":
            return Chunk(kind, draw(TEXT), tool_call=ToolCall(draw(ids), "look"), **more)
        case "tool_result":
            found = ToolResult(draw(st.sampled_from(["a", "b"])), draw(names) or "look", draw(TEXT))
            return Chunk(kind, tool_result=found, **more)
        case "usage" | "start":
            return Chunk(kind, usage=draw(st.sampled_from([None, Usage(1, 2), Usage(1, None, 4)])), model="m", **more)
        case "finish":
            return Chunk(kind, finish_reason=draw(REASONS), **more)
        case "step":
            return Chunk(kind, data={"step": draw(st.integers(1, 3))}, **more)
        case "citation":
            return Chunk(kind, data={"url": draw(TEXT)}, **more)
        case _:
            return Chunk(kind, raw=draw(st.sampled_from([b"{}", b"broken", None])), **more)


ALLOWED = ("AGUI207",)
"""Results may have no call: that is what the chunks say."""


@settings(max_examples=40)
@given(st.lists(any_chunk(), max_size=16), st.sampled_from([None, [user("Hi")]]), st.booleans())
def test_any_chunks_are_a_valid_run(chunks: list[Chunk], messages: Any, waits: bool) -> None:
    one = encoder(messages=messages, waits=waits)
    data = b"" if waits else one.start()
    try:
        for chunk in chunks:
            data += one.feed([chunk])
        data += one.end()
    except (ConfigError, StreamInterrupted) as error:
        data += one.error(error)
    found = checked(data, allowed=ALLOWED)
    assert found[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR")
    if found[-1]["type"] == "RUN_FINISHED":
        said = "".join(chunk.text for chunk in chunks if chunk.kind in ("text", "refusal"))
        assert sorted(text_of(found)) == sorted(said)


@given(st.lists(TEXT, max_size=12))
def test_any_texts_in_any_pieces_arrive_as_they_are(pieces: list[str]) -> None:
    found = checked(body([*(Chunk("text", piece) for piece in pieces), FINISH]))
    assert text_of(found) == "".join(pieces)
