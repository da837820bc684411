"""Test the Responses decoder with what the API and its imitators send: each text once, and one honest ending."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamcore.chunk import Chunk, FinishReason, Opaque, ToolCall, Usage
from streamcore.completion import Completion
from streamcore.errors import (
    BadRequestError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
)
from streamcore.wire.decoder import StreamDecoder
from streamcore_openai.responses_wire import ResponsesVocabulary
from tests.wire.support import failure_of, folded, kinds

WIRE = "openai-responses"
Fields = dict[str, Any]

TEXT = "response.output_text"
REFUSAL = "response.refusal"
SUMMARY = "response.reasoning_summary_text"
THOUGHT = "response.reasoning_text"
ANNOTATION = "response.output_text.annotation.added"
ARGUMENTS = "response.function_call_arguments"
INPUT = "response.custom_tool_call_input"


def event(kind: str, index: int | None = None, **more: Any) -> Fields:
    return {"type": kind} | ({} if index is None else {"output_index": index}) | more


def piece(kind: str, words: str, index: int | None = 0, part: int = 0, **more: Any) -> Fields:
    """Return the delta of a text; a summary counts its parts under another name."""
    return event(kind + ".delta", index, delta=words, **{_part_name(kind): part}, **more)


def whole(kind: str, words: str, index: int | None = 0, part: int = 0, **more: Any) -> Fields:
    """Return the event that repeats a finished text."""
    field = "refusal" if kind == REFUSAL else "text"
    return event(kind + ".done", index, **{field: words, _part_name(kind): part}, **more)


def _part_name(kind: str) -> str:
    return "summary_index" if kind == SUMMARY else "content_index"


def added(index: int | None, **item: Any) -> Fields:
    return event("response.output_item.added", index, item=item)


def done(index: int | None, **item: Any) -> Fields:
    return event("response.output_item.done", index, item=item)


def message(*words: str, **more: Any) -> Fields:
    """Return a whole `message` item with a part for each text."""
    return {"type": "message", "content": [{"type": "output_text", "text": text} for text in words], **more}


def function(arguments: str = "", name: str = "add", call_id: str | None = "c1", **more: Any) -> Fields:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **more}


def ended(kind: str = "completed", **response: Any) -> Fields:
    return event(f"response.{kind}", response={"id": "resp_1", "model": "m1", "status": kind, **response})


CREATED = event("response.created", response={"id": "resp_1", "model": "m1", "status": "in_progress", "output": []})
END = ended()


def data(value: object) -> bytes:
    return json.dumps(value).encode()


def sse(*events: Fields | str) -> bytes:
    return b"".join(
        b"data: %s\n\n" % value.encode()
        if isinstance(value, str)
        else b"event: %s\ndata: %s\n\n" % (str(value.get("type")).encode(), data(value))
        for value in events
    )


def read(*events: Fields | str) -> list[Chunk]:
    return StreamDecoder(ResponsesVocabulary()).feed(sse(*events))


def fold(*events: Fields | str) -> Completion:
    """Return what a properly ended stream of these events says."""
    return folded(ResponsesVocabulary(), sse(*events))


def failure(body: bytes) -> StreamcoreError:
    return failure_of(ResponsesVocabulary(request_id="req-1"), body)


def texts(chunks: list[Chunk]) -> list[tuple[str, int, str]]:
    return [(chunk.kind, chunk.index, chunk.text) for chunk in chunks if chunk.text]


def others(chunks: list[Chunk]) -> list[tuple[str | None, bytes | None]]:
    return [(chunk.event, chunk.raw) for chunk in chunks if chunk.kind == "other"]


# A whole response


def test_a_plain_answer_with_everything_that_frames_it() -> None:
    part = {"type": "output_text", "text": "Hello"}
    decoder = StreamDecoder(ResponsesVocabulary(request_id="req-1"))
    chunks = decoder.feed(
        sse(
            CREATED,
            event("response.in_progress", response={"id": "resp_1"}),
            added(0, type="message", id="m", content=[]),
            event("response.content_part.added", 0, content_index=0, part={"type": "output_text", "text": ""}),
            piece(TEXT, "Hel", item_id="m"),
            piece(TEXT, "lo", item_id="m"),
            whole(TEXT, "Hello", item_id="m"),
            event("response.content_part.done", 0, content_index=0, part=part),
            done(0, **message("Hello", id="m")),
            ended(output=[message("Hello", id="m")], usage={"input_tokens": 3, "output_tokens": 2}),
        )
    )
    decoder.close()
    assert chunks == [
        Chunk("start", id="resp_1", model="m1", request_id="req-1"),
        Chunk("text", text="Hel"),
        Chunk("text", text="lo"),
        Chunk("finish", finish_reason="stop", raw_finish_reason="completed"),
        Chunk("usage", usage=Usage(3, 2, raw={"input_tokens": 3, "output_tokens": 2})),
    ]


def test_events_without_a_name_are_known_by_their_type() -> None:
    body = b"".join(b"data: " + data(value) + b"\n\n" for value in (CREATED, piece(TEXT, "a"), END))
    assert kinds(StreamDecoder(ResponsesVocabulary()).feed(body)) == ["start", "text", "finish"]


def test_events_without_a_type_are_known_by_their_name() -> None:
    body = b"".join(
        b"event: %s\ndata: %s\n\n" % (value["type"].encode(), data({k: v for k, v in value.items() if k != "type"}))
        for value in (CREATED, piece(TEXT, "a"), END)
    )
    assert kinds(StreamDecoder(ResponsesVocabulary()).feed(body)) == ["start", "text", "finish"]


@pytest.mark.parametrize("first", ["response.created", "response.queued", "response.in_progress"])
def test_the_first_event_with_a_response_starts_it(first: str) -> None:
    chunks = read(event(first, response={"id": "resp_1", "model": "m1"}), CREATED, piece(TEXT, "a"))
    assert chunks[0] == Chunk("start", id="resp_1", model="m1")
    assert kinds(chunks) == ["start", "text"]


def test_a_resumed_stream_has_no_beginning() -> None:
    answer = fold(piece(TEXT, "a"), END)
    assert (answer.text, answer.id, answer.model) == ("a", "resp_1", "m1")


# Texts


@pytest.mark.parametrize(
    ("kind", "normal"), [(TEXT, "text"), (REFUSAL, "refusal"), (SUMMARY, "reasoning"), (THOUGHT, "reasoning")]
)
def test_texts_come_by_delta(kind: str, normal: str) -> None:
    chunks = read(piece(kind, "a", 2), piece(kind, "", 2), piece(kind, "b", 2), whole(kind, "ab", 2))
    assert texts(chunks) == [(normal, 2, "a"), (normal, 2, "b")]
    assert len(chunks) == 2


@pytest.mark.parametrize(
    ("kind", "normal"), [(TEXT, "text"), (REFUSAL, "refusal"), (SUMMARY, "reasoning"), (THOUGHT, "reasoning")]
)
def test_a_finished_text_is_used_if_no_delta_was_sent(kind: str, normal: str) -> None:
    assert texts(read(whole(kind, "ab", 2), whole(kind, "ab", 2))) == [(normal, 2, "ab")]


def test_each_part_counts_for_itself() -> None:
    chunks = read(
        piece(TEXT, "a", 0, 0), whole(TEXT, "a", 0, 0), whole(TEXT, "b", 0, 1), piece(SUMMARY, "c", 1, 0),
        whole(SUMMARY, "c", 1, 0), whole(SUMMARY, "d", 1, 1), whole(TEXT, "e", 2, 0),
    )  # fmt: skip
    assert "".join(text for _, _, text in texts(chunks)) == "abcde"


REASONING = {
    "type": "reasoning",
    "id": "r",
    "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
}
RAW_REASONING = {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "ab"}]}
REFUSED = {"type": "message", "id": "m", "content": [{"type": "refusal", "refusal": "ab"}]}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param(message("a", "b"), [("text", 3, "a"), ("text", 3, "b")], id="a message of two parts"),
        pytest.param(REFUSED, [("refusal", 3, "ab")], id="a refusal"),
        pytest.param(REASONING, [("reasoning", 3, "a"), ("reasoning", 3, "b")], id="a summary of two parts"),
        pytest.param(RAW_REASONING, [("reasoning", 3, "ab")], id="raw reasoning"),
        pytest.param(message(), [], id="no part"),
        pytest.param({"type": "message"}, [], id="no content"),
        pytest.param({"type": "message", "content": None}, [], id="null"),
        pytest.param({"type": "message", "content": ["a", {"text": 5}, {}]}, [], id="odd parts"),
        pytest.param({"type": "reasoning", "id": "r", "summary": []}, [], id="reasoning that is kept secret"),
    ],
)
def test_a_finished_item_is_used_if_no_delta_was_sent(item: Fields, expected: list[tuple[str, int, str]]) -> None:
    chunks = read(added(3, type=item["type"]), done(3, **item))
    assert texts(chunks) == expected
    assert others(chunks) == []


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param([piece(TEXT, "Hello")], id="a delta"),
        pytest.param([piece(TEXT, "Hello", part=4)], id="a delta that counts its part otherwise"),
        pytest.param([whole(TEXT, "Hello")], id="a finished text"),
        pytest.param([piece(TEXT, "Hello"), whole(TEXT, "Hello")], id="both"),
    ],
)
def test_streamed_text_is_not_repeated(stream: list[Fields]) -> None:
    item = message("Hello", id="m")
    assert fold(CREATED, *stream, done(0, **item), ended(output=[item])).text == "Hello"


def test_a_server_may_send_the_whole_response_only() -> None:
    output = [RAW_REASONING, message("Hello"), function('{"x":1}')]
    answer = fold(CREATED, ended(output=output))
    assert (answer.reasoning, answer.text) == ("ab", "Hello")
    assert answer.tool_calls == (ToolCall("c1", "add", '{"x":1}'),)
    assert answer.finish_reason == "tool_calls"


def test_logprobs_are_other_chunks_after_their_text() -> None:
    probable = piece(TEXT, "b", logprobs=[{"token": "b", "logprob": -0.1}])
    chunks = read(piece(TEXT, "a", logprobs=[]), probable, piece(TEXT, "c", logprobs=None))
    assert texts(chunks) == [("text", 0, "a"), ("text", 0, "b"), ("text", 0, "c")]
    assert others(chunks) == [(TEXT + ".delta", data(probable))]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(piece(TEXT, "b"), [("text", 0, "b")], id="a token"),
        pytest.param(piece(TEXT, "b", 1), [("text", 1, "b")], id="another item"),
        pytest.param(piece(TEXT, "b", 0, 1), [("text", 0, "b")], id="another part"),
        pytest.param(piece(THOUGHT, "b"), [("reasoning", 0, "b")], id="another kind"),
        pytest.param(piece(TEXT, ""), [], id="no text"),
        pytest.param(event(TEXT + ".delta", 0, content_index=0, delta=None), [("other", 0, "")], id="null"),
        pytest.param(event(TEXT + ".delta", 0, content_index=0, delta={"a": 1}), [("other", 0, "")], id="an object"),
        pytest.param(event("response.news", 0, content_index=0, delta="b"), [("other", 0, "")], id="another event"),
        pytest.param(event("error", 0, delta="b"), [], id="an error"),
    ],
)
def test_among_tokens_nothing_is_overlooked(value: Fields, expected: list[tuple[str, int, str]]) -> None:
    chunks = read(piece(TEXT, "a"), value, piece(TEXT, "z"), whole(TEXT, "ignored"), whole(TEXT, "ignored", 0, 1))
    found = [(chunk.kind, chunk.index, chunk.text) for chunk in chunks]
    ignored = [] if value["type"] == "error" else [("text", 0, "z")]
    if ignored and value.get("content_index") != 1:
        ignored.append(("text", 0, "ignored"))  # the second part, of which no delta came
    assert found == [("text", 0, "a"), *expected, *ignored]


# Citations

CITATION = {"type": "url_citation", "url": "https://example.org", "start_index": 0, "end_index": 1}


def cited() -> Fields:
    return {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "a", "annotations": [CITATION]}]}


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(
            [event(TEXT + ".annotation.added", 1, annotation=CITATION), done(1, **cited())], id="as they come"
        ),
        pytest.param([done(1, **cited())], id="with the finished item only"),
        pytest.param([ended(output=[{"type": "reasoning"}, cited()])], id="with the response only"),
    ],
)
def test_citations_are_passed_on_once(stream: list[Fields]) -> None:
    chunks = read(CREATED, *stream, END)
    assert [(chunk.index, chunk.data) for chunk in chunks if chunk.kind == "citation"] == [(1, CITATION)]


# Tool calls


def streamed(*pieces: str, index: int | None = 0, kind: str = ARGUMENTS, **more: Any) -> list[Fields]:
    return [event(kind + ".delta", index, delta=text, **more) for text in pieces]


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param([added(0, **function()), *streamed('{"x"', "", ":1}")], id="by deltas"),
        pytest.param(
            [
                added(0, **function()),
                *streamed('{"x"', ":1}"),
                event(ARGUMENTS + ".done", 0, arguments='{"x":1}'),
                done(0, **function('{"x":1}')),
            ],
            id="by deltas, then whole twice",
        ),
        pytest.param([added(0, **function()), event(ARGUMENTS + ".done", 0, arguments='{"x":1}')], id="whole"),
        pytest.param([added(0, **function()), done(0, **function('{"x":1}'))], id="with the finished item"),
        pytest.param([done(0, **function('{"x":1}'))], id="with the finished item, which nothing announced"),
        pytest.param([ended(output=[function('{"x":1}')])], id="with the response"),
        pytest.param([added(0, **function('{"x":1}')), done(0, **function('{"x":1}'))], id="announced with arguments"),
    ],
)
def test_arguments_are_passed_on_once(stream: list[Fields]) -> None:
    answer = fold(CREATED, *stream, END)
    assert answer.tool_calls == (ToolCall("c1", "add", '{"x":1}'),)
    assert (answer.finish_reason, answer.raw_finish_reason) == ("tool_calls", "completed")
    first, *rest = [chunk.tool_call for chunk in read(CREATED, *stream, END) if chunk.tool_call]
    assert first == ToolCall("c1", "add", "")
    assert "" not in [call.arguments for call in rest]


def test_a_call_without_arguments_is_one() -> None:
    answer = fold(added(0, **function()), done(0, **function()), END)
    assert answer.tool_calls == (ToolCall("c1", "add", ""),)
    assert answer.tool_calls[0].parse() == {}


def test_arguments_without_a_call_are_other_until_the_item_is_known() -> None:
    stray = event(ARGUMENTS + ".delta", 0, delta="{}")
    chunks = read(stray, done(0, **function("{}")))
    assert others(chunks) == [(ARGUMENTS + ".delta", data(stray))]
    assert [chunk.tool_call for chunk in chunks[1:]] == [ToolCall("c1", "add", ""), ToolCall("c1", "add", "{}")]


@pytest.mark.parametrize(
    "stray",
    [
        event("response.news.delta", 0, delta="x"),
        event(ARGUMENTS + ".delta", 0, delta={"x": 1}),
        event(ARGUMENTS + ".delta", 0, delta=None),
    ],
)
def test_invalid_arguments_are_other_chunks(stray: Fields) -> None:
    chunks = read(added(0, **function()), stray, done(0, **function("{}")))
    assert others(chunks) == [(stray["type"], data(stray))]
    assert [chunk.tool_call.arguments for chunk in chunks if chunk.tool_call] == ["", "{}"]


def test_parallel_calls_count_from_0_whatever_their_items() -> None:
    chunks = read(
        added(1, **function(call_id="a")),
        added(4, **function(call_id="b", name="mul")),
        *streamed("{", index=4),
        *streamed("{}", index=1),
        *streamed("}", index=4),
    )
    assert [(chunk.index, chunk.tool_call) for chunk in chunks] == [
        (1, ToolCall("a", "add", "", 0)),
        (4, ToolCall("b", "mul", "", 1)),
        (4, ToolCall("b", "mul", "{", 1)),
        (1, ToolCall("a", "add", "{}", 0)),
        (4, ToolCall("b", "mul", "}", 1)),
    ]


def test_the_id_that_the_answer_needs_is_the_call_id() -> None:
    call = function("{}", call_id="c1", id="fc_1")
    assert fold(added(0, **call), done(0, **call), END).tool_calls[0].id == "c1"
    lonely = function("{}", call_id=None, id="fc_1")
    assert fold(done(0, **lonely), END).tool_calls[0].id == "fc_1"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(streamed("SELECT ", "1", kind=INPUT), id="by deltas"),
        pytest.param([event(INPUT + ".done", 0, input="SELECT 1")], id="whole"),
        pytest.param([], id="with the finished item"),
    ],
)
def test_custom_tools_have_free_text(stream: list[Fields]) -> None:
    item = {"type": "custom_tool_call", "call_id": "c1", "name": "sql"}
    events = [added(0, **item, input=""), *stream, done(0, **item, input="SELECT 1"), END]
    pieces = [value.get("delta") or value["input"] for value in stream] or ["SELECT 1"]
    chunks = read(*events)
    assert kinds(chunks) == [*["tool_call"] * (1 + len(pieces)), "start", "finish"]
    assert [chunk.tool_call.arguments for chunk in chunks if chunk.tool_call] == ["", *pieces]
    answer = fold(*events)
    assert answer.tool_calls == (ToolCall("c1", "sql", "SELECT 1", custom=True),)
    assert answer.finish_reason == "tool_calls"
    assert answer.to_message().opaque == Opaque(WIRE, ({**item, "input": "SELECT 1"},))


# Servers that leave output_index out


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(True, id="but name the item"),
        pytest.param(False, id="and the item's id too"),
    ],
)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "unannounced"])
def test_items_without_output_index_stay_apart(ids: bool, announced: bool) -> None:
    def own(item: str) -> Fields:
        return {"id": item} if ids else {}

    def of(item: str) -> Fields:
        return {"item_id": item} if ids else {}

    stream: list[Fields] = [
        added(None, type="reasoning", **own("r")),
        piece(THOUGHT, "ab", None, **of("r")),
        done(None, **{**RAW_REASONING, "id": "r"} if ids else {k: v for k, v in RAW_REASONING.items() if k != "id"}),
        added(None, type="message", **own("m1")),
        piece(TEXT, "one", None, **of("m1")),
        whole(TEXT, "one", None, **of("m1")),
        done(None, **message("one", **own("m1"))),
        added(None, type="message", **own("m2")),
        piece(TEXT, "two", None, **of("m2")),
        done(None, **message("two", **own("m2"))),
        added(None, **function(**own("f1"), call_id="c1")),
        *streamed("{}", index=None, **of("f1")),
        done(None, **function("{}", **own("f1"), call_id="c1")),
        added(None, **function(**own("f2"), call_id="c2")),
        *streamed("[", "]", index=None, **of("f2")),
        event(ARGUMENTS + ".done", None, arguments="[]", **of("f2")),
        done(None, **function("[]", **own("f2"), call_id="c2")),
    ]
    if not announced:
        calls = ("response.function_call_arguments.delta", "response.function_call_arguments.done")
        stream = [value for value in stream if value["type"] not in ("response.output_item.added", *calls)]
    chunks = read(CREATED, *stream, END)
    assert texts(chunks) == [("reasoning", 0, "ab"), ("text", 1, "one"), ("text", 2, "two")]
    answer = fold(CREATED, *stream, END)
    assert [(call.id, call.arguments) for call in answer.tool_calls] == [("c1", "{}"), ("c2", "[]")]
    assert others(chunks) == []


def test_only_some_events_may_have_an_output_index() -> None:
    item = message("Hello", id="m")
    events = [
        added(2, type="message", id="m"),
        piece(TEXT, "Hel", None, item_id="m"),
        piece(TEXT, "lo", 2, item_id="m"),
        whole(TEXT, "Hello", None, item_id="m"),
        done(2, **item),
        piece(TEXT, "!", None, item_id="n"),
    ]
    assert texts(read(*events)) == [("text", 2, "Hel"), ("text", 2, "lo"), ("text", 3, "!")]


def test_a_text_may_leave_its_part_out() -> None:
    chunks = read(event(TEXT + ".delta", 0, delta="a"), whole(TEXT, "a", 0, 0), event(TEXT + ".done", 0, text="a"))
    assert texts(chunks) == [("text", 0, "a")]


def test_interleaved_calls_without_output_index_stay_apart() -> None:
    answer = fold(
        added(None, **function(id="f1", call_id="a")),
        added(None, **function(id="f2", call_id="b")),
        *streamed("{", index=None, item_id="f1"),
        *streamed("[]", index=None, item_id="f2"),
        *streamed("}", index=None, item_id="f1"),
        done(None, **function("[]", id="f2", call_id="b")),
        done(None, **function("{}", id="f1", call_id="a")),
        END,
    )
    assert [(call.id, call.arguments) for call in answer.tool_calls] == [("a", "{}"), ("b", "[]")]


# Opaque data


def test_encrypted_reasoning_is_sent_back_with_all_items() -> None:
    reasoning: Fields = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "gAAAA"}
    answer_item, call = message("Hello", id="m"), function("{}", id="f")
    events = [
        CREATED,
        added(0, type="reasoning", id="r", summary=[], encrypted_content="gAA"),
        done(0, **reasoning),
        piece(TEXT, "Hello", 1),
        done(1, **answer_item),
        done(2, **call),
        END,
    ]
    opaque = [(chunk.kind, chunk.index, chunk.opaque) for chunk in read(*events) if chunk.opaque]
    assert opaque == [
        ("reasoning", 0, Opaque(WIRE, (reasoning,))),
        ("finish", 0, Opaque(WIRE, (reasoning, answer_item, call))),
    ]
    turn = fold(*events).to_message()
    assert turn.opaque == Opaque(WIRE, (reasoning, answer_item, call))
    assert (turn.content, turn.tool_calls) == ("Hello", (ToolCall("c1", "add", "{}"),))


def test_reasoning_without_encryption_is_sent_back_by_its_id() -> None:
    reasoning: Fields = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": None}
    events = [done(1, **message("Hello")), done(0, **reasoning), END]
    assert [chunk.kind for chunk in read(*events) if chunk.opaque] == ["finish"]
    assert fold(*events).opaque == Opaque(WIRE, (reasoning, message("Hello")))


def test_messages_and_calls_alone_need_nothing_opaque() -> None:
    assert fold(done(0, **message("Hello")), done(1, **function("{}")), END).to_message().opaque is None


# What has no normal form


@pytest.mark.parametrize("kind", ["keepalive", "ping", "response.keepalive"])
def test_keepalives_are_pings(kind: str) -> None:
    assert read(event(kind, sequence_number=3)) == [Chunk("ping")]


@pytest.mark.parametrize(
    "kind",
    [
        "response.in_progress",
        "response.queued",
        "response.content_part.added",
        "response.content_part.done",
        "response.reasoning_part.added",
        "response.reasoning_part.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
    ],
)
def test_events_without_content_give_no_chunks(kind: str) -> None:
    assert read(event(kind, 0, part={"type": "output_text", "text": "a"})) == []


@pytest.mark.parametrize(
    "value",
    [
        event("response.web_search_call.searching", 3, item_id="w"),
        event("response.apply_patch_call_operation_diff.delta", 3, delta="+a"),
        event("response.image_generation_call.partial_image", 3, partial_image_b64="x"),
        event(ANNOTATION, 3, annotation="u"),
        event("response.output_item.added", 3),
        event(TEXT + ".delta", 3),
        event(ARGUMENTS + ".delta", 3, delta="{}"),
        event("news_of_2030", 3),
    ],
)
def test_events_without_a_normal_form_pass_as_exactly_one_other(value: Fields) -> None:
    assert read(value) == [Chunk("other", event=value["type"], index=3, raw=data(value))]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "w", "status": "completed", "action": {"query": "x"}},
        {"type": "compaction", "id": "w", "encrypted_content": "gAAAA"},
        {"type": "mcp_call", "id": "w", "name": "echo", "arguments": "{}", "output": "x"},
        {"type": "news_of_2030", "id": "w", "content": [{"text": "a"}]},
    ],
)
def test_items_without_a_normal_form_pass_as_other_and_go_back(item: Fields) -> None:
    events = [added(0, type=item["type"], id="w"), done(0, **item), done(1, **message("a")), END]
    assert kinds(read(*events)) == ["other", "other", "text", "start", "finish"]
    assert others(read(*events)) == [(item["type"], data(events[0])), (item["type"], data(events[1]))]
    answer = fold(*events)
    assert (answer.text, answer.tool_calls, answer.finish_reason) == ("a", (), "stop")
    assert answer.opaque == Opaque(WIRE, (item, message("a")))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":5}',
        "{}",
        "[]",
        "5",
        '{"type":"news","x":1e400,"output_index":"x"}',
        '{"type":"response.output_item.done","output_index":0,"item":5}',
        '{"type":"response.output_item.done","output_index":0,"item":{}}',
        '{"type":"response.output_item.done","output_index":0,"item":{"type":["message"]}}',
    ],
)
def test_misfits_pass_as_exactly_one_other_as_they_were(text: str) -> None:
    chunks = read(piece(TEXT, "a"), text, piece(TEXT, "b"))
    assert kinds(chunks) == ["text", "other", "text"]
    assert chunks[1].raw == text.encode()


def test_an_event_without_name_and_type_has_none() -> None:
    assert read('{"a": 1}') == [Chunk("other", raw=b'{"a": 1}')]


def test_fields_of_odd_types_cost_no_text() -> None:
    odd = {"item_id": 5, "logprobs": None, "sequence_number": "x", "text": 7, "summary_index": "x"}
    chunks = read({**piece(TEXT, "a", 2), **odd})
    assert texts(chunks) == [("text", 2, "a")]
    assert others(chunks) == []


EVERY_EVENT = [
    CREATED,
    added(0, type="message", id="m"),
    piece(TEXT, "a"),
    piece(SUMMARY, "a", 1, 1),
    piece(THOUGHT, "a", 2),
    piece(REFUSAL, "a", 3),
    piece(TEXT, "a", None, item_id="m"),
    piece(TEXT, "a", logprobs=[{"token": "a"}]),
    whole(TEXT, "a", 4),
    whole(REFUSAL, "a", 5),
    event(ANNOTATION, 0, annotation=CITATION),
    added(6, **function(id="f")),
    *streamed("{", index=6),
    event(ARGUMENTS + ".done", 6, arguments="{}"),
    done(7, **function("{}", call_id="c2")),
    added(8, type="custom_tool_call", call_id="c3"),
    event(INPUT + ".done", 8, input="x"),
    done(9, type="reasoning", encrypted_content="x"),
    event("response.web_search_call.searching", 3),
    event("keepalive"),
    event("response.in_progress", response={"id": "r"}),
    ended(usage={"input_tokens": 1}, output=[]),
]


@pytest.mark.parametrize("number", range(len(EVERY_EVENT)))
def test_an_event_of_a_wrong_shape_gives_the_same_chunks(number: int) -> None:
    value = EVERY_EVENT[number]
    unread = next(name for name in ("arguments", "refusal") if name not in value)
    misfit = {**value, unread: 5, "sequence_number": float("nan")}
    before, after = EVERY_EVENT[:number], EVERY_EVENT[number + 1 :]
    fitting = [replace(chunk, raw=None) for chunk in read(*before, value, *after)]
    assert [replace(chunk, raw=None) for chunk in read(*before, misfit, *after)] == fitting


def test_lone_surrogates_are_replaced_in_items_too() -> None:
    assert texts(read(done(0, **message("a\ud83d b")))) == [("text", 0, "a\ufffd b")]
    assert texts(read(ended(output=[message("a\ud83d b")]))) == [("text", 0, "a\ufffd b")]


# Usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 3, "output_tokens": 5}, (3, 5, None, None, None)),
        ({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}, (3, None, 2, None, None)),
        ({"input_tokens": 3, "input_tokens_details": {"cache_write_tokens": 0}}, (3, None, None, 0, None)),
        ({"output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 4}}, (None, 5, None, None, 4)),
        ({"input_tokens": 3, "input_tokens_details": None, "output_tokens_details": [1]}, (3, None, None, None, None)),
    ],
)
@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_usage_has_a_normal_form(usage: Fields, expected: tuple[int | None, ...], kind: str) -> None:
    found = fold(ended(kind, usage=usage)).usage
    assert found is not None
    assert (
        found.input_tokens,
        found.output_tokens,
        found.cache_read_tokens,
        found.cache_write_tokens,
        found.reasoning_tokens,
    ) == expected
    assert found.raw == usage


@pytest.mark.parametrize("usage", [None, {}, 5])
def test_no_usage_is_none(usage: object) -> None:
    assert fold(ended(usage=usage)).usage is None


# The end


@pytest.mark.parametrize(
    ("end", "normal", "raw", "detail"),
    [
        pytest.param(END, "stop", "completed", None, id="completed"),
        pytest.param(
            ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "length",
            "incomplete",
            "max_output_tokens",
            id="too long",
        ),
        pytest.param(
            ended("incomplete", incomplete_details={"reason": "content_filter"}),
            "content_filter",
            "incomplete",
            "content_filter",
            id="filtered",
        ),
        pytest.param(
            ended("incomplete", incomplete_details={"reason": "news"}), "other", "incomplete", "news", id="news"
        ),
        pytest.param(ended("incomplete"), "other", "incomplete", None, id="no details"),
        pytest.param(ended("incomplete", incomplete_details="x"), "other", "incomplete", None, id="odd details"),
        pytest.param({"type": "response.completed"}, "stop", "completed", None, id="no response"),
        pytest.param({"type": "response.completed", "response": []}, "stop", "completed", None, id="an odd response"),
        pytest.param({"type": "response.incomplete", "response": {}}, "other", "incomplete", None, id="no status"),
    ],
)
def test_finish_reasons(end: Fields, normal: FinishReason, raw: str, detail: str | None) -> None:
    answer = fold(CREATED, piece(TEXT, "a"), end)
    assert (answer.text, answer.finish_reason, answer.raw_finish_reason) == ("a", normal, raw)
    assert answer.finish_detail == detail


def test_an_answer_cut_at_the_limit_is_no_tool_call() -> None:
    end = ended("incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert fold(added(0, **function()), *streamed('{"x'), end).finish_reason == "length"


@pytest.mark.parametrize(
    ("events", "complete"),
    [
        ([], False),
        ([CREATED], False),
        ([CREATED, piece(TEXT, "a"), whole(TEXT, "a"), done(0, **message("a"))], False),
        ([CREATED, piece(TEXT, "a"), "[DONE]"], False),
        ([CREATED, piece(TEXT, "a"), event("response.cancelled")], False),
        ([CREATED, piece(TEXT, "a"), END], True),
        ([CREATED, piece(TEXT, "a"), END, "[DONE]"], True),
        ([CREATED, piece(TEXT, "a"), "[DONE]", END], True),
        ([END], True),
    ],
)
def test_only_the_events_that_end_the_response_make_the_end_honest(events: list[Fields | str], complete: bool) -> None:
    decoder = StreamDecoder(ResponsesVocabulary())
    chunks = decoder.feed(sse(*events))
    assert "other" not in kinds(chunks) or event("response.cancelled") in events
    assert decoder.done == complete
    if complete:
        decoder.close()
    else:
        with pytest.raises(StreamInterrupted, match="openai-responses"):
            decoder.close()


def test_nothing_is_read_after_the_end() -> None:
    assert kinds(read(CREATED, END, piece(TEXT, "b"), ended("incomplete"))) == ["start", "finish"]


# Errors


@pytest.mark.parametrize(
    ("error", "kind", "retryable", "code"),
    [
        ({"code": "rate_limit_exceeded", "message": "m"}, RateLimitError, True, "rate_limit_exceeded"),
        ({"code": "server_is_overloaded", "message": "m"}, OverloadedError, True, "server_is_overloaded"),
        ({"code": "server_error", "message": "m"}, ServerError, True, "server_error"),
        ({"code": "invalid_prompt", "message": "m"}, BadRequestError, False, "invalid_prompt"),
        ({"code": 502, "message": "m"}, ServerError, True, "502"),
        ({"message": "m"}, ServerError, True, None),
    ],
)
def test_a_failed_response_is_the_error_that_it_names(
    error: Fields, kind: type[ProviderError], retryable: bool, code: str | None
) -> None:
    decoder = StreamDecoder(ResponsesVocabulary(request_id="req-1"))
    end = ended("failed", error=error, usage={"input_tokens": 3})
    chunks = decoder.feed(sse(CREATED, piece(TEXT, "a"), end))
    assert kinds(chunks) == ["start", "text", "usage"]
    with pytest.raises(ProviderError) as caught:
        decoder.close()
    found = caught.value
    assert (type(found), found.retryable, found.code, found.message) == (kind, retryable, code, "m")
    assert found.request_id == "req-1"


@pytest.mark.parametrize("error", [None, {}, 5])
def test_a_failed_response_may_not_say_why(error: object) -> None:
    found = failure(sse(CREATED, ended("failed", error=error)))
    assert type(found) is ServerError


LIMITED = {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "m"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(sse({"type": "error", "code": "rate_limit_exceeded", "message": "m", "param": None}), id="flat"),
        pytest.param(sse({"type": "error", "error": LIMITED}), id="nested"),
        pytest.param(b"event: error\ndata: " + data({"error": LIMITED}) + b"\n\n", id="a name but no type"),
        pytest.param(b"data: " + data({"error": LIMITED}) + b"\n\n", id="neither name nor type"),
        pytest.param(sse({"type": "error", "error": LIMITED, "output_index": "x"}), id="a misfit"),
    ],
)
def test_an_error_event_is_classified_by_its_codes(body: bytes) -> None:
    found = failure(sse(CREATED, piece(TEXT, "a")) + body + sse(END))
    assert type(found) is RateLimitError
    assert (found.message, found.code, found.request_id) == ("m", "rate_limit_exceeded", "req-1")


def test_an_error_of_an_item_is_not_an_error_of_the_stream() -> None:
    event_of_item = event("response.mcp_call.failed", 0, error={"message": "m"})
    answer = fold(event_of_item, piece(TEXT, "a", 1), END)
    assert (answer.text, answer.complete) == ("a", True)
