"""Lose no field: facts about an answer become fields of `Completion`, and all others pass as `other`."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from streamcore.chunk import Chunk, Usage
from streamcore.completion import Completion, Fold, merged_usage
from streamcore.cost import Cost
from streamcore.errors import BadRequestError, ProviderError, StreamInterrupted, StreamTimeout, provider_error
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore.wire.lenient import count, is_array, is_object
from streamcore_anthropic.wire import AnthropicVocabulary
from streamcore_openai.responses_wire import ResponsesVocabulary

Fields = dict[str, Any]
STOP: Fields = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
START: Fields = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "service_tier": "batch"}}}
BLOCK: Fields = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
TEXT: Fields = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
END: Fields = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
MESSAGE: tuple[Fields, ...] = (
    START,
    BLOCK,
    TEXT,
    {"type": "content_block_stop", "index": 0},
    END,
    {"type": "message_stop"},
)
DELTA: Fields = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hello"}
CREATED: Fields = {"type": "response.created", "response": {"id": "r", "service_tier": "auto"}}
ITEM: Fields = {
    "type": "response.output_item.done",
    "output_index": 0,
    "item": {"type": "message", "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
}
COMPLETED: Fields = {
    "type": "response.completed",
    "response": {"id": "r", "status": "completed", "service_tier": "default", "usage": {"cost": 0.5}},
}
RESPONSE = (CREATED, DELTA, ITEM, COMPLETED)


def decoded(make: Callable[[], Vocabulary], *events: Fields) -> list[Chunk]:
    decoder = StreamDecoder(make())
    chunks = decoder.feed(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))
    decoder.close()
    return chunks


def fold(make: Callable[[], Vocabulary], *events: Fields) -> Completion:
    found = Fold()
    found.add(decoded(make, *events))
    return found.completion(complete=True)


def text_event(text: str, **more: Any) -> Fields:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **more}


def test_the_facts_of_a_chat_answer() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "cost": 0.25}
    source = {"title": "T", "url": "https://example.org/a"}
    urls = ["https://example.org/a", "https://example.org/b"]
    logprobs = {"content": [{"token": "Hello", "logprob": -0.1}]}
    first = {
        "id": "c",
        "provider": "Someone",
        "service_tier": "auto",
        "choices": [{"index": 0, "delta": {"role": "assistant"}}],
    }
    stop: Fields = {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "###"}
    answer = fold(
        ChatVocabulary,
        first,
        {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hello"}, "logprobs": logprobs}]},
        text_event(" you", citations=urls, search_results=[source]),
        text_event("!", citations=urls, search_results=[source]),
        {"id": "c", "service_tier": "default", "choices": [stop]},
        {"id": "c", "choices": [], "usage": usage},
    )
    assert (answer.text, answer.service_tier, answer.served_by) == ("Hello you!", "default", "Someone")
    assert answer.cost == Cost(Decimal("0.25"), price="usage.cost")
    assert answer.stop_sequence == "###"
    assert answer.logprobs == tuple(logprobs["content"])
    assert answer.citations == (source, {"url": "https://example.org/b"})


def test_the_facts_of_a_message() -> None:
    end = {**END, "delta": {"stop_reason": "stop_sequence", "stop_sequence": "###"}}
    answer = fold(AnthropicVocabulary, *MESSAGE[:4], end, MESSAGE[5])
    assert (answer.service_tier, answer.stop_sequence) == ("batch", "###")


def test_the_facts_of_a_response() -> None:
    logprobs = [{"token": "Hello", "logprob": -0.1}]
    answer = fold(ResponsesVocabulary, CREATED, {**DELTA, "logprobs": logprobs}, COMPLETED)
    assert (answer.service_tier, answer.cost) == ("default", Cost(Decimal("0.5"), price="usage.cost"))
    assert answer.logprobs == tuple(logprobs)


@pytest.mark.parametrize(
    ("usage", "event", "cost"),
    [
        ({"cost": {"total_cost": 0.5}}, {}, Cost(Decimal("0.5"), price="usage.cost.total_cost")),
        ({"cost_in_usd_ticks": 5_000_000_000}, {}, Cost(Decimal("0.5"), price="usage.cost_in_usd_ticks")),
        ({"cost": 0}, {}, Cost(Decimal(0), price="usage.cost")),
        ({"cost": "0.5"}, {}, Cost(Decimal("0.5"), price="usage.cost")),
        ({"cost": "free"}, {}, None),
        ({"cost": 10**400}, {}, None),
        ({"cost": -0.5}, {}, None),
        (
            {},
            {"provider_metadata": {"gateway": {"cost": "0.5"}}},
            Cost(Decimal("0.5"), price="provider_metadata.gateway.cost"),
        ),
    ],
)
def test_the_forms_of_a_cost(usage: Fields, event: Fields, cost: Cost | None) -> None:
    counts = {"prompt_tokens": 1, **usage}
    assert fold(ChatVocabulary, text_event("Hello"), STOP, {"choices": [], "usage": counts, **event}).cost == cost


def test_usage_may_come_inside_a_choice_with_cached_tokens_beside_it() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 4}
    answer = fold(ChatVocabulary, text_event("Hello"), {**STOP, "choices": [{**STOP["choices"][0], "usage": usage}]})
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.cache_read_tokens) == (9, 4)


def test_counts_of_zero_do_not_replace_more() -> None:
    first, empty = Usage(3, 5, raw={"a": 1}), Usage(0, 0, raw={"b": 1})
    assert merged_usage(first, empty) == first
    assert merged_usage(Usage(3, 0), Usage(0, 5)) == Usage(3, 5)
    assert merged_usage(first, Usage(4, 6, raw={"c": 1})) == Usage(4, 6, raw={"c": 1})
    assert merged_usage(None, empty) == empty


def test_the_parts_of_reasoning_are_separable() -> None:
    def summary(part: int, text: str) -> Fields:
        kind = "response.reasoning_summary_text.delta"
        return {"type": kind, "output_index": 0, "summary_index": part, "delta": text}

    answer = fold(ResponsesVocabulary, summary(0, "a"), summary(0, "b"), summary(1, "c"), COMPLETED)
    assert (answer.reasoning, answer.reasoning_parts) == ("abc", ("ab", "c"))
    fold_ = Fold()
    fold_.add(
        [Chunk("reasoning", text="a"), Chunk("reasoning", text="b", index=2), Chunk("reasoning", text="c", index=2)]
    )
    assert fold_.completion(complete=True).reasoning_parts == ("a", "bc")


def positions(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where the objects of an event are, but not those that are passed on whole."""
    if is_array(value):
        return [found for number, item in enumerate(value) for found in positions(item, (*path, number))]
    if not is_object(value) or path[-1:] == ("usage",):
        return []
    return [path, *(found for key, item in value.items() for found in positions(item, (*path, key)))]


