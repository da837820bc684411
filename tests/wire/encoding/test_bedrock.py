"""Encode answers as Bedrock's frames and decode them again: the same chunks, and the same answers of recordings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Completion, ConfigError, OverloadedError, StreamcoreError, StreamInterrupted
from streamcore.chunk import Chunk, FinishReason, ToolCall, Usage
from streamcore.completion import Fold
from streamcore.wire.encoding.wire import AnswerHead, Problem, RequestRefused, find_wire
from streamcore.wire.event_stream import CONTENT_TYPE, EventStreamDecoder, split_frames
from streamcore_bedrock import ConverseVocabulary
from streamcore_bedrock.wire import WIRE
from tests.bedrock_rules import answer_faults
from tests.support import require

SHARED = Path(__file__).resolve().parents[4] / "shared" / "wire"
OWN = Path(__file__).resolve().parents[2] / "recordings"
SERVED = find_wire(WIRE)


def decode(body: bytes, cuts: Sequence[int] = ()) -> list[Chunk]:
    """Return the chunks of a body that is read in pieces."""
    decoder = EventStreamDecoder(ConverseVocabulary(model="m", request_id="req_1", source="bedrock"))
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    chunks = [chunk for start, end in itertools.pairwise(edges) for chunk in decoder.feed(body[start:end])]
    chunks += decoder.flush()
    decoder.close()
    return chunks


def encode(chunks: Sequence[Chunk], *, native: bool = False) -> bytes:
    encoder = SERVED.encoder(AnswerHead(native=native))
    return b"".join(encoder.feed([chunk]) for chunk in chunks) + encoder.end()


def folded(chunks: Sequence[Chunk]) -> Completion:
    fold = Fold()
    fold.add(chunks)
    return fold.completion(complete=True)


def test_every_recording_is_the_same_answer_after_its_own_wire() -> None:
    bodies = [*sorted(OWN.glob("bedrock-*.bin")), *sorted((SHARED / "vendors" / WIRE).glob("*.bin"))]
    require(len(bodies) > 20, "the corpus of recordings is not next to the checkout")
    wrong: list[str] = []
    for path in bodies:
        try:
            before = decode(path.read_bytes())
        except StreamcoreError:
            continue
        after = folded(decode(encode(before, native=True)))
        wanted = folded(before)
        if replace(after, finish_detail=None) != replace(wanted, finish_detail=None):
            wrong.append(path.stem)
    assert not wrong


texts = st.text(min_size=1, max_size=8)
REASONS: list[tuple[FinishReason, str]] = [
    ("stop", "end_turn"),
    ("length", "max_tokens"),
    ("tool_calls", "tool_use"),
    ("refusal", "guardrail_intervened"),
    ("content_filter", "content_filtered"),
]


@st.composite
def answers(draw: st.DrawFn) -> list[Chunk]:
    """Return the chunks of an answer, without what the wire cannot carry."""
    chunks = [Chunk("start", id="req_1", model="m", request_id="req_1")]
    calls = 0
    for index, kind in enumerate(draw(st.lists(st.sampled_from(["text", "reasoning", "tool_call"]), max_size=6))):
        pieces = draw(st.lists(texts, min_size=1, max_size=4))
        if kind == "tool_call":
            call = ToolCall(f"call_{calls}", "tool", "", calls)
            calls += 1
            fragments = ["", *pieces]
            chunks += [Chunk("tool_call", index=index, tool_call=replace(call, arguments=one)) for one in fragments]
        else:
            chunks += [Chunk("text" if kind == "text" else "reasoning", piece, index=index) for piece in pieces]
    reason, word = draw(st.sampled_from(REASONS))
    read, made = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    raw = {"inputTokens": read, "outputTokens": made, "totalTokens": read + made}
    finish = Chunk("finish", finish_reason=reason, raw_finish_reason=word)
    return [*chunks, finish, Chunk("usage", usage=Usage(read, made, raw=raw))]


@pytest.mark.parametrize("native", [True, False])
@settings(max_examples=60, deadline=None)
@given(chunks=answers(), cuts=st.lists(st.integers(0, 100_000), max_size=5))
def test_decoding_what_was_encoded_gives_the_same_chunks(native: bool, chunks: list[Chunk], cuts: list[int]) -> None:
    body = encode(chunks, native=native)
    assert [replace(chunk, opaque=None) for chunk in decode(body, cuts)] == chunks
    assert list(answer_faults(split_frames(body))) == []


def test_signatures_and_citations_of_this_wire_are_written() -> None:
    before = decode((OWN / "bedrock-thinking-and-tool.bin").read_bytes())
    assert folded(decode(encode(before))).opaque == folded(before).opaque
    before = decode((OWN / "bedrock-grounded.bin").read_bytes())
    assert folded(decode(encode(before))).citations == folded(before).citations


def test_fragments_of_two_calls_may_alternate() -> None:
    calls = [ToolCall(name, name, "", position) for position, name in enumerate("ab")]
    pieces = [(0, ""), (1, ""), (0, '{"x": '), (1, "{}"), (0, "1}")]
    chunks = [
        Chunk("tool_call", index=at, tool_call=replace(calls[at], arguments=arguments)) for at, arguments in pieces
    ]
    found = folded(decode(encode([*chunks, Chunk("finish", finish_reason="tool_calls")]))).tool_calls
    assert [(call.id, call.parse()) for call in found] == [("a", {"x": 1}), ("b", {})]


def test_an_answer_that_was_cut_has_no_mark_and_an_error_raises() -> None:
    encoder = SERVED.encoder(AnswerHead())
    begun = encoder.feed([Chunk("start"), Chunk("text", "Hi")])
    with pytest.raises(StreamInterrupted):
        decode(begun)
    with pytest.raises(OverloadedError, match="too busy"):
        decode(begun + encoder.error(Problem("overloaded", "the upstream is too busy")))


def test_a_restart_raises_only_after_content() -> None:
    encoder = SERVED.encoder(AnswerHead())
    encoder.feed([Chunk("start", id="a"), Chunk("restart"), Chunk("text", "a")])
    with pytest.raises(ConfigError, match="cannot take back"):
        encoder.feed([Chunk("restart")])


def test_a_whole_response_has_the_blocks_of_the_answer() -> None:
    answer = folded(decode((OWN / "bedrock-thinking-and-tool.bin").read_bytes()))
    written = SERVED.whole(answer, AnswerHead(native=True))
    assert written["stopReason"] == "tool_use"
    assert answer.opaque is not None
    assert written["output"]["message"]["content"] == list(answer.opaque.items)
    assert written["usage"]["cacheReadInputTokens"] == 1000
    plain = SERVED.whole(replace(answer, opaque=None), AnswerHead())
    assert [next(iter(block)) for block in plain["output"]["message"]["content"]] == [
        "reasoningContent",
        "text",
        "toolUse",
        "toolUse",
    ]


def test_the_wire_is_not_served() -> None:
    assert (SERVED.path, SERVED.content_type) == (None, CONTENT_TYPE)
    assert SERVED.error_body(Problem("invalid", "No."), None) == {"message": "No."}
    with pytest.raises(RequestRefused, match="bedrock-converse"):
        SERVED.read_request({})
