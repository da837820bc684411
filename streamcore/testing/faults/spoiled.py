"""Build HTTP responses with faults, framing included, so that a fault can break the framing too."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from streamcore.testing.faults.steps import Pause, Repeat, Send, Step
from streamcore.testing.simulator.answers import Answer
from streamcore.testing.simulator.frames import frames
from streamcore.wire.encoding.wire import SSE, find_wire
from streamcore.wire.event_stream import encode_event, encode_exception

Steps = Callable[[str, Answer], Sequence[Step]]
"""A function of a wire, as `openai-chat`, and the answer to disturb, that returns the steps."""

KEPT = 2
"""How many complete tokens are sent before a fault in the middle of an answer."""

MIB = 1024 * 1024
END = b"0\r\n\r\n"
PING_EVERY = 0.02

# HTTP: headers, framing, bodies


def head(status: str = "200 OK", content_type: str = SSE, **headers: str) -> bytes:
    """Return the status line and headers of a response; `_` in a header's name becomes `-`.

    The server closes the connection after its steps, so it sends `connection: close`: the client must not reuse it.
    """
    fields = {"content-type": content_type, "x-request-id": "req_fault", "connection": "close"} | headers
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items()]
    return f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode()


def chunked(*parts: bytes, **headers: str) -> bytes:
    """Return the headers of a chunked response and these parts, an HTTP chunk each, without the end of the body."""
    return head(transfer_encoding="chunked", **headers) + b"".join(framed(part) for part in parts if part)


def streamed(wire: str, *parts: bytes, **headers: str) -> bytes:
    """Return the same with the content type of a wire."""
    return chunked(*parts, content_type=find_wire(wire).content_type, **headers)


def framed(data: bytes) -> bytes:
    """Return data as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(status: str, body: bytes, content_type: str = "application/json", **headers: str) -> list[Step]:
    """Return the steps of a complete response of known length."""
    return [Send(head(status, content_type, content_length=str(len(body)), **headers) + body)]


def whole(wire: str, answer: Answer) -> list[bytes]:
    """Return all the events of an answer."""
    return [data for data, _ in frames(wire, answer)]


def begun(wire: str, answer: Answer) -> list[bytes]:
    """Return the events of an answer up to its second piece of content, without the mark of the end."""
    pieces = sum(paced for _, paced in frames(wire, answer))
    return whole(wire, Answer(answer.tokens, answer.reasoning, answer.calls, answer.model, min(KEPT, pieces)))


# Events of each wire


def token(wire: str, text: str) -> bytes:
    """Return the event of one token."""
    return next(data for data, paced in frames(wire, Answer([text])) if paced)


_EXCEPTIONS: Mapping[str, str] = {
    "overloaded_error": "serviceUnavailableException",
    "invalid_request_error": "validationException",
}


def error_event(wire: str, kind: str, message: str) -> bytes:
    """Return an event that reports an error of this type in a stream."""
    error = {"type": kind, "message": message}
    match wire:
        case "bedrock-converse":
            return encode_exception(_EXCEPTIONS.get(kind, kind), json.dumps({"message": message}).encode())
        case "anthropic-messages":
            return event({"type": "error", "error": error}, "error")
        case "openai-responses":
            return event({"type": "error", "code": kind, "message": message, "param": None}, "error")
        case "mistral-chat":
            return event({"object": "error", **error, "code": None})
        case _:
            return event({"error": {**error, "param": None, "code": None}})


def ping(wire: str) -> bytes:
    """Return a keep-alive event of this wire; on one that has none, an event without content."""
    match wire:
        case "bedrock-converse":
            return encode_event("keepAlive", b"{}")
        case "anthropic-messages":
            return event({"type": "ping"}, "ping")
        case "openai-responses":
            return event({"type": "keepalive", "sequence_number": 0}, "keepalive")
        case "gemini":
            return event({"usageMetadata": {}})
        case _:
            nothing: dict[str, object] = {"index": 0, "delta": {}, "finish_reason": None}
            return event({"id": "ping", "choices": [nothing]})


