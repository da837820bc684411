"""Join the surrogate halves of a character from two events, on every wire, however the bytes were cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.completion import Completion, Fold
from streamcore.errors import ProviderError
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore_anthropic.wire import AnthropicVocabulary
from streamcore_openai.responses_wire import ResponsesVocabulary

Fields = dict[str, Any]
Make = Callable[[], Vocabulary]


def chat(kind: str, pieces: list[str]) -> list[Fields | str]:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}
    deltas: list[Fields] = [{"tool_calls": [call]}] if kind == "arguments" else []
    key = {"text": "content", "reasoning": "reasoning_content", "refusal": "refusal"}.get(kind)
    deltas += [
        {key: piece} if key else {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces
    ]
    events = [{"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    return [*events, {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]"]


def messages(kind: str, pieces: list[str]) -> list[Fields | str]:
    blocks: dict[str, tuple[Fields, str, str]] = {
        "text": ({"type": "text", "text": ""}, "text_delta", "text"),
        "reasoning": ({"type": "thinking", "thinking": ""}, "thinking_delta", "thinking"),
        "arguments": ({"type": "tool_use", "id": "a", "name": "f", "input": {}}, "input_json_delta", "partial_json"),
    }
    block, delta, key = blocks[kind]
    return [
        {"type": "message_start", "message": {"id": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": delta, key: piece}} for piece in pieces),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]


def responses(kind: str, pieces: list[str]) -> list[Fields | str]:
    name = {
        "text": "response.output_text.delta",
        "reasoning": "response.reasoning_text.delta",
        "refusal": "response.refusal.delta",
        "arguments": "response.function_call_arguments.delta",
    }[kind]
    item = {"type": "function_call", "id": "i", "call_id": "a", "name": "f", "arguments": ""}
    opening = [{"type": "response.output_item.added", "output_index": 0, "item": item}] if kind == "arguments" else []
    where = {} if kind == "arguments" else {"content_index": 0}
    return [
        *opening,
        *({"type": name, "output_index": 0, "item_id": "i", "delta": piece, **where} for piece in pieces),
        {"type": "response.completed", "response": {"id": "r", "status": "completed"}},
    ]


WIRES: list[tuple[Make, Callable[[str, list[str]], list[Fields | str]], tuple[str, ...]]] = [
    (ChatVocabulary, chat, ("text", "reasoning", "refusal", "arguments")),
    (lambda: ChatVocabulary("mistral-chat"), chat, ("text", "arguments")),
    (AnthropicVocabulary, messages, ("text", "reasoning", "arguments")),
    (ResponsesVocabulary, responses, ("text", "reasoning", "refusal", "arguments")),
]
CASES = [(make, events, kind) for make, events, kinds in WIRES for kind in kinds]


def body_of(events: list[Fields | str]) -> bytes:
    return b"".join(
        b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n" for event in events
    )


def answer(make: Make, pieces: list[bytes]) -> Completion:
    decoder, fold = StreamDecoder(make()), Fold()
    for piece in pieces:
        fold.add(decoder.feed(piece))
    fold.add(decoder.flush())
    decoder.close()
    return fold.completion(complete=True)


def text_event(found: Completion, kind: str) -> str:
    return found.tool_calls[0].arguments if kind == "arguments" else str(getattr(found, kind))


def units(text: str) -> list[str]:
    """Return a text as its UTF-16 code units, each a string, as a server that counts those cuts it."""
    data = text.encode("utf-16-be")
    return [data[n : n + 2].decode("utf-16-be", "surrogatepass") for n in range(0, len(data), 2)]


@pytest.mark.parametrize(("make", "events", "kind"), CASES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_text_cut_between_any_halves_is_whole(
    make: Make, events: Callable[[str, list[str]], list[Fields | str]], kind: str, data: st.DataObject
) -> None:
    text = data.draw(st.text(alphabet="a\U0001f600\U0001f30a\u00e9\U000f0000", min_size=1, max_size=8))
    pieces: list[str] = [""]
    for unit in units(text):
        if data.draw(st.booleans()):
            pieces.append("")
        pieces[-1] += unit
    pieces = [piece.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass") for piece in pieces]
    body = body_of(events(kind, pieces))
    size = data.draw(st.integers(1, 200))
    found = text_event(answer(make, [body[n : n + size] for n in range(0, len(body), size)]), kind)
    assert found == text


@pytest.mark.parametrize(("make", "events", "kind"), CASES)
@pytest.mark.parametrize("half", [chr(0xD83D), chr(0xDE00)])
@pytest.mark.parametrize("pieces", [["a", "b"], ["a", ""], ["", "b"]])
def test_a_half_that_stays_alone_is_replaced(
    make: Make, events: Callable[[str, list[str]], list[Fields | str]], kind: str, half: str, pieces: list[str]
) -> None:
    first, second = pieces
    body = body_of(events(kind, [first + half, second]))
    assert text_event(answer(make, [body]), kind) == f"{first}\ufffd{second}"


def test_a_half_at_the_end_of_a_cut_stream_is_replaced() -> None:
    decoder = StreamDecoder(ChatVocabulary())
    chunks = decoder.feed(body_of(chat("text", ["a\ud83d"])[:1])) + decoder.flush()
    assert "".join(chunk.text for chunk in chunks) == "a\ufffd"


def test_halves_of_two_choices_do_not_mix() -> None:
    events: list[Fields | str] = [
        {"choices": [{"index": number, "delta": {"content": text}}]}
        for number, text in ((0, "a\ud83d"), (1, "b\ud83c"), (0, "\ude00"), (1, "\udf0a"))
    ]
    decoder, fold = StreamDecoder(ChatVocabulary()), Fold()
    fold.add(decoder.feed(body_of([*events, "[DONE]"])))
    found = fold.completion(complete=True)
    assert (found.text, found.alternatives[0].text) == ("a\U0001f600", "b\U0001f30a")


def test_ids_names_and_opaque_data_are_well_formed() -> None:
    call = {"index": 0, "id": "i\ud83d", "function": {"name": "n\ude00", "arguments": "{}"}}
    event = {"id": "c\ud83d", "model": "m\ud83d", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
    found = answer(ChatVocabulary, [body_of([event, "[DONE]"])])
    assert (found.id, found.model) == ("c\ufffd", "m\ufffd")
    assert (found.tool_calls[0].id, found.tool_calls[0].name) == ("i\ufffd", "n\ufffd")
    thinking = {"type": "thinking", "thinking": "", "signature": "s\ud83d"}
    opening = {"type": "content_block_start", "index": 0, "content_block": thinking}
    body = body_of([messages("text", [])[0], opening, *messages("reasoning", ["a\ud83d", "\ude00"])[2:]])
    opaque = answer(AnthropicVocabulary, [body]).opaque
    assert opaque is not None
    assert opaque.items[0]["thinking"] == "a\U0001f600"
    json.dumps(opaque.items, ensure_ascii=False).encode()


def test_an_error_is_well_formed() -> None:
    decoder = StreamDecoder(ChatVocabulary())
    decoder.feed(body_of([{"error": {"message": "no \ud83d", "code": "c\ud83d"}}]))
    with pytest.raises(ProviderError) as caught:
        decoder.close()
    str(caught.value).encode()
    json.dumps(caught.value.body, ensure_ascii=False).encode()


def test_raw_is_the_received_json() -> None:
    body = body_of([{"choices": [{"index": 0, "delta": {"content": "a\ud83d", "news": "\ud83d"}}]}])
    chunks = StreamDecoder(ChatVocabulary()).feed(body)
    assert [chunk.raw for chunk in chunks if chunk.kind == "other"] == [body[6:-2]]
