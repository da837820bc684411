"""Write an `Answer` as the events of each wire, in the shapes of the vendors' public API references.

Each function returns frames: the bytes of one event, and whether it carries content (so that it is paced).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamcore.testing.simulator.answers import PROMPT_TOKENS as PROMPT_TOKENS
from streamcore.testing.simulator.answers import Answer
from streamcore.testing.simulator.bedrock import bedrock_converse
from streamcore.wire.event_stream import CONTENT_TYPE

Frame = tuple[bytes, bool]

SSE = "text/event-stream; charset=utf-8"
BINARY: Mapping[str, str] = {"bedrock-converse": CONTENT_TYPE}
"""The content types of the wires that are not Server-Sent Events."""


def _sse(data: Mapping[str, Any] | str, name: str | None = None) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    head = f"event: {name}\n" if name else ""
    try:
        return f"{head}data: {text}\n\n".encode()
    except UnicodeEncodeError:  # half a surrogate pair, which vendors write as an escape
        return f"{head}data: {json.dumps(data)}\n\n".encode()


def _count(answer: Answer) -> int:
    return len(answer.tokens) + len(answer.reasoning) + sum(len(call.fragments) for call in answer.calls)


def openai_chat(answer: Answer) -> Iterator[Frame]:
    """Yield the events of Chat Completions, ending in a usage chunk and `[DONE]`."""
    yield from _chat(answer, reasoning_content=True)
    base = _chat_base(answer)
    yield _sse({**base, "choices": [], "usage": _chat_usage(answer)}), False
    yield _sse("[DONE]"), False


def mistral_chat(answer: Answer) -> Iterator[Frame]:
    """Yield the events of Mistral's chat, whose last chunk carries finish reason and usage."""
    *frames, (_, _) = _chat(answer, reasoning_content=False)
    yield from frames
    reason = "tool_calls" if answer.calls else "stop"
    last = {"index": 0, "delta": {"content": ""}, "finish_reason": reason}
    yield _sse({**_chat_base(answer), "choices": [last], "usage": _chat_usage(answer)}), False
    yield _sse("[DONE]"), False


def _chat_base(answer: Answer) -> dict[str, Any]:
    return {
        "id": "chatcmpl-simulated",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": answer.model,
    }


def _chat_usage(answer: Answer) -> dict[str, Any]:
    made = _count(answer)
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": made, "total_tokens": PROMPT_TOKENS + made}