CASES = [
    (make, events, number, path)
    for make, events in ((AnthropicVocabulary, MESSAGE), (ResponsesVocabulary, RESPONSE))
    for number, event in enumerate(events)
    for path in positions(event)
]


@pytest.mark.parametrize(("make", "events", "number", "path"), CASES)
def test_an_unknown_field_of_a_known_event_passes_as_other(
    make: Callable[[], Vocabulary], events: tuple[Fields, ...], number: int, path: tuple[str | int, ...]
) -> None:
    event = copy.deepcopy(events[number])
    inner: Any = event
    for key in path:
        inner = inner[key]
    inner["news"] = {"a": 1}
    changed = [*events[:number], event, *events[number + 1 :]]
    chunks = decoded(make, *changed)
    assert [chunk.raw for chunk in chunks if chunk.kind == "other"] == [json.dumps(event).encode()]
    plain = [chunk for chunk in decoded(make, *events) if chunk.kind != "other"]
    same = [chunk for chunk in chunks if chunk.kind not in ("other", "finish")]
    assert same == [chunk for chunk in plain if chunk.kind != "finish"]


def test_the_body_of_an_error_is_on_it() -> None:
    event = {"error": {"message": "no", "code": "tool_use_failed", "failed_generation": "<f>{"}}
    with pytest.raises(ProviderError) as caught:
        decoded(ChatVocabulary, text_event("Hello"), event)
    assert caught.value.body == event


def test_errors_can_be_pickled_and_copied() -> None:
    refused = provider_error({"message": "no"}, status=400, provider="p", model="m", retry_after=2.0)
    refused.partial = Completion(text="Hello")
    for error in (refused, StreamTimeout("late", clock="stall", seconds=1.0), StreamInterrupted("cut")):
        for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301  of our own making
            assert type(again) is type(error)
            assert (str(again), vars(again)) == (str(error), vars(error))
    assert isinstance(pickle.loads(pickle.dumps(refused)), BadRequestError)  # noqa: S301


@pytest.mark.parametrize(
    ("value", "found"),
    [(12, 12), (12.0, 12), (0, 0), (True, None), (1.5, None), (2**63 - 1, 2**63 - 1), (2**63, None), (1e300, None)],
)
def test_a_count_is_a_whole_number_of_64_bits(value: object, found: int | None) -> None:
    assert count(value) == found


def test_counts_above_64_bits_are_left_to_the_raw_usage() -> None:
    usage = {"prompt_tokens": 10**400, "completion_tokens": 2}
    answer = fold(ChatVocabulary, text_event("Hello"), STOP, {"choices": [], "usage": usage})
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (None, 2)
    assert answer.usage.raw["prompt_tokens"] == 10**400
