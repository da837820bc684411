"""Encode answers as the events of the Responses API.

Source: the Responses API reference, "Streaming events", and the Open Responses specification of 2026-04-24.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from streamcore.chunk import CONTENT_KINDS, Chunk, Opaque, ToolCall, Usage
from streamcore.completion import merged_usage
from streamcore.tool_call_fragments import call_id
from streamcore.wire.encoding.chat import TIERS
from streamcore.wire.encoding.events import COMMENT, begins, dumps, is_nested, raw_event, refuse_restart
from streamcore.wire.encoding.wire import AnswerHead, Problem
from streamcore.wire.lenient import mapping
from streamcore_openai.responses_object import (
    Json,
    call_item,
    error_object,
    failed_response,
    item_id,
    message_item,
    reasoning_item,
    response_object,
    status_of,
    text_part,
)
from streamcore_openai.responses_wire import WIRE, ResponsesVocabulary

CANNOT: Mapping[str, str] = {
    "choice": "only choice 0 is sent",
    "ping": "is sent as a comment",
    "restart": "raises ConfigError after content",
    "step": "is left out",
    "tool_progress": "is left out",
    "tool_result": "is left out",
    "path": "chunks of nested runs are left out",
    "usage before finish": "is sent after it, with the response",
    "finish without a reason": "has the status `completed`",
    "request_id": "is a header of the response, and not written by the encoder",
    "half of a surrogate pair": "is sent as an escape, and decoders join it with the other half",
}

_OWN_ITEMS = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})


@dataclass(slots=True)
class _Item:
    """An output item that is written."""

    kind: str
    of: int
    """The chunks' index, or the position of a call."""
    index: int
    id: str
    part: str | None = None
    """The type of the part that is open."""
    parts: list[Json] = field(default_factory=list[Json])
    pieces: list[str] = field(default_factory=list[str])
    """The pieces of the part, or of a call's arguments."""
    annotations: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    call: ToolCall | None = None
    original: Mapping[str, Any] | None = None
    """The item as the vendor sent it, if it is known."""
    ended: bool = False
    """True once the arguments of a call are complete."""
    done: bool = False

    def at(self) -> Json:
        """Return the fields that locate an event."""
        where: Json = {"item_id": self.id, "output_index": self.index}
        if self.call is None:
            where["summary_index" if self.part == "summary_text" else "content_index"] = len(self.parts)
        return where

    def whole(self, status: Any = "completed") -> Mapping[str, Any]:
        """Return the item, complete."""
        if self.original is not None:
            return self.original
        if self.call is not None:
            return call_item(self.id, self.call, "".join(self.pieces), status)
        if self.kind == "reasoning":
            return reasoning_item(self.id, self.parts)
        return message_item(self.id, self.parts, status)


