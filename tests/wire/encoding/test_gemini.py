"""Encode answers on the wire `gemini` and decode them again: the same answer, for all that the wire can carry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import Chunk, Completion, ConfigError, OverloadedError, ToolCall, Usage
from streamcore.chunk import ChunkKind, FinishReason, Opaque
from streamcore.completion import Fold
from streamcore.errors import StreamcoreError
from streamcore.wire.encoding.wire import AnswerHead, Problem, RequestRefused, find_wire
from streamcore_google import GeminiDecoder, GeminiVocabulary

WIRE = find_wire("gemini")
HEAD = AnswerHead("r", "g")


def decoded(body: bytes, size: int = 7) -> tuple[Completion, StreamcoreError | None]:
    decoder, fold = GeminiDecoder(GeminiVocabulary()), Fold()
    for start in range(0, len(body), size):
        fold.add(decoder.feed(body[start : start + size]))
    fold.add(decoder.flush())
    try:
        decoder.close()
    except StreamcoreError as error:
        return fold.completion(complete=False), error
    return fold.completion(complete=True), None


def encoded(*chunks: Chunk) -> bytes:
    encoder = WIRE.encoder(HEAD)
    return encoder.feed(chunks) + encoder.end()


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
kinds: st.SearchStrategy[ChunkKind] = st.sampled_from(("text", "reasoning"))
content = st.builds(Chunk, kinds, texts)
objects = st.dictionaries(texts, st.one_of(texts, st.integers(-9, 9), st.booleans(), st.none()), max_size=3)
reasons: st.SearchStrategy[FinishReason] = st.sampled_from(("stop", "length", "content_filter", "pause", "other"))


@given(st.lists(content, max_size=6), st.lists(objects, max_size=2), reasons, st.integers(1, 60), st.integers(1, 50))
def test_an_answer_is_the_same_afterwards(
    reported: list[Chunk], calls: list[dict[str, Any]], reason: FinishReason, cut: int, size: int
) -> None:
    fragments: list[Chunk] = []
    for number, arguments in enumerate(calls):
        text = json.dumps(arguments)
        for piece in ("", text[:cut], text[cut:]):
            fragments.append(Chunk("tool_call", tool_call=ToolCall(f"c{number}", "f", piece, number)))
    finish: FinishReason = "tool_calls" if calls and reason == "stop" else reason
    chunks = [
        Chunk("start", id="r", model="g"),
        *reported,
        *fragments,
        Chunk("finish", finish_reason=finish),
        Chunk("usage", usage=Usage(3, 9, reasoning_tokens=4)),
    ]
    before = Fold()
    before.add(chunks)
    want = before.completion(complete=True)
    answer, error = decoded(encoded(*chunks), size)
    assert error is None
    assert (answer.text, answer.reasoning, answer.id, answer.model) == (want.text, want.reasoning, "r", "g")
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [
        (call.id, call.name, call.arguments) for call in want.tool_calls
    ]
    assert answer.finish_reason == finish
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.reasoning_tokens) == (3, 9, 4)


def test_signatures_and_sources_are_kept() -> None:
    opaque = Opaque("gemini", ({"thoughtSignature": "S"},))
    source: dict[str, Any] = {"web": {"uri": "u"}}
    answer, _ = decoded(
        encoded(
            Chunk("text", "Hi"),
            Chunk("reasoning", opaque=opaque),
            Chunk("citation", data=source),
            Chunk("citation", data={"type": "of another wire"}),
            Chunk("finish", finish_reason="stop"),
        )
    )
    assert answer.opaque is not None
    assert answer.opaque.items == ({"text": "Hi"}, {"text": "", "thoughtSignature": "S"})
    assert answer.citations == (source,)


def test_an_error_is_an_event_and_the_end_is_not_marked() -> None:
    encoder = WIRE.encoder(HEAD)
    body = encoder.feed([Chunk("text", "Hel")])
    answer, error = decoded(body + encoder.error(Problem("overloaded", "Too busy.")))
    assert isinstance(error, OverloadedError)
    assert (answer.text, error.code) == ("Hel", "UNAVAILABLE")
    assert decoded(body)[1] is not None


def test_what_the_wire_cannot_say() -> None:
    encoder = WIRE.encoder(HEAD)
    assert encoder.feed([Chunk("ping")]).startswith(b":")
    encoder.feed([Chunk("text", "Hi")])
    with pytest.raises(ConfigError, match="restart"):
        encoder.feed([Chunk("restart")])
    with pytest.raises(RequestRefused):
        WIRE.read_request({})


def test_a_whole_response() -> None:
    calls = (ToolCall("c", "f", '{"a": 1}'),)
    answer = Completion("Hi", "Hm.", tool_calls=calls, usage=Usage(3, 9), finish_reason="tool_calls", complete=True)
    whole = WIRE.whole(answer, HEAD)
    (candidate,) = whole["candidates"]
    assert candidate["content"]["parts"] == [
        {"text": "Hm.", "thought": True},
        {"text": "Hi"},
        {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c"}},
    ]
    assert (candidate["finishReason"], whole["usageMetadata"]["totalTokenCount"]) == ("STOP", 12)
    assert json.loads(json.dumps(whole)) == whole