def _chat(answer: Answer, *, reasoning_content: bool) -> Iterator[Frame]:
    base = _chat_base(answer)

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        return _sse({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    yield chunk({"role": "assistant", "content": ""}), False
    for piece in answer.reasoning:
        if reasoning_content:
            yield chunk({"reasoning_content": piece}), True
        else:
            thinking = [{"type": "text", "text": piece}]
            yield chunk({"content": [{"type": "thinking", "thinking": thinking}]}), True
    for token in answer.tokens:
        yield chunk({"content": token}), True
    for number, call in enumerate(answer.calls):
        head: dict[str, Any] = {"index": number, "id": call.id, "type": "function"}
        yield chunk({"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]}), True
        for fragment in call.fragments:
            delta = {"index": number, "function": {"arguments": fragment}}
            yield chunk({"tool_calls": [delta]}), True
    yield chunk({}, "tool_calls" if answer.calls else "stop"), False


def anthropic_messages(answer: Answer) -> Iterator[Frame]:
    """Yield the events of the Messages API."""

    def event(data: dict[str, Any]) -> bytes:
        return _sse(data, data["type"])

    def delta(index: int, **fields: Any) -> bytes:
        return event({"type": "content_block_delta", "index": index, "delta": fields})

    message: dict[str, Any] = {
        "id": "msg_simulated",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": 1},
    }
    yield event({"type": "message_start", "message": message}), False
    index = 0
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if answer.reasoning:
        pieces = [{"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning]
        signed = {"type": "signature_delta", "signature": "simulated-signature"}
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [*pieces, signed]))
    if answer.tokens:
        texts = [{"type": "text_delta", "text": token} for token in answer.tokens]
        blocks.append(({"type": "text", "text": ""}, texts))
    for call in answer.calls:
        block: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        inputs = [{"type": "input_json_delta", "partial_json": part} for part in call.fragments]
        blocks.append((block, inputs))
    for index, (opened, deltas) in enumerate(blocks):
        yield event({"type": "content_block_start", "index": index, "content_block": opened}), False
        for fields in deltas:
            yield delta(index, **fields), True
        yield event({"type": "content_block_stop", "index": index}), False
    yield (
        event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "tool_use" if answer.calls else "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": _count(answer)},
            }
        ),
        False,
    )
    yield event({"type": "message_stop"}), False


def openai_responses(answer: Answer) -> Iterator[Frame]:
    """Yield the events of the Responses API."""
    sequence = iter(range(1_000_000_000))

    def event(kind: str, **fields: Any) -> bytes:
        return _sse({"type": kind, "sequence_number": next(sequence), **fields}, kind)

    response: dict[str, Any] = {
        "id": "resp_simulated",
        "object": "response",
        "created_at": 1767225600,
        "status": "in_progress",
        "model": answer.model,
        "output": [],
        "usage": None,
    }
    yield event("response.created", response=response), False
    yield event("response.in_progress", response=response), False
    output: list[dict[str, Any]] = []
    for make in (_reasoning_item, _message_item, _call_items):
        for frame, item in make(answer, event, len(output)):
            yield frame
            if item is not None:
                output.append(item)
    made = _count(answer)
    usage = {
        "input_tokens": PROMPT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": len(answer.reasoning)},
        "total_tokens": PROMPT_TOKENS + made,
    }
    ended = {**response, "status": "completed", "output": output, "usage": usage}
    yield event("response.completed", response=ended), False


_Made = Iterator[tuple[Frame, dict[str, Any] | None]]
_Event = Callable[..., bytes]


def _reasoning_item(answer: Answer, event: _Event, index: int) -> _Made:
    if not answer.reasoning:
        return
    item: dict[str, Any] = {"id": "rs_simulated", "type": "reasoning", "summary": []}
    at = {"item_id": item["id"], "output_index": index, "summary_index": 0}
    yield (event("response.output_item.added", output_index=index, item=item), False), None
    part = {"type": "summary_text", "text": ""}
    yield (event("response.reasoning_summary_part.added", **at, part=part), False), None
    for piece in answer.reasoning:
        yield (event("response.reasoning_summary_text.delta", **at, delta=piece), True), None
    text = "".join(answer.reasoning)
    yield (event("response.reasoning_summary_text.done", **at, text=text), False), None
    done = {**item, "summary": [{"type": "summary_text", "text": text}]}
    yield (event("response.output_item.done", output_index=index, item=done), False), done


def _message_item(answer: Answer, event: _Event, index: int) -> _Made:
    if not answer.tokens:
        return
    item: dict[str, Any] = {
        "id": "msg_simulated",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
    yield (event("response.output_item.added", output_index=index, item=item), False), None
    yield (event("response.content_part.added", **at, part=part), False), None
    for token in answer.tokens:
        yield (event("response.output_text.delta", **at, delta=token, logprobs=[]), True), None
    text = "".join(answer.tokens)
    yield (event("response.output_text.done", **at, text=text, logprobs=[]), False), None
    whole = {**part, "text": text}
    yield (event("response.content_part.done", **at, part=whole), False), None
    done = {**item, "status": "completed", "content": [whole]}
    yield (event("response.output_item.done", output_index=index, item=done), False), done


def _call_items(answer: Answer, event: _Event, index: int) -> _Made:
    for number, call in enumerate(answer.calls, index):
        item = {
            "id": f"fc_simulated_{number}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
        at = {"item_id": item["id"], "output_index": number}
        yield (event("response.output_item.added", output_index=number, item=item), False), None
        for fragment in call.fragments:
            yield (event("response.function_call_arguments.delta", **at, delta=fragment), True), None
        arguments = "".join(call.fragments)
        yield (event("response.function_call_arguments.done", **at, arguments=arguments), False), None
        done = {**item, "status": "completed", "arguments": arguments}
        yield (event("response.output_item.done", output_index=number, item=done), False), done


WIRES: Mapping[str, Callable[[Answer], Iterator[Frame]]] = {
    "anthropic-messages": anthropic_messages,
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "mistral-chat": mistral_chat,
    "bedrock-converse": bedrock_converse,
}


def content_type(wire: str) -> str:
    """Return the content type of a wire's answers."""
    return BINARY.get(wire, SSE)


def frames(wire: str, answer: Answer) -> Iterator[Frame]:
    """Yield the frames of an answer on a wire; they end early if the answer is cut."""
    left = answer.cut
    for frame, paced in WIRES[wire](answer):
        if left is not None and paced:
            if left == 0:
                return
            left -= 1
        elif left == 0 and not paced:
            return
        yield frame, paced