def broken_event(payload: bytes) -> Callable[[str], bytes]:
    """Return a function of the wire that returns an event with this payload."""
    return lambda wire: (
        encode_event("contentBlockDelta", payload) if find_wire(wire).binary else b"data: %b\n\n" % payload
    )


def event(data: Mapping[str, object], name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


# Steps that rows of the table use


def refusal(status: str, kind: str, message: str, **headers: str) -> Steps:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    return lambda wire, answer: sized(status, body, **headers)


def exactly(*steps: Step) -> Steps:
    return lambda wire, answer: steps


def page(body: bytes, content_type: str) -> Steps:
    return lambda wire, answer: sized("200 OK", body, content_type)


def then(*steps: Step) -> Steps:
    """Begin the answer, then play these steps."""
    return lambda wire, answer: [Send(streamed(wire, *begun(wire, answer))), *steps]


def then_event(event: bytes | Callable[[str], bytes]) -> Steps:
    """Begin the answer, send a faulty event, and end the body a second later, for readers that did not fail at it."""

    def steps(wire: str, answer: Answer) -> list[Step]:
        spoiling = event if isinstance(event, bytes) else event(wire)
        return [Send(streamed(wire, *begun(wire, answer), spoiling)), Pause(1), Send(END)]

    return steps


def in_full(change: Callable[[bytes], Iterable[bytes]]) -> Steps:
    """Send the complete answer with changed bytes, an HTTP chunk for each part that `change` returns."""
    return lambda wire, answer: [Send(streamed(wire, *change(b"".join(whole(wire, answer)))) + END)]


def after_mark(*steps: Step) -> Steps:
    return lambda wire, answer: [Send(streamed(wire, *whole(wire, answer))), *steps]


def byte_by_byte(body: bytes) -> Iterable[bytes]:
    return (body[at : at + 1] for at in range(len(body)))


def split_characters(body: bytes) -> Iterable[bytes]:
    """Make line ends CRLF, and cut before each byte that continues a character or ends a line."""
    body = body.replace(b"\n", b"\r\n")
    start = 0
    for at, byte in enumerate(body):
        if byte & 0xC0 == 0x80 or byte == 0x0A:
            yield body[start:at]
            start = at
    yield body[start:]


def gzip(events: Sequence[bytes], *, ends: bool) -> bytes:
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events)
    return packed + (packer.flush() if ends else b"")


def gzipped(wire: str, answer: Answer) -> list[Step]:
    return [Send(streamed(wire, gzip(whole(wire, answer), ends=True), content_encoding="gzip") + END)]


def gzip_cut(wire: str, answer: Answer) -> list[Step]:
    return [Send(streamed(wire, gzip(begun(wire, answer), ends=False), content_encoding="gzip") + END)]


def gzip_garbled(wire: str, answer: Answer) -> list[Step]:
    packed = gzip(begun(wire, answer), ends=False)
    return [Send(streamed(wire, packed, b"\xff garbage \xff" * 8, content_encoding="gzip") + END)]


def says_gzip(wire: str, answer: Answer) -> list[Step]:
    return [Send(streamed(wire, *whole(wire, answer), content_encoding="gzip") + END)]


def unknown_encoding(wire: str, answer: Answer) -> list[Step]:
    return [Send(streamed(wire, *whole(wire, answer), content_encoding="zebra") + END)]


def length(of_whole: bool, more: int) -> Steps:
    """Declare more bytes than are sent, of the whole answer or of its beginning."""

    def steps(wire: str, answer: Answer) -> list[Step]:
        body = b"".join(whole(wire, answer) if of_whole else begun(wire, answer))
        return [Send(head(content_type=find_wire(wire).content_type, content_length=str(len(body) + more)) + body)]

    return steps


def length_too_short(wire: str, answer: Answer) -> list[Step]:
    length = len(b"".join(begun(wire, answer)))
    return [
        Send(
            head(content_type=find_wire(wire).content_type, content_length=str(length)) + b"".join(whole(wire, answer))
        )
    ]


