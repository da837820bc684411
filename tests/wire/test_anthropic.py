"""Test the Messages decoder with what the API and its proxies send: every kind of event, block, delta and ending."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamcore.chunk import Chunk, FinishReason, Opaque, ToolCall, Usage
from streamcore.completion import Completion
from streamcore.errors import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
)
from streamcore.wire.decoder import StreamDecoder
from streamcore_anthropic.wire import AnthropicVocabulary
from tests.wire.support import failure_of, folded, kinds

WIRE = "anthropic-messages"
Fields = dict[str, Any]


def begin(**message: Any) -> Fields:
    return {"type": "message_start", "message": {"id": "msg_1", "model": "m1", "content": [], **message}}


def block(index: int, **content: Any) -> Fields:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, **content: Any) -> Fields:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **content}}


def text_event(text: str, index: int = 0) -> Fields:
    return delta(index, "text_delta", text=text)


def arguments(piece: str, index: int = 0) -> Fields:
    return delta(index, "input_json_delta", partial_json=piece)


def stop(index: int = 0) -> Fields:
    return {"type": "content_block_stop", "index": index}


def ending(reason: str | None = "end_turn", usage: Fields | None = None, **more: Any) -> Fields:
    return {"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": usage}


END: Fields = {"type": "message_stop"}
TEXT = block(0, type="text", text="")


def data(event: object) -> bytes:
    return json.dumps(event).encode()


def sse(*events: Fields) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (str(event.get("type")).encode(), data(event)) for event in events)


def read(*events: Fields) -> list[Chunk]:
    return StreamDecoder(AnthropicVocabulary()).feed(sse(*events))


def fold(*events: Fields) -> Completion:
    """Return what a properly ended stream of these events says."""
    return folded(AnthropicVocabulary(), sse(*events))


def failure(body: bytes) -> StreamcoreError:
    return failure_of(AnthropicVocabulary(request_id="req-1"), body)


def others(chunks: list[Chunk]) -> list[tuple[str | None, int, bytes | None]]:
    return [(chunk.event, chunk.index, chunk.raw) for chunk in chunks if chunk.kind == "other"]


# A whole message


def test_a_plain_answer() -> None:
    decoder = StreamDecoder(AnthropicVocabulary(request_id="req-1"))
    chunks = decoder.feed(
        sse(
            begin(usage={"input_tokens": 3}),
            TEXT,
            text_event("Hel"),
            text_event("lo"),
            stop(),
            ending(usage={"output_tokens": 2}),
            END,
        )
    )
    decoder.close()
    assert chunks[0] == Chunk(
        "start", id="msg_1", model="m1", request_id="req-1", usage=Usage(input_tokens=3, raw={"input_tokens": 3})
    )
    assert chunks[1:3] == [Chunk("text", text="Hel"), Chunk("text", text="lo")]
    assert chunks[3] == Chunk("finish", finish_reason="stop", raw_finish_reason="end_turn")
    assert kinds(chunks[4:]) == ["usage"]


def test_texts_of_several_blocks_keep_their_index() -> None:
    chunks = read(
        begin(), TEXT, block(1, type="text", text=""), text_event("b", 1), text_event("a"), text_event("c", 1)
    )
    assert [(chunk.index, chunk.text) for chunk in chunks[1:]] == [(1, "b"), (0, "a"), (1, "c")]


def test_events_without_a_name_are_known_by_their_type() -> None:
    body = b"".join(
        b"data: " + data(event) + b"\n\n" for event in (begin(), TEXT, text_event("a"), stop(), ending(), END)
    )
    decoder = StreamDecoder(AnthropicVocabulary())
    assert kinds(decoder.feed(body)) == ["start", "text", "finish"]
    decoder.close()


def test_events_without_a_type_are_known_by_their_name() -> None:
    events = [begin(), TEXT, text_event("a"), stop(), ending(), END]
    body = b"".join(
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), data({k: v for k, v in event.items() if k != "type"}))
        for event in events
    )
    decoder = StreamDecoder(AnthropicVocabulary())
    assert kinds(decoder.feed(body)) == ["start", "text", "finish"]
    decoder.close()


# message_start


def test_message_start_may_hold_content() -> None:
    kept: list[Fields] = [
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"x": 1}},
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
    ]
    chunks = read(begin(content=kept))
    assert kinds(chunks) == ["start", "text", "tool_call", "tool_call", "reasoning", "reasoning"]
    assert [chunk.index for chunk in chunks] == [0, 0, 1, 1, 2, 2]
    answer = fold(begin(content=kept), ending("tool_use"), END)
    assert (answer.text, answer.reasoning) == ("Hello", "hm")
    assert [(call.id, call.name, call.parse()) for call in answer.tool_calls] == [("t1", "add", {"x": 1})]


def test_blocks_go_on_after_the_content_of_message_start() -> None:
    kept: list[Fields] = [{"type": "tool_use", "id": "t1", "name": "add", "input": {}}]
    tool = block(1, type="tool_use", id="t2", name="mul", input={})
    answer = fold(begin(content=kept), tool, arguments("{}", 1), stop(1), ending("tool_use"), END)
    assert answer.tool_calls == (ToolCall("t1", "add", "", 0), ToolCall("t2", "mul", "{}", 1))


def test_message_start_may_hold_null() -> None:
    assert kinds(read(begin(content=None, usage=None), TEXT, text_event("a"))) == ["start", "text"]


@pytest.mark.parametrize(
    ("events", "raw"),
    [
        pytest.param([END], "tool_use", id="nothing else says why"),
        pytest.param([ending(None), END], "tool_use", id="message_delta says null"),
        pytest.param([ending("end_turn"), END], "end_turn", id="message_delta says more"),
    ],
)
def test_message_start_may_hold_the_stop_reason(events: list[Fields], raw: str) -> None:
    assert fold(begin(stop_reason="tool_use"), *events).raw_finish_reason == raw


def test_a_second_message_start_says_nothing_twice() -> None:
    first = begin(content=[{"type": "text", "text": "Hello"}], usage={"input_tokens": 3, "output_tokens": 1})
    second = begin(content=[{"type": "text", "text": "Hello"}], usage={"input_tokens": 4})
    chunks = read(first, second)
    assert kinds(chunks) == ["start", "text", "other", "usage"]
    assert others(chunks) == [("message_start", 0, data(second))]
    answer = fold(first, second, ending(), END)
    assert (answer.id, answer.text) == ("msg_1", "Hello")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 1)


def test_a_second_message_with_another_id_cuts_the_first() -> None:
    decoder = StreamDecoder(AnthropicVocabulary())
    body = sse(begin(), TEXT, text_event("one"), begin(id="msg_2"), TEXT, text_event("two"), ending(), END)
    chunks = decoder.feed(body) + decoder.flush()
    assert "".join(chunk.text for chunk in chunks) == "one"
    with pytest.raises(StreamInterrupted, match="msg_2"):
        decoder.close()


# Blocks


def test_a_text_block_may_begin_with_text() -> None:
    assert fold(begin(), block(0, type="text", text="Hel"), text_event("lo"), stop(), ending(), END).text == "Hello"


def test_an_empty_delta_says_nothing() -> None:
    assert kinds(read(begin(), TEXT, text_event(""), delta(0, "thinking_delta", thinking=""))) == ["start"]


def test_citations_come_with_blocks_and_deltas() -> None:
    one, two = {"type": "char_location", "cited_text": "a"}, {"type": "web_search_result_location", "url": "u"}
    cited = block(1, type="text", text="a", citations=[one])
    events = [begin(), cited, delta(1, "citations_delta", citation=two), text_event("b", 1), stop(1), ending(), END]
    citations = [chunk for chunk in read(*events) if chunk.kind == "citation"]
    assert [(chunk.index, chunk.data) for chunk in citations] == [(1, one), (1, two)]
    answer = fold(*events)
    assert answer.citations == (one, two)
    assert answer.to_message().opaque == Opaque(WIRE, ({"type": "text", "text": "ab", "citations": [one, two]},))


@pytest.mark.parametrize("given", [{}, {"citations": None}, {"citations": []}])
def test_a_cited_text_goes_back_with_its_citations(given: Fields) -> None:
    one = {"type": "char_location", "cited_text": "a"}
    by_delta = [block(0, type="text", text="", **given), text_event("a"), delta(0, "citations_delta", citation=one)]
    at_once = [block(0, type="text", text="a", citations=[one])]
    for events in (by_delta, at_once):
        answer = fold(begin(), *events, stop(), ending(), END)
        assert answer.opaque == Opaque(WIRE, ({"type": "text", "text": "a", "citations": [one]},))


def test_thinking_is_reasoning_and_its_signature_opaque() -> None:
    events = [
        begin(),
        block(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="Let "),
        delta(0, "thinking_delta", thinking="me"),
        delta(0, "signature_delta", signature="sig"),
        stop(),
        block(1, type="text", text=""),
        text_event("Hello", 1),
        stop(1),
        ending(),
        END,
    ]
    assert [chunk for chunk in read(*events) if chunk.kind == "reasoning"] == [
        Chunk("reasoning", text="Let "),
        Chunk("reasoning", text="me"),
        Chunk("reasoning", opaque=Opaque(WIRE, ({"signature": "sig"},))),
    ]
    answer = fold(*events)
    assert (answer.reasoning, answer.text) == ("Let me", "Hello")
    thinking = {"type": "thinking", "thinking": "Let me", "signature": "sig"}
    message = answer.to_message()
    assert message.opaque == Opaque(WIRE, (thinking, {"type": "text", "text": "Hello"}))
    assert message.content == "Hello"


def test_a_thinking_block_may_come_whole() -> None:
    whole = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    assert read(begin(), block(0, **whole))[1:] == [
        Chunk("reasoning", text="hm"),
        Chunk("reasoning", opaque=Opaque(WIRE, ({"signature": "sig"},))),
    ]
    answer = fold(begin(), block(0, **whole), stop(), ending(), END)
    assert (answer.reasoning, answer.opaque) == ("hm", Opaque(WIRE, (whole,)))


def test_redacted_thinking_is_opaque() -> None:
    redacted = {"type": "redacted_thinking", "data": "EmwKAhgB"}
    events = [begin(), block(0, **redacted), stop(), ending(), END]
    assert read(*events)[1] == Chunk("reasoning", opaque=Opaque(WIRE, (redacted,)))
    answer = fold(*events)
    assert (answer.reasoning, answer.opaque) == ("", Opaque(WIRE, (redacted,)))


def test_plain_blocks_need_nothing_opaque() -> None:
    tool = block(1, type="tool_use", id="t1", name="add", input={})
    answer = fold(
        begin(), TEXT, text_event("a"), stop(), tool, arguments('{"x":1}', 1), stop(1), ending("tool_use"), END
    )
    message = answer.to_message()
    assert message.opaque is None
    assert (message.content, message.tool_calls) == ("a", (ToolCall("t1", "add", '{"x":1}'),))


def test_the_next_turn_gets_every_block_back_in_order() -> None:
    redacted = {"type": "redacted_thinking", "data": "x"}
    tool = {"type": "tool_use", "id": "t1", "name": "add"}
    answer = fold(
        begin(),
        block(0, **redacted),
        block(2, **tool, input={}),
        block(1, type="text", text=""),
        text_event("a", 1),
        arguments('{"x"', 2),
        arguments(":1}", 2),
        ending("tool_use"),
        END,
    )
    assert answer.opaque == Opaque(WIRE, (redacted, {"type": "text", "text": "a"}, {**tool, "input": {"x": 1}}))


def test_a_call_that_was_cut_is_sent_back_without_arguments() -> None:
    redacted = {"type": "redacted_thinking", "data": "x"}
    tool = block(1, type="tool_use", id="t1", name="add")
    answer = fold(begin(), block(0, **redacted), tool, arguments('{"x":', 1), ending("max_tokens"), END)
    assert answer.opaque is not None
    assert answer.opaque.items[1]["input"] == {}
    assert answer.tool_calls[0].arguments == '{"x":'


# Tool calls


@pytest.mark.parametrize(
    ("given", "pieces", "expected"),
    [
        pytest.param({}, ["", '{"x"', ":1}"], '{"x":1}', id="by deltas"),
        pytest.param({}, [], "", id="no bytes at all"),
        pytest.param({}, [""], "", id="an empty delta"),
        pytest.param({}, ["{}"], "{}", id="an empty object by delta"),
        pytest.param({"x": 1}, [], '{"x": 1}', id="with the start of the block"),
        pytest.param({"x": 1}, ['{"x":1}'], '{"x":1}', id="with the start and by deltas"),
        pytest.param(None, ['{"x":1}'], '{"x":1}', id="null"),
        pytest.param(None, [], "", id="null and nothing"),
        pytest.param(..., ["[1]"], "[1]", id="no input in the start"),
        pytest.param(..., [], "", id="no input anywhere"),
    ],
)
@pytest.mark.parametrize("stops", [True, False])
def test_arguments(given: object, pieces: list[str], expected: str, stops: bool) -> None:
    tool: Fields = {"type": "tool_use", "id": "t1", "name": "add"} | ({} if given is ... else {"input": given})
    events = [begin(), block(0, **tool), *map(arguments, pieces), *([stop()] if stops else []), ending("tool_use"), END]
    assert fold(*events).tool_calls == (ToolCall("t1", "add", expected),)
    called = [chunk.tool_call for chunk in read(*events) if chunk.tool_call]
    assert called[0] == ToolCall("t1", "add", "")
    assert "" not in [call.arguments for call in called[1:]]


@pytest.mark.parametrize("given", [b"{}", b"{ }", b"null"])
def test_an_empty_input_is_no_argument(given: bytes) -> None:
    start = b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","input":%s}}' % given
    chunks = StreamDecoder(AnthropicVocabulary()).feed(b"data: " + start + b"\n\n" + sse(stop()))
    assert [chunk.tool_call for chunk in chunks] == [ToolCall("t1", None, "")]


def test_arguments_are_the_text_exactly_as_sent() -> None:
    given = b'{ "x" :1.0,"y":"\\u00e9" }'
    start = b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","input":%s}}' % given
    chunks = StreamDecoder(AnthropicVocabulary()).feed(b"data: " + start + b"\n\n" + sse(stop()))
    assert [chunk.tool_call.arguments for chunk in chunks if chunk.tool_call] == ["", given.decode()]
    pieces = ['{ "x"', " :1.0", ',"y":"\\u00e9" }']
    tool = block(0, type="tool_use", id="t1", name="f", input={})
    assert fold(begin(), tool, *map(arguments, pieces), END).tool_calls[0].arguments == given.decode()


def test_parallel_calls_count_from_0_whatever_their_blocks() -> None:
    chunks = read(
        begin(),
        block(1, type="tool_use", id="a", name="add", input={}),
        block(4, type="tool_use", id="b", name="mul", input={}),
        arguments("{", 4),
        arguments("{}", 1),
        arguments("}", 4),
    )
    assert [(chunk.index, chunk.tool_call) for chunk in chunks[1:]] == [
        (1, ToolCall("a", "add", "", 0)),
        (4, ToolCall("b", "mul", "", 1)),
        (4, ToolCall("b", "mul", "{", 1)),
        (1, ToolCall("a", "add", "{}", 0)),
        (4, ToolCall("b", "mul", "}", 1)),
    ]


# What has no normal form


@pytest.mark.parametrize(
    "content",
    [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "mcp_tool_use", "id": "s1", "name": "echo", "server_name": "s", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result"}]},
        {"type": "advisor_tool_result", "content": {"type": "advisor_result"}},
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
        {"type": "news_of_2030", "input": {"x": 1}},
    ],
)
def test_blocks_without_a_normal_form_pass_as_other(content: Fields) -> None:
    events = [begin(), block(0, **content), stop(), block(1, type="text", text="a"), stop(1), ending(), END]
    assert others(read(*events)) == [(content["type"], 0, data(events[1]))]
    answer = fold(*events)
    assert (answer.text, answer.tool_calls) == ("a", ())
    assert answer.opaque == Opaque(WIRE, (content, {"type": "text", "text": "a"}))


def test_a_server_tools_input_is_no_tool_call() -> None:
    server = {"type": "server_tool_use", "id": "s1", "name": "web_search"}
    tool = block(1, type="tool_use", id="t1", name="add", input={})
    events = [begin(), block(0, **server, input={}), arguments('{"q":'), arguments('"x"}'), stop(), tool, stop(1)]
    assert [(event, raw) for event, _, raw in others(read(*events))] == [
        ("server_tool_use", data(events[1])),
        ("server_tool_use", data(events[2])),
        ("server_tool_use", data(events[3])),
    ]
    answer = fold(*events, ending("tool_use"), END)
    assert answer.tool_calls == (ToolCall("t1", "add", "", 0),)
    assert answer.opaque is not None
    assert answer.opaque.items[0] == {**server, "input": {"q": "x"}}


def test_a_compaction_is_kept_for_the_next_turn() -> None:
    said_so = delta(0, "compaction_delta", content="So far: ...")
    events = [begin(), block(0, type="compaction", content=None), said_so, stop(), ending("compaction"), END]
    assert [event for event, _, _ in others(read(*events))] == ["compaction", "compaction_delta"]
    answer = fold(*events)
    assert answer.opaque == Opaque(WIRE, ({"type": "compaction", "content": "So far: ..."},))
    assert (answer.finish_reason, answer.raw_finish_reason) == ("other", "compaction")


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"type": "message_news", "index": 3}, id="an event"),
        pytest.param(delta(3, "news_delta", news=1), id="a delta"),
        pytest.param(delta(3, "text_delta"), id="a text delta without text"),
        pytest.param(delta(3, "text_delta", text=None), id="a text delta with null"),
        pytest.param(delta(3, "thinking_delta"), id="a thinking delta without thinking"),
        pytest.param(delta(3, "signature_delta"), id="a signature delta without signature"),
        pytest.param(delta(3, "citations_delta"), id="a citations delta without citation"),
        pytest.param(delta(3, "input_json_delta", partial_json="{}"), id="arguments for no call"),
        pytest.param({"type": "content_block_delta", "index": 3}, id="a delta event without delta"),
        pytest.param({"type": "content_block_start", "index": 3}, id="a block event without block"),
        pytest.param({"type": "content_block_start", "index": 3, "content_block": {"type": 7}}, id="a misfit block"),
        pytest.param({"type": "content_block_start", "index": 3, "content_block": "text"}, id="a block as a string"),
        pytest.param({"type": "content_block_start", "index": 3, "content_block": None}, id="a null block"),
    ],
)
def test_events_without_a_normal_form_pass_as_exactly_one_other(event: Fields) -> None:
    chunks = read(begin(), TEXT, event, text_event("a"))
    assert kinds(chunks) == ["start", "other", "text"]
    assert (chunks[1].index, chunks[1].raw) == (3, data(event))
    assert chunks[1].event is not None
    assert data(chunks[1].event) in data(event)


@pytest.mark.parametrize(
    "event",
    [
        delta(0, "text_delta", text=5),
        {"type": "content_block_delta", "index": "first", "delta": {"type": "text_delta", "text": "b"}},
        {"type": "content_block_delta", "index": 0, "delta": "b"},
        {"type": "message_delta", "delta": {"stop_reason": 5}},
        {"type": "message_delta"},
        {"type": ["text"]},
        {"type": None},
        {},
        {"type": "news", "index": [1], "x": float("nan")},
    ],
)
def test_misfits_pass_as_exactly_one_other_as_they_were(event: Fields) -> None:
    chunks = StreamDecoder(AnthropicVocabulary()).feed(
        sse(begin(), TEXT) + b"data: " + data(event) + b"\n\n" + sse(text_event("a"))
    )
    assert kinds(chunks) == ["start", "other", "text"]
    assert chunks[1].raw == data(event)


@pytest.mark.parametrize("value", [[], 5, "x", None])
def test_json_that_is_no_object_passes_as_other(value: object) -> None:
    (chunk,) = StreamDecoder(AnthropicVocabulary()).feed(b"event: news\ndata: " + data(value) + b"\n\n")
    assert (chunk.kind, chunk.event, chunk.raw) == ("other", "news", data(value))


def test_an_event_without_name_and_type_has_none() -> None:
    decoder = StreamDecoder(AnthropicVocabulary())
    assert decoder.feed(b'data: {"a": 1}\n\n') == [Chunk("other", raw=b'{"a": 1}')]


def test_a_misfit_message_stop_ends_the_message_all_the_same() -> None:
    answer = fold(begin(), TEXT, text_event("a"), ending(), {"type": "message_stop", "index": "x"})
    assert (answer.text, answer.finish_reason) == ("a", "stop")


def test_a_message_start_that_does_not_fit_passes_as_other() -> None:
    event = begin(id=5)
    assert kinds(read(event, TEXT, text_event("a"))) == ["other", "text"]


def test_whole_floats_fit_everywhere() -> None:
    tool = {**block(1, type="tool_use", id="t1", input={}), "index": 1.0}
    kept = begin(content=[{"type": "text", "text": "a"}], usage={"input_tokens": 3.0, "cost": 1.5, "x": float("inf")})
    answer = fold(kept, tool, arguments("{}", 1), {**stop(), "index": 1.0}, ending(), END)
    assert (answer.text, answer.tool_calls) == ("a", (ToolCall("t1", None, "{}"),))
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.raw) == (3, {"input_tokens": 3, "cost": 1.5})


def test_a_delta_needs_no_block() -> None:
    answer = fold(begin(), text_event("a"), delta(1, "thinking_delta", thinking="hm"), stop(1), ending(), END)
    assert (answer.text, answer.reasoning) == ("a", "hm")


def test_pings_are_passed_on_and_change_nothing() -> None:
    ping: Fields = {"type": "ping"}
    chunks = read(ping, begin(), ping, TEXT, text_event("a"), ping, text_event("b"))
    assert kinds(chunks) == ["ping", "start", "ping", "text", "ping", "text"]
    assert fold(begin(), ping, TEXT, text_event("a"), ending(), ping, END).text == "a"


# Usage


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        pytest.param(
            {"input_tokens": 3, "output_tokens": 1},
            {"output_tokens": 9},
            (3, 9, None, None, None),
            id="the last counts",
        ),
        pytest.param(
            {"input_tokens": 3, "output_tokens": 1},
            {"input_tokens": 40, "output_tokens": 9},
            (40, 9, None, None, None),
            id="input may grow",
        ),
        pytest.param(
            {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7},
            {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 9},
            (3, 9, 5, 7, None),
            id="null takes nothing back",
        ),
        pytest.param(
            {"input_tokens": 3, "cache_read_input_tokens": 5},
            {"output_tokens": 0, "cache_read_input_tokens": 0},
            (3, 0, 5, None, None),
            id="a zero takes nothing back",
        ),
        pytest.param(
            {"input_tokens": 3},
            {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
            (3, 9, None, None, 4),
            id="thinking tokens",
        ),
        pytest.param({"input_tokens": 3}, None, (3, None, None, None, None), id="message_start only"),
        pytest.param(None, {"output_tokens": 9}, (None, 9, None, None, None), id="message_delta only"),
        pytest.param(
            {"input_tokens": 3}, {"output_tokens_details": [1]}, (3, None, None, None, None), id="odd details"
        ),
    ],
)
def test_message_delta_overlays_the_usage_of_message_start(
    first: Fields | None, last: Fields | None, expected: tuple[int | None, ...]
) -> None:
    usage = fold(begin(usage=first), ending(usage=last), END).usage
    assert usage is not None
    assert (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    ) == expected
    counts = {key: value for key, value in (last or {}).items() if value or (value == 0 and not (first or {}).get(key))}
    assert usage.raw == (first or {}) | counts


def test_usage_that_was_passed_on_does_not_change_later() -> None:
    chunks = read(begin(usage={"input_tokens": 3}), ending(usage={"input_tokens": 4}))
    assert [chunk.usage.raw for chunk in chunks if chunk.usage] == [{"input_tokens": 3}, {"input_tokens": 4}]


def test_a_message_without_usage_has_none() -> None:
    assert fold(begin(usage=None), ending(), END).usage is None


def test_usage_may_come_before_the_stop_reason() -> None:
    answer = fold(
        begin(), {"type": "message_delta", "delta": None, "usage": {"output_tokens": 4}}, ending("max_tokens"), END
    )
    assert answer.usage is not None
    assert (answer.usage.output_tokens, answer.finish_reason) == (4, "length")


# The end


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
        ("pause_turn", "pause"),
        ("news_of_2030", "other"),
    ],
)
def test_finish_reasons(raw: str, normal: FinishReason) -> None:
    answer = fold(begin(), ending(raw), END)
    assert (answer.finish_reason, answer.raw_finish_reason, answer.finish_detail) == (normal, raw, None)


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"stop_sequence": None}, None),
        ({"stop_sequence": "END"}, "END"),
        ({"stop_details": {"type": "refusal", "category": "cyber"}}, {"type": "refusal", "category": "cyber"}),
        ({"stop_details": None, "stop_sequence": "END"}, "END"),
    ],
)
def test_the_finish_says_why_exactly(more: Fields, detail: object) -> None:
    assert fold(begin(), ending("stop_sequence", **more), END).finish_detail == detail


@pytest.mark.parametrize(
    ("events", "whole"),
    [
        ([], False),
        ([begin(), TEXT, text_event("a"), stop()], False),
        ([begin(), TEXT, text_event("a"), stop(), ending()], False),
        ([begin(stop_reason="end_turn")], False),
        ([begin(), TEXT, text_event("a"), stop(), ending(), END], True),
        ([begin(), TEXT, text_event("a"), END], True),
        ([END], True),
    ],
)
def test_only_message_stop_makes_the_end_honest(events: list[Fields], whole: bool) -> None:
    decoder = StreamDecoder(AnthropicVocabulary())
    decoder.feed(sse(*events))
    assert decoder.done == whole
    if whole:
        decoder.close()
    else:
        with pytest.raises(StreamInterrupted, match="anthropic-messages"):
            decoder.close()


def test_message_stop_without_a_reason_finishes_without_one() -> None:
    chunks = read(begin(), TEXT, text_event("a"), stop(), END)
    assert chunks[-1] == Chunk("finish")
    assert kinds(read(begin(), ending(), END)) == ["start", "finish"]


def test_nothing_is_read_after_message_stop() -> None:
    assert kinds(read(begin(), TEXT, text_event("a"), ending(), END, text_event("b"), ending("max_tokens"))) == [
        "start",
        "text",
        "finish",
    ]


# Errors


@pytest.mark.parametrize(
    ("word", "kind", "retryable"),
    [
        ("overloaded_error", OverloadedError, True),
        ("rate_limit_error", RateLimitError, True),
        ("api_error", ServerError, True),
        ("timeout_error", ServerError, True),
        ("invalid_request_error", BadRequestError, False),
        ("authentication_error", AuthenticationError, False),
        ("permission_error", AuthenticationError, False),
        ("not_found_error", NotFoundError, False),
        ("news_of_2030", ServerError, True),
    ],
)
def test_an_error_event_is_classified_by_its_type(word: str, kind: type[ProviderError], retryable: bool) -> None:
    event = {"type": "error", "error": {"type": word, "message": "m"}, "request_id": "req_2"}
    decoder = StreamDecoder(AnthropicVocabulary(request_id="req-1"))
    assert kinds(decoder.feed(sse(begin(), TEXT, text_event("a"), event, END))) == ["start", "text"]
    with pytest.raises(kind) as caught:
        decoder.close()
    error = caught.value
    assert (type(error), error.retryable, error.message, error.code) == (kind, retryable, "m", word)
    assert error.request_id == "req-1"


OVERLOADED = {"type": "overloaded_error", "message": "m"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"event: error\ndata: " + data({"error": OVERLOADED}) + b"\n\n", id="a name but no type"),
        pytest.param(b"data: " + data({"error": OVERLOADED}) + b"\n\n", id="neither name nor type"),
        pytest.param(b"data: " + data({"type": "error", "error": OVERLOADED, "index": "x"}) + b"\n\n", id="a misfit"),
    ],
)
def test_errors_come_in_other_shapes_too(body: bytes) -> None:
    error = failure(sse(begin(), text_event("a")) + body)
    assert isinstance(error, OverloadedError)
    assert error.message == "m"


def test_a_null_error_is_none() -> None:
    event = {**text_event("b"), "error": None}
    assert kinds(read(begin(), TEXT, text_event("a"), event)) == ["start", "text", "text"]
