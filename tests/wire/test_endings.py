"""Complete an answer only after a known good end, and stop reading at no other event."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from streamcore.chunk import Chunk
from streamcore.errors import BadRequestError, OverloadedError, ProviderError, ServerError, StreamInterrupted
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore.wire.endings import is_failure, looks_like_error
from streamcore_anthropic.wire import AnthropicVocabulary
from streamcore_openai.responses_wire import ResponsesVocabulary

DONE = b"data: [DONE]\n\n"
Fields = dict[str, Any]


def sse(*events: Fields | bytes) -> bytes:
    return b"".join(
        event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n" for event in events
    )


def choice(text: str = "", finish: str | None = None, **more: Any) -> Fields:
    return {"id": "c1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish, **more}]}


def read(body: bytes, make: Callable[[], Vocabulary] = ChatVocabulary) -> list[Chunk]:
    """Return the chunks of a body that ends well; raise how it ended otherwise."""
    decoder = StreamDecoder(make())
    chunks = decoder.feed(body) + decoder.flush()
    decoder.close()
    return chunks


def message(reason: str | None = "end_turn", *between: Fields | bytes) -> bytes:
    return sse(
        {"type": "message_start", "message": {"id": "m1"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hello"}},
        *between,
        {"type": "message_delta", "delta": {"stop_reason": reason}},
        {"type": "message_stop"},
    )


def response(status: str, kind: str = "response.completed", **more: Any) -> bytes:
    delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hello"}
    return sse(delta, {"type": kind, "response": {"id": "r1", "status": status, **more}})


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("error", ServerError),
        ("abort", ServerError),
        ("insufficient_system_resource", OverloadedError),
        ("MALFORMED_FUNCTION_CALL", ServerError),
        ("upstream_failure", ServerError),
        ("network_error", ServerError),
    ],
)
def test_a_finish_reason_that_means_failure_raises(reason: str, kind: type[ProviderError]) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    decoder = StreamDecoder(ChatVocabulary())
    chunks = decoder.feed(sse(choice("Hello"), choice(finish=reason), {"choices": [], "usage": usage}, DONE))
    assert [chunk.kind for chunk in chunks] == ["start", "text", "usage"]
    with pytest.raises(kind) as caught:
        decoder.close()
    assert caught.value.code == reason
    with pytest.raises(kind):
        read(message(reason), AnthropicVocabulary)
    with pytest.raises(kind):
        read(response(reason), ResponsesVocabulary)


@pytest.mark.parametrize("reason", ["eos", "eos_token", "whatever"])
def test_another_unknown_finish_reason_is_other(reason: str) -> None:
    last = read(sse(choice("Hello"), choice(finish=reason), DONE))[-1]
    assert (last.finish_reason, last.raw_finish_reason) == ("other", reason)


@pytest.mark.parametrize(
    "event",
    [
        {"errors": [{"message": "out of capacity"}]},
        {"detail": "out of capacity"},
        {"detail": [{"msg": "out of capacity", "type": "value_error"}]},
        {"code": 500, "msg": "out of capacity"},
        {"error_code": 336, "error_msg": "out of capacity"},
        {"type": "error", "message": "out of capacity"},
        {"success": False, "message": "out of capacity"},
        {"base_resp": {"status_code": 1004, "status_msg": "out of capacity"}},
        {"fault": {"message": "out of capacity"}},
    ],
)
def test_done_after_an_error_of_unknown_shape_raises(event: Fields) -> None:
    with pytest.raises(ProviderError, match="out of capacity") as caught:
        read(sse(choice("Hello"), event, DONE))
    assert caught.value.body == event
    assert read(sse(choice("Hello"), event, choice(finish="stop"), DONE))[-1].finish_reason == "stop"
    with pytest.raises(StreamInterrupted, match="looks like an error"):
        read(sse(choice("Hello"), event))


def test_an_unknown_event_is_no_error() -> None:
    assert not looks_like_error({"id": "c", "choices": [], "queue_position": 3})
    assert not looks_like_error({"type": "heartbeat", "status": "ok"})
    assert read(sse(choice("Hello"), {"queue_position": 3}, DONE))[-1].kind == "finish"
    assert not is_failure("stop")


@pytest.mark.parametrize("begun", [b"", sse(choice("The tide"))])
def test_llama_cpps_error_field_is_an_error(begun: bytes) -> None:
    failed = b'error: {"code":400,"message":"too long","type":"invalid_request_error"}\n\n'
    with pytest.raises(BadRequestError, match="too long"):
        read(begun + failed + DONE)


def test_an_error_without_a_field_name_is_one_once_events_have_come() -> None:
    with pytest.raises(ProviderError, match="went away"):
        read(sse(choice("Hello")) + b'{"error":{"message":"upstream went away"}}\n\n' + DONE)


@pytest.mark.parametrize("data", [b"upstream went away", b'"upstream went away"'])
def test_an_error_event_may_be_plain_text(data: bytes) -> None:
    for make in (ChatVocabulary, AnthropicVocabulary, ResponsesVocabulary):
        with pytest.raises(ProviderError, match="upstream went away"):
            read(b"event: error\ndata: " + data + b"\n\n" + DONE, make)


@pytest.mark.parametrize(
    ("reason", "native", "normal"),
    [
        ("tool_calls", "length", "length"),
        ("tool_calls", "MAX_TOKENS", "length"),
        ("tool_calls", "max_output_tokens", "length"),
        ("stop", "refusal", "refusal"),
        ("stop", "end_turn", "stop"),
        ("length", "stop", "length"),
    ],
)
def test_the_native_finish_reason_may_say_more(reason: str, native: str, normal: str) -> None:
    last = read(sse(choice("Hello"), choice(finish=reason, native_finish_reason=native), DONE))[-1]
    assert (last.finish_reason, last.raw_finish_reason) == (normal, reason)


def test_an_answer_after_the_finish_reason_is_not_merged() -> None:
    second = {**choice("second"), "id": "c2"}
    chunks = read(sse(choice("first"), choice(finish="stop"), second, DONE))
    assert "".join(chunk.text for chunk in chunks) == "first"
    assert [chunk.kind for chunk in chunks][-1] == "other"


def test_a_second_response_cuts_the_first() -> None:
    created = {"type": "response.created", "response": {"id": "r0"}}
    with pytest.raises(StreamInterrupted, match="r2"):
        read(sse(created, {"type": "response.created", "response": {"id": "r2"}}), ResponsesVocabulary)


@pytest.mark.parametrize(
    ("status", "more", "why"),
    [
        ("failed", {"error": {"code": "server_error", "message": "no luck"}}, "no luck"),
        ("failed", {"status_details": {"error": {"message": "no luck"}}}, "no luck"),
        ("failed", {}, "failed"),
        ("cancelled", {}, "cancelled"),
    ],
)
@pytest.mark.parametrize("kind", ["response.completed", "response.done"])
def test_a_response_that_failed_is_not_complete(kind: str, status: str, more: Fields, why: str) -> None:
    with pytest.raises(ProviderError, match=why):
        read(response(status, kind, **more), ResponsesVocabulary)


@pytest.mark.parametrize(("status", "reason"), [("completed", "stop"), ("incomplete", "length")])
def test_response_done_is_an_end(status: str, reason: str) -> None:
    details = {"incomplete_details": {"reason": "max_output_tokens"}} if status == "incomplete" else {}
    last = read(response(status, "response.done", **details), ResponsesVocabulary)[-1]
    assert (last.kind, last.finish_reason, last.raw_finish_reason) == ("finish", reason, status)


@pytest.mark.parametrize("ping", [b"data:\n\n", b"data: \n\n", b"event: ping\ndata:\n\n", b": ping\n\n"])
@pytest.mark.parametrize("cut", [False, True])
def test_an_empty_data_frame_is_a_ping(ping: bytes, cut: bool) -> None:
    bodies = {
        ChatVocabulary: sse(choice("Hel"), ping, choice("lo"), choice(finish="stop"), DONE),
        AnthropicVocabulary: message("end_turn", ping),
        ResponsesVocabulary: ping + response("completed"),
    }
    for make, body in bodies.items():
        decoder = StreamDecoder(make())
        pieces = [body[n : n + 1] for n in range(len(body))] if cut else [body]
        chunks = [chunk for piece in pieces for chunk in decoder.feed(piece)]
        decoder.close()
        assert "".join(chunk.text for chunk in chunks) == "Hello"
        assert [chunk.kind for chunk in chunks].count("ping") == (0 if ping.startswith(b":") else 1)


def test_an_event_after_the_terminal_one_passes_as_other() -> None:
    limits = {"type": "response.rate_limits.updated", "rate_limits": [{"name": "tokens", "remaining": 5}]}
    for split in (False, True):
        decoder = StreamDecoder(ResponsesVocabulary())
        bodies = (response("completed"), sse(limits)) if split else (response("completed") + sse(limits),)
        last = [chunk for body in bodies for chunk in decoder.feed(body)][-1]
        decoder.close()
        assert (last.kind, last.event) == ("other", "response.rate_limits.updated")
        assert last.raw is not None
        assert json.loads(last.raw) == limits