class ResponsesEncoder:
    """Encode one answer; see `AnswerEncoder`. Each event has a sequence number, from 0."""

    def __init__(self, head: AnswerHead) -> None:
        self._head = head
        self._sequence = 0
        self._started = False
        self._content = False
        self._refused = False
        self._items: list[_Item] = []
        self._open: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._count = 0
        self._finish: Chunk | None = None
        self._usage: Usage | None = None
        self._facts: Json = {}

    def feed(self, chunks: Iterable[Chunk]) -> bytes:
        """Return the events of some chunks; see `AnswerEncoder.feed`."""
        return b"".join([self._chunk(chunk) for chunk in chunks if not (chunk.choice or is_nested(chunk))])

    def _chunk(self, chunk: Chunk) -> bytes:
        kind = chunk.kind
        self._content = self._content or kind in CONTENT_KINDS
        before = b"" if self._started or not begins(chunk) else self._start(chunk)
        self._note(chunk)
        match kind:
            case "text":
                return before + self._piece(chunk, "output_text", "response.output_text.delta", logprobs=[])
            case "refusal":
                self._refused = True
                return before + self._piece(chunk, "refusal", "response.refusal.delta")
            case "reasoning":
                return before + self._reasoning(chunk)
            case "tool_call" if chunk.tool_call is not None:
                return before + self._call(chunk, chunk.tool_call)
            case "citation" if chunk.data is not None:
                return before + self._citation(chunk, chunk.data)
            case "start" if chunk.usage is not None:
                self._usage = chunk.usage
                return before
            case "usage" if chunk.usage is not None:
                self._usage = merged_usage(self._usage, chunk.usage)
                return before
            case "finish":
                if self._finish is None or chunk.raw_finish_reason is not None:
                    self._finish = chunk
                return before
            case "ping":
                return COMMENT
            case "restart" if self._content:
                raise refuse_restart(WIRE)
            case "other":
                return before + self._other(chunk)
            case _:
                return before

    def _event(self, kind: str, **fields: Any) -> bytes:
        value = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumps(value))

    def _note(self, chunk: Chunk) -> None:
        """Store the facts about the answer that the response has."""
        data = chunk.data or {}
        tier = data.get("service_tier")
        if tier and (self._head.native or tier in TIERS):
            self._facts["service_tier"] = tier
        if self._head.native and data.get("served_by"):
            self._facts["provider"] = data["served_by"]

    def _start(self, chunk: Chunk) -> bytes:
        self._started = True
        model = chunk.model if chunk.kind == "start" else None
        self._head = replace(self._head, id=self._head.id or chunk.id, model=model or self._head.model)
        self._note(chunk)
        response = response_object(self._head, "in_progress", [], **self._facts)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _begin(self, kind: str, chunk: Chunk, *, of: int, call: ToolCall | None = None) -> tuple[_Item, bytes]:
        """Return the item that a chunk belongs to, and the events that begin it if it is new."""
        opened = self._open
        if opened is not None and opened.kind == kind and opened.of == of:
            return opened, b""
        before = b"" if opened is None else self._close(opened)
        index = max(chunk.index, self._count) if self._head.native else self._count
        self._count = index + 1
        identity = chunk.id if chunk.kind != "start" and chunk.id else item_id(kind, self._head.id or "", index)
        item = self._open = _Item(kind, of, index, identity, call=call)
        self._items.append(item)
        shown = {**item.whole("in_progress")}
        return item, before + self._event("response.output_item.added", output_index=index, item=shown)

    def _begin_part(self, item: _Item, kind: str) -> bytes:
        before = b"" if item.part is None or item.part == kind else self._close_part(item)
        if item.part == kind:
            return before
        item.part = kind
        if item.kind == "reasoning":
            part: Json = {"type": kind, "text": ""}
            event = "response.reasoning_summary_part.added" if kind == "summary_text" else "response.content_part.added"
            return before + self._event(event, **item.at(), part=part)
        part = text_part("") if kind == "output_text" else {"type": "refusal", "refusal": ""}
        return before + self._event("response.content_part.added", **item.at(), part=part)

    def _close_part(self, item: _Item) -> bytes:
        kind, text, at = item.part, "".join(item.pieces), item.at()
        if kind is None:
            return b""
        item.part, item.pieces = None, []
        if kind == "summary_text":
            part: Json = {"type": kind, "text": text}
            done = self._event("response.reasoning_summary_text.done", **at, text=text)
            done += self._event("response.reasoning_summary_part.done", **at, part=part)
        elif kind == "reasoning_text":
            part = {"type": kind, "text": text}
            done = self._event("response.reasoning_text.done", **at, text=text)
            done += self._event("response.content_part.done", **at, part=part)
        elif kind == "refusal":
            part = {"type": kind, "refusal": text}
            done = self._event("response.refusal.done", **at, refusal=text)
            done += self._event("response.content_part.done", **at, part=part)
        else:
            part, item.annotations = text_part(text, item.annotations), []
            done = self._event("response.output_text.done", **at, text=text, logprobs=[])
            done += self._event("response.content_part.done", **at, part=part)
        item.parts.append(part)
        return done

    def _piece(self, chunk: Chunk, part: str, event: str, **more: Any) -> bytes:
        kind = "message" if part in ("output_text", "refusal") else "reasoning"
        item, before = self._begin(kind, chunk, of=chunk.index)
        before += self._begin_part(item, part)
        item.pieces.append(chunk.text)
        return before + self._event(event, **item.at(), delta=chunk.text, **more)

    def _reasoning(self, chunk: Chunk) -> bytes:
        before = b""
        opened = self._open
        if chunk.data is not None and opened is not None and opened.kind == "reasoning" and opened.of == chunk.index:
            before = self._close_part(opened)  # another part begins
        if chunk.text and self._head.reasoning_key == "reasoning_text":
            before += self._piece(chunk, "reasoning_text", "response.reasoning_text.delta")
        elif chunk.text:
            before += self._piece(chunk, "summary_text", "response.reasoning_summary_text.delta")
        opaque = chunk.opaque
        if opaque is not None and opaque.wire == WIRE and opaque.items:
            original = opaque.items[0]
            named = replace(chunk, id=chunk.id or original.get("id"))
            item, begins = self._begin("reasoning", named, of=chunk.index)
            item.original = original
            before += begins
        return before

    def _call(self, chunk: Chunk, call: ToolCall) -> bytes:
        item = self._calls.get(call.position)
        before = b""
        if item is None:
            if not (call.id or self._head.native):
                call = replace(call, id=call_id(self._head.id or "", call.position))
            kind = "custom_tool_call" if call.custom else "function_call"
            item, before = self._begin(kind, chunk, of=call.position, call=replace(call, arguments=""))
            self._calls[call.position] = item
        if not call.arguments:
            return before
        item.pieces.append(call.arguments)
        if item.ended:
            return before
        event = "response.custom_tool_call_input.delta" if call.custom else "response.function_call_arguments.delta"
        return before + self._event(event, **item.at(), delta=call.arguments)

    def _citation(self, chunk: Chunk, citation: Mapping[str, Any]) -> bytes:
        item, before = self._begin("message", chunk, of=chunk.index)
        before += self._begin_part(item, "output_text")
        at = {**item.at(), "annotation_index": len(item.annotations)}
        item.annotations.append(citation)
        return before + self._event("response.output_text.annotation.added", **at, annotation=citation)

    def _other(self, chunk: Chunk) -> bytes:
        """Return an event without a normal form, unless the other chunks of the same event have been sent."""
        logprobs = (chunk.data or {}).get("logprobs")
        if logprobs:
            item, before = self._begin("message", chunk, of=chunk.index)
            before += self._begin_part(item, "output_text")
            return before + self._event("response.output_text.delta", **item.at(), delta="", logprobs=logprobs)
        if not self._head.native or chunk.raw is None:
            return b""
        event = mapping(json.loads(chunk.raw))
        kind = str(event.get("type") or chunk.event)
        if kind in ("response.output_item.added", "response.output_item.done"):
            if mapping(event.get("item")).get("type") in _OWN_ITEMS:
                return b""
            self._count = max(self._count, chunk.index + 1)
        elif ResponsesVocabulary().knows(kind, event):
            return b""
        return raw_event(chunk, named=False)

    def _close(self, item: _Item) -> bytes:
        """Return the events that end an item; a call may still be incomplete, if calls come in turns."""
        self._open = None
        call = item.call
        if call is not None and not replace(call, arguments="".join(item.pieces)).complete:
            return b""
        return self._close_parts(item) + (b"" if self._head.native else self._done(item))

    def _close_parts(self, item: _Item) -> bytes:
        if item.call is None:
            return self._close_part(item)
        if item.ended:
            return b""
        item.ended = True
        text = "".join(item.pieces)
        if item.call.custom:
            return self._event("response.custom_tool_call_input.done", **item.at(), input=text)
        return self._event("response.function_call_arguments.done", **item.at(), arguments=text, name=item.call.name)

    def _done(self, item: _Item, status: str = "completed") -> bytes:
        item.done = True
        return self._event("response.output_item.done", output_index=item.index, item=item.whole(status))

    def _close_all(self, status: str) -> bytes:
        """Return the events that end the items; those of the vendor that had no chunks begin and end here."""
        written = b""
        silent = self._take_originals()
        for item in self._items:
            if not item.done:
                written += self._close_parts(item) + self._done(
                    item, status if item is self._items[-1] else "completed"
                )
        for index, original in silent:
            written += self._event("response.output_item.added", output_index=index, item=original)
            written += self._event("response.output_item.done", output_index=index, item=original)
        self._open = None
        return written

    def _take_originals(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Set the vendor's own items, which are known at the end only; return those that had no chunks."""
        opaque: Opaque | None = None if self._finish is None else self._finish.opaque
        if not self._head.native or opaque is None or opaque.wire != WIRE:
            return []
        known = {item.index: item for item in self._items}
        silent: list[tuple[int, Mapping[str, Any]]] = []
        for index, original in enumerate(opaque.items):
            item = known.get(index)
            if item is not None and item.kind == original.get("type"):
                item.original = original
            elif item is None and original.get("type") in _OWN_ITEMS:
                silent.append((index, original))
        return silent

    def end(self) -> bytes:
        """Return the end of an answer that is complete: the items' ends, and the complete response."""
        written = b"" if self._started else self._start(Chunk("start"))
        native = self._head.native
        status, reason = status_of(self._finish, refused=self._refused, native=native)
        written += self._close_all("completed" if status == "completed" else "incomplete")
        more: Json = dict(self._facts)
        if reason is not None:
            more["incomplete_details"] = {"reason": reason}
        if status == "completed":
            more["completed_at"] = self._head.created
        output = self._output()
        usage = self._usage if native else self._usage or Usage()
        response = response_object(self._head, status, output, usage=usage, **more)
        kind = status if status in ("completed", "incomplete") else "done"
        done = b"data: [DONE]\n\n" if self._head.done_event and not native else b""
        return written + self._event(f"response.{kind}", response=response) + done

    def _output(self) -> list[Mapping[str, Any]]:
        """Return the items of the response: the vendor's own as far as they were sent, by their ids."""
        opaque = None if self._finish is None else self._finish.opaque
        if opaque is None or opaque.wire != WIRE:
            return [item.whole() for item in self._items]
        if self._head.native:
            return list(opaque.items)
        known = {item.get("id"): item for item in opaque.items}
        messages = iter([item for item in opaque.items if item.get("type") == "message"])
        nothing: Mapping[str, Any] = {}
        return [
            known.get(item.id)
            or {**(next(messages, nothing) if item.kind == "message" else nothing), **item.whole(), "id": item.id}
            for item in self._items
        ]

    def error(self, problem: Problem) -> bytes:
        """Return the events that report an answer that failed or was cut.

        The SDK of the vendor raises for an event with `error`, others for `response.failed`; so both are sent.
        """
        error = error_object(problem)
        flat = {"code": error["code"], "message": error["message"], "param": error["param"]}
        written = self._event("error", **flat, error=error)
        output = [item.whole("incomplete") for item in self._items if item is not self._open]
        return written + self._event("response.failed", response=failed_response(self._head, problem, output))
