"""Encode what was decoded, and decode it again: each wire gives the same chunks, and the same answers of recordings."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Completion
from streamcore.chunk import Chunk, FinishReason, ToolCall, Usage
from streamcore.completion import Fold
from streamcore.errors import ConfigError, StreamcoreError, StreamInterrupted
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore.wire.encoding.wire import AnswerHead, Problem, Wire, find_wire, wires
from streamcore_anthropic import AnthropicVocabulary
from streamcore_openai import ResponsesVocabulary
from tests.support import require

SHARED = Path(__file__).resolve().parents[4] / "shared" / "wire"
OWN = Path(__file__).resolve().parents[2] / "recordings"
NAMES = ("openai-chat", "mistral-chat", "anthropic-messages", "openai-responses")
VOCABULARIES: dict[str, Callable[[], Vocabulary]] = {
    "openai-chat": ChatVocabulary,
    "mistral-chat": lambda: ChatVocabulary("mistral-chat"),
    "anthropic-messages": AnthropicVocabulary,
    "openai-responses": ResponsesVocabulary,
}

KNOWN = {
    "mistral-chat/3a2792c40b483d6c": "the key `closed` of a thinking part has no place in a chunk",
    "anthropic-messages/74f1787bad3f9a2f": "a thinking block without the key `signature`; the API's have it",
    "anthropic-messages/8b2971727a2ccaa7": "two blocks with one index, which the API does not send",
    "openai-responses/5ac4f66a4c898a1c": "its events and its whole items contradict each other",
}
"""Recordings that change in the round trip, with the reason."""


def decode(wire: str, body: bytes, cuts: Sequence[int] = ()) -> list[Chunk]:
    """Return the chunks of a body that is read in pieces."""
    decoder = StreamDecoder(VOCABULARIES[wire]())
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    chunks = [chunk for start, end in itertools.pairwise(edges) for chunk in decoder.feed(body[start:end])]
    chunks += decoder.flush()
    decoder.close()
    return chunks


def encode(wire: Wire, chunks: Sequence[Chunk], head: AnswerHead) -> bytes:
    encoder = wire.encoder(head)
    return encoder.feed(chunks) + encoder.end()


def folded(chunks: Sequence[Chunk]) -> Completion:
    fold = Fold()
    fold.add(chunks)
    return fold.completion(complete=True)


def reasoning_key(wire: str, body: bytes) -> str:
    """Return the field in which a body has its reasoning."""
    flat = body.replace(b'": ', b'":')
    if wire == "openai-responses":
        return "reasoning_text" if b"response.reasoning_text.delta" in flat else "summary"
    keys = ("reasoning_content", "reasoning")
    found = next((key for key in keys if f'"{key}":"'.encode() in flat), None)
    return found or ("reasoning_details" if b"reasoning_details" in flat else keys[0])


def bodies() -> list[tuple[str, Path]]:
    found = [
        (folder.name, path)
        for split in ("recordings", "handmade")
        for folder in sorted((SHARED / split).glob("*"))
        for path in sorted(folder.glob("*.sse"))
    ]
    for path in sorted(OWN.glob("*.sse")):
        vendor = path.stem.partition("-")[0]
        wires_of = {"anthropic": "anthropic-messages", "mistral": "mistral-chat", "google": "gemini"}
        wire = wires_of.get(vendor, "openai-chat")
        found.append(("openai-responses" if path.stem.startswith("openai-responses") else wire, path))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_recording_is_the_same_answer_after_its_own_wire(name: str) -> None:
    whole = 0
    wrong: list[str] = []
    for wire, path in bodies():
        if wire != name:
            continue
        body = path.read_bytes()
        try:
            before = decode(name, body)
        except StreamcoreError:  # recordings of errors, and bodies that were cut
            continue
        head = AnswerHead(native=True, reasoning_key=reasoning_key(name, body))
        after = decode(name, encode(find_wire(name), before, head))
        whole += 1
        if folded(before) != folded(after) and f"{name}/{path.stem}" not in KNOWN:
            wrong.append(path.stem)
    assert not wrong
    require(whole > 0, f"there is no recording of {name}")


# Any chunks that a wire can carry

texts = st.text(min_size=1, max_size=8)
counts = st.integers(0, 10_000)
ids = st.text("abcXYZ_0123456789", min_size=1, max_size=12)
USAGE: dict[str, Callable[[int, int], dict[str, int]]] = {
    "openai-chat": lambda read, made: {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
    },
    "anthropic-messages": lambda read, made: {"input_tokens": read, "output_tokens": made},
}
REASONS: dict[str, list[tuple[FinishReason, str]]] = {
    "openai-chat": [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
    ],
    "anthropic-messages": [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("refusal", "refusal"),
        ("pause", "pause_turn"),
    ],
}


@st.composite
def answers(draw: st.DrawFn, wire: str) -> list[Chunk]:
    """Return the chunks of an answer, without what `Wire.cannot` lists."""
    blocks = wire in ("anthropic-messages", "openai-responses")
    chunks = [Chunk("start", id=draw(ids), model=draw(ids))]
    calls = 0
    kinds = ["text", "reasoning", "tool_call"] + ([] if wire in ("anthropic-messages", "mistral-chat") else ["refusal"])
    last = None
    for index, kind in enumerate(draw(st.lists(st.sampled_from(kinds), max_size=6))):
        at = index if blocks else 0
        if kind == "tool_call":
            call = ToolCall(f"call_{calls}_{draw(ids)}", draw(ids), "", calls)
            calls += 1
            chunks += [
                Chunk("tool_call", index=at, tool_call=replace(call, arguments=piece))
                for piece in ["", *draw(st.lists(texts, max_size=3))]
            ]
        elif not (wire == "mistral-chat" and kind == "reasoning" and last is not None):
            pieces = draw(st.lists(texts, min_size=1, max_size=4))
            part = {"part": 0} if wire == "openai-responses" and kind == "reasoning" else None
            chunks.append(Chunk(kind, pieces[0], index=at, data=part))  # type: ignore[arg-type]
            chunks += [Chunk(kind, piece, index=at) for piece in pieces[1:]]  # type: ignore[arg-type]
            last = kind if kind == "text" else last
    read, made = draw(counts), draw(counts)
    if wire == "openai-responses":
        reason: tuple[FinishReason, str] = ("tool_calls" if calls else "stop", "completed")
        raw = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + made,
        }
        usage = Usage(read, made, cache_read_tokens=0, reasoning_tokens=0, raw=raw)
    else:
        reason = draw(st.sampled_from(REASONS.get(wire, REASONS["openai-chat"])))
        usage = Usage(read, made, raw=USAGE.get(wire, USAGE["openai-chat"])(read, made))
    chunks.append(Chunk("finish", finish_reason=reason[0], raw_finish_reason=reason[1]))
    return [*chunks, Chunk("usage", usage=usage)]


def comparable(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return the chunks without what a decoder adds for the next turn, and the start's own counts."""
    return [
        replace(
            chunk,
            opaque=None,
            usage=None if chunk.kind == "start" else chunk.usage,
            data=_without_facts(chunk),
            id=chunk.id if chunk.kind == "start" else None,
        )
        for chunk in chunks
    ]


