"""Test the decoder of Bedrock's ConverseStream: blocks, reasoning, citations, ends, usage, and what is unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamcore import (
    Completion,
    MalformedStream,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
)
from streamcore.chunk import Chunk, Usage
from streamcore.completion import Fold
from streamcore.wire.event_stream import EventStreamDecoder, encode_event, encode_exception
from streamcore_bedrock import ConverseVocabulary, typed

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"


def event(name: str, **fields: Any) -> bytes:
    return encode_event(name, json.dumps(fields).encode())


def delta(index: int = 0, **fields: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=fields, p="abc")


def start(index: int, **fields: Any) -> bytes:
    return event("contentBlockStart", contentBlockIndex=index, start=fields)


def stop(index: int) -> bytes:
    return event("contentBlockStop", contentBlockIndex=index)


BEGIN = event("messageStart", role="assistant", p="ab")
END = event("messageStop", stopReason="end_turn")
USAGE = event("metadata", usage={"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, metrics={"latencyMs": 7})


def decode(*events: bytes, **options: Any) -> tuple[list[Chunk], StreamcoreError | None]:
    """Return the chunks of a body and how it ended."""
    decoder = EventStreamDecoder(ConverseVocabulary(model="m", request_id="req_1", source="bedrock"), **options)
    chunks = [chunk for data in events for chunk in decoder.feed(data)] + decoder.flush()
    try:
        decoder.close()
    except StreamcoreError as error:
        return chunks, error
    return chunks, None


def answer(*events: bytes) -> Completion:
    chunks, error = decode(BEGIN, *events)
    assert error is None
    fold = Fold()
    fold.add(chunks)
    return fold.completion(complete=True)


def others(chunks: list[Chunk]) -> list[str | None]:
    return [chunk.event for chunk in chunks if chunk.kind == "other"]


def test_text_needs_no_event_that_begins_its_block() -> None:
    chunks, error = decode(BEGIN, delta(text="Hi"), delta(text=" there"), stop(0), END, USAGE)
    assert error is None
    assert [chunk.kind for chunk in chunks] == ["start", "text", "text", "finish", "usage"]
    assert (chunks[0].id, chunks[0].model, chunks[0].request_id) == ("req_1", "m", "req_1")
    assert (chunks[3].finish_reason, chunks[3].raw_finish_reason, chunks[3].opaque) == ("stop", "end_turn", None)
    assert chunks[4].usage == Usage(3, 2, raw={"inputTokens": 3, "outputTokens": 2, "totalTokens": 5})


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "refusal"),
        ("content_filtered", "content_filter"),
        ("brand_new", "other"),
    ],
)
def test_every_stop_reason_has_its_normal_form(word: str, reason: str) -> None:
    found = answer(delta(text="Hi"), event("messageStop", stopReason=word), USAGE)
    assert (found.finish_reason, found.raw_finish_reason) == (reason, word)


@pytest.mark.parametrize("word", ["malformed_model_output", "malformed_tool_use"])
def test_a_stop_reason_that_means_failure_raises(word: str) -> None:
    chunks, error = decode(BEGIN, delta(text="Hi"), event("messageStop", stopReason=word), USAGE)
    assert isinstance(error, ProviderError)
    assert error.code == word
    assert chunks[-1].usage is not None


def test_a_guardrail_leaves_its_trace() -> None:
    trace = {"guardrail": {"actionReason": "Guardrail blocked."}}
    metadata = event("metadata", usage={"inputTokens": 1}, metrics={}, trace=trace)
    chunks, error = decode(
        BEGIN, delta(text="Sorry."), event("messageStop", stopReason="guardrail_intervened"), metadata
    )
    assert error is None
    assert others(chunks) == ["metadata"]
    assert json.loads(chunks[-1].raw or b"")["trace"] == trace


def test_calls_come_in_fragments_and_may_alternate() -> None:
    found = answer(
        start(0, toolUse={"toolUseId": "a", "name": "tide"}),
        start(1, toolUse={"toolUseId": "b", "name": "moon"}),
        delta(0, toolUse={"input": '{"at": "S'}),
        delta(1, toolUse={"input": "{}"}),
        delta(0, toolUse={"input": 'ète"}'}),
        stop(0),
        stop(1),
        start(2, toolUse={"toolUseId": "c", "name": "clock"}),
        stop(2),
        event("messageStop", stopReason="tool_use"),
        USAGE,
    )
    calls = [(call.id, call.name, call.arguments, call.parse()) for call in found.tool_calls]
    assert calls == [("a", "tide", '{"at": "Sète"}', {"at": "Sète"}), ("b", "moon", "{}", {}), ("c", "clock", "", {})]
    assert found.opaque is None


def test_reasoning_goes_back_with_signatures_and_redacted_parts() -> None:
    found = answer(
        delta(0, reasoningContent={"redactedContent": "AAEC"}),
        delta(0, reasoningContent={"redactedContent": "AwQF"}),
        stop(0),
        delta(1, reasoningContent={"text": "Hm"}),
        delta(1, reasoningContent={"text": "."}),
        delta(1, reasoningContent={"signature": "si"}),
        delta(1, reasoningContent={"signature": "g"}),
        stop(1),
        delta(2, text="Yes."),
        END,
        USAGE,
    )
    assert (found.reasoning, found.text) == ("Hm.", "Yes.")
    assert found.opaque is not None
    assert list(found.opaque.items) == [
        {"reasoningContent": {"redactedContent": "AAECAwQF"}},
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
        {"text": "Yes."},
    ]
    assert found.opaque.source == "bedrock"


def test_tools_of_the_server_are_not_calls_and_go_back() -> None:
    body = (RECORDINGS / "bedrock-grounded.bin").read_bytes()
    chunks, error = decode(body)
    assert error is None
    assert [chunk.kind for chunk in chunks].count("citation") == 1
    assert others(chunks) == ["toolUse", "toolUse", "toolResult", "toolResult"]
    opaque = next(chunk.opaque for chunk in chunks if chunk.kind == "finish")
    assert opaque is not None
    assert [next(iter(item)) for item in opaque.items] == ["toolUse", "toolResult", "citationsContent"]
    assert opaque.items[0]["toolUse"]["input"] == {"query": "tide Sète"}
    assert opaque.items[1]["toolResult"]["content"] == [{"text": "[HIDDEN]"}]
    cited = opaque.items[2]["citationsContent"]
    assert cited["content"] == [{"text": "High tide is at six."}]
    assert len(cited["citations"]) == 1


def test_counts_of_the_cache_and_the_service_tier() -> None:
    counts = {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 4}
    found = answer(END, event("metadata", usage=counts, metrics={}, serviceTier={"type": "flex"}))
    assert found.usage == Usage(1, 2, 3, 4, raw=counts)
    assert found.service_tier == "flex"


def test_the_stop_sequence_that_was_asked_for() -> None:
    more = {"delta": {"stop_sequence": "END"}}
    found = answer(event("messageStop", stopReason="stop_sequence", additionalModelResponseFields=more), USAGE)
    assert (found.stop_sequence, found.finish_detail) == ("END", "END")


# How it ends


def test_an_answer_without_its_mark_is_interrupted() -> None:
    for events in (
        [BEGIN],
        [BEGIN, delta(text="Hi")],
        [BEGIN, delta(text="Hi"), USAGE],
        [BEGIN, delta(text="Hi"), END[:40]],
    ):
        assert isinstance(decode(*events)[1], StreamInterrupted)


def test_the_mark_without_metadata_is_an_end() -> None:
    decoder = EventStreamDecoder(ConverseVocabulary())
    decoder.feed(BEGIN + delta(text="Hi") + END)
    assert (decoder.ending, decoder.done) == (True, False), "usage may follow"
    decoder.close()
    decoder.feed(USAGE)
    assert decoder.done


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", RateLimitError),
        ("modelStreamErrorException", ServerError),
        ("internalServerException", ServerError),
        ("brandNewException", ServerError),
    ],
)
def test_an_exception_ends_the_answer(name: str, kind: type[ProviderError]) -> None:
    chunks, error = decode(
        BEGIN, delta(text="Hi"), encode_exception(name, b'{"message": "It broke"}'), delta(text="no")
    )
    assert [chunk.text for chunk in chunks] == ["", "Hi"]
    assert type(error) is kind
    assert isinstance(error, ProviderError)
    assert (error.code, error.message, error.request_id) == (name, "It broke", "req_1")


def test_two_answers_are_never_merged() -> None:
    chunks, error = decode(BEGIN, delta(text="One"), BEGIN, delta(text="Two"), END, USAGE)
    assert isinstance(error, StreamInterrupted)
    assert "".join(chunk.text for chunk in chunks) == "One"
    chunks, error = decode(BEGIN, delta(text="One"), END, BEGIN, delta(text="Two"), END, USAGE)
    assert error is None
    assert "".join(chunk.text for chunk in chunks) == "One"


# What is unknown or odd


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (event("futureEvent", a=1), "futureEvent"),
        (delta(future={"a": 1}), "future"),
        (delta(image={"source": {"bytes": "AA=="}}), "image"),
        (start(0, image={"format": "png"}), "image"),
        (delta(toolUse={"input": "{}"}), "toolUse"),
        (delta(text=5), "text"),
        (delta(reasoningContent={"future": 1}), "reasoningContent"),
        (event("contentBlockDelta", contentBlockIndex=0, delta={"text": "x"}, future=1), "contentBlockDelta"),
        (event("contentBlockDelta", contentBlockIndex=0, delta={}), "contentBlockDelta"),
        (event("messageStart", role="assistant", conversation={"id": 1}), "messageStart"),
        (encode_event("contentBlockDelta", b"[1, 2]"), "contentBlockDelta"),
    ],
)
def test_what_is_unknown_is_passed_on(data: bytes, name: str) -> None:
    first = [] if name == "messageStart" else [BEGIN]
    chunks, error = decode(*first, data, END, USAGE)
    assert error is None
    assert others(chunks) == [name]
    assert next(chunk.raw for chunk in chunks if chunk.kind == "other")


def test_an_empty_start_of_a_block_is_nothing() -> None:
    chunks, error = decode(BEGIN, start(0), delta(text="Hi"), END, USAGE)
    assert (error, others(chunks)) == (None, [])


def test_halves_of_a_character_are_joined() -> None:
    first = encode_event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"a\\ud83d"}}')
    second = encode_event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"\\ude00b"}}')
    chunks, error = decode(BEGIN, first, second, END, USAGE)
    assert error is None
    assert "".join(chunk.text for chunk in chunks) == "a\N{GRINNING FACE}b"


def test_a_payload_that_is_no_json_is_malformed() -> None:
    chunks, error = decode(BEGIN, delta(text="Hi"), encode_event("contentBlockDelta", b'{"delta": '), END)
    assert isinstance(error, MalformedStream)
    assert [chunk.text for chunk in chunks] == ["", "Hi"]


@pytest.mark.parametrize("name", ["bedrock-thinking-and-tool", "bedrock-grounded"])
def test_the_reads_of_a_recording_do_not_matter(name: str) -> None:
    body = (RECORDINGS / f"{name}.bin").read_bytes()
    whole, error = decode(body)
    assert error is None
    assert decode(*(body[at : at + 1] for at in range(len(body)))) == (whole, None)


def test_typed_gives_the_events_as_botocore_does() -> None:
    chunks, _ = decode(BEGIN, delta(text="Hi"), stop(0), END, USAGE, include_raw=True)
    names = [next(iter(typed(chunk))) for chunk in chunks]
    assert names == ["messageStart", "contentBlockDelta", "messageStop", "metadata"]
    assert typed(chunks[1]) == {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hi"}}}
    with pytest.raises(ValueError, match="include_raw"):
        typed(Chunk("text", "a"))


def test_an_answer_may_lack_the_event_that_begins_it() -> None:
    for first in (delta(text="Hi"), start(0, toolUse={"toolUseId": "a", "name": "f"}), END):
        chunks, error = decode(first, *(() if first == END else (END,)), USAGE)
        assert error is None
        assert chunks[0].kind == "start"
        assert (chunks[0].id, chunks[0].model) == ("req_1", "m")
