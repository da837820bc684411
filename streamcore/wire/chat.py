"""Decode the chat-completions dialect, shared by OpenAI, Mistral and every compatible server.

Source: the vendors' API references for `chat.completion.chunk`, and the observed output of 27 servers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import msgspec

from streamcore.chunk import Chunk, FinishReason, Opaque, Usage, content, contents
from streamcore.cost import gateway_cost
from streamcore.errors import StreamcoreError, provider_error
from streamcore.wire.chat_lenient import lenient_event
from streamcore.wire.chat_structs import ChatEvent, Choice, TextEvent
from streamcore.wire.decoder import DONE, parse_json
from streamcore.wire.endings import NATIVE_REASONS, failed_answer, is_failure, looks_like_error, unmarked
from streamcore.wire.facts import Facts, token_logprobs
from streamcore.wire.lenient import count, is_array, is_object, items, mapping
from streamcore.wire.lenient import text as text_of
from streamcore.wire.sent_back import SentBack
from streamcore.wire.tool_calls import ToolCalls

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
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
        self.marked = False
        self.done = False
        self.failed: StreamcoreError | None = None
        self.suspect: Any = None
        self._request_id = request_id
        self._started = False
        self._id: str | None = None  # of the last event that had one
        self._in_text = False  # the last event was text only, so the next one probably is, too
        self._open: dict[int, None] = {}  # empty dicts take a third of the memory of empty sets
        self._finished: dict[int, None] = {}
        self._calls: dict[int, ToolCalls] = {}
        self._kept = SentBack(wire, source)
        self._reasoning_key: str | None = None  # the field that has the reasoning
        self._facts = Facts()
        self._may_have_facts = False  # the current event may have facts about the answer, as its service tier
        self._citations: dict[str, None] = {}  # as JSON
        self._logprobs: list[tuple[int, list[Any]]] = []  # of the current event, by choice

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event; see `Vocabulary.event`."""
        if self._in_text and not name:
            try:
                choice = _decode_text(data).choices[0]
            except (msgspec.DecodeError, ValueError):
                self._in_text = False
            else:
                if choice.index == 0:
                    text = choice.delta.content
                    if text:
                        out.append(content("text", text))
                    return
        self._any_event(name, data, out)

    def tokens(self, name: bytes, events: Iterator[bytes], out: list[Chunk]) -> bytes | None:
        """Append the chunks of a run of events; see `Tokens`."""
        if name or not self._in_text:
            return next(events, None)
        texts: list[str] = []
        data: bytes | None = None
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            for data in events:
                choice = _decode_text(data).choices[0]
                if choice.index:
                    break
                texts.append(choice.delta.content)
            else:
                data = None
        out += contents("text", texts)
        return data

    def knows(self, kind: str, event: Mapping[str, Any]) -> bool:
        """True for an event with choices or token counts; see `Vocabulary.knows`."""
        return "choices" in event

    def _any_event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        try:
            event = _decode(data)
        except (msgspec.DecodeError, ValueError):
            if data.strip() == DONE:
                self._end(out)
                return
            value = parse_json(data)
            if mapping(value).get("object") == "error":  # vLLM's format, which has no key `error`
                raise provider_error(value, request_id=self._request_id) from None
            event, known = lenient_event(value)
            extra = not known or event.extras()
            if not known and not event.choices and looks_like_error(value):
                self.suspect = value
        else:
            extra = event.extras()
        if self.marked and self._begins_another(event):
            self.done = True  # the answer was complete; a second one is not merged with it
            out.append(_other(name, data))
            return
        if not self._started and (event.id or event.model or event.choices):
            self._started = self._may_have_facts = True
            out.append(Chunk("start", id=event.id or None, model=event.model or None, request_id=self._request_id))
        for choice in event.choices or ():
            if self._choice(choice, out):
                extra = True
        usage = event.usage
        if usage is None and event.x_groq is not None:
            usage = event.x_groq.get("usage")
        if usage or self._may_have_facts:
            self._add_facts(event, usage, data, out)
        if event.error is not None or (name == b"error" and not event.choices):
            raise provider_error(parse_json(data), request_id=self._request_id)
        if extra:
            self._others(event, name, data, out)

    def _add_facts(self, event: ChatEvent, usage: object, data: bytes, out: list[Chunk]) -> None:
        """Append the token counts of an event, and add its facts about the answer to a chunk that is not content."""
        self._may_have_facts = False
        self._id = event.id or self._id
        if not usage:
            usage = next((choice.usage for choice in event.choices or () if choice.usage), None)
        counts, value = mapping(usage), mapping(parse_json(data))
        if counts:
            out.append(Chunk("usage", usage=read_usage(counts)))
        facts = self._facts
        facts.note("service_tier", text_of(value.get("service_tier")) or text_of(counts.get("service_tier")))
        facts.note("served_by", text_of(value.get("provider")))
        facts.note("cost", gateway_cost(counts, _with_deltas(value)))
        new = facts.take()
        if new:
            last = next((n for n in reversed(range(len(out))) if out[n].kind in ("start", "usage", "finish")), None)
            if last is None:
                out.append(_other(b"", data, new))
            else:
                out[last] = replace(out[last], data={**(out[last].data or {}), **new})

    def _others(self, event: ChatEvent, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append an event whose chunks do not contain all of it, as `other`, with the facts that `Completion` has."""
        if event.citations or event.search_results:
            self._cite(event, out)
        for number, entries in self._logprobs or [(0, [])]:
            out.append(_other(name, data, {"logprobs": entries} if entries else None, number))
        self._logprobs.clear()

    def _begins_another(self, event: ChatEvent) -> bool:
        """True if an event after the finish reasons has content of a response with another id."""
        if not event.id or not self._id or event.id == self._id:
            return False
        deltas = [choice.delta for choice in event.choices or () if choice.delta is not None]
        return any(delta.content or delta.tool_calls or delta.reasoning or delta.reasoning_content for delta in deltas)

    def _choice(self, choice: Choice, out: list[Chunk]) -> bool:
        """Append a choice's chunks; return True if they do not contain all of it."""
        number = choice.index or 0
        if number not in self._open:
            self._open[number] = None
            self.marked = self.done
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
                    self._in_text = self._kept.text_follows = number == 0
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
            if delta.annotations:
                out += [Chunk("citation", choice=number, data=annotation) for annotation in delta.annotations]
            if delta.extras():
                extra = True
                if number == 0:
                    self._kept.rare(delta)
        if choice.logprobs:
            extra |= self._note_logprobs(choice.logprobs, number)
        if choice.usage:
            self._may_have_facts = True
        if choice.finish_reason:
            self._finish(choice, choice.finish_reason, number, out)
        return extra

    def _note_logprobs(self, logprobs: object, number: int) -> bool:
        """Store the entries of a choice's logprobs; return True if the object has more than entries."""
        entries = token_logprobs(logprobs)
        if entries:
            self._logprobs.append((number, entries))
        return not is_object(logprobs) or any(logprobs.values())

    def _finish(self, choice: Choice, reason: str, number: int, out: list[Chunk]) -> None:
        self._in_text = False
        self._may_have_facts = True
        self._finished[number] = None
        self.marked = len(self._open) == len(self._finished)  # only what is open is finished
        native = text_of(choice.native_finish_reason) or ""
        if is_failure(reason) or is_failure(native):
            failure = reason if is_failure(reason) else native
            self.failed = self.failed or failed_answer(failure, request_id=self._request_id)
            return
        stop = text_of(choice.stop_reason) or text_of(choice.matched_stop)
        out.append(
            Chunk(
                "finish",
                choice=number,
                finish_reason=NATIVE_REASONS.get(native.lower()) or FINISH_REASONS.get(reason, "other"),
                raw_finish_reason=reason,
                opaque=self._opaque(number),
                data={"stop_sequence": stop} if stop and reason == "stop" else None,
            )
        )

    def _end(self, out: list[Chunk]) -> None:
        self.marked = self.done = True
        unfinished = sorted((self._open or {0: None}).keys() - self._finished.keys())
        if unfinished and self.suspect is not None:
            raise unmarked(self.suspect, request_id=self._request_id)
        for number in unfinished:
            out.append(Chunk("finish", choice=number, opaque=self._opaque(number)))

    def _cite(self, event: ChatEvent, out: list[Chunk]) -> None:
        """Append the sources that no earlier event listed; most servers repeat the whole list."""
        results, urls = items(event.search_results), items(event.citations)
        listed = {mapping(result).get("url") for result in results}
        sources = [*results, *({"url": url} if isinstance(url, str) else url for url in urls if url not in listed)]
        for source in sources:
            if is_object(source) and (written := json.dumps(source, sort_keys=True)) not in self._citations:
                self._citations[written] = None
                out.append(Chunk("citation", data=source))

    def _opaque(self, number: int) -> Opaque | None:
        """Return what the next turn must send back; reasoning only if tools were called, as its vendors require."""
        return self._kept.opaque(self._reasoning_key if self._calls.get(0) else None) if number == 0 else None

    def _reasoning_details(self, details: list[Any], number: int, has_text: bool, out: list[Chunk]) -> bool:
        """Store what must be sent back; append the texts as reasoning if the event has none in another field.

        Return True if an entry is not an object.
        """
        given = [cast("dict[str, Any]", detail) for detail in details if isinstance(detail, dict)]
        if number == 0:
            self._kept.details(given)
        if has_text:
            opaque = tuple(item for item in given if _detail_text(item) is None)
        else:
            opaque = tuple(given)
            if self._reasoning_key is None:
                for item in given:
                    text = _detail_text(item)
                    if text:
                        out.append(content("reasoning", text, 0, number))
        if opaque:
            out.append(Chunk("reasoning", choice=number, opaque=Opaque(self.wire, opaque, source=self._kept.source)))
        return len(given) < len(details)

    def _parts(self, parts: list[Any], number: int, out: list[Chunk]) -> bool:
        """Read content that is a list of parts, as Mistral sends thinking and references."""
        extra = False
        for part in parts:
            match part:
                case {"type": "thinking", "thinking": thinking} | {"type": "reasoning", "summary": thinking}:
                    kept = self._kept
                    if number == 0 and not kept.text_follows:
                        kept.part(part)
                        extra |= self._thinking(thinking, number, out)
                    else:
                        extra |= self._thinking_after_text(part, thinking, number, out)
                case str(text) | {"type": "text", "text": str(text)}:
                    if text:
                        out.append(content("text", text, 0, number))
                        self._kept.text_follows |= number == 0
                case {"type": "reference" | "tool_reference"}:
                    out.append(Chunk("citation", choice=number, data=part))
                case _:
                    extra = True
        return extra

    def _thinking_after_text(self, part: Mapping[str, Any], thinking: object, number: int, out: list[Chunk]) -> bool:
        """Append thinking that follows text; its first chunk contains the part, which the next turn sends back."""
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
                case str(text) | {"type": "text", "text": str(text)}:
                    if text:
                        out.append(content("reasoning", text, 0, number))
                case {"type": "summary_text", "text": str(text)}:
                    extra |= self._thinking(text, number, out)
                case {"type": "reference" | "tool_reference"}:
                    out.append(Chunk("citation", choice=number, data=cast("dict[str, Any]", piece)))
                case _:
                    extra = True
        return extra


def _other(name: bytes, data: bytes, facts: Mapping[str, Any] | None = None, choice: int = 0) -> Chunk:
    return Chunk("other", event=name.decode("utf-8", "replace") or None, choice=choice, raw=data, data=facts)


def _detail_text(item: Mapping[str, Any]) -> str | None:
    return text_of(item.get("text") or item.get("summary"))


def _with_deltas(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the event with `provider_metadata`, which some gateways put into a delta."""
    for choice in items(event.get("choices")):
        metadata = mapping(mapping(choice).get("delta")).get("provider_metadata")
        if metadata:
            return {**event, "provider_metadata": metadata}
    return event


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Convert a usage object of the chat dialect."""
    prompt = mapping(usage.get("prompt_tokens_details"))
    output = mapping(usage.get("completion_tokens_details"))
    cached = prompt.get("cached_tokens")
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        output_tokens=count(usage.get("completion_tokens")),
        cache_read_tokens=_largest(
            usage.get("prompt_cache_hit_tokens") if cached is None else cached,
            usage.get("cached_tokens"),
            usage.get("cache_read_input_tokens"),
        ),
        cache_write_tokens=_largest(prompt.get("cache_write_tokens"), usage.get("cache_creation_input_tokens")),
        reasoning_tokens=_largest(output.get("reasoning_tokens"), usage.get("reasoning_tokens")),
        raw=usage,
    )


def _largest(*values: object) -> int | None:
    """Return the largest of the counts: servers set a field that they do not use to 0."""
    return max((number for number in map(count, values) if number is not None), default=None)
