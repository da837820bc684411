"""Check what an answer keeps for the next turn besides its text and calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamcore.chunk import Chunk, ToolCall
from streamcore.completion import Completion, Fold
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore_anthropic.wire import AnthropicVocabulary
from streamcore_openai.responses_wire import ResponsesVocabulary

Json = dict[str, Any]


def read(*deltas: Json, wire: str = "openai-chat", finish: str = "stop") -> list[Chunk]:
    """Return the chunks of a stream with these deltas."""
    choices = [{"index": 0, "delta": delta} for delta in deltas] + [{"index": 0, "delta": {}, "finish_reason": finish}]
    events = [json.dumps({"id": "r1", "model": "m", "choices": [choice]}) for choice in choices]
    decoder = StreamDecoder(ChatVocabulary(wire, source="here"))
    chunks = decoder.feed("".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode())
    decoder.close()
    return chunks


def answer(*deltas: Json, wire: str = "openai-chat") -> Completion:
    """Return the answer of a stream with these deltas."""
    fold = Fold()
    fold.add(read(*deltas, wire=wire))
    return fold.completion(complete=True)


def call(
    index: int = 0, call_id: str | None = "a", name: str | None = "tide", arguments: str = "{}", **more: Any
) -> Json:
    """Return a delta with a fragment of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function, **more}]}


def thinking(words: str) -> Json:
    """Return a delta with a part of Mistral's thinking."""
    return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": words}]}]}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_under_its_key_if_tools_were_called(key: str) -> None:
    kept = answer({key: "Let "}, {key: "me"}, call()).opaque
    assert kept is not None
    assert (kept.fields, kept.source) == ({key: "Let me"}, "here")
    assert answer({key: "Let me"}, {"content": "Hello"}).opaque is None


def test_reasoning_is_kept_once_if_its_details_are_kept() -> None:
    kept = answer({"reasoning": "hm", "reasoning_details": [{"type": "t", "text": "hm"}]}, call()).opaque
    assert kept is not None
    assert (kept.items, kept.fields) == (({"type": "t", "text": "hm"},), {})


SIGNATURE = {"google": {"thought_signature": "c2ln"}}


def test_signatures_of_calls_are_kept_by_the_position_of_the_call() -> None:
    kept = answer(call(0, "a", extra_content=SIGNATURE), call(1, "b"), call(2, "c", extra_content=SIGNATURE)).opaque
    assert kept is not None
    assert kept.fields == {"tool_calls": {"0": {"extra_content": SIGNATURE}, "2": {"extra_content": SIGNATURE}}}


def test_signatures_of_text_are_kept_without_the_flags_of_a_chunk() -> None:
    flag = {"google": {"thought": True}}
    kept = answer({"content": "a", "extra_content": flag}, {"content": "b", "extra_content": SIGNATURE}).opaque
    assert kept is not None
    assert kept.fields == {"extra_content": SIGNATURE}
    assert answer({"content": "a", "extra_content": flag}).opaque is None


def test_fragments_of_thinking_blocks_are_joined() -> None:
    pieces = [{"type": "thinking", "thinking": "Let "}, {"type": "thinking", "thinking": "me", "signature": "s"}]
    kept = answer(*({"thinking_blocks": [piece]} for piece in pieces), {"content": "Hello"}).opaque
    assert kept is not None
    assert kept.fields == {"thinking_blocks": [{"type": "thinking", "thinking": "Let me", "signature": "s"}]}


def test_an_audio_answer_keeps_its_id_and_transcript() -> None:
    spoken = answer(
        {"audio": {"id": "audio_1", "transcript": "Hel"}},
        {"audio": {"transcript": "lo"}},
        {"audio": {"data": "AAAA", "expires_at": 9}},
    )
    assert spoken.opaque is not None
    assert spoken.opaque.fields == {"audio": {"id": "audio_1", "transcript": "Hello", "expires_at": 9}}
    assert spoken.to_message().text == "Hello"


