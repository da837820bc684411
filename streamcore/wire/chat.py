"""Decode the chat-completions dialect, shared by OpenAI, Mistral and every compatible server.

Source: the vendors' API references for `chat.completion.chunk`, and what 27 servers were seen to send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from streamcore.chunk import Chunk, FinishReason, Opaque, Usage, content
from streamcore.errors import provider_error
from streamcore.wire.chat_lenient import lenient_event
from streamcore.wire.chat_structs import ChatEvent, Choice, TextEvent
from streamcore.wire.decoder import DONE, parse_json
from streamcore.wire.lenient import count, is_array, mapping
from streamcore.wire.sent_back import SentBack
from streamcore.wire.tool_calls import ToolCalls

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "refusal",
}

_decode = msgspec.json.Decoder(ChatEvent).decode
_decode_text = msgspec.json.Decoder(TextEvent).decode


class ChatVocabulary:
    """Read `chat.completion.chunk` events.

    The end is marked by a finish reason on every choice that appeared, or by `[DONE]`; only `[DONE]` ends reading,
    since usage and even content follow a finish reason.
    """

    def __init__(self, wire: str = "openai-chat", *, request_id: str | None = None, source: str | None = None) -> None:
        self.wire = wire
        self.done = False
        self._request_id = request_id
        self._started = False
        self._texting = False
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, ToolCalls] = {}
        self._kept = SentBack(wire, source)
        self._reasoning_key: str | None = None  # the field that brings the reasoning of the first answer

    @property
    def marked(self) -> bool:
        """True after `[DONE]`, or when every choice has its finish reason."""
        return self.done or (bool(self._finished) and self._open <= self._finished)

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event; see `Vocabulary.event`."""
        if self._texting and not name:  # tokens follow tokens
            try:
                choice = _decode_text(data).choices[0]
            except (msgspec.DecodeError, ValueError):
                self._texting = False
            else:
                if choice.index == 0:
                    text = choice.delta.content
                    if text:
                        out.append(content("text", text))
                    return
        self._any_event(name, data, out)

    def _any_event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        try:
            event = _decode(data)
        except (msgspec.DecodeError, ValueError):
            if data.strip() == DONE:
                self._end(out)
                return
            value = parse_json(data)
            if mapping(value).get("object") == "error":  # vLLM's form, with no `error` in it
                raise provider_error(value, request_id=self._request_id) from None
            event, known = lenient_event(value)
            extra = not known or event.extras()
        else:
            extra = event.extras()
        if not self._started and (event.id or event.model or event.choices):
            self._start(event, out)
        for choice in event.choices or ():
            if self._choice(choice, out):
                extra = True
        usage = event.usage
        if usage is None and event.x_groq is not None:
            usage = event.x_groq.get("usage")
        if usage:
            out.append(Chunk("usage", usage=read_usage(mapping(usage))))
        if event.error is not None or (name == b"error" and not event.choices):
            raise provider_error(parse_json(data), request_id=self._request_id)
        if extra:
            out.append(Chunk("other", event=name.decode("utf-8", "replace") or None, raw=data))

    def _start(self, event: ChatEvent, out: list[Chunk]) -> None:
        self._started = True
        out.append(Chunk("start", id=event.id or None, model=event.model or None, request_id=self._request_id))

    def _choice(self, choice: Choice, out: list[Chunk]) -> bool:
        """Append a choice's chunks; return True if it holds more than they say."""
        number = choice.index or 0
        self._open.add(number)
        extra = choice.extras()
        delta = choice.delta
        if delta is not None:
            reasoning, more = delta.reasoning_content, delta.reasoning
            if reasoning:
                out.append(content("reasoning", reasoning, 0, number))
                self._reasoning_key = "reasoning_content"
            if more and more != reasoning:
                out.append(content("reasoning", more, 0, number))
                self._reasoning_key = self._reasoning_key or "reasoning"
            if delta.reasoning_details:
                extra |= self._reasoning_details(delta.reasoning_details, number, bool(reasoning or more), out)
            text = delta.content
            if text:
                if isinstance(text, str):
                    out.append(content("text", text, 0, number))
                    self._texting = self._kept.text_follows = number == 0
                else:
                    extra |= self._parts(text, number, out)
            if delta.refusal:
                out.append(content("refusal", delta.refusal, 0, number))
            if delta.tool_calls:
                calls = self._calls.get(number)
                if calls is None:
                    calls = self._calls[number] = ToolCalls()
                for call in delta.tool_calls:
                    fragment = calls.merge(call)
                    out.append(content("tool_call", "", 0, number, fragment))
                    if call.kept and number == 0:
                        self._kept.call(fragment.position, call.kept)
            for annotation in delta.annotations or ():
                out.append(Chunk("citation", choice=number, data=annotation))
            if delta.extras():
                extra = True
                if number == 0:
                    self._kept.rare(delta)
        if choice.finish_reason:
            self._finish(choice.finish_reason, number, out)
        return extra

    def _finish(self, reason: str, number: int, out: list[Chunk]) -> None:
        self._finished.add(number)
        out.append(
            Chunk(
                "finish",
                choice=number,
                finish_reason=FINISH_REASONS.get(reason, "other"),
                raw_finish_reason=reason,
                opaque=self._opaque(number),
            )
        )

    def _end(self, out: list[Chunk]) -> None:
        self.done = True
        for number in sorted((self._open or {0}) - self._finished):
            out.append(Chunk("finish", choice=number, opaque=self._opaque(number)))

    def _opaque(self, number: int) -> Opaque | None:
        """Return what the next turn must bring back; reasoning only if tools were called, as its vendors want it."""
        return self._kept.opaque(self._reasoning_key if self._calls.get(0) else None) if number == 0 else None

    def _reasoning_details(self, details: list[Any], number: int, told: bool, out: list[Chunk]) -> bool:
        """Keep what must be sent back. Its texts repeat `reasoning`; where that is missing, they stay opaque."""
        items = [cast("dict[str, Any]", detail) for detail in details if isinstance(detail, dict)]
        if number == 0:
            self._kept.details(items)
        opaque = tuple(
            item for item in items if not told or not isinstance(item.get("text") or item.get("summary"), str)
        )
        if opaque:
            out.append(Chunk("reasoning", choice=number, opaque=Opaque(self.wire, opaque, source=self._kept.source)))
        return len(items) < len(details)

    def _parts(self, parts: list[Any], number: int, out: list[Chunk]) -> bool:
        """Read content that is a list of parts, as Mistral sends thinking and references."""
        extra = False
        for part in parts:
            match part:
                case str(text) | {"type": "text", "text": str(text)}:
                    if text:
                        out.append(content("text", text, 0, number))
                        self._kept.text_follows |= number == 0
                case {"type": "thinking", "thinking": thinking} | {"type": "reasoning", "summary": thinking}:
                    if number == 0 and not self._kept.text_follows:
                        self._kept.part(part)
                        extra |= self._thinking(thinking, number, out)
                    else:
                        extra |= self._thinking_after_text(part, thinking, number, out)
                case {"type": "reference" | "tool_reference"}:
                    out.append(Chunk("citation", choice=number, data=part))
                case _:
                    extra = True
        return extra

    def _thinking_after_text(self, part: Mapping[str, Any], thinking: object, number: int, out: list[Chunk]) -> bool:
        """Read thinking after text; in the answer that is sent back, its first chunk carries the part."""
        before = len(out)
        extra = self._thinking(thinking, number, out)
        if number == 0:
            starts = len(out) > before and out[before].kind == "reasoning"
            first = out.pop(before).text if starts else ""
            out.insert(before, Chunk("reasoning", first, opaque=self._kept.part_after_text(part)))
        return extra

    def _thinking(self, thinking: object, number: int, out: list[Chunk]) -> bool:
        extra = False
        for piece in thinking if is_array(thinking) else [thinking]:
            match piece:
                case str(text) | {"type": "text" | "summary_text", "text": str(text)}:
                    if text:
                        out.append(content("reasoning", text, 0, number))
                case {"type": "reference" | "tool_reference"}:
                    out.append(Chunk("citation", choice=number, data=cast("dict[str, Any]", piece)))
                case _:
                    extra = True
        return extra


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Give a usage object of the chat dialect its normal form."""
    prompt = mapping(usage.get("prompt_tokens_details"))
    output = mapping(usage.get("completion_tokens_details"))
    cached = prompt.get("cached_tokens")
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        output_tokens=count(usage.get("completion_tokens")),
        cache_read_tokens=count(usage.get("prompt_cache_hit_tokens") if cached is None else cached),
        cache_write_tokens=count(prompt.get("cache_write_tokens")),
        reasoning_tokens=count(output.get("reasoning_tokens")),
        raw=usage,
    )
