"""Join characters whose two halves are in two events, and replace halves without their other half by U+FFFD.

JSON can escape half of a surrogate pair (`"\\ud83d"`), and servers that cut text at UTF-16 units send the other half
in the next event. A Python string can contain a lone half, but no encoding can write it. So an event that has one is
rewritten first: each half becomes one of the last 2,048 characters of the private use plane, which msgspec accepts,
and decoders read the event as usual. `SplitCharacters.mend` then makes the text of their chunks well-formed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from streamcore.chunk import Chunk, Opaque, ToolCall
from streamcore.wire.lenient import is_array, is_object

_SHIFT = 0x102000
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF = re.compile("[\U0010f800-\U0010fbff][\U0010fc00-\U0010ffff]|[\U0010f800-\U0010ffff]")
_HIGH = re.compile("[\U0010f800-\U0010fbff]\\Z")
_REPLACEMENT = "\ufffd"
_STREAMED = ("text", "reasoning", "refusal", "tool_call")

_Key = tuple[int, int]  # index, position of the tool call


class LoneSurrogatesError(ValueError):
    """Report an event whose JSON has half of a surrogate pair in a string; `value` is the decoded JSON."""

    def __init__(self, value: object) -> None:
        super().__init__("a string has half of a surrogate pair")
        self.value = value

    def rewritten(self) -> bytes:
        """Return the JSON with a private-use character for each half."""
        text = json.dumps(self.value, ensure_ascii=False)
        return _SURROGATE.sub(lambda match: chr(ord(match.group()) + _SHIFT), text).encode()


def check_surrogates(value: object, data: bytes) -> None:
    """Raise `LoneSurrogatesError` if a string of the JSON `value`, decoded from `data`, has half of a pair."""
    if b"\\ud" in data or b"\\uD" in data:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise LoneSurrogatesError(value) from error


def well_formed(value: Any) -> Any:
    """Return a JSON value with the halves in its strings joined, or replaced by U+FFFD."""
    if isinstance(value, str):
        return _HALF.sub(_character, value)
    if is_object(value):
        return {well_formed(key): well_formed(item) for key, item in value.items()}
    if is_array(value):
        return [well_formed(item) for item in value]
    return value


def _character(match: re.Match[str]) -> str:
    halves = match.group()
    if len(halves) == 1:
        return _REPLACEMENT
    high, low = (ord(half) - _SHIFT for half in halves)
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


class SplitCharacters:
    """Delay half a character at the end of a text until its other half is received, for each text of a stream."""

    def __init__(self) -> None:
        self._halves: dict[tuple[str, int], tuple[_Key, str, Chunk]] = {}  # by kind and choice: one text at a time

    def mend(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return the chunks of one event with well-formed text in every field."""
        out: list[Chunk] = []
        for chunk in chunks:
            if chunk.kind in _STREAMED and (chunk.text or chunk.tool_call is not None):
                self._streamed(chunk, out)
            else:
                for kind in _STREAMED if chunk.kind == "finish" else ():
                    self._release((kind, chunk.choice), out)
                out.append(_mended(chunk))
        return out

    def end(self) -> list[Chunk]:
        """Return a U+FFFD for each half whose other half was not received."""
        out: list[Chunk] = []
        for stream in list(self._halves):
            self._release(stream, out)
        return out

    def _streamed(self, chunk: Chunk, out: list[Chunk]) -> None:
        call, stream = chunk.tool_call, (chunk.kind, chunk.choice)
        key: _Key = (chunk.index, -1 if call is None else call.position)
        half = ""
        if stream in self._halves and self._halves[stream][0] == key:
            half = self._halves.pop(stream)[1]
        self._release(stream, out)
        text = half + (chunk.text if call is None else call.arguments)
        if call is not None and not text:
            out.append(_mended(chunk))
            return
        if _HIGH.search(text, len(text) - 1):
            self._halves[stream] = (key, text[-1], chunk)
            text = text[:-1]
            if not text and call is None:
                return
        out.append(_with_text(_mended(chunk), well_formed(text)))

    def _release(self, stream: tuple[str, int], out: list[Chunk]) -> None:
        if stream in self._halves:
            _, _, chunk = self._halves.pop(stream)
            out.append(_with_text(_mended(chunk), _REPLACEMENT))


def _with_text(chunk: Chunk, text: str) -> Chunk:
    if chunk.tool_call is None:
        return replace(chunk, text=text)
    return replace(chunk, tool_call=replace(chunk.tool_call, arguments=text))


def _mended(chunk: Chunk) -> Chunk:
    """Return the chunk with well-formed ids, names and opaque data; the caller sets its text."""
    call, opaque, usage = chunk.tool_call, chunk.opaque, chunk.usage
    return replace(
        chunk,
        tool_call=None if call is None else _mended_call(call),
        usage=None if usage is None else replace(usage, raw=well_formed(usage.raw)),
        raw_finish_reason=well_formed(chunk.raw_finish_reason),
        finish_detail=well_formed(chunk.finish_detail),
        opaque=None if opaque is None else _mended_opaque(opaque),
        data=cast("Mapping[str, Any] | None", well_formed(chunk.data)),
        id=well_formed(chunk.id),
        model=well_formed(chunk.model),
        event=well_formed(chunk.event),
    )


def _mended_opaque(opaque: Opaque) -> Opaque:
    items = tuple(well_formed(item) for item in opaque.items)
    return replace(opaque, items=items, fields=well_formed(dict(opaque.fields)))


def _mended_call(call: ToolCall) -> ToolCall:
    return replace(call, id=well_formed(call.id), name=well_formed(call.name), arguments=well_formed(call.arguments))
