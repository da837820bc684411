"""Collect what the next turn must send back of an answer in the chat dialect, besides its text and calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamcore.chunk import Opaque
from streamcore.wire.chat_structs import Delta
from streamcore.wire.endings import RepeatedWork
from streamcore.wire.lenient import is_array, is_object, mapping, text
from streamcore.wire.reasoning_details import copied, merge_details

WIRE = "openai-chat"
TEXT_HERE: Mapping[str, Any] = {"type": "text"}
"""A placeholder for the text between two parts; `Fold` inserts the text, since decoders do not keep it."""


class SentBack:
    """Store the opaque data of one answer in the order received."""

    __slots__ = (
        "_audio",
        "_calls",
        "_details",
        "_fields",
        "_parts",
        "_transcript",
        "_wire",
        "_work",
        "source",
        "text_follows",
    )

    def __init__(self, wire: str, source: str | None) -> None:
        self._wire = wire
        self.source = source
        self._details: list[dict[str, Any]] = []
        self._parts: list[dict[str, Any]] = []
        self._fields: dict[str, Any] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        self._audio: dict[str, Any] = {}
        self._transcript: list[str] = []
        self._work = RepeatedWork()
        self.text_follows = False
        """True if the last content was text; the vocabulary sets it."""

    def details(self, details: Iterable[Mapping[str, Any]]) -> None:
        """Add fragments of `reasoning_details`."""
        merge_details(self._details, details)

    def part(self, part: Mapping[str, Any]) -> None:
        """Add a part of the content that is not text."""
        merge_details(self._parts, (part,))

    def part_after_text(self, part: Mapping[str, Any]) -> Opaque:
        """Add a part that follows text, and return it as opaque data.

        A chunk must contain them, so that `Fold` knows the position of the text.
        """
        self.text_follows = False
        merge_details(self._parts, (TEXT_HERE, part))
        return Opaque(self._wire, (part,), source=self.source)

    def rare(self, delta: Delta) -> None:
        """Add the audio's id, and the fields that only the server that sent them can read."""
        for key, value in (delta.kept or {}).items():
            kept = _without_flags(value) if key == "extra_content" else value
            if kept:
                self._fields[key] = _merged(self._fields.get(key), kept)
        audio = mapping(delta.audio)
        for key in ("id", "expires_at"):
            if audio.get(key):
                self._audio[key] = audio[key]
        transcript = text(audio.get("transcript"))
        if transcript:
            self._transcript.append(transcript)

    def call(self, position: int, kept: Mapping[str, Any]) -> None:
        """Add the fields of a tool call."""
        known = self._calls.setdefault(str(position), {})
        for key, value in kept.items():
            known[key] = _merged(known.get(key), value)

    def opaque(self, reasoning_key: str | None) -> Opaque | None:
        """Return the opaque data; `reasoning_key` names the field of the reasoning, if it must be sent back.

        The field is None; `Fold` replaces it by the reasoning.
        """
        parts, items = tuple(map(copied, self._parts)), tuple(map(copied, self._details))
        kept = (self._fields, self._calls, *self._parts, *self._details)
        self._work.spend(len(self._transcript) + sum(map(_size, kept)))
        fields: dict[str, Any] = {
            key: merge_details([], value) if is_array(value) else _merged(None, value)
            for key, value in self._fields.items()
        }
        if reasoning_key == "reasoning_content" or (reasoning_key and not (items or parts)):
            fields[reasoning_key] = None
        if self._calls:
            fields["tool_calls"] = _merged(None, self._calls)
        if self._audio.get("id"):
            transcript = "".join(self._transcript)
            fields["audio"] = {**self._audio, "transcript": transcript} if transcript else self._audio
        if self._wire != WIRE:
            items = parts  # a wire that has no other opaque data
        elif parts:
            fields["content"] = list(parts)
        return Opaque(self._wire, items, fields, self.source) if items or fields else None


def _size(detail: Mapping[str, Any]) -> int:
    return sum(len(value) if is_array(value) else 1 for value in detail.values())


def _without_flags(value: Any) -> Any:
    """Return `extra_content` without flags that describe the chunk, such as `{"google": {"thought": true}}`."""
    if not is_object(value):
        return None
    kept = {key: _without_flags(item) if is_object(item) else item for key, item in value.items() if item is not True}
    return {key: item for key, item in kept.items() if item}


def _merged(known: Any, more: Any) -> Any:
    """Return both values: objects merge, lists are joined, anything else is replaced. `known` is changed."""
    if is_object(more):
        merged = known if is_object(known) else {}
        for key, value in more.items():
            merged[key] = _merged(merged.get(key), value)
        return merged
    if is_array(more):
        joined = known if is_array(known) else []
        joined += more
        return joined
    return more
