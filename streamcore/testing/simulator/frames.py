"""Write an `Answer` as the events of a wire, with the encoders of the installed wires."""

from __future__ import annotations

from collections.abc import Iterator

from streamcore.chunk import Chunk, Opaque, ToolCall, Usage
from streamcore.testing.simulator.answers import Answer
from streamcore.wire.encoding.wire import AnswerHead, find_wire, wires
from streamcore.wire.event_stream import split_frames

Frame = tuple[bytes, bool]
"""The bytes of one event, and whether it has content, so that it is paced."""

PROMPT_TOKENS = 12
CREATED = 1767225600

_IDS = {"anthropic-messages": "msg_simulated", "openai-responses": "resp_simulated"}
_SIGNED = "anthropic-messages"


def wire_names() -> list[str]:
    """Return the wires that can be simulated."""
    return sorted(wires())


def chunks(answer: Answer, signed: str = _SIGNED) -> Iterator[Chunk]:
    """Yield the chunks of an answer; `signed` is the wire whose signature the reasoning has."""
    yield Chunk("start", model=answer.model, usage=Usage(input_tokens=PROMPT_TOKENS, output_tokens=1))
    for piece in answer.reasoning:
        yield Chunk("reasoning", piece)
    if answer.reasoning:
        yield Chunk("reasoning", opaque=Opaque(signed, ({"signature": "simulated-signature"},)))
    for token in answer.tokens:
        yield Chunk("text", token, index=1)
    for position, call in enumerate(answer.calls):
        for fragment in ("", *call.fragments):
            yield Chunk("tool_call", index=2 + position, tool_call=ToolCall(call.id, call.name, fragment, position))
    count = len(answer.tokens) + len(answer.reasoning) + sum(len(call.fragments) for call in answer.calls)
    yield Chunk("finish", finish_reason="tool_calls" if answer.calls else "stop")
    yield Chunk("usage", usage=Usage(PROMPT_TOKENS, count, reasoning_tokens=len(answer.reasoning) or None))


def frames(wire: str, answer: Answer) -> Iterator[Frame]:
    """Yield the frames of an answer on a wire; they end early if the answer is cut."""
    left = answer.cut
    for frame, paced in _frames(wire, answer):
        if left is not None and paced:
            if left == 0:
                return
            left -= 1
        elif left == 0 and not paced:
            return
        yield frame, paced


def _frames(wire: str, answer: Answer) -> Iterator[Frame]:
    found = find_wire(wire)
    head = AnswerHead(_IDS.get(wire, "chatcmpl-simulated"), created=CREATED, done_event=False)
    encoder = found.encoder(head)
    split = split_frames if found.binary else events
    for chunk in chunks(answer, wire if found.binary else _SIGNED):
        paced = bool(chunk.text) or (chunk.tool_call is not None and chunk.tool_call.arguments != "")
        *before, last = split(encoder.feed([chunk])) or [b""]
        yield from ((event, False) for event in before)
        if last:
            yield last, paced
    yield from ((event, False) for event in split(encoder.end()))


def events(data: bytes) -> list[bytes]:
    """Return the single events of some bytes."""
    return [event + b"\n\n" for event in data.split(b"\n\n") if event]