def _without_facts(chunk: Chunk) -> Mapping[str, Any] | None:
    return chunk.data if chunk.kind == "reasoning" else None


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), cuts=st.lists(st.integers(0, 100_000), max_size=5))
def test_decoding_what_was_encoded_gives_the_same_chunks(
    name: str, native: bool, data: st.DataObject, cuts: list[int]
) -> None:
    chunks = data.draw(answers(name))
    body = encode(find_wire(name), chunks, AnswerHead(native=native))
    assert comparable(decode(name, body, cuts)) == comparable(chunks)


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("source", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_answer_of_any_wire_keeps_its_content_on_every_other(source: str, target: str, data: st.DataObject) -> None:
    chunks = data.draw(answers(source))
    before = folded(chunks)
    after = folded(decode(target, encode(find_wire(target), chunks, AnswerHead(id="answer", model="m"))))
    refused = target == "anthropic-messages"  # it has no block for a refusal
    assert len(after.text) == len(before.text) + (len(before.refusal) if refused else 0)
    assert after.refusal == ("" if target == "anthropic-messages" else before.refusal)
    if target != "anthropic-messages" or not before.refusal:
        assert after.text == before.text
    assert after.reasoning == before.reasoning
    assert [(call.name, call.arguments) for call in after.tool_calls] == [
        (call.name, call.arguments) for call in before.tool_calls
    ]
    assert after.usage is not None
    assert before.usage is not None
    assert (after.usage.input_tokens, after.usage.output_tokens) == (
        before.usage.input_tokens,
        before.usage.output_tokens,
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_answer_that_was_cut_has_no_mark_and_an_error_raises(name: str, data: st.DataObject) -> None:
    chunks = data.draw(answers(name))[:-2]
    encoder = find_wire(name).encoder(AnswerHead())
    begun = encoder.feed(chunks)
    with pytest.raises(StreamInterrupted):
        decode(name, begun)
    failed = begun + encoder.error(Problem("overloaded", "the upstream is too busy"))
    with pytest.raises(StreamcoreError, match="the upstream is too busy"):
        decode(name, failed)


@pytest.mark.parametrize("name", NAMES)
def test_a_restart_raises_only_after_content(name: str) -> None:
    encoder = find_wire(name).encoder(AnswerHead())
    encoder.feed([Chunk("start", id="a"), Chunk("restart")])
    encoder.feed([Chunk("text", "a")])
    with pytest.raises(ConfigError, match="cannot take back"):
        encoder.feed([Chunk("restart")])


@pytest.mark.parametrize("name", NAMES)
def test_each_wire_lists_what_it_cannot_carry(name: str) -> None:
    assert {"restart", "step", "tool_progress", "tool_result"} <= find_wire(name).cannot.keys()


def test_an_unknown_wire_raises_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"installed are: anthropic-messages, .*mistral-chat, openai-chat"):
        find_wire("smoke-signals")


def test_wires_need_no_sdk() -> None:
    assert set(NAMES) <= wires().keys()
    code = (
        "import sys; sys.modules |= dict.fromkeys(('openai', 'anthropic', 'mistralai', 'google'));"
        "from streamcore.wire.encoding.wire import wires; print(len(wires()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) >= len(NAMES)
