"""Test the rules of the fold, and that every wire gives the same answer for bytes cut anywhere and wrong values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.chunk import Chunk, Opaque, ToolCall, Usage, content
from streamcore.completion import Attempt, Completion, Fold
from streamcore.errors import StreamcoreError, StreamInterrupted
from streamcore.request import Message
from streamcore.tool_call_fragments import call_id
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore.wire.lenient import items, mapping
from streamcore_anthropic.wire import AnthropicVocabulary
from streamcore_openai.responses_wire import ResponsesVocabulary

Fields = dict[str, Any]


def fold(*chunks: Chunk, complete: bool = True) -> Completion:
    fold = Fold()
    fold.add(chunks)
    return fold.completion(complete=complete)


def called(arguments: str, position: int = 0, name: str | None = "add", id: str | None = "a") -> Chunk:  # noqa: A002
    return Chunk("tool_call", tool_call=ToolCall(id, name, arguments, position))


def finish(raw: str | None, choice: int = 0, opaque: Opaque | None = None) -> Chunk:
    return Chunk("finish", choice=choice, finish_reason="stop" if raw else None, raw_finish_reason=raw, opaque=opaque)


OPAQUE = Opaque("w", ({"signature": "s"},))


# The fold


def test_nothing_folds_to_nothing() -> None:
    assert fold(complete=False) == Completion()


def test_each_kind_has_its_field() -> None:
    answer = fold(
        Chunk("start", id="r", model="m", request_id="q"),
        Chunk("ping"),
        Chunk("reasoning", text="h"),
        Chunk("text", text="a"),
        Chunk("other", event="news", raw=b"{}"),
        Chunk("refusal", text="n"),
        Chunk("reasoning", text="m"),
        Chunk("citation", data={"url": "u"}),
        Chunk("text", text="b", index=1),
        Chunk("refusal", text="o"),
        called("{}"),
        Chunk("usage", usage=Usage(1, 2)),
        Chunk("finish", finish_reason="length", raw_finish_reason="max", finish_detail="d", opaque=OPAQUE),
    )
    assert answer == Completion(
        text="ab",
        reasoning="hm",
        reasoning_parts=("hm",),
        refusal="no",
        tool_calls=(ToolCall("a", "add", "{}"),),
        citations=({"url": "u"},),
        usage=Usage(1, 2),
        finish_reason="length",
        raw_finish_reason="max",
        finish_detail="d",
        model="m",
        id="r",
        request_id="q",
        complete=True,
        opaque=OPAQUE,
    )


def test_the_caller_says_whether_it_is_complete_and_who_was_asked() -> None:
    fold = Fold()
    fold.add([Chunk("text", text="a")])
    attempts = (Attempt("p", "m", "busy"), Attempt("p", "m"))
    assert fold.completion(complete=False).complete is False
    assert fold.completion(complete=True, attempts=attempts).attempts == attempts


def test_the_answer_so_far_may_be_asked_for_at_any_time() -> None:
    fold = Fold()
    fold.add([Chunk("text", text="a"), called("{")])
    early = fold.completion(complete=False)
    fold.add([Chunk("text", text="b"), called("}")])
    late = fold.completion(complete=False)
    assert (early.text, early.tool_calls[0].arguments) == ("a", "{")
    assert (late.text, late.tool_calls[0].arguments) == ("ab", "{}")


def test_the_first_start_counts() -> None:
    answer = fold(Chunk("start", id="r1", model="m1"), Chunk("start", id="r2", model="m2"))
    assert (answer.id, answer.model) == ("r1", "m1")


@pytest.mark.parametrize(
    "chunks",
    [
        [Chunk("usage", usage=Usage(3, 5))],
        [Chunk("usage", usage=Usage(1, 1)), Chunk("usage", usage=Usage(3, 5))],
        [Chunk("usage", usage=Usage(3, 5)), Chunk("usage")],
        [Chunk("start", usage=Usage(3, 0)), Chunk("usage", usage=Usage(3, 5))],
        [Chunk("start", usage=Usage(3, 5)), Chunk("text", text="a")],
        [Chunk("usage", usage=Usage(1, 1)), Chunk("finish", raw_finish_reason="x"), Chunk("usage", usage=Usage(3, 5))],
    ],
)
def test_the_last_usage_that_says_something_counts(chunks: list[Chunk]) -> None:
    assert fold(*chunks).usage == Usage(3, 5)


@pytest.mark.parametrize(
    ("chunks", "raw"),
    [
        ([], None),
        ([finish("stop")], "stop"),
        ([finish("stop"), Chunk("text", text="b"), finish("length")], "length"),
        ([finish("stop"), finish(None)], "stop"),
        ([finish(None), finish("stop")], "stop"),
        ([finish(None)], None),
    ],
)
def test_the_last_finish_reason_counts(chunks: list[Chunk], raw: str | None) -> None:
    assert fold(*chunks).raw_finish_reason == raw


def test_opaque_data_of_an_earlier_finish_are_kept() -> None:
    assert fold(finish("stop", opaque=OPAQUE), finish("stop")).opaque == OPAQUE
    newer = Opaque("w", ({"signature": "t"},))
    assert fold(finish("stop", opaque=OPAQUE), finish(None, opaque=newer)).opaque == newer


def test_tool_calls_merge_by_position() -> None:
    answer = fold(
        called("", 1, None, None),
        called("{", 0, "ge", "a"),
        called("[", 1, "mul", None),
        called("}", 0, "get", "a"),
        called("]", 1, "mul", "b"),
    )
    assert answer.tool_calls == (ToolCall("a", "get", "{}", 0), ToolCall("b", "mul", "[]", 1))


def test_a_custom_call_stays_one() -> None:
    pieces = [Chunk("tool_call", tool_call=ToolCall("a", "sql", text, custom=True)) for text in ("SELECT", " 1")]
    assert fold(*pieces).tool_calls == (ToolCall("a", "sql", "SELECT 1", custom=True),)


def test_a_restart_discards_everything_before_it() -> None:
    fold = Fold()
    fold.add(
        [
            Chunk("start", id="r1", model="m1", usage=Usage(1, 1)),
            Chunk("reasoning", text="x"),
            Chunk("text", text="x"),
            Chunk("text", text="x", choice=1),
            Chunk("citation", data={}),
            called("x"),
            finish("length", opaque=OPAQUE),
            Chunk("restart"),
            Chunk("text", text="a"),
        ]
    )
    assert fold.completion(complete=False) == Completion(text="a")
    assert not fold.finished
    fold.add([Chunk("start", id="r2"), Chunk("text", text="b"), finish("stop")])
    answer = fold.completion(complete=True)
    assert (answer.text, answer.id, answer.finish_reason, answer.opaque) == ("ab", "r2", "stop", None)
    assert fold.finished


def test_finished_says_that_a_finish_passed() -> None:
    fold = Fold()
    fold.add([Chunk("text", text="a"), Chunk("usage", usage=Usage(1, 1))])
    assert not fold.finished
    fold.add([finish(None)])
    assert fold.finished


def test_other_answers_are_alternatives() -> None:
    answer = fold(
        Chunk("start", id="r", model="m"),
        Chunk("text", text="c", choice=2),
        Chunk("text", text="a"),
        Chunk("text", text="b", choice=1),
        Chunk("reasoning", text="hm", choice=1),
        Chunk("tool_call", choice=2, tool_call=ToolCall("t", "f", "{}")),
        finish("stop"),
        finish("length", 1),
        Chunk("usage", usage=Usage(1, 2)),
    )
    assert (answer.text, answer.reasoning, answer.tool_calls, answer.raw_finish_reason) == ("a", "", (), "stop")
    one, two = answer.alternatives
    assert (one.text, one.reasoning, one.raw_finish_reason) == ("b", "hm", "length")
    assert (two.text, two.tool_calls, two.raw_finish_reason) == ("c", (ToolCall("t", "f", "{}"),), None)
    assert (one.id, one.model, one.complete) == ("r", "m", True)
    assert (answer.usage, one.usage, one.alternatives) == (Usage(1, 2), None, ())


@given(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=8))
def test_how_chunks_are_batched_does_not_matter(sizes: list[int]) -> None:
    chunks = [
        Chunk("start", id="r"),
        Chunk("text", text="x"),
        Chunk("restart"),
        Chunk("text", text="a"),
        called("{"),
        Chunk("text", text="b"),
        called("}"),
        finish("stop"),
        Chunk("text", text="c"),
    ]
    batches, at = Fold(), 0
    for size in [*sizes, len(chunks)]:
        batches.add(chunks[at : at + size])
        at += size
    assert batches.completion(complete=True) == fold(*chunks)


# The message for the next turn


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Completion(text="a"), Message("assistant", "a")),
        (Completion(refusal="no"), Message("assistant", "no")),
        (Completion(text="a", refusal="no"), Message("assistant", "a")),
        (Completion(reasoning="hm", text="a"), Message("assistant", "a")),
        (
            Completion(tool_calls=(ToolCall("a", "add", "{}"),), opaque=OPAQUE),
            Message("assistant", "", tool_calls=(ToolCall("a", "add", "{}"),), opaque=OPAQUE),
        ),
    ],
)
def test_to_message(answer: Completion, message: Message) -> None:
    assert answer.to_message() == message
    assert answer.to_message().opaque == message.opaque


# Tool calls


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", {}),
        ("  \n", {}),
        ("{}", {}),
        ('{"x": [1, 2.5, "é", null]}', {"x": [1, 2.5, "é", None]}),
        ("[1]", [1]),
        ("null", None),
        ('"a"', "a"),
    ],
)
def test_parse_gives_the_arguments(arguments: str, value: object) -> None:
    assert ToolCall("a", "add", arguments).parse() == value


@pytest.mark.parametrize("arguments", ['{"x":', "SELECT 1", "{}{}", "{'x': 1}"])
def test_parse_says_whose_arguments_are_no_json(arguments: str) -> None:
    with pytest.raises(ValueError, match="'add' \\('a'\\)") as caught:
        ToolCall("a", "add", arguments + " " * 200).parse()
    assert arguments in str(caught.value).replace('\\"', '"').replace("\\'", "'")
    assert len(str(caught.value)) < 300


# Chunks


def test_a_chunk_built_quickly_is_a_chunk_like_any_other() -> None:
    call = ToolCall("a", "add")
    quick = content("tool_call", "x", 1, 2, call)
    assert quick == Chunk("tool_call", text="x", index=1, choice=2, tool_call=call)
    assert type(quick) is Chunk
    assert repr(quick) == repr(Chunk("tool_call", text="x", index=1, choice=2, tool_call=call))
    assert content("text", "x") == Chunk("text", text="x")
    assert hash(content("text", "x")) == hash(Chunk("text", text="x"))
    with pytest.raises(AttributeError):
        quick.text = "y"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# Whole bodies


def named(events: list[Fields], ending: bytes = b"\n") -> bytes:
    """Return the events as vendors write them that give each its name."""
    return b"".join(
        b"event: %s%sdata: %s%s%s" % (event["type"].encode(), ending, json.dumps(event).encode(), ending, ending)
        for event in events
    )


def unnamed(events: list[Fields], ending: bytes = b"\n") -> bytes:
    return b"".join(
        b"data: %s%s%s" % (json.dumps(event, ensure_ascii=False).encode(), ending, ending) for event in events
    )


def choices(*deltas: tuple[int, Fields, str | None], **event: Any) -> Fields:
    made = [{"index": index, "delta": delta, "finish_reason": reason} for index, delta, reason in deltas]
    return {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m1", "choices": made, **event}


def tool(index: int, arguments: str, **more: Any) -> Fields:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"tool_calls": [{"index": index, "function": {**name, "arguments": arguments}, **more}]}


def detail(**more: Any) -> Fields:
    return {"type": "reasoning.text", "index": 0, **more}


def thinking(words: str, **more: Any) -> Fields:
    return {"type": "thinking", "thinking": [{"type": "text", "text": words}], **more}


CHAT: list[Fields] = [
    choices((0, {"role": "assistant", "content": ""}, None), (1, {"role": "assistant", "content": None}, None)),
    choices((0, {"reasoning": "Sea", "reasoning_details": [detail(text="Sea")]}, None)),
    choices((0, {"reasoning_details": [detail(signature="sig")]}, None)),
    choices((0, {"content": "Wellen 🌊 "}, None), (1, {"content": "Höhe\u2028"}, None)),
    choices((0, {"content": "\r\n\tund 海", "annotations": [{"type": "url_citation", "url": "u"}]}, None)),
    choices((0, {"content": " more"}, None), news={"a": 1.5}),
    choices((0, tool(0, "", name="tide", id="a", type="function"), None)),
    choices((0, tool(0, '{"at":"Kö'), None), usage={"prompt_tokens": 9, "completion_tokens": 1}),
    choices((0, tool(1, "{}", name="now", id="b"), None)),
    choices((0, tool(0, 'ln"}'), None), (1, {}, "length")),
    choices((0, {"refusal": None}, "tool_calls")),
    choices(usage={"prompt_tokens": 9, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4}}),
]
ZONE = {"zone": "Europe/Paris"}
MISTRAL: list[Fields] = [
    choices((0, {"role": "assistant", "content": [thinking("Hm")]}, None)),
    choices((0, {"content": [thinking("…", closed=True)]}, None)),
    choices((0, {"content": [{"type": "text", "text": "Ça"}, {"type": "reference", "reference_ids": [0]}]}, None)),
    choices((0, {"content": " va"}, None)),
    choices((0, {"tool_calls": [{"id": "null", "function": {"name": "now", "arguments": ZONE}}]}, None)),
    choices((0, {"content": ""}, "tool_calls"), usage={"prompt_tokens": 9, "completion_tokens": 20}),
]


def piece(index: int, kind: str, **more: Any) -> Fields:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def opened(index: int, kind: str, **more: Any) -> Fields:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **more}}


ANTHROPIC: list[Fields] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "model": "m1",
            "content": [{"type": "text", "text": "Already: "}],
            "stop_reason": None,
            "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1},
        },
    },
    opened(1, "thinking", thinking="", signature=""),
    {"type": "ping"},
    piece(1, "thinking_delta", thinking="Die Höhe …"),
    piece(1, "signature_delta", signature="sig=="),
    {"type": "content_block_stop", "index": 1},
    opened(2, "redacted_thinking", data="EmwK"),
    opened(3, "server_tool_use", id="s", name="web_search", input={}),
    piece(3, "input_json_delta", partial_json='{"q":"海"}'),
    {"type": "content_block_stop", "index": 3},
    opened(4, "text", text=""),
    piece(4, "text_delta", text="Wellen 🌊\r\n"),
    piece(4, "citations_delta", citation={"type": "char_location", "cited_text": "Wellen"}),
    piece(4, "text_delta", text=" und Meer"),
    {"type": "content_block_stop", "index": 4},
    opened(5, "tool_use", id="a", name="tide", input={}),
    piece(5, "input_json_delta", partial_json=""),
    piece(5, "input_json_delta", partial_json='{"at":"Köl'),
    piece(5, "input_json_delta", partial_json='n"}'),
    {"type": "content_block_stop", "index": 5},
    opened(6, "tool_use", id="b", name="now", input={"zone": "UTC"}),
    {"type": "content_block_stop", "index": 6},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"input_tokens": None, "output_tokens": 20},
    },
    {"type": "message_stop"},
]


def happened(kind: str, index: int, **more: Any) -> Fields:
    return {"type": f"response.{kind}", "output_index": index, **more}


REASONED = {
    "id": "rs",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Höhe"}],
    "encrypted_content": "gAAAA",
}
ANNOTATION = {"type": "url_citation", "url": "u"}
ANSWERS_BY_TEXT = {
    "id": "m",
    "type": "message",
    "content": [{"type": "output_text", "text": "Wellen 🌊\r\n und 海", "annotations": [ANNOTATION]}],
}
ASKED = {"id": "fc", "type": "function_call", "call_id": "a", "name": "tide", "arguments": '{"at":"Köln"}'}
QUERY = {"id": "ct", "type": "custom_tool_call", "call_id": "b", "name": "sql", "input": "SELECT 'é'"}
RESPONSES: list[Fields] = [
    {"type": "response.created", "response": {"id": "resp_1", "model": "m1", "status": "in_progress"}},
    happened("output_item.added", 0, item={"id": "rs", "type": "reasoning", "summary": []}),
    happened("reasoning_summary_text.delta", 0, item_id="rs", summary_index=0, delta="Höhe"),
    happened("reasoning_summary_text.done", 0, item_id="rs", summary_index=0, text="Höhe"),
    happened("output_item.done", 0, item=REASONED),
    {"type": "keepalive"},
    happened("output_item.added", 1, item={"id": "m", "type": "message", "content": []}),
    happened("output_text.delta", 1, item_id="m", content_index=0, delta="Wellen 🌊\r\n", logprobs=[]),
    happened("output_text.delta", 1, item_id="m", content_index=0, delta=" und 海"),
    happened("output_text.annotation.added", 1, item_id="m", content_index=0, annotation=ANNOTATION),
    happened("output_text.done", 1, item_id="m", content_index=0, text="Wellen 🌊\r\n und 海"),
    happened("output_item.done", 1, item=ANSWERS_BY_TEXT),
    happened("output_item.added", 2, item={**ASKED, "arguments": ""}),
    happened("function_call_arguments.delta", 2, item_id="fc", delta='{"at":"Kö'),
    happened("function_call_arguments.delta", 2, item_id="fc", delta='ln"}'),
    happened("function_call_arguments.done", 2, item_id="fc", arguments='{"at":"Köln"}'),
    happened("output_item.done", 2, item=ASKED),
    happened("output_item.done", 3, item=QUERY),
    {
        "type": "response.completed",
        "response": {
            "id": "resp_1",
            "model": "m1",
            "status": "completed",
            "output": [REASONED, ANSWERS_BY_TEXT, ASKED, QUERY],
            "usage": {"input_tokens": 9, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 4}},
        },
    },
]

DONE = b"data: [DONE]\n\n"
Make = Callable[[], Vocabulary]


def mistral() -> Vocabulary:
    return ChatVocabulary("mistral-chat")


BODIES: dict[str, tuple[Make, bytes]] = {
    "chat": (ChatVocabulary, unnamed(CHAT) + DONE),
    "chat with CRLF, comments, a BOM and no end": (
        ChatVocabulary,
        b"\xef\xbb\xbf: PROCESSING\r\n\r\n" + unnamed(CHAT, b"\r\n") + b":\r\n\r\n\r\ndata: [DONE]",
    ),
    "mistral": (mistral, unnamed(MISTRAL) + DONE),
    "anthropic": (AnthropicVocabulary, named(ANTHROPIC)),
    "anthropic with CR, a BOM and no end": (
        AnthropicVocabulary,
        b"\xef\xbb\xbf" + named(ANTHROPIC, b"\r").rstrip(b"\r"),
    ),
    "responses": (ResponsesVocabulary, named(RESPONSES)),
    "responses without names": (ResponsesVocabulary, unnamed(RESPONSES, b"\r\n") + DONE),
}


def decode(make: Make, reads: list[bytes]) -> tuple[list[Chunk], Completion]:
    decoder, fold = StreamDecoder(make()), Fold()
    chunks = [chunk for data in reads for chunk in decoder.feed(data)] + decoder.flush()
    fold.add(chunks)
    decoder.close()
    return chunks, fold.completion(complete=True)


TOOLS = (ToolCall("a", "tide", '{"at":"Köln"}', 0), ToolCall("b", "now", "{}", 1))


@pytest.mark.parametrize("name", [name for name in BODIES if name.startswith("chat")])
def test_what_the_chat_bodies_say(name: str) -> None:
    make, body = BODIES[name]
    _, answer = decode(make, [body])
    assert (answer.reasoning, answer.text) == ("Sea", "Wellen 🌊 \r\n\tund 海 more")
    assert answer.tool_calls == TOOLS
    assert (answer.raw_finish_reason, answer.alternatives[0].raw_finish_reason) == ("tool_calls", "length")
    assert answer.alternatives[0].text == "Höhe\u2028"
    assert answer.usage == Usage(9, 20, 4, raw=CHAT[-1]["usage"])
    assert answer.citations == ({"type": "url_citation", "url": "u"},)
    assert answer.opaque == Opaque("openai-chat", (detail(text="Sea", signature="sig"),))


def test_what_the_mistral_body_says() -> None:
    make, body = BODIES["mistral"]
    _, answer = decode(make, [body])
    assert (answer.reasoning, answer.text) == ("Hm…", "Ça va")
    (call,) = answer.tool_calls
    assert (call.id, call.name, call.parse()) == (call_id(answer.id, 0), "now", ZONE)
    assert answer.opaque == Opaque("mistral-chat", (thinking("Hm…", closed=True),))


@pytest.mark.parametrize("name", [name for name in BODIES if name.startswith("anthropic")])
def test_what_the_anthropic_bodies_say(name: str) -> None:
    make, body = BODIES[name]
    _, answer = decode(make, [body])
    assert (answer.reasoning, answer.text) == ("Die Höhe …", "Already: Wellen 🌊\r\n und Meer")
    assert [(call.id, call.name, call.parse()) for call in answer.tool_calls] == [
        ("a", "tide", {"at": "Köln"}),
        ("b", "now", {"zone": "UTC"}),
    ]
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cache_read_tokens) == (9, 20, 4)
    assert answer.opaque is not None
    kinds = ["text", "thinking", "redacted_thinking", "server_tool_use", "text", "tool_use", "tool_use"]
    assert [item["type"] for item in answer.opaque.items] == kinds


@pytest.mark.parametrize("name", [name for name in BODIES if name.startswith("responses")])
def test_what_the_responses_bodies_say(name: str) -> None:
    make, body = BODIES[name]
    _, answer = decode(make, [body])
    assert (answer.reasoning, answer.text) == ("Höhe", "Wellen 🌊\r\n und 海")
    assert answer.tool_calls == (TOOLS[0], ToolCall("b", "sql", "SELECT 'é'", 1, custom=True))
    assert answer.citations == (ANNOTATION,)
    assert answer.usage == Usage(9, 20, 4, raw=RESPONSES[-1]["response"]["usage"])
    assert answer.opaque == Opaque("openai-responses", (REASONED, ANSWERS_BY_TEXT, ASKED, QUERY))


@pytest.mark.parametrize("name", BODIES)
def test_single_bytes_give_the_same_answer_as_one_read(name: str) -> None:
    make, body = BODIES[name]
    assert decode(make, [bytes([byte]) for byte in body]) == decode(make, [body])


@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_cut_gives_the_same_answer_as_one_read(name: str, places: list[int]) -> None:
    make, body = BODIES[name]
    places = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    assert decode(make, [body[start:end] for start, end in pairwise(places)]) == decode(make, [body])


@given(st.sampled_from(sorted(BODIES)), st.integers(0, 10_000))
def test_a_body_that_ends_anywhere_gives_the_beginning_of_the_answer(name: str, place: int) -> None:
    make, body = BODIES[name]
    whole, answer = decode(make, [body])
    decoder, fold = StreamDecoder(make()), Fold()
    chunks = decoder.feed(body[: place % len(body)]) + decoder.flush()
    fold.add(chunks)
    assert chunks == whole[: len(chunks)]
    partial = fold.completion(complete=False)
    assert answer.text.startswith(partial.text)
    assert answer.reasoning.startswith(partial.reasoning)
    try:
        decoder.close()
    except StreamInterrupted:
        return
    assert (partial.text, partial.tool_calls) == (answer.text, answer.tool_calls)
    assert partial.raw_finish_reason == answer.raw_finish_reason is not None


# Values of the wrong type

EVENTS: list[tuple[Make, list[Fields]]] = [
    (ChatVocabulary, CHAT),
    (mistral, MISTRAL),
    (AnthropicVocabulary, ANTHROPIC),
    (ResponsesVocabulary, RESPONSES),
]
GONE = object()
ODD: list[Any] = [
    GONE, None, True, 5, -1, 12.0, 1.5, float("inf"), float("nan"), 10**30, 10**400, "", "x", "12", "\u00b2", "\ud83d",
    [], [None], [[1]], ["x"], [5], [{}], {}, {"a": 1}, {"type": 5}, {"type": "text"}, {"text": 5},
]  # fmt: skip


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every value inside a JSON value."""
    if path:
        yield path
    for key, inner in mapping(value).items():
        yield from paths(inner, (*path, key))
    for index, inner in enumerate(items(value)):
        yield from paths(inner, (*path, index))


