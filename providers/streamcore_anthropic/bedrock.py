"""Decode AWS's binary event stream, in which Bedrock sends Anthropic's events.

A message has a prelude (total length, length of the headers, checksum), headers, a payload and a checksum. The payload
of a `chunk` is JSON with the event in base64. Source: "Event stream encoding" in the developer guide of Amazon
Transcribe; the Bedrock client of the `anthropic` SDK reads the same with botocore.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any
from zlib import crc32

from streamcore.chunk import Chunk
from streamcore.errors import MalformedStream
from streamcore.wire.decoder import MAX_EVENT_BYTES, StreamDecoder

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">III")
_LENGTHS = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # bytes of a header's value by type; 6 and 7 vary
_ERRORS = {
    "accessDeniedException": "permission_error",
    "internalServerException": "api_error",
    "modelStreamErrorException": "api_error",
    "modelTimeoutException": "timeout_error",
    "resourceNotFoundException": "not_found_error",
    "serviceUnavailableException": "overloaded_error",
    "throttlingException": "rate_limit_error",
    "validationException": "invalid_request_error",
}
"""Anthropic's name for each exception of Bedrock's `InvokeModelWithResponseStream`."""


class BedrockDecoder(StreamDecoder):
    """Decode the event stream of Bedrock; the contract is that of `StreamDecoder`."""

    _rest = b""

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks that these bytes completed; see `StreamDecoder.feed`."""
        self._rest += data
        try:
            events = b"".join(self._events_of(self._frames()))
        except (ValueError, KeyError, struct.error) as error:
            self._rest = b""
            out = super().feed(b"") if self.done else []
            if not self.done:
                self.fail(MalformedStream(f"the response is not a valid AWS event stream: {error}"), error)
            return out
        return super().feed(events) if events else []

    def _frames(self) -> Iterator[tuple[dict[str, str], bytes]]:
        """Yield the headers and the payload of each complete message.

        Raises:
            ValueError: a length or a checksum is wrong.
        """
        while len(self._rest) >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(self._rest)
            if crc32(self._rest[:8]) != checksum or not 16 + headers <= total <= 2 * MAX_EVENT_BYTES:
                raise ValueError("the beginning of a message is damaged")
            if len(self._rest) < total:
                return
            message, self._rest = self._rest[:total], self._rest[total:]
            if crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
                raise ValueError("the checksum of a message is wrong")
            yield _headers(message[12 : 12 + headers]), message[12 + headers : -4]

    def _events_of(self, frames: Iterator[tuple[dict[str, str], bytes]]) -> Iterator[bytes]:
        """Yield each message as a Server-Sent Event."""
        for headers, payload in frames:
            name = headers.get(":exception-type") or headers.get(":error-code")
            if name is None:
                data: Any = json.loads(payload)
                event = base64.b64decode(data["bytes"]) if "bytes" in data else payload
                kind = json.loads(event).get("type") or headers.get(":event-type", "")
                yield _sse(str(kind), event)
            else:
                message = headers.get(":error-message") or payload.decode("utf-8", "replace")
                yield _sse("error", json.dumps(_error(name, message)).encode())


def _headers(data: bytes) -> dict[str, str]:
    """Return the headers whose values are text."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]].decode()
        at += 1 + data[at]
        kind, at = data[at], at + 1
        length = _LENGTHS.get(kind)
        if length is None:
            if kind not in (6, 7):
                raise ValueError(f"the header {name!r} has the unknown type {kind}")
            length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        if kind == 7:
            found[name] = data[at : at + length].decode()
        at += length
    return found


def _sse(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data.replace(b"\r", b"").replace(b"\n", b""))


def _error(name: str, message: str) -> dict[str, Any]:
    try:
        body: Any = json.loads(message)
    except ValueError:
        body = {}
    text = body.get("message") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    kind = _ERRORS.get(name[:1].lower() + name[1:], name)
    return {"type": "error", "error": {"type": kind, "message": str(text or message or name)}}  # pyright: ignore[reportUnknownArgumentType]
