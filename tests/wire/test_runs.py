"""Test that a read of many events gives the same as reads of one, although runs of text are decoded together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.chunk import Chunk, content, contents
from streamcore.completion import Completion, Fold
from streamcore.errors import StreamcoreError
from streamcore.testing import Answer
from streamcore.testing.simulator.frames import frames
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore_anthropic.wire import AnthropicVocabulary
from streamcore_google.wire import GeminiVocabulary
from streamcore_openai.responses_wire import ResponsesVocabulary

VOCABULARIES: Mapping[str, Callable[[], Vocabulary]] = {
    "openai-chat": ChatVocabulary,
    "openai-responses": ResponsesVocabulary,
    "anthropic-messages": AnthropicVocabulary,
    "gemini": GeminiVocabulary,
}
IN_RUNS = ("openai-chat", "openai-responses", "anthropic-messages")
"""The wires whose runs of text are decoded together."""

ANYWHERE = [
    b": a comment\n\n",
    b"data:\n\n",
    b"data: \n\n",
    b"\n",
    b"data: [DONE]\n\n",
    b"data: {broken\n\n",
    b'data: {"type":\ndata: "ping"}\n\n',
    b'event: news\ndata: {"type":"news"}\n\n',
    b'data: {"error":{"message":"overloaded"}}\n\n',
    b"data: 1\r\n\r\n",
    b'data: {"a": "\xff"}\n\n',
    b"data: " + b'{"a":' * 100_000 + b"\n\n",
]


def chat(delta: Mapping[str, Any], **fields: Any) -> bytes:
    choice = {"index": fields.pop("index", 0), "delta": delta, "finish_reason": fields.pop("finish_reason", None)}
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice], **fields}).encode()


def named(event: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), json.dumps(event).encode())


def responses(**fields: Any) -> bytes:
    known = {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0}
    return named({**known, **fields})


def anthropic(index: int, **delta: Any) -> bytes:
    return named({"type": "content_block_delta", "index": index, "delta": delta})


def gemini(text: str, **fields: Any) -> bytes:
    event = {"candidates": [{"content": {"parts": [{"text": text}]}, "index": 0}], **fields}
    return b"data: %b\n\n" % json.dumps(event).encode()


EVENTS: Mapping[str, list[bytes]] = {
    "openai-chat": [
        chat({"content": "a"}),
        chat({"content": "b"}, created=1, model="m", usage=None),
        chat({"content": ""}),
        chat({"content": "other"}, index=1),
        chat({"content": "extra"}, news=1),
        chat({"content": "end"}, finish_reason="stop"),
        chat({"reasoning_content": "why"}),
        chat({"content": "x"}, created=1.5, id=None),
        chat({"content": "\ud83d"}),
        chat({"content": "\ude00"}),
        chat({"content": "é"}).replace(b"\\u00e9", "é".encode()),
        chat({"content": "x"}).replace(b'"x"', b'"\xc3"'),
        chat({"content": "\ufffd"}).replace(b"\\ufffd", "\ufffd".encode()),
        b"event: named\n" + chat({"content": "named"}),
        chat({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}]}),
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
    ],
    "openai-responses": [
        responses(delta="a"),
        responses(delta="b", sequence_number=3, logprobs=[], obfuscation="x"),
        responses(delta=""),
        responses(delta="c", logprobs=[{"token": "c"}]),
        responses(delta="d", output_index=1),
        responses(delta="e", content_index=1),
        responses(delta="f", news=1),
        responses(delta="\ud83d"),
        responses(delta="g", type="response.reasoning_text.delta"),
        responses(delta="h").partition(b"\n")[2],
        responses(delta="i").replace(b'"type": "response.output_text.delta", ', b""),
        named({"type": "response.completed", "response": {"id": "r", "status": "completed"}}),
    ],
    "anthropic-messages": [
        named({"type": "message_start", "message": {"id": "m"}}),
        named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        named({"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": ""}}),
        anthropic(0, type="text_delta", text="a"),
        anthropic(0, type="text_delta", text="b"),
        anthropic(0, type="text_delta", text=""),
        anthropic(2, type="text_delta", text="c"),
        anthropic(1, type="thinking_delta", thinking="d"),
        anthropic(0, type="input_json_delta", partial_json="{"),
        anthropic(0, type="text_delta", text="\ud83d"),
        anthropic(0, type="text_delta", text="e", news=1),
        named({"type": "ping"}),
        named({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
        named({"type": "message_stop"}),
    ],
    "gemini": [
        gemini("a"),
        gemini("b"),
        gemini(""),
        gemini("c", usageMetadata={"totalTokenCount": 1}),
        gemini("\ud83d"),
    ],
}
BEGINNINGS: Mapping[str, list[bytes]] = {
    "openai-chat": [chat({"content": "first"}, id="c")],
    "openai-responses": [responses(delta="first")],
    "anthropic-messages": EVENTS["anthropic-messages"][:2],
    "gemini": [gemini("first")],
}


def outcome(decoder: StreamDecoder, reads: list[bytes]) -> tuple[list[Chunk], str, Completion]:
    """Return all that a decoder gives: the chunks, how the stream ended, and the answer."""
    chunks = [chunk for data in reads for chunk in decoder.feed(data)]
    chunks += decoder.flush()
    fold = Fold()
    fold.add(chunks)
    ended = f"done: {decoder.done}, ending: {decoder.ending}"
    try:
        decoder.close()
    except StreamcoreError as error:
        ended += f", {error!r}"
    return chunks, ended, fold.completion(complete=True)


@pytest.mark.parametrize("wire", VOCABULARIES)
@given(data=st.data())
def test_one_read_gives_the_same_as_a_read_for_each_event(wire: str, data: st.DataObject) -> None:
    pool = st.sampled_from([*EVENTS[wire] * 3, *ANYWHERE])
    same = st.tuples(st.sampled_from(EVENTS[wire][:2]), st.integers(1, 5)).map(lambda pair: [pair[0]] * pair[1])
    parts = data.draw(st.lists(st.one_of(pool.map(lambda event: [event]), same), max_size=8))
    events = [*BEGINNINGS[wire], *(event for part in parts for event in part)]
    body = b"".join(events)
    most = data.draw(st.sampled_from([120, 10_000_000]))
    # The bytes of an unfinished event count with its name, so a low limit may end a stream only where it is cut.
    places = [] if most == 120 else sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=3)))
    cut = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
    options: dict[str, Any] = {"include_raw": data.draw(st.booleans()), "max_event_bytes": most}
    make = VOCABULARIES[wire]
    single = outcome(StreamDecoder(make(), **options), events)
    assert outcome(StreamDecoder(make(), **options), cut) == single


@pytest.mark.parametrize("wire", IN_RUNS)
def test_a_burst_is_decoded_in_runs(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = VOCABULARIES[wire]()
    body = b"".join(data for data, _ in frames(wire, Answer([f"token {number} " for number in range(300)])))
    taken: list[bytes] = []
    event = type(vocabulary).event

    def counting(self: Vocabulary, name: bytes, data: bytes, out: list[Chunk]) -> None:
        taken.append(data)
        event(self, name, data, out)

    monkeypatch.setattr(type(vocabulary), "event", counting)
    chunks = StreamDecoder(vocabulary).feed(body)
    assert len([chunk for chunk in chunks if chunk.kind == "text"]) == 300
    assert len(taken) < 20


def test_many_chunks_of_content_are_those_that_are_built_one_by_one() -> None:
    made = contents("reasoning", ["a", "", "b"], 3)
    assert made == [content("reasoning", "a", 3), content("reasoning", "b", 3)]
    assert [type(chunk) for chunk in made] == [Chunk, Chunk]
    assert repr(made[0]) == repr(Chunk("reasoning", "a", 3))
    assert hash(made[0]) == hash(Chunk("reasoning", "a", 3))