def test_reasoning_parts_are_read_and_kept() -> None:
    def part(words: str, **more: str) -> Json:
        piece = {"type": "summary_text", "text": words, **more}
        return {"content": [{"type": "reasoning", "summary": [piece]}]}

    said = answer(part("Let "), part("me"), part("", signature="sig"), {"content": "Hello"})
    assert (said.reasoning, said.text) == ("Let me", "Hello")
    whole = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me", "signature": "sig"}]}
    assert said.opaque is not None
    assert said.opaque.fields == {"content": [whole]}


def test_thinking_and_text_keep_their_order() -> None:
    deltas = [
        {"content": "Zero. "},
        thinking("One "),
        thinking("and two."),
        {"content": "Two"},
        {"content": ", two. "},
        thinking("Three."),
        {"content": [{"type": "text", "text": "Four."}]},
    ]
    said = answer(*deltas, wire="mistral-chat")
    assert (said.text, said.reasoning) == ("Zero. Two, two. Four.", "One and two.Three.")
    assert said.opaque is not None
    assert [part.get("text") or part["thinking"][0]["text"] for part in said.opaque.items] == [
        "Zero. ",
        "One and two.",
        "Two, two. ",
        "Three.",
    ]


# Ids


@pytest.mark.parametrize("given", [None, "", "null"])
def test_calls_without_an_id_always_get_the_same_one(given: str | None) -> None:
    deltas = call(0, given), call(1, given)
    first, second = (made.id for made in answer(*deltas).tool_calls)
    assert first is not None
    assert second is not None
    assert first != second
    assert first.isalnum()
    assert len(first) == 9  # Mistral takes no other
    assert [made.id for made in answer(*deltas).tool_calls] == [first, second]


@pytest.mark.parametrize("order", [(0, 1), (0, 0, 1, 1)], ids=["whole", "in fragments"])
def test_one_id_at_two_indexes_is_two_calls(order: tuple[int, ...]) -> None:
    arguments = {0: '{"port": "Brest"}', 1: '{"port": "Roscoff"}'}
    if len(order) == 2:
        deltas = [call(index, arguments=arguments[index]) for index in order]
    else:
        deltas = [call(0, arguments=""), call(1, arguments="")]
        deltas += [call(index, name=None, arguments=arguments[index]) for index in (0, 1)]
    first, second = answer(*deltas).tool_calls
    assert [first.arguments, second.arguments] == list(arguments.values())
    assert first.id == "a"
    assert second.id not in (None, "", "a")


def test_a_server_that_counts_fragments_has_one_call() -> None:
    (one,) = answer(call(0, arguments='{"port": '), call(1, arguments='"Brest"}', name="tide")).tool_calls
    assert one.parse() == {"port": "Brest"}


@pytest.mark.parametrize(
    ("arguments", "custom", "complete"),
    [
        ("", False, True),
        ("{}", False, True),
        ('{"a": "b', False, False),
        ("select", True, True),
        ("nope", False, False),
    ],
)
def test_complete_is_true_if_the_arguments_are_whole(arguments: str, custom: bool, complete: bool) -> None:
    assert ToolCall("a", "tide", arguments, custom=custom).complete is complete


# Anthropic


def blocks(*started: tuple[int, Json, list[Json]], delta: Json | None = None, **message: Any) -> Completion:
    """Return the answer of a message with these blocks: index, start, deltas."""
    events: list[Json] = [{"type": "message_start", "message": {"id": "m", **message}}]
    for index, block, deltas in started:
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events += [
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", **(delta or {})}},
        {"type": "message_stop"},
    ]
    return decoded(AnthropicVocabulary(source="here"), events)


def decoded(vocabulary: Vocabulary, events: list[Json]) -> Completion:
    """Return the answer of a stream with these events."""
    decoder = StreamDecoder(vocabulary)
    fold = Fold()
    fold.add(decoder.feed("".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()))
    decoder.close()
    return fold.completion(complete=True)


