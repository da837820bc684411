"""Decode the wire `gemini`: tables of events, and the chunks and endings that they give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamcore import (
    AuthenticationError,
    Chunk,
    Completion,
    MalformedStream,
    OverloadedError,
    ProviderError,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
)
from streamcore.completion import Fold
from streamcore_google import GeminiDecoder, GeminiVocabulary
from tests.wire.support import kinds

Json = dict[str, Any]
COUNTS = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}


def event(*parts: Json, usage: Json | None = None, rid: str = "r", **candidate: Any) -> Json:
    content = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
    written: Json = {"candidates": [{**content, "index": 0, **candidate}], "modelVersion": "g", "responseId": rid}
    return written if usage is None else {**written, "usageMetadata": usage}


def text_event(text: str, **more: Any) -> Json:
    return event({"text": text}, **more)


STOP = event(finishReason="STOP")


def decoded(*events: Json | bytes, **settings: Any) -> tuple[list[Chunk], StreamcoreError | None]:
    decoder = GeminiDecoder(GeminiVocabulary(source="google"), **settings)
    chunks: list[Chunk] = []
    for one in events:
        data = one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() + b"\r\n\r\n"
        chunks += decoder.feed(data)
    chunks += decoder.flush()
    try:
        decoder.close()
    except StreamcoreError as error:
        return chunks, error
    return chunks, None


def folded(*events: Json | bytes) -> Completion:
    chunks, error = decoded(*events)
    assert error is None
    fold = Fold()
    fold.add(chunks)
    return fold.completion(complete=True)


def test_text_thoughts_and_counts() -> None:
    chunks, error = decoded(
        event({"text": "Hm.", "thought": True}, usage={"promptTokenCount": 10}),
        text_event("Hel", usage={"promptTokenCount": 10}),
        text_event("lo", usage=COUNTS, finishReason="STOP"),
    )
    assert error is None
    assert kinds(chunks) == ["start", "reasoning", "usage", "text", "text", "finish", "usage"]
    assert [(chunk.id, chunk.model) for chunk in chunks[:1]] == [("r", "g")]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.input_tokens, chunks[-1].usage.output_tokens) == (10, 4)


def test_counts_include_tools_and_thoughts() -> None:
    usage = {**COUNTS, "toolUsePromptTokenCount": 5, "thoughtsTokenCount": 7, "cachedContentTokenCount": 3}
    found = folded(text_event("Hi", usage=usage, finishReason="STOP")).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (15, 11)
    assert (found.cache_read_tokens, found.reasoning_tokens) == (3, 7)
    assert found.raw == usage


def test_counts_without_a_number_are_no_usage() -> None:
    assert folded(text_event("Hi", usage={"trafficType": "ON_DEMAND"}), STOP).usage is None
    assert folded(text_event("Hi", usage={**COUNTS, "serviceTier": "flex"}), STOP).service_tier == "flex"


def test_a_finish_reason_before_the_answer_is_not_the_end() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    events = (event(code, finishReason="STOP"), text_event("One.", finishReason="MAX_TOKENS"))
    chunks, error = decoded(*events)
    assert error is None
    assert kinds(chunks) == ["start", "other", "text", "finish"]
    assert (chunks[1].event, chunks[-1].finish_reason) == ("executableCode", "length")


@pytest.mark.parametrize(
    ("reason", "normal"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((word, "content_filter") for word in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        ("OTHER", "other"),
        ("A_NEW_WORD", "other"),
    ],
)
def test_finish_reasons(reason: str, normal: str) -> None:
    answer = folded(text_event("Hi", finishReason=reason, finishMessage="Because."))
    assert (answer.finish_reason, answer.raw_finish_reason, answer.finish_detail) == (normal, reason, "Because.")


def test_a_filtered_answer_has_its_ratings() -> None:
    ratings = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True}]
    answer = folded(event(finishReason="SAFETY", safetyRatings=ratings))
    assert answer.finish_detail == {"finishMessage": None, "safetyRatings": ratings}


def test_a_blocked_prompt_is_filtered() -> None:
    feedback = {"blockReason": "PROHIBITED_CONTENT"}
    answer = folded({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3}, "modelVersion": "g"})
    assert (answer.finish_reason, answer.raw_finish_reason) == ("content_filter", None)
    assert answer.finish_detail == feedback
    assert answer.usage is not None
    assert answer.usage.input_tokens == 3


def test_a_malformed_call_is_an_error_with_its_message() -> None:
    _, error = decoded(event(finishReason="MALFORMED_FUNCTION_CALL", finishMessage="print(f("))
    assert isinstance(error, ProviderError)
    assert error.code == "MALFORMED_FUNCTION_CALL"
    assert "print(f(" in str(error)


@pytest.mark.parametrize(
    "events",
    [(), (text_event("Hi"),), (text_event("Hi"), b'data: {"candidates": [{"con'), ({"usageMetadata": COUNTS},)],
)
def test_a_body_without_a_finish_reason_is_interrupted(events: tuple[Any, ...]) -> None:
    chunks, error = decoded(*events)
    assert isinstance(error, StreamInterrupted)
    assert "finish" not in kinds(chunks)


def test_every_candidate_needs_a_finish_reason() -> None:
    second = event({"text": "B"}, index=1)
    assert isinstance(decoded(text_event("A", finishReason="STOP"), second)[1], StreamInterrupted)
    answer = folded(text_event("A", finishReason="STOP"), second, event(index=1, finishReason="MAX_TOKENS"))
    assert (answer.text, answer.finish_reason) == ("A", "stop")
    assert [(other.text, other.finish_reason) for other in answer.alternatives] == [("B", "length")]


OVERLOADED = {"error": {"code": 503, "message": "Too busy.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    "data",
    [
        b"data: " + json.dumps(OVERLOADED).encode() + b"\r\n\r\n",
        b"data: " + json.dumps([OVERLOADED]).encode() + b"\r\n\r\n",
        json.dumps(OVERLOADED).encode(),
        json.dumps([OVERLOADED], indent=2).encode(),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_error_in_the_stream_in_any_form(data: bytes, first: bool) -> None:
    before = [] if first else [text_event("Hel")]
    chunks, error = decoded(*before, *(data[at : at + 20] for at in range(0, len(data), 20)))
    assert isinstance(error, OverloadedError)
    assert (error.code, error.retryable, error.message) == ("UNAVAILABLE", True, "Too busy.")
    assert "".join(chunk.text for chunk in chunks) == ("" if first else "Hel")


def test_an_error_without_a_code_and_with_details() -> None:
    _, error = decoded({"error": {"message": "m", "status": "INTERNAL"}})
    assert isinstance(error, ServerError)
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    _, error = decoded({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": [info]}})
    assert isinstance(error, AuthenticationError)
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22.5s"}
    _, error = decoded({"error": {"code": 429, "message": "m", "details": [retry]}})
    assert isinstance(error, ProviderError)
    assert error.retry_after == 22.5


def test_a_call_keeps_its_arguments_as_sent() -> None:
    raw = b'data: {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": { "a" : 1.0 }}},'
    raw += b'{"functionCall": {"name": "g"}}]}, "finishReason": "STOP"}]}\n\n'
    answer = folded(raw)
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", '{ "a" : 1.0 }'), ("g", "")]
    assert len({call.id for call in answer.tool_calls}) == 2
    assert (answer.finish_reason, answer.raw_finish_reason) == ("tool_calls", "STOP")
    assert answer.opaque is None


def test_signatures_go_back_each_in_its_part() -> None:
    call: Json = {"functionCall": {"name": "f", "args": {}, "id": "c1"}, "thoughtSignature": "S1"}
    end = event({"text": "", "thoughtSignature": "S2"}, finishReason="STOP")
    answer = folded(text_event("A"), text_event("B"), event(call), text_event("C"), end)
    assert answer.opaque is not None
    assert answer.opaque.items == ({"text": "AB"}, call, {"text": "C"}, {"text": "", "thoughtSignature": "S2"})
    chunks, _ = decoded(event(call), end)
    found = [chunk.opaque.items for chunk in chunks if chunk.opaque is not None and chunk.kind == "reasoning"]
    assert found == [({"thoughtSignature": "S1"},), ({"thoughtSignature": "S2"},)]


def piece(path: str, more: bool = False, **value: Any) -> Json:
    return {"jsonPath": path, **value, **({"willContinue": True} if more else {})}


def streamed(*pieces: Json, ends: bool = True) -> Completion:
    events = [event({"functionCall": {"name": "f", "willContinue": True}, "thoughtSignature": "S"})]
    events += [event({"functionCall": {"partialArgs": [one], "willContinue": True}}) for one in pieces]
    return folded(*events, *([event({"functionCall": {}})] if ends else []), STOP)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        ([], {}),
        ([piece("$.a", stringValue="x\n")], {"a": "x\n"}),
        ([piece("$.a", True, stringValue="Zü"), piece("$.a", stringValue='r"')], {"a": 'Zür"'}),
        ([piece("$.a", numberValue=2), piece("$.b", boolValue=False)], {"a": 2, "b": False}),
        ([piece("$.a", nullValue="NULL_VALUE")], {"a": None}),
        ([piece("$.a[0].b", stringValue="x"), piece("$.a[1].b", stringValue="y")], {"a": [{"b": "x"}, {"b": "y"}]}),
        ([piece("$.a", True, stringValue="x"), piece("$['b c']", numberValue=1), piece("$.a", stringValue="y")],
         {"a": "xy", "b c": 1}),
    ],
)  # fmt: skip
def test_arguments_that_are_streamed_by_path(pieces: list[Json], arguments: Json, ends: bool) -> None:
    answer = streamed(*pieces, ends=ends)
    assert [call.parse() for call in answer.tool_calls] == [arguments]
    assert answer.opaque is not None
    assert answer.opaque.items == ({"functionCall": {"name": "f", "args": arguments}, "thoughtSignature": "S"},)


def test_a_string_of_arguments_is_streamed() -> None:
    pieces = [piece("$.a", True, stringValue="x"), piece("$.a", True, stringValue="y"), piece("$.a", stringValue="z")]
    events = [event({"functionCall": {"name": "f", "willContinue": True}})]
    events += [event({"functionCall": {"partialArgs": [one], "willContinue": True}}) for one in pieces]
    chunks, _ = decoded(*events, STOP)
    fragments = [chunk.tool_call.arguments for chunk in chunks if chunk.tool_call is not None]
    assert fragments == ["", '{"a":"x', "y", 'z"', "}"]


def test_sources_and_what_they_support_are_citations_once() -> None:
    source, support = {"web": {"uri": "u"}}, {"segment": {"endIndex": 2}, "groundingChunkIndices": [0]}
    grounding = {"groundingChunks": [source], "groundingSupports": [support], "webSearchQueries": ["q"]}
    chunks, _ = decoded(text_event("Hi", groundingMetadata={}), event(groundingMetadata=grounding), event(
        groundingMetadata=grounding, finishReason="STOP", citationMetadata={"citationSources": [{"uri": "v"}]}
    ))  # fmt: skip
    assert [chunk.data for chunk in chunks if chunk.kind == "citation"] == [source, support, {"uri": "v"}]
    assert kinds(chunks).count("other") == 2  # the queries have no other place


def test_another_answer_in_the_body_is_not_merged() -> None:
    chunks, error = decoded(text_event("A", finishReason="STOP"), text_event("B", rid="other"))
    assert isinstance(error, StreamInterrupted)
    assert [chunk.text for chunk in chunks if chunk.kind == "text"] == ["A"]


def test_unknown_events_fields_and_parts_are_passed_on() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    chunks, error = decoded(
        {"brandNew": 1}, event(picture), event({"text": "Hi"}, brandNew=1), STOP, b"data: [DONE]\n\n"
    )
    assert error is None
    assert kinds(chunks) == ["other", "start", "other", "text", "other", "ping", "finish"]
    assert all(chunk.raw is not None for chunk in chunks if chunk.kind == "other")


def test_raw_is_the_event_also_of_the_end() -> None:
    chunks, _ = decoded(text_event("Hi"), text_event("", usage=COUNTS, finishReason="STOP"), include_raw=True)
    assert all(chunk.raw is not None for chunk in chunks)
    assert b"STOP" in (chunks[-1].raw or b"")


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_where_a_server_ignores_the_form_of_events(size: int, indent: int | None) -> None:
    events = [text_event('a "}{" \\'), text_event("b\n"), text_event("c", finishReason="STOP")]
    body = b" \r\n" + json.dumps(events, indent=indent).encode()
    chunks, error = decoded(*(body[at : at + size] for at in range(0, len(body), size)))
    assert error is None
    assert "".join(chunk.text for chunk in chunks) == 'a "}{" \\b\nc'
    cut, error = decoded(*(body[: len(body) - 40][at : at + size] for at in range(0, len(body), size)))
    assert isinstance(error, StreamInterrupted)
    assert kinds(cut)[:2] == ["start", "text"]
    assert isinstance(decoded(b"[1, 2")[1], MalformedStream)
    assert isinstance(decoded(b"[" + json.dumps(OVERLOADED).encode())[1], OverloadedError)
