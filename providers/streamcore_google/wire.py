"""Decode the `gemini` wire: the events of a streamed `generateContent` call, of the Gemini API and of Vertex AI.

An event is a piece of a `GenerateContentResponse`. Nothing marks the last one: a finish reason may come several times,
with more content after it if the server ran tools. So the body is read to its end, and the last finish reason counts.
Source: the references of `streamGenerateContent`, and recordings of the API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from streamcore.chunk import Chunk, ChunkKind, FinishReason, Opaque, Usage, content
from streamcore.errors import MalformedStream, StreamcoreError, provider_error
from streamcore.wire.decoder import DONE, MAX_EVENT_BYTES, StreamDecoder, parse_json
from streamcore.wire.endings import another_answer, is_failure, looks_like_error
from streamcore.wire.facts import Facts
from streamcore.wire.lenient import count, is_object, items, mapping, text
from streamcore_google.errors import event_error, plain_error, unwrapped
from streamcore_google.json_array import ArrayEvents
from streamcore_google.known import EVENT, has_unread_fields, is_call, is_text
from streamcore_google.turn import WIRE, Turn, arguments_text

FINISH_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "CONTINUATION": "pause",
}
_TAIL_BYTES = 64 * 1024  # of the end of a body, which may be an error in plain JSON


class _Text(Struct, gc=False, forbid_unknown_fields=True):
    text: str
    thought: bool = False


class _TextContent(Struct, gc=False, forbid_unknown_fields=True):
    parts: tuple[_Text]
    role: str = ""


class _TextCandidate(Struct, gc=False, forbid_unknown_fields=True):
    content: _TextContent
    index: int = 0


class _Token(Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    """Describe the most frequent event, which is tried first: one part of text or reasoning, and token counts."""

    candidates: tuple[_TextCandidate]
    usage_metadata: Raw | UnsetType = UNSET
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None


class _Call(Struct, gc=False):
    args: Raw | UnsetType = UNSET


class _CallPart(Struct, gc=False, rename="camel"):
    function_call: _Call | None = None


class _CallContent(Struct, gc=False):
    parts: list[_CallPart] = []


class _CallCandidate(Struct, gc=False):
    content: _CallContent | None = None


class _Calls(Struct, gc=False):
    """Describe where an event has the arguments of function calls, whose bytes are passed on as they are."""

    candidates: list[_CallCandidate] = []


_decode_token = msgspec.json.Decoder(_Token).decode
_decode_calls = msgspec.json.Decoder(_Calls).decode


class GeminiVocabulary:
    """Read the events of `streamGenerateContent`; `end` marks the end once all bytes are read."""

    wire = WIRE

    def __init__(self, *, request_id: str | None = None, source: str | None = None) -> None:
        self.marked = False
        self.done = False
        self.failed: StreamcoreError | None = None
        self.suspect: Any = None
        self._request_id = request_id
        self._source = source
        self._started = False
        self._plain = False  # the next event may be one that `_Token` describes
        self._id: str | None = None
        self._turn = Turn(0)
        self._turns: dict[int, Turn] = {}
        self._blocked: Mapping[str, Any] | None = None
        self._blocking = b""  # the event that says so
        self._usage = b""  # the last counts, as JSON
        self._counts: Mapping[str, Any] = {}
        self._last_usage = b""  # those of an event with a finish reason, which come after it
        self._cited: set[str] = set()  # as JSON
        self._facts = Facts()

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event; see `Vocabulary.event`."""
        if self._plain:
            try:
                token = _decode_token(data)
            except (msgspec.DecodeError, ValueError):
                pass
            else:
                candidate = token.candidates[0]
                turn = self._turn
                if candidate.index == turn.choice and token.response_id == self._id and turn.open_call is None:
                    part = candidate.content.parts[0]
                    if part.text:
                        kind: ChunkKind = "reasoning" if part.thought else "text"
                        out.append(content(kind, part.text, 0, turn.choice))
                        turn.add_text(part.text, part.thought)
                    usage = token.usage_metadata
                    if usage is not UNSET and usage != self._usage:
                        self._count(bytes(usage), out)
                    return
        self._any_event(data, out)

    @property
    def started(self) -> bool:
        """True once an event of an answer was read."""
        return self._started

    def knows(self, kind: str, event: Mapping[str, Any]) -> bool:
        """True for an event with a field of an answer; see `Vocabulary.knows`."""
        return not EVENT.isdisjoint(event)

    def _any_event(self, data: bytes, out: list[Chunk]) -> None:
        if data.strip() == DONE:  # of a gateway; the end of the body marks the end
            out.append(Chunk("ping"))
            return
        value = unwrapped(parse_json(data))
        if not is_object(value) or EVENT.isdisjoint(value):
            if looks_like_error(value):
                self.suspect = value
            out.append(Chunk("other", raw=data))
            return
        if value.get("error"):
            raise event_error(value, self._request_id)
        self._begin(value, out)
        candidates = items(value.get("candidates"))
        arguments = _arguments(data, candidates)
        extra = has_unread_fields(value)
        for number, candidate in enumerate(candidates):
            extra |= self._candidate(mapping(candidate), arguments[number], data, out)
        feedback = mapping(value.get("promptFeedback"))
        if feedback.get("blockReason"):
            self._blocked = feedback
            self._blocking = data
        elif feedback:
            extra = True
        self._count(self._last_usage, out)
        self._last_usage = b""
        usage = mapping(value.get("usageMetadata"))
        if usage:
            counts = json.dumps(usage, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
            if self._blocked or any(mapping(candidate).get("finishReason") for candidate in candidates):
                self._last_usage = counts
            else:
                self._count(counts, out)
        self._plain = not self._last_usage
        if extra:
            out.append(Chunk("other", raw=data))

    def _begin(self, event: Mapping[str, Any], out: list[Chunk]) -> None:
        """Append the start of the answer; refuse the events of another one."""
        response_id = text(event.get("responseId"))
        if self._started:
            if response_id and self._id and response_id != self._id:
                raise another_answer(self._id, response_id)
            self._id = self._id or response_id
            return
        self._started = True
        self._id = response_id
        model = text(event.get("modelVersion"))
        out.append(Chunk("start", id=response_id, model=model, request_id=self._request_id))

    def _candidate(self, candidate: Mapping[str, Any], arguments: list[str], data: bytes, out: list[Chunk]) -> bool:
        """Append the chunks of a candidate; return True if they do not contain all of it."""
        number = count(candidate.get("index")) or 0
        turn = self._turns.get(number)
        if turn is None:
            turn = self._turns[number] = Turn(number)
        self._turn = turn
        extra = False
        for position, part in enumerate(items(mapping(candidate.get("content")).get("parts"))):
            extra |= self._part(turn, mapping(part), arguments[position], data, out)
        self._cite(turn, candidate, out)
        entries = items(mapping(candidate.get("logprobsResult")).get("chosenCandidates"))
        if entries:
            out.append(Chunk("other", choice=number, raw=data, data={"logprobs": entries}))
        turn.ratings = items(candidate.get("safetyRatings")) or turn.ratings
        reason = text(candidate.get("finishReason"))
        if reason:
            turn.reason, turn.raw = reason, data
            turn.message = text(candidate.get("finishMessage"))
        return extra

    def _part(self, turn: Turn, part: Mapping[str, Any], arguments: str, data: bytes, out: list[Chunk]) -> bool:
        """Append the chunks of a part; return True if they do not contain all of it."""
        signature = text(part.get("thoughtSignature"))
        if is_call(part):
            known = turn.call(part, arguments, out)
        else:
            turn.end_call(out)
            said = text(part.get("text"))
            known = is_text(part) and said is not None
            if said:
                thought = part.get("thought") is True
                out.append(content("reasoning" if thought else "text", said, 0, turn.choice))
                if known and not signature:
                    turn.add_text(said, thought)
            if not known and part:
                kind = next((key for key, given in part.items() if is_object(given)), None)
                out.append(Chunk("other", event=kind, choice=turn.choice, raw=data))
                known = True
            if part and (signature or not is_text(part)):
                turn.add_part(part)
        if signature:
            opaque = Opaque(WIRE, ({"thoughtSignature": signature},), source=self._source)
            out.append(Chunk("reasoning", choice=turn.choice, opaque=opaque))
        return not known

    def _cite(self, turn: Turn, candidate: Mapping[str, Any], out: list[Chunk]) -> None:
        """Append the sources and the places in the text that they support, each once."""
        grounding, cited = mapping(candidate.get("groundingMetadata")), mapping(candidate.get("citationMetadata"))
        for citation in (
            *items(grounding.get("groundingChunks")),
            *items(grounding.get("groundingSupports")),
            *items(cited.get("citations")),
            *items(cited.get("citationSources")),
        ):
            if is_object(citation) and (written := json.dumps(citation, sort_keys=True)) not in self._cited:
                self._cited.add(written)
                out.append(Chunk("citation", choice=turn.choice, data=citation))

    def _count(self, data: bytes, out: list[Chunk], raw: bytes | None = None) -> None:
        """Append token counts that have changed."""
        if not data or data == self._usage:
            return
        self._usage = data
        usage = mapping(msgspec.json.decode(data))
        if usage == self._counts:  # in other bytes
            return
        self._counts = usage
        self._facts.note("service_tier", text(usage.get("serviceTier")))
        if not _COUNTS.isdisjoint(usage):
            out.append(Chunk("usage", usage=read_usage(usage), data=self._facts.take(), raw=raw))

    def end(self, out: list[Chunk], include_raw: bool) -> None:
        """Append the finish reasons, now that all bytes are read, if the answer is complete."""
        for turn in self._turns.values():
            turn.end_call(out)
        if self._blocked is not None and not any(turn.reason for turn in self._turns.values()):
            self.marked = True
            raw = self._blocking if include_raw else None
            out.append(Chunk("finish", finish_reason="content_filter", finish_detail=self._blocked, raw=raw))
            self._count(self._last_usage, out)
            return
        turns = [turn for _, turn in sorted(self._turns.items())]
        self.marked = bool(turns) and all(turn.reason for turn in turns)
        for turn in turns if self.marked else ():
            self._finish(turn, turn.reason or "", turn.raw if include_raw else None, out)
        self._count(self._last_usage, out, turns[-1].raw if turns and include_raw else None)

    def _finish(self, turn: Turn, reason: str, raw: bytes | None, out: list[Chunk]) -> None:
        if is_failure(reason):
            said = f": {turn.message}" if turn.message else ""
            error = {"code": reason, "message": f"generation failed: the answer ended with {reason!r}{said}"}
            self.failed = self.failed or provider_error(error, request_id=self._request_id)
            return
        normal = FINISH_REASONS.get(reason, "other")
        detail: str | Mapping[str, Any] | None = turn.message
        if normal == "content_filter" and turn.ratings:
            detail = {"finishMessage": turn.message, "safetyRatings": turn.ratings}
        out.append(
            Chunk(
                "finish",
                choice=turn.choice,
                finish_reason="tool_calls" if normal == "stop" and turn.calls else normal,
                raw_finish_reason=reason,
                finish_detail=detail,
                opaque=turn.opaque(self._source),
                data=self._facts.take(),
                raw=raw,
            )
        )


def _arguments(data: bytes, candidates: list[Any]) -> list[list[str]]:
    """Return the arguments of each part of each candidate, as the vendor wrote them; "" for other parts."""
    parts = [items(mapping(mapping(candidate).get("content")).get("parts")) for candidate in candidates]
    if b'"functionCall"' not in data:
        return [[""] * len(some) for some in parts]
    try:
        found = [
            [_raw(part) for part in (one.content or _CallContent()).parts] for one in _decode_calls(data).candidates
        ]
        if list(map(len, found)) == list(map(len, parts)):
            return found
    except (msgspec.DecodeError, ValueError):
        pass
    return [[arguments_text(mapping(mapping(part).get("functionCall")).get("args")) for part in some] for some in parts]


def _raw(part: _CallPart) -> str:
    call = part.function_call
    given = "" if call is None or call.args is UNSET else bytes(call.args).decode()
    return "" if given == "null" else given


_COUNTS = frozenset(
    {
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "toolUsePromptTokenCount",
        "cachedContentTokenCount",
        "totalTokenCount",
    }
)


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Convert a `usageMetadata` object: the input includes what tools of the server added, the output the thoughts."""
    thoughts = count(usage.get("thoughtsTokenCount"))
    return Usage(
        input_tokens=_sum(count(usage.get("promptTokenCount")), count(usage.get("toolUsePromptTokenCount"))),
        output_tokens=_sum(count(usage.get("candidatesTokenCount")), thoughts),
        cache_read_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
        raw=usage,
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first + (second or 0)


class GeminiDecoder(StreamDecoder):
    """Decode the body of `streamGenerateContent?alt=sse`; the contract is that of `StreamDecoder`.

    The end of the bytes marks the end of the answer, if it has a finish reason. A server that fails later may send the
    error as plain JSON, without the form of an event.
    """

    def __init__(
        self, vocabulary: GeminiVocabulary, *, include_raw: bool = False, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        super().__init__(vocabulary, include_raw=include_raw, max_event_bytes=max_event_bytes)
        self._gemini = vocabulary
        self._tail = b""
        self._array: ArrayEvents | None = None  # for a server that ignores `alt=sse`

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks that these bytes completed; see `StreamDecoder.feed`."""
        if self._array is not None:
            return self._feed_array(self._array, data)
        out = super().feed(data)
        if out:
            self._tail = data
            return out
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if self._gemini.started or self._tail.lstrip()[:1] != b"[":
            return out
        self._array = ArrayEvents()
        super().feed(b"\n\n")  # end the line that is no event
        return self._feed_array(self._array, self._tail)

    def _feed_array(self, array: ArrayEvents, data: bytes) -> list[Chunk]:
        self._tail = b""
        events = array.feed(data)
        if array.pending > MAX_EVENT_BYTES and not self.done:
            self.fail(MalformedStream(f"an object of the array is longer than {MAX_EVENT_BYTES} bytes"))
        return super().feed(events) if events else []

    def at_end(self, include_raw: bool) -> list[Chunk]:
        """Return the finish reasons; see `StreamDecoder.at_end`."""
        last: list[Chunk] = []
        error = plain_error(self._tail)
        if error is not None:
            self.fail(event_error(error))
        else:
            self._gemini.end(last, include_raw)
            self.ending = self._gemini.marked
        return last