def until_closed(of_whole: bool) -> Steps:
    def steps(wire: str, answer: Answer) -> list[Step]:
        return [
            Send(
                head(content_type=find_wire(wire).content_type)
                + b"".join(whole(wire, answer) if of_whole else begun(wire, answer))
            )
        ]

    return steps


def half_an_event(wire: str, answer: Answer) -> list[Step]:
    events = begun(wire, answer)
    following = whole(wire, answer)[len(events)]
    return [Send(streamed(wire, *events, following[: len(following) // 2]) + END)]


def huge(wire: str) -> bytes:
    """Return an event of 20 MiB that is valid except for its size."""
    return token(wire, "x" * (20 * MIB))


def thinking(wire: str, answer: Answer) -> list[Step]:
    events = whole(wire, answer)
    first = len(begun(wire, answer))
    keep_alive_chunk = framed(ping(wire))
    rest = b"".join(framed(part) for part in events[first:])
    return [Send(streamed(wire, *events[:first])), Repeat(keep_alive_chunk, PING_EVERY, times=30), Send(rest + END)]


def keep_alive(comment: bytes | None) -> Steps:
    def steps(wire: str, answer: Answer) -> list[Step]:
        repeated = ping(wire) if comment is None or find_wire(wire).binary else comment
        return [Send(streamed(wire, *begun(wire, answer))), Repeat(framed(repeated), PING_EVERY)]

    return steps


def error(kind: str, message: str) -> Callable[[str], bytes]:
    return lambda wire: error_event(wire, kind, message)


def at_once(wire: str, answer: Answer) -> list[Step]:
    return [Send(streamed(wire, error_event(wire, "overloaded_error", "Too busy"))), Pause(1), Send(END)]


def more_after_mark(wire: str, answer: Answer) -> list[Step]:
    return [Send(streamed(wire, *whole(wire, answer), *whole(wire, Answer(["MORE"]))) + END)]


def echoes(secrets: Sequence[str], wire: str = "openai-chat") -> list[list[Step]]:
    """Return responses that repeat the request's keys: in an error's JSON or text, a page, an event, a broken event."""
    echo = f"Incorrect API key provided: {', '.join(secrets)}"
    error = {"type": "error", "error": {"message": echo, "type": secrets[0], "code": secrets[-1]}}
    body = json.dumps(error).encode()
    event, broken = b"data: " + body + b"\n\n", b"data: {" + echo.encode() + b"\n\n"
    if find_wire(wire).binary:
        event = encode_exception(secrets[0], json.dumps({"message": echo}).encode())
        broken = broken_event(b"{" + echo.encode())(wire)
    return [
        sized("401 Unauthorized", body),
        sized("403 Forbidden", echo.encode(), "text/plain"),
        sized("200 OK", f"<html>{echo}</html>".encode(), "text/html"),
        [Send(streamed(wire, event) + END)],
        [Send(streamed(wire, broken) + END)],
    ]


def flipped(wire: str) -> bytes:
    """Return an event with one bit of its payload changed."""
    data = bytearray(token(wire, "word"))
    data[-10] ^= 1
    return bytes(data)


def wrong_length(wire: str) -> bytes:
    """Return an event that says that it is longer than it is."""
    data = token(wire, "word")
    return (len(data) + 64).to_bytes(4, "big") + data[4:]


def endless(wire: str, answer: Answer) -> list[Step]:
    """Begin an event that never ends."""
    if find_wire(wire).binary:
        prelude = (2**31 - 1).to_bytes(4, "big") + bytes(4)
        beginning = prelude + zlib.crc32(prelude).to_bytes(4, "big")
        return [Send(streamed(wire, *begun(wire, answer), beginning)), Repeat(framed(bytes(65536)), times=1024)]
    return [Send(streamed(wire, *begun(wire, answer))), Repeat(framed(b"data: " + b"x" * (65536 - 6)), times=1024)]