PLACES = [
    (wire, number, path)
    for wire, (_, events) in enumerate(EVENTS)
    for number, event in enumerate(events)
    for path in paths(event)
]


def altered(event: Fields, path: tuple[str | int, ...], odd: object) -> Fields:
    """Return the event with one value replaced or removed."""
    copy: Fields = json.loads(json.dumps(event))
    inner: Any = copy
    for key in path[:-1]:
        inner = inner[key]
    if odd is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = odd
    return copy


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks if chunk.kind == "text"]


@cache
def texts_around(wire: int, number: int) -> list[str]:
    """Return the texts before and after an event of a wire."""
    make, events = EVENTS[wire]
    decoder = StreamDecoder(make())
    before = texts(decoder.feed(unnamed(events[:number])))
    decoder.feed(unnamed([events[number]]))
    return before + texts(decoder.feed(unnamed(events[number + 1 :])))


@pytest.mark.parametrize("odd", range(len(ODD)))
def test_a_value_of_the_wrong_type_costs_at_most_its_event(odd: int) -> None:
    """Try every value of every event: nothing raises before `close`, and the content of the other events is kept."""
    for wire, number, path in PLACES:
        make, events = EVENTS[wire]
        event = altered(events[number], path, ODD[odd])
        decoder = StreamDecoder(make())
        before = decoder.feed(unnamed(events[:number]))
        data = json.dumps(event).encode()
        during = decoder.feed(b"data: " + data + b"\n\n")
        after = decoder.feed(unnamed(events[number + 1 :]) + DONE) + decoder.flush()
        assert all(chunk.raw == data for chunk in during if chunk.kind == "other"), (event, during)
        assert len([chunk for chunk in during if chunk.kind == "other"]) <= 1, (event, during)
        try:
            decoder.close()
        except StreamcoreError:
            continue
        assert "finish" in [chunk.kind for chunk in before + during + after], event
        expected = texts_around(wire, number)
        if expected:
            # Half a character at the end of the event's own text is given up when the next text comes.
            assert "".join(texts(before + after)).replace("\ufffd", "") == "".join(expected), event
