"""Test the chat-completions decoder against the rules that real servers force, one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamcore.chunk import Chunk, FinishReason, Opaque
from streamcore.completion import Completion, Fold
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
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder
from tests.wire.support import failure_of, folded, kinds

DONE = "[DONE]"
Fields = dict[str, Any]


def choice(delta: Fields | None = None, index: int = 0, finish: str | None = None, **more: Any) -> Fields:
    return {"index": index, "delta": delta or {}, "finish_reason": finish, **more}


def chunk(delta: Fields | None = None, index: int = 0, finish: str | None = None, **event: Any) -> Fields:
    """Return an event with one choice; further arguments are fields of the event."""
    return {"id": "r1", "model": "m1", "choices": [choice(delta, index, finish)], **event}


def text_event(words: str, index: int = 0) -> Fields:
    return chunk({"content": words}, index)


def bare(**event: Any) -> Fields:
    """Return an event without choices."""
    return {"choices": [], **event}


STOP = chunk(finish="stop")


def data(event: Fields | str) -> bytes:
    return (event if isinstance(event, str) else json.dumps(event)).encode()


def sse(*events: Fields | str, name: str = "") -> bytes:
    """Return the events as a body, each with the same name."""
    prefix = f"event: {name}\n".encode() if name else b""
    return b"".join(prefix + b"data: " + data(event) + b"\n\n" for event in events)


def read(*events: Fields | str, wire: str = "openai-chat") -> list[Chunk]:
    decoder = StreamDecoder(ChatVocabulary(wire))
    return decoder.feed(sse(*events)) + decoder.flush()


def fold(*events: Fields | str, wire: str = "openai-chat") -> Completion:
    """Return what a properly ended stream of these events says."""
    return folded(ChatVocabulary(wire), sse(*events))


def failure(body: bytes) -> StreamcoreError:
    return failure_of(ChatVocabulary(request_id="req-1"), body)


def others(chunks: list[Chunk]) -> list[bytes | None]:
    return [chunk.raw for chunk in chunks if chunk.kind == "other"]


# The start


def test_the_start_names_response_model_and_request() -> None:
    decoder = StreamDecoder(ChatVocabulary(request_id="req-1"))
    chunks = decoder.feed(sse(text_event("a"), {**text_event("b"), "id": "r2", "model": "m2"}))
    assert chunks[0] == Chunk("start", id="r1", model="m1", request_id="req-1")
    assert kinds(chunks) == ["start", "text", "text"]


def test_an_azure_prompt_filter_event_does_not_start_the_answer() -> None:
    filtered = {"choices": [], "created": 0, "id": "", "model": "", "prompt_filter_results": [{"prompt_index": 0}]}
    chunks = read(filtered, text_event("a"))
    assert kinds(chunks) == ["other", "start", "text"]
    assert (chunks[0].raw, chunks[1].id, chunks[1].model) == (data(filtered), "r1", "m1")


@pytest.mark.parametrize(
    ("event", "start"),
    [
        ({"choices": [choice()]}, Chunk("start")),
        (bare(id="r1"), Chunk("start", id="r1")),
        (bare(model="m1"), Chunk("start", model="m1")),
        ({"id": "", "model": "", "choices": [choice()]}, Chunk("start")),
    ],
)
def test_the_first_part_of_an_answer_starts_it(event: Fields, start: Chunk) -> None:
    assert read(event) == [start]


def test_there_are_no_content_blocks_to_count() -> None:
    parts = ["a", {"type": "thinking", "thinking": ["b"]}]
    delta = {"reasoning_content": "a", "reasoning": "b", "refusal": "c", "tool_calls": [call("{}", "f", "a")]}
    chunks = read(chunk({"content": "a", **delta}), chunk({"content": parts}), text_event("b", 1))
    assert len(chunks) == 9
    assert {chunk.index for chunk in chunks} == {0}


# Text


def test_text_keeps_every_character() -> None:
    pieces = ["", " ", "\n", "\r\n", "é", "🌊", "\u2028", "\0", "  end "]
    chunks = read(*map(text_event, pieces))
    assert [chunk.text for chunk in chunks if chunk.kind == "text"] == pieces[1:]


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        pytest.param(None, "", "", id="null"),
        pytest.param("", "", "", id="empty"),
        pytest.param([], "", "", id="an empty list"),
        pytest.param(["a", "b"], "ab", "", id="strings"),
        pytest.param([{"type": "text", "text": "a"}, {"type": "text", "text": ""}], "a", "", id="text parts"),
        pytest.param([{"type": "thinking", "thinking": "hm"}], "", "hm", id="thinking as a string"),
        pytest.param(
            [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}],
            "",
            "hm",
            id="thinking as parts",
        ),
        pytest.param(
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}],
            "a",
            "hm",
            id="thinking and text",
        ),
    ],
)
def test_content_comes_in_many_shapes(content: object, text: str, reasoning: str) -> None:
    chunks = read(chunk({"role": "assistant", "content": content}))
    answer = Fold()
    answer.add(chunks)
    completion = answer.completion(complete=False)
    assert (completion.text, completion.reasoning) == (text, reasoning)
    assert others(chunks) == []
    assert all(chunk.text or chunk.kind == "start" for chunk in chunks)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "text", "text": 5},
        {"type": "thinking", "thinking": [{"type": "image"}]},
        7,
    ],
)
def test_a_part_without_a_normal_form_passes_as_other(part: object) -> None:
    event = chunk({"content": [{"type": "text", "text": "a"}, part, {"type": "text", "text": "b"}]})
    chunks = read(event)
    assert [chunk.text for chunk in chunks if chunk.kind == "text"] == ["a", "b"]
    assert others(chunks) == [data(event)]


def test_references_are_citations() -> None:
    one = {"type": "reference", "reference_ids": [1, 2]}
    two = {"type": "tool_reference", "tool": "web_search", "title": "T"}
    chunks = read(chunk({"content": ["a", one, two, {"type": "thinking", "thinking": [one, two]}]}))
    assert [chunk.data for chunk in chunks if chunk.kind == "citation"] == [one, two, one, two]
    assert others(chunks) == []


def test_annotations_are_citations() -> None:
    annotation = {"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "T"}}
    assert fold(chunk({"content": "a", "annotations": [annotation]}), STOP).citations == (annotation,)
    (citation,) = [c for c in read(chunk({"annotations": [annotation]}, index=1)) if c.kind == "citation"]
    assert (citation.choice, citation.data) == (1, annotation)


def test_a_refusal_is_no_text() -> None:
    answer = fold(chunk({"refusal": "I "}), chunk({"refusal": "won't"}), chunk({"refusal": None}), STOP)
    assert (answer.refusal, answer.text) == ("I won't", "")


# Reasoning


@pytest.mark.parametrize(
    ("delta", "reasoning"),
    [
        ({"reasoning": "a"}, "a"),
        ({"reasoning_content": "a"}, "a"),
        ({"reasoning": "a", "reasoning_content": "a"}, "a"),
        ({"reasoning": "b", "reasoning_content": "a"}, "ab"),
        ({"reasoning": None, "reasoning_content": ""}, ""),
        ({"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}]}, "a"),
        ({"reasoning": "a", "reasoning_details": [{"type": "reasoning.summary", "summary": "a"}]}, "a"),
        ({"reasoning_content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]}, "a"),
        ({"reasoning": "a", "reasoning_details": None}, "a"),
    ],
)
def test_reasoning_is_given_once(delta: Fields, reasoning: str) -> None:
    chunks = read(chunk(delta))
    assert "".join(chunk.text for chunk in chunks if chunk.kind == "reasoning") == reasoning
    assert [chunk.opaque for chunk in chunks if chunk.opaque] == []
    assert others(chunks) == []


def test_reasoning_details_that_nothing_repeats_are_the_reasoning() -> None:
    detail = {"type": "reasoning.text", "text": "hm", "index": 0}
    chunks = read(chunk({"content": "", "reasoning_details": [detail]}))
    assert chunks[1:] == [
        Chunk("reasoning", text="hm"),
        Chunk("reasoning", opaque=Opaque("openai-chat", (detail,))),
    ]


def test_reasoning_details_that_repeat_earlier_reasoning_are_not_doubled() -> None:
    detail = {"type": "reasoning.text", "text": "hm", "index": 0}
    chunks = read(chunk({"reasoning": "h"}), chunk({"reasoning": "m"}), chunk({"reasoning_details": [detail]}))
    assert "".join(chunk.text for chunk in chunks) == "hm"


def test_encrypted_reasoning_is_opaque_beside_its_summary() -> None:
    summary = {"type": "reasoning.summary", "summary": "hm", "index": 0}
    encrypted = {"type": "reasoning.encrypted", "data": "gAAAA", "index": 1}
    chunks = read(chunk({"reasoning": "hm", "reasoning_details": [summary, encrypted]}))
    assert [(chunk.text, chunk.opaque) for chunk in chunks if chunk.kind == "reasoning"] == [
        ("hm", None),
        ("", Opaque("openai-chat", (encrypted,))),
    ]


def test_reasoning_details_of_another_shape_pass_as_other() -> None:
    event = chunk({"reasoning_details": ["what"]})
    assert others(read(event)) == [data(event)]


def details(*items: Fields, **delta: Any) -> Fields:
    return chunk({"reasoning_details": list(items), **delta})


MERGES = [
    pytest.param(
        [{"type": "t", "text": "a", "index": 0}, {"type": "t", "text": "b", "index": 0}],
        [{"type": "t", "text": "ab", "index": 0}],
        id="texts of one index are put together",
    ),
    pytest.param(
        [{"type": "t", "summary": "a", "index": 0}, {"type": "t", "summary": "b", "index": 0}],
        [{"type": "t", "summary": "ab", "index": 0}],
        id="so are summaries",
    ),
    pytest.param(
        [
            {"type": "t", "text": "a", "index": 0, "format": "f", "signature": None},
            {"type": "t", "index": 0, "format": "f", "signature": "sig"},
            {"type": "t", "index": 0, "text": None, "signature": None},
        ],
        [{"type": "t", "text": "a", "index": 0, "format": "f", "signature": "sig"}],
        id="a signature that comes last; null takes nothing back",
    ),
    pytest.param(
        [{"type": "t", "text": "a", "index": 0}, {"type": "t", "text": "b", "index": 1}],
        [{"type": "t", "text": "a", "index": 0}, {"type": "t", "text": "b", "index": 1}],
        id="another index",
    ),
    pytest.param(
        [{"type": "t", "text": "a", "index": 0}, {"type": "e", "data": "x", "index": 0}],
        [{"type": "t", "text": "a", "index": 0}, {"type": "e", "data": "x", "index": 0}],
        id="another type",
    ),
    pytest.param(
        [{"type": "e", "data": "x", "index": 0, "id": "1"}, {"type": "e", "data": "y", "index": 0, "id": "2"}],
        [{"type": "e", "data": "x", "index": 0, "id": "1"}, {"type": "e", "data": "y", "index": 0, "id": "2"}],
        id="another id",
    ),
    pytest.param(
        [{"type": "t", "text": "a", "index": 0, "id": "1"}, {"type": "t", "text": "b", "index": 0}],
        [{"type": "t", "text": "ab", "index": 0, "id": "1"}],
        id="an id that is not repeated",
    ),
]


@pytest.mark.parametrize(("fragments", "merged"), MERGES)
def test_the_next_turn_gets_the_reasoning_details_back(fragments: list[Fields], merged: list[Fields]) -> None:
    answer = fold(*map(details, fragments), text_event("Hello"), STOP, DONE)
    message = answer.to_message()
    assert message.opaque == Opaque("openai-chat", tuple(merged))
    assert message.content == "Hello"


@pytest.mark.parametrize(("fragments", "merged"), MERGES)
def test_they_merge_the_same_way_in_one_event(fragments: list[Fields], merged: list[Fields]) -> None:
    assert fold(details(*fragments), STOP).opaque == Opaque("openai-chat", tuple(merged))


def test_reasoning_details_after_a_finish_reason_count() -> None:
    answer = fold(
        details({"type": "t", "text": "a"}), STOP, details({"type": "t", "text": "b"}), chunk(finish="stop"), DONE
    )
    assert answer.opaque == Opaque("openai-chat", ({"type": "t", "text": "ab"},))


def test_done_without_a_finish_reason_keeps_the_opaque_data() -> None:
    answer = fold(details({"type": "t", "text": "a"}), DONE)
    assert answer.opaque == Opaque("openai-chat", ({"type": "t", "text": "a"},))


def test_the_next_turn_gets_mistrals_thinking_back() -> None:
    def thinking(words: str) -> Fields:
        return chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": words}]}]})

    reference = {"type": "reference", "reference_ids": [1]}
    more = chunk({"content": [{"type": "thinking", "thinking": [reference], "closed": True}]})
    answer = fold(thinking("Let "), thinking("me"), more, text_event("Hello"), STOP, wire="mistral-chat")
    whole = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me"}, reference], "closed": True}
    assert answer.opaque == Opaque("mistral-chat", (whole,))
    assert (answer.reasoning, answer.text) == ("Let me", "Hello")


def test_without_reasoning_there_is_nothing_opaque() -> None:
    assert fold(chunk({"reasoning": "hm"}), text_event("a"), STOP).to_message().opaque is None


def test_only_the_first_answer_is_sent_back() -> None:
    detail = {"type": "t", "text": "a"}
    answer = fold(
        chunk({"reasoning_details": [detail]}, index=1), chunk(finish="stop", index=1), text_event("a"), STOP, DONE
    )
    assert answer.opaque is None
    chunks = read(chunk({"reasoning_details": [detail]}), chunk(finish="stop", index=1), STOP)
    finishes = [(chunk.choice, chunk.opaque) for chunk in chunks if chunk.kind == "finish"]
    assert finishes == [(1, None), (0, Opaque("openai-chat", (detail,)))]


# Tool calls


def call(arguments: object = ..., name: str | None = None, id: str | None = None, index: int | None = 0) -> Fields:  # noqa: A002
    """Return one fragment of a tool call; what is None is left out, but arguments may be null."""
    function: Fields = {} if name is None else {"name": name}
    if arguments is not ...:
        function["arguments"] = arguments
    fragment: Fields = {"function": function}
    return fragment | {key: value for key, value in (("id", id), ("index", index)) if value is not None}


Call = tuple[str | None, str | None, str]

CALLS: list[Any] = [
    pytest.param(
        [[call("", "add", "a", 0)], [call('{"x"')], [call(":1}")]],
        [("a", "add", '{"x":1}')],
        id="one call",
    ),
    pytest.param(
        [
            [call("", "add", "a", 0), call("", "mul", "b", 1)],
            [call('{"x"', index=0)],
            [call('{"y"', index=1)],
            [call(":1}", index=0), call(":2}", index=1)],
        ],
        [("a", "add", '{"x":1}'), ("b", "mul", '{"y":2}')],
        id="two calls by index, interleaved",
    ),
    pytest.param(
        [[call("{", "add", "a", 0)], [call("{", "mul", "b", 1)], [call("}", id="a", index=1)], [call("}", id="b")]],
        [("a", "add", "{}"), ("b", "mul", "{}")],
        id="an id counts for more than an index",
    ),
    pytest.param(
        [[call("{", "add", "a", 7)], [call("}", index=7)]],
        [("a", "add", "{}")],
        id="indexes need not begin at 0",
    ),
    pytest.param(
        [[call("", "add", "a", None)], [call('{"x"', index=None)], [call(":1}", index=None)]],
        [("a", "add", '{"x":1}')],
        id="no index: the call in progress",
    ),
    pytest.param(
        [[call('{"x":1}', "add", "a", None), call('{"x":2}', "add", "b", None)]],
        [("a", "add", '{"x":1}'), ("b", "add", '{"x":2}')],
        id="no index, whole calls in one event (mistral)",
    ),
    pytest.param(
        [[call('{"x":1}', "add", "a", None)], [call('{"x":2}', "mul", "b", None)]],
        [("a", "add", '{"x":1}'), ("b", "mul", '{"x":2}')],
        id="no index, whole calls in two events (ollama)",
    ),
    pytest.param(
        [
            [call("{", "add", "a", None)],
            [call("}", index=None)],
            [call("{", "mul", "b", None)],
            [call("}", index=None)],
        ],
        [("a", "add", "{}"), ("b", "mul", "{}")],
        id="no index, one call after the other",
    ),
    pytest.param(
        [[call('{"x":1}', "add", "", None)], [call('{"x":2}', "add", "", None)]],
        [(None, "add", '{"x":1}'), (None, "add", '{"x":2}')],
        id="neither index nor id, the same tool twice (gemini)",
    ),
    pytest.param(
        [[call('{"x":1}', "add", "", 0), call('{"x":1}', "add", "", 0)]],
        [(None, "add", '{"x":1}'), (None, "add", '{"x":1}')],
        id="no id and the same index, the same tool twice",
    ),
    pytest.param(
        [[call("{}", "add", "", None)], [call("{}", "mul", "", None)]],
        [(None, "add", "{}"), (None, "mul", "{}")],
        id="neither index nor id, two tools",
    ),
    pytest.param(
        [[call("", "add", None, None)], [call("", "mul", None, None)]],
        [(None, "add", ""), (None, "mul", "")],
        id="neither index nor id nor arguments",
    ),
    pytest.param(
        [[call('{"x":1}', "add", "null", 0)], [call('{"x":2}', "mul", "null", 1)]],
        [(None, "add", '{"x":1}'), (None, "mul", '{"x":2}')],
        id="the word null as id is none (mistral)",
    ),
    pytest.param(
        [[call('{"x":1}', "add", "null", None), call('{"x":2}', "add", "null", None)]],
        [(None, "add", '{"x":1}'), (None, "add", '{"x":2}')],
        id="the word null as id, twice",
    ),
    pytest.param(
        [[call("{", "add", "a", 0)], [call("}")], [call("[", "mul", "b", 0)], [call("]")]],
        [("a", "add", "{}"), ("b", "mul", "[]")],
        id="one index for two calls",
    ),
    pytest.param(
        [[call("{}", "add", "a", 0), call("{}", "add", "b", 0)]],
        [("a", "add", "{}"), ("b", "add", "{}")],
        id="one index for two calls in one event",
    ),
    pytest.param(
        [[call("", "add", "a")], [call('{"x"', "add", "a")], [call(":1}", "add", "a")]],
        [("a", "add", '{"x":1}')],
        id="id and name on every fragment",
    ),
    pytest.param(
        [[call("", "add", "a")], [call('{"x"', "add")], [call(":1}", "add")]],
        [("a", "add", '{"x":1}')],
        id="the name on every fragment",
    ),
    pytest.param(
        [[call("", "add", "a1")], [call('{"x"', id="a2")], [call(":1}", id="a3")]],
        [("a1", "add", '{"x":1}')],
        id="another id on every fragment, but no name",
    ),
    pytest.param(
        [[call('{"x"', "add", "a")], [call(":1}", "", "")]],
        [("a", "add", '{"x":1}')],
        id="empty id and name later",
    ),
    pytest.param(
        [[call("{", "add")], [call("}", id="a")]],
        [("a", "add", "{}")],
        id="the id comes late",
    ),
    pytest.param(
        [[call("{", "add", index=None)], [call("}", id="a", index=None)]],
        [("a", "add", "{}")],
        id="the id comes late, no index",
    ),
    pytest.param(
        [[call("", "add")], [call("{}", "add", "a")]],
        [("a", "add", "{}")],
        id="the id comes late, with the name again",
    ),
    pytest.param(
        [[call("", "now", "a", 0), call("", "now", "b", 0)]],
        [("a", "now", ""), ("b", "now", "")],
        id="one index and one name for two calls without arguments",
    ),
    pytest.param(
        [[call("", "now", "a", None)], [call("", "now", "b", None)]],
        [("a", "now", ""), ("b", "now", "")],
        id="no index and one name for two calls without arguments",
    ),
    pytest.param(
        [[call('{"x', "add")], [call("{}", "mul")]],
        [(None, "add", '{"x'), (None, "mul", "{}")],
        id="another name after unfinished arguments",
    ),
    pytest.param(
        [[call("", "add", index=None)], [call("{", "add", index=None)], [call("}", "add", index=None)]],
        [(None, "add", "{}")],
        id="nothing but the name on every fragment",
    ),
    pytest.param(
        [
            [{**call("{", "add", "a"), "index": "0"}, {**call("[", "mul", "b"), "index": "1"}],
            [{**call("}"), "index": "0"}, {**call("]"), "index": 1.0}],
        ],
        [("a", "add", "{}"), ("b", "mul", "[]")],
        id="indexes of other types",
    ),
    pytest.param(
        [[call("", "get_", "a")], [call("", "weather")], [call("{}")]],
        [("a", "get_weather", "{}")],
        id="the name comes in pieces",
    ),
    pytest.param(
        [[call('{"x":1}', "add", index=0)], [call('{"x":2}', "add", index=1)]],
        [(None, "add", '{"x":1}'), (None, "add", '{"x":2}')],
        id="index but no id",
    ),
    pytest.param([[call(None, "now", "a")], [call(None)]], [("a", "now", "")], id="null arguments"),
    pytest.param([[call(..., "now", "a")]], [("a", "now", "")], id="no arguments"),
    pytest.param([[call("", "now", "a")], [call("")]], [("a", "now", "")], id="empty arguments"),
    pytest.param([[call("{}", "now", "a")]], [("a", "now", "{}")], id="an empty object"),
    pytest.param(
        [[{"index": 0, "id": "a", "function": {"name": "now"}}], [{"index": 0, "function": None}]],
        [("a", "now", "")],
        id="null function",
    ),
]


@pytest.mark.parametrize(("events", "expected"), CALLS)
def test_tool_calls(events: list[list[Fields]], expected: list[Call]) -> None:
    stream: list[Fields | str] = [*(chunk({"tool_calls": calls}) for calls in events), chunk(finish="tool_calls"), DONE]
    assert others(read(*stream)) == []
    answer = fold(*stream)
    sent = [(call.id, call.name, call.arguments) for call in answer.tool_calls]
    assert [(call[0] if known[0] else None, *call[1:]) for call, known in zip(sent, expected, strict=True)] == expected
    assert len({call.id for call in answer.tool_calls} - {None, ""}) == len(expected)  # each can be answered
    assert [call.position for call in answer.tool_calls] == list(range(len(expected)))
    assert answer.finish_reason == "tool_calls"


def test_arguments_sent_as_an_object_are_read() -> None:
    arguments = {"x": [1, 2.5, None], "é": "ü"}
    chunks = read(chunk({"tool_calls": [call(arguments, "add", "a")]}), STOP)
    (fragment,) = [chunk.tool_call for chunk in chunks if chunk.tool_call]
    assert (fragment.id, fragment.name, fragment.parse()) == ("a", "add", arguments)
    assert '"é": "ü"' in fragment.arguments
    assert others(chunks) == []


def test_arguments_are_the_text_exactly_as_sent() -> None:
    pieces = ['{ "x" :1.0', "0,\n", '"y":"\\u00e9', 'é"}  ']
    answer = fold(*(chunk({"tool_calls": [call(piece, id="a", name="f")]}) for piece in pieces), STOP)
    assert answer.tool_calls[0].arguments == "".join(pieces)


def test_every_fragment_says_whose_it_is() -> None:
    chunks = read(
        chunk({"tool_calls": [call("", "add", "a", 0), call("{", "mul", "b", 1)]}),
        chunk({"tool_calls": [call("{}", index=0)]}),
        chunk({"tool_calls": [call("}", index=1)]}),
    )
    fragments = [chunk.tool_call for chunk in chunks if chunk.kind == "tool_call" and chunk.tool_call]
    assert [(f.id, f.name, f.arguments, f.position) for f in fragments] == [
        ("a", "add", "", 0),
        ("b", "mul", "{", 1),
        ("a", "add", "{}", 0),
        ("b", "mul", "}", 1),
    ]


def test_each_choice_has_its_own_tool_calls() -> None:
    answer = fold(
        chunk({"tool_calls": [call('{"x":1}', "add", "a")]}),
        chunk({"tool_calls": [call('{"x":2}', "mul", "b")]}, index=1),
        DONE,
    )
    assert [(call.name, call.position) for call in answer.tool_calls] == [("add", 0)]
    assert [(call.name, call.position) for call in answer.alternatives[0].tool_calls] == [("mul", 0)]


# Usage


def counts(prompt: int, completion: int, **more: Any) -> Fields:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([{**text_event("a"), "usage": counts(3, 5)}, STOP, DONE], id="first"),
        pytest.param([text_event("a"), {**STOP, "usage": counts(3, 5)}, DONE], id="with the finish reason"),
        pytest.param([text_event("a"), STOP, bare(usage=counts(3, 5)), DONE], id="last, no choices"),
        pytest.param([text_event("a"), STOP, {"usage": counts(3, 5)}, DONE], id="last, choices left out"),
        pytest.param([text_event("a"), STOP, {"choices": None, "usage": counts(3, 5)}, DONE], id="last, choices null"),
        pytest.param(
            [
                {**text_event("a"), "usage": counts(3, 1)},
                {**text_event("b"), "usage": counts(3, 2)},
                {**STOP, "usage": counts(3, 5)},
            ],
            id="a running total on every event",
        ),
        pytest.param([text_event("a"), {**STOP, "usage": counts(3, 5)}, bare(usage=counts(3, 5)), DONE], id="twice"),
        pytest.param(
            [text_event("a"), {**STOP, "usage": counts(3, 5)}, bare(usage=None, moderation={}), DONE],
            id="null after the real one",
        ),
        pytest.param(
            [{**text_event("a"), "usage": None}, {**STOP, "usage": None}, bare(usage=counts(3, 5)), DONE],
            id="null before the real one",
        ),
        pytest.param([text_event("a"), {**STOP, "x_groq": {"id": "r", "usage": counts(3, 5)}}], id="under x_groq"),
        pytest.param(
            [text_event("a"), {**STOP, "usage": counts(3, 5), "x_groq": {"usage": counts(9, 9)}}], id="beside x_groq"
        ),
        pytest.param([text_event("a"), {**STOP, "usage": counts(3, 5)}, bare(x_groq={"id": "r"})], id="before x_groq"),
    ],
)
def test_usage_may_come_anywhere_and_the_last_that_says_something_counts(events: list[Fields | str]) -> None:
    answer = fold(*events)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)
    assert answer.text[0] == "a"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(counts(3, 5), (3, 5, None, None, None), id="nothing more"),
        pytest.param(
            counts(3, 5, prompt_tokens_details={"cached_tokens": 2, "cache_write_tokens": 1}),
            (3, 5, 2, 1, None),
            id="prompt details",
        ),
        pytest.param(
            counts(3, 5, completion_tokens_details={"reasoning_tokens": 4}), (3, 5, None, None, 4), id="output details"
        ),
        pytest.param(counts(3, 5, prompt_cache_hit_tokens=2), (3, 5, 2, None, None), id="deepseek"),
        pytest.param(
            counts(3, 5, prompt_cache_hit_tokens=2, prompt_tokens_details={"cached_tokens": 0}),
            (3, 5, 0, None, None),
            id="both; a zero is a count",
        ),
        pytest.param(
            counts(3, 5, prompt_tokens_details=None, completion_tokens_details=None),
            (3, 5, None, None, None),
            id="null details",
        ),
        pytest.param(
            {"prompt_tokens": "3", "completion_tokens": True, "prompt_tokens_details": [1]},
            (None, None, None, None, None),
            id="no numbers",
        ),
    ],
)
def test_usage_has_a_normal_form(usage: Fields, expected: tuple[int | None, ...]) -> None:
    found = fold({**STOP, "usage": usage}).usage
    assert found is not None
    assert (
        found.input_tokens,
        found.output_tokens,
        found.cache_read_tokens,
        found.cache_write_tokens,
        found.reasoning_tokens,
    ) == expected
    assert found.raw == usage


def test_a_stream_without_usage_has_none() -> None:
    assert fold(text_event("a"), STOP, DONE).usage is None


# The end


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("stop", "stop"),
        ("eos", "other"),
        ("end_turn", "stop"),
        ("tool_use", "tool_calls"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("refusal", "refusal"),
        ("Stop", "other"),
    ],
)
def test_finish_reasons(raw: str, normal: FinishReason) -> None:
    answer = fold(text_event("a"), chunk(finish=raw))
    assert (answer.finish_reason, answer.raw_finish_reason) == (normal, raw)


def test_a_finish_reason_may_come_twice_with_content_after_it() -> None:
    answer = fold(
        text_event("a"), chunk(finish="stop"), text_event("b"), chunk({"content": "c"}, finish="length"), DONE
    )
    assert (answer.text, answer.finish_reason, answer.raw_finish_reason) == ("abc", "length", "length")


def test_an_empty_finish_reason_is_none() -> None:
    body = sse(text_event("a"), chunk({"content": "b"}, finish=""))
    assert isinstance(failure(body), StreamInterrupted)


def test_finish_comes_after_the_content_of_its_event() -> None:
    chunks = read(chunk({"content": "a", "tool_calls": [call("{}", "f", "a")]}, finish="tool_calls"))
    assert kinds(chunks) == ["start", "text", "tool_call", "finish"]


@pytest.mark.parametrize(
    ("events", "whole"),
    [
        pytest.param([text_event("a")], False, id="text only"),
        pytest.param([text_event("a"), STOP], True, id="a finish reason"),
        pytest.param([text_event("a"), DONE], True, id="DONE"),
        pytest.param([text_event("a"), STOP, DONE], True, id="both"),
        pytest.param([DONE], True, id="DONE alone"),
        pytest.param([text_event("a"), " [DONE]  "], True, id="DONE between spaces"),
        pytest.param([text_event("a"), bare(usage=counts(1, 1))], False, id="usage is no mark"),
        pytest.param([text_event("a"), {"news": 1}], False, id="nor is something unknown"),
        pytest.param([text_event("a"), bare(id="[DONE]")], False, id="nor DONE inside of JSON"),
        pytest.param([text_event("a"), '"[DONE]"'], False, id="nor DONE as JSON"),
        pytest.param([text_event("a"), text_event("b", 1), STOP], False, id="one of two choices"),
        pytest.param(
            [text_event("a"), text_event("b", 1), STOP, chunk(index=1, finish="stop")], True, id="both choices"
        ),
        pytest.param([text_event("a"), text_event("b", 1), STOP, DONE], True, id="one of two choices, then DONE"),
        pytest.param([text_event("a"), STOP, text_event("b")], True, id="content after the mark"),
    ],
)
def test_only_a_mark_makes_the_end_honest(events: list[Fields | str], whole: bool) -> None:
    decoder = StreamDecoder(ChatVocabulary())
    decoder.feed(sse(*events))
    if whole:
        decoder.close()
    else:
        with pytest.raises(StreamInterrupted):
            decoder.close()


def test_done_without_a_finish_reason_is_complete_without_one() -> None:
    chunks = read(text_event("a"), DONE)
    assert chunks[-1] == Chunk("finish")
    assert read(DONE) == [Chunk("finish")]
    answer = fold(text_event("a"), DONE)
    assert (answer.complete, answer.finish_reason, answer.raw_finish_reason) == (True, None, None)


def test_done_keeps_the_finish_reason() -> None:
    assert [c.raw_finish_reason for c in read(text_event("a"), STOP, DONE) if c.kind == "finish"] == ["stop"]


def test_done_finishes_each_choice_that_has_not_finished() -> None:
    chunks = read(text_event("a"), text_event("b", 1), text_event("c", 2), chunk(index=1, finish="length"), DONE)
    finishes = [(chunk.choice, chunk.finish_reason) for chunk in chunks if chunk.kind == "finish"]
    assert finishes == [(1, "length"), (0, None), (2, None)]


def test_only_done_ends_reading() -> None:
    decoder = StreamDecoder(ChatVocabulary())
    decoder.feed(sse(text_event("a"), STOP, bare(usage=counts(1, 1))))
    assert not decoder.done
    assert [chunk.text for chunk in decoder.feed(sse(text_event("b"), DONE, text_event("c")))] == ["b"]
    assert decoder.done


def test_several_answers_stay_apart() -> None:
    both = {"id": "r1", "choices": [choice({"content": "a"}), choice({"content": "x"}, 1)]}
    answer = fold(both, text_event("y", 1), text_event("b"), chunk(index=1, finish="length"), STOP, DONE)
    assert (answer.text, answer.finish_reason) == ("ab", "stop")
    (other,) = answer.alternatives
    assert (other.text, other.finish_reason, other.id) == ("xy", "length", "r1")


@pytest.mark.parametrize("index", [{}, {"index": None}])
def test_a_choice_without_index_is_the_first(index: Fields) -> None:
    answer = fold({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop", **index}]})
    assert (answer.text, answer.alternatives) == ("a", ())


# Errors inside a stream


@pytest.mark.parametrize("name", ["", "error"])
@pytest.mark.parametrize(
    ("error", "kind", "retryable", "code"),
    [
        ({"message": "m", "type": "rate_limit_error"}, RateLimitError, True, "rate_limit_error"),
        ({"message": "m", "type": "overloaded_error"}, OverloadedError, True, "overloaded_error"),
        ({"message": "m", "type": "server_error", "code": None}, ServerError, True, "server_error"),
        ({"message": "m", "code": 502}, ServerError, True, "502"),
        ({"message": "m", "code": 429, "metadata": {"raw": "x"}}, RateLimitError, True, "429"),
        ({"message": "m", "code": "401"}, AuthenticationError, False, "401"),
        ({"message": "m", "code": "model_not_found"}, NotFoundError, False, "model_not_found"),
        (
            {"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"},
            BadRequestError,
            False,
            "context_length_exceeded",
        ),
        (
            {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400},
            BadRequestError,
            False,
            "tool_use_failed",
        ),
        ({"message": "m", "code": "insufficient_quota"}, RateLimitError, False, "insufficient_quota"),
        ({"message": "m"}, ServerError, True, None),
        ("m", ServerError, True, None),
    ],
)
def test_an_error_in_the_stream_is_classified_by_its_words(
    error: Fields | str, kind: type[ProviderError], retryable: bool, code: str | None, name: str
) -> None:
    found = failure(sse(text_event("a")) + sse({"error": error}, name=name))
    assert isinstance(found, ProviderError)
    assert (type(found), found.retryable, found.code, found.message) == (kind, retryable, code, "m")
    assert found.request_id == "req-1"


def test_an_error_event_needs_no_error_key() -> None:
    found = failure(sse(text_event("a")) + sse({"message": "busy", "type": "overloaded_error"}, name="error"))
    assert isinstance(found, OverloadedError)
    assert found.message == "busy"


@pytest.mark.parametrize(("code", "kind"), [(400, BadRequestError), (500, ServerError)])
def test_an_error_object_needs_no_error_key(code: int, kind: type[ProviderError]) -> None:
    event = {"object": "error", "message": "m", "type": "SomeError", "param": None, "code": code}
    found = failure(sse(text_event("a"), event, DONE))
    assert (type(found), str(found).split(" (")[0]) == (kind, "m")


def test_an_error_event_with_choices_is_read_like_any_other() -> None:
    decoder = StreamDecoder(ChatVocabulary())
    chunks = decoder.feed(sse(text_event("a")) + sse(text_event("b"), name="error") + sse(STOP))
    decoder.close()
    assert "".join(chunk.text for chunk in chunks) == "ab"


def test_an_error_beside_content_comes_after_it() -> None:
    event = chunk({"content": "b"}, finish="error", error={"code": 502, "message": "upstream"})
    decoder = StreamDecoder(ChatVocabulary())
    chunks = decoder.feed(sse(text_event("a"), event, text_event("c"), DONE))
    assert "".join(chunk.text for chunk in chunks) == "ab"
    with pytest.raises(ServerError, match="upstream"):
        decoder.close()


def test_a_null_error_is_none() -> None:
    chunks = read(chunk({"content": "a"}, error=None), STOP)
    assert kinds(chunks) == ["start", "text", "finish"]


# What has no normal form

UNKNOWN = [
    pytest.param(chunk({"content": "Hello"}, news={"a": 1}), id="in the event"),
    pytest.param({"choices": [choice({"content": "Hello"}, news=1)]}, id="in a choice"),
    pytest.param(chunk({"content": "Hello", "news": "x"}), id="in a delta"),
    pytest.param(chunk({"content": "Hello", "tool_calls": [{"index": 0, "id": "a", "news": 1}]}), id="in a tool call"),
    pytest.param(
        chunk({"content": "Hello", "tool_calls": [{"index": 0, "function": {"name": "f", "news": True}}]}),
        id="in a function",
    ),
    pytest.param(
        chunk(
            {"content": "Hello", "tool_calls": [{"id": "a", "extra_content": {"google": {"thought_signature": "s"}}}]}
        ),
        id="a thought signature",
    ),
    pytest.param(chunk({"content": "Hello", "news": 1}, news=2), id="in two places"),
    pytest.param(
        {"choices": [choice({"content": "Hello"}, logprobs={"content": [{"token": "Hello", "logprob": -0.1}]})]},
        id="logprobs",
    ),
    pytest.param({"choices": [choice({"content": "Hello"}, logprobs=[-0.1])]}, id="logprobs of another shape"),
    pytest.param(
        {"choices": [choice({"content": "Hello"}, content_filter_results={"hate": {"filtered": False}})]},
        id="content filter results",
    ),
    pytest.param(chunk({"content": "Hello"}, prompt_filter_results=[{"prompt_index": 0}]), id="prompt filter results"),
    pytest.param(chunk({"content": "Hello"}, citations=["https://example.org"]), id="citations of the event"),
    pytest.param(chunk({"content": "Hello"}, search_results=[{"title": "T"}]), id="search results"),
    pytest.param({"choices": [{**choice({"content": "Hello"}), "index": 0.0}], "citations": ["u"]}, id="of a misfit"),
    pytest.param(chunk({"content": "Hello", "function_call": {"name": "f", "arguments": "{}"}}), id="a function call"),
    pytest.param(chunk({"content": "Hello", "audio": {"data": "UklG"}}), id="audio"),
    pytest.param(chunk({"content": "Hello", "images": [{"image_url": {"url": "data:"}}]}), id="images"),
    pytest.param(chunk({"content": "Hello"}, x_groq={"id": "r", "error": "stopped early"}), id="an error of x_groq"),
    pytest.param(chunk({"content": "Hello", "refusal": {"why": 1}}), id="a refusal that is no string"),
    pytest.param(chunk({"content": "Hello", "reasoning": ["a"]}), id="reasoning that is no string"),
    pytest.param(chunk({"content": "Hello", "tool_calls": "f"}), id="tool calls that are no list"),
    pytest.param({**chunk({"content": "Hello"}), "usage": 5}, id="usage that is no object"),
    pytest.param({"choices": [choice({"content": "Hello"}), "x"]}, id="a choice that is no object"),
    pytest.param({"choices": [{**choice({"content": "Hello"}), "index": "first"}]}, id="an index that is no number"),
    pytest.param({"choices": [{**choice({"content": "Hello"}), "finish_reason": 1}]}, id="a finish reason likewise"),
]


@pytest.mark.parametrize("event", UNKNOWN)
@pytest.mark.parametrize("before", [(), (text_event("a"),)], ids=["at first", "among tokens"])
def test_what_has_no_normal_form_passes_as_exactly_one_other(event: Fields, before: tuple[Fields, ...]) -> None:
    chunks = read(*before, event, text_event("b"))
    assert others(chunks) == [data(event)]
    expected = "Hellob" if not before else "aHellob"
    assert "".join(chunk.text for chunk in chunks if chunk.kind == "text") == expected


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": None, "message": {"content": "Hello"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop", "news": 1}]},
        {"choices": {"delta": {"content": "Hello"}}},
        {"choices": [{"index": 0, "delta": "Hello"}]},
        {"choices": [{"index": 0, "delta": {"content": {"text": "Hello"}}}]},
        {"output": "Hello"},
        ["Hello"],
        "Hello",
        5,
    ],
)
def test_an_event_of_another_shape_passes_as_other(event: Any) -> None:
    text = json.dumps(event)
    assert others(read(text)) == [text.encode()]


@pytest.mark.parametrize(
    "event",
    [
        chunk({"role": "assistant", "content": "Hello"}),
        chunk({"content": "Hello", "tool_calls": None, "refusal": None, "function_call": None, "audio": None}),
        chunk(
            {"content": "Hello"}, object="chat.completion.chunk", created=1, system_fingerprint="fp", service_tier="x"
        ),
        chunk({"content": "Hello"}, obfuscation="abc", usage=None, error=None, citations=None, x_groq=None),
        chunk({"content": "Hello"}, x_groq={"id": "r", "seed": 1, "usage": None}),
        chunk({"content": "Hello"}, news=None),
        {"choices": [choice({"content": "Hello", "news": None}, news=None)]},
        {"choices": [choice({"content": "Hello"}, logprobs=None, content_filter_results={})]},
        {"choices": [choice({"content": "Hello"}, logprobs={"content": None, "refusal": []})]},
        {"choices": [choice({"content": "Hello"}, message={"content": "Hello"}, text="Hello")]},
        {"choices": [choice({"content": "Hello"}), {"index": 0}, {"index": 0, "delta": None}]},
        chunk({"content": "Hello"}, created=1.5),
    ],
)
def test_empty_and_repeated_fields_give_no_chunks(event: Fields) -> None:
    assert kinds(read(event)) == ["start", "text"]


# Events that do not fit, where the decoder takes a longer way


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"model": "m2", "id": "r2"},
        {"usage": counts(1, 2)},
        {"x_groq": {"usage": counts(1, 2)}},
        {"citations": ["u"]},
        {"search_results": [{"title": "T"}]},
        {"prompt_filter_results": [{"prompt_index": 0}]},
    ],
)
@pytest.mark.parametrize(
    "made",
    [
        choice({"content": "a"}),
        choice({"content": ["a", {"type": "thinking", "thinking": "b"}, {"type": "reference"}]}),
        choice({"role": "assistant", "content": None}, finish="stop"),
        choice({"reasoning_content": "a", "reasoning": "b", "refusal": "c"}),
        choice({"reasoning": "a", "reasoning_details": [{"type": "e", "data": "x"}]}, finish="stop"),
        choice({"annotations": [{"type": "url_citation"}]}),
        choice({"tool_calls": [call("{", "add", "a", 0), call("[", "mul", "b", 1), call("}", index=0)]}),
        choice({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": None}]}),
        choice({"function_call": {"name": "f"}}),
        choice({"audio": {"data": "x"}}),
        choice({"images": [{}]}),
        choice(logprobs={"content": [{"token": "a"}]}),
        choice(content_filter_results={"hate": {"filtered": True}}),
        {"delta": None, "message": {"content": "a"}},
        {"delta": None, "text": "a"},
        {"delta": None, "finish_reason": "length", "native_finish_reason": "MAX"},
        choice({"content": "a"}, index=1),
    ],
)
def test_an_event_of_a_wrong_shape_gives_the_same_chunks(made: Fields, more: Fields) -> None:
    event = {"id": "r1", "model": "m1", "choices": [made], **more}
    misfit = {**event, "choices": [{**made, "index": float(made.get("index", 0))}]}
    fitting = [replace(chunk, raw=None) for chunk in read(event)]
    assert [replace(chunk, raw=None) for chunk in read(misfit)] == fitting


def test_an_error_that_does_not_fit_is_one() -> None:
    misfit = {"choices": [{"index": 0.0, "delta": {"content": "a"}}], "error": {"code": 503, "message": "m"}}
    assert isinstance(failure(sse(misfit)), OverloadedError)


# Token after token, where the decoder takes a shorter way


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(text_event("b"), [("text", 0, "b")], id="a token"),
        pytest.param({"choices": [{"delta": {"content": "b"}}]}, [("text", 0, "b")], id="a token without index"),
        pytest.param(text_event(""), [], id="no text"),
        pytest.param(chunk({"content": None}), [], id="null"),
        pytest.param(chunk(), [], id="an empty delta"),
        pytest.param(text_event("b", 1), [("text", 1, "b")], id="another choice"),
        pytest.param(chunk({"content": "b"}, finish="stop"), [("text", 0, "b"), ("finish", 0, "")], id="a finish"),
        pytest.param({**text_event("b"), "usage": counts(1, 1)}, [("text", 0, "b"), ("usage", 0, "")], id="usage"),
        pytest.param(
            {**text_event("b"), "x_groq": {"usage": counts(1, 1)}},
            [("text", 0, "b"), ("usage", 0, "")],
            id="usage of groq",
        ),
        pytest.param(
            chunk({"content": "b", "reasoning": "r"}), [("reasoning", 0, "r"), ("text", 0, "b")], id="reasoning"
        ),
        pytest.param(chunk({"content": "b", "refusal": "r"}), [("text", 0, "b"), ("refusal", 0, "r")], id="refusal"),
        pytest.param(
            chunk({"content": "b", "tool_calls": [call("{}", "f", "a")]}),
            [("text", 0, "b"), ("tool_call", 0, "")],
            id="a tool call",
        ),
        pytest.param(
            {"choices": [choice({"content": "b"}), choice({"content": "c"}, 1)]},
            [("text", 0, "b"), ("text", 1, "c")],
            id="two choices",
        ),
        pytest.param(
            {"choices": [choice({"content": "b"}), choice({"content": "c"})]},
            [("text", 0, "b"), ("text", 0, "c")],
            id="one choice twice",
        ),
        pytest.param(
            chunk({"content": "b", "annotations": [{"type": "u"}]}),
            [("text", 0, "b"), ("citation", 0, "")],
            id="citation",
        ),
        pytest.param(chunk({"content": ["b"]}), [("text", 0, "b")], id="a list of parts"),
        pytest.param(bare(), [], id="no choices"),
    ],
)
def test_among_tokens_nothing_is_overlooked(event: Fields, expected: list[tuple[str, int, str]]) -> None:
    before, *rest = read(text_event("a"), event, text_event("z"))[1:]
    *found, after = rest
    assert (before.text, after.text) == ("a", "z")
    assert [(chunk.kind, chunk.choice, chunk.text) for chunk in found] == expected


def test_an_error_among_tokens_is_one() -> None:
    assert isinstance(failure(sse(text_event("a"), chunk({"content": "b"}, error={"code": 503}))), OverloadedError)


def test_an_unknown_event_keeps_its_name() -> None:
    decoder = StreamDecoder(ChatVocabulary())
    (found,) = decoder.feed(sse({"a": 1}, name="moderation"))
    assert (found.kind, found.event, found.raw) == ("other", "moderation", b'{"a": 1}')
    assert read({"a": 1}) == [Chunk("other", raw=b'{"a": 1}')]


def test_long_thinking_is_not_kept_token_by_token() -> None:
    import tracemalloc

    def think(text: str) -> bytes:
        part = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": [part]}}]}).encode() + b"\n\n"

    decoder = StreamDecoder(ChatVocabulary("mistral-chat"))
    decoder.feed(think("Well."))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(5000):
        decoder.feed(think(f" {number}"))
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 200_000
    out = decoder.feed(b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n')
    whole = "Well." + "".join(f" {number}" for number in range(5000))
    assert out[-1].opaque is not None
    assert out[-1].opaque.items == ({"type": "thinking", "thinking": [{"type": "text", "text": whole}]},)