TEXT: Json = {"type": "text", "text": "Hello"}
USE: Json = {"type": "tool_use", "id": "t", "name": "tide", "input": {}}


def test_text_followed_by_calls_needs_no_opaque_data() -> None:
    assert blocks((0, TEXT, []), (1, USE, [])).opaque is None


@pytest.mark.parametrize(
    "started",
    [
        pytest.param([USE, TEXT], id="text after a call"),
        pytest.param([TEXT, TEXT], id="two texts"),
        pytest.param([TEXT, {**USE, "caller": {"type": "direct"}}], id="a call with its caller"),
    ],
)
def test_blocks_that_text_and_calls_cannot_represent_are_kept(started: list[Json]) -> None:
    none: list[Json] = []
    kept = blocks(*((index, block, none) for index, block in enumerate(started))).opaque
    assert kept is not None
    assert (kept.items, kept.source) == (tuple(started), "here")


def test_a_block_index_that_is_started_twice_loses_nothing() -> None:
    result: Json = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    use: Json = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "tide"}}
    kept = blocks((0, use, []), (0, result, []), (1, TEXT, [])).opaque
    assert kept is not None
    assert kept.items == (use, result, TEXT)


@pytest.mark.parametrize("where", ["message_start", "message_delta"])
def test_the_container_of_code_execution_is_kept(where: str) -> None:
    container = {"id": "box", "expires_at": "2027-01-01T00:00:00Z"}
    given: Json = {"container": container}
    said = blocks((0, TEXT, []), **given) if where == "message_start" else blocks((0, TEXT, []), delta=given)
    assert said.opaque is not None
    assert (said.opaque.items, said.opaque.fields) == ((TEXT,), given)


# Responses


def message(text: str = "Hello", **more: Any) -> Json:
    """Return an output item that is a message."""
    part: Json = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part], **more}


FUNCTION: Json = {"type": "function_call", "id": "f", "call_id": "c", "name": "tide", "arguments": "{}"}


def items(*closed: Json, output: list[Json] | None = None) -> Completion:
    """Return the answer of a response with these items: `closed` have an event each, `output` is at the end."""
    events: list[Json] = [
        {"type": "response.output_item.done", "output_index": index, "item": item} for index, item in enumerate(closed)
    ]
    response = {"id": "r", "status": "completed", "output": output or []}
    return decoded(ResponsesVocabulary(source="here"), [*events, {"type": "response.completed", "response": response}])


def test_one_message_followed_by_calls_needs_no_opaque_data() -> None:
    assert items(message(), FUNCTION).opaque is None


@pytest.mark.parametrize(
    "output",
    [
        pytest.param([message(phase="commentary"), FUNCTION], id="phase"),
        pytest.param([message(), {**FUNCTION, "namespace": "sea"}], id="namespace"),
        pytest.param([FUNCTION, message()], id="a message after a call"),
        pytest.param([message(), message("again", id="m2")], id="two messages"),
        pytest.param([message(content=[{"type": "refusal", "refusal": "No."}])], id="a refusal"),
        pytest.param(
            [message(content=[{"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}]}])],
            id="annotations",
        ),
    ],
)
def test_items_that_text_and_calls_cannot_represent_are_kept(output: list[Json]) -> None:
    kept = items(*output).opaque
    assert kept is not None
    assert (kept.items, kept.source) == (tuple(output), "here")


def test_an_item_without_its_own_event_is_read_from_the_whole_response() -> None:
    reasoning: Json = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
    said = items(reasoning, output=[reasoning, message(), FUNCTION])
    assert said.opaque is not None
    assert said.opaque.items == (reasoning, message(), FUNCTION)
    assert (said.text, [made.id for made in said.tool_calls]) == ("Hello", ["c"])


def test_an_item_that_is_repeated_in_the_whole_response_counts_once() -> None:
    again = items(message(phase="final_answer"), output=[message(phase="final_answer")])
    assert again.opaque is not None
    assert (again.text, len(again.opaque.items)) == ("Hello", 1)
