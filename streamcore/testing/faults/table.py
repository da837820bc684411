"""List the faults between a vendor and a reader: each a row of data with its bytes and how the stream must end.

The bytes are complete HTTP responses, framing included, so that a row can break the framing too.
`streamcore.testing.FaultServer` and `Simulator` play the faults, `streamcore.testing.suites.provider` checks providers
against them. The file is long because it is a table.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from streamcore.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailed,
    MalformedStream,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
    StreamTimeout,
)
from streamcore.testing.faults import spoiled
from streamcore.testing.faults.steps import Hold, Pause, Reset, Send, Step, slower
from streamcore.testing.simulator.answers import Answer


@dataclass(frozen=True, slots=True)
class Fault:
    """Describe what a server does wrong, and how a stream must end."""

    name: str
    says: str
    """What happens, in a sentence."""
    steps: spoiled.Steps = field(repr=False)
    """A function of the wire, as `openai-chat`, and the answer to disturb, that returns the server's steps."""
    error: type[StreamcoreError] | None = None
    """The error that must be raised; None if the answer is complete in spite of the fault."""
    keeps: int | None = None
    """How many of the answer's tokens must be in `.partial`; None: all of them."""
    retryable: bool | None = None
    """The error's `retryable`, if the error has one."""
    retry_after: float | None = None
    """The error's `retry_after`, in seconds."""
    shows: str = ""
    """What the error's message must contain."""
    clock: Literal["first_token", "stall", "silence"] | None = None
    """The clock that must expire."""
    timeouts: Mapping[str, float] = field(default_factory=dict[str, float])
    """Timeouts, in seconds, with which a test of this fault ends soon."""
    framing: Literal["any", "sse", "binary"] = "any"
    """The framing of the wires on which the fault can be played."""
    place: Literal["server", "closed-port", "unknown-host", "https"] = "server"
    """Where the fault is: in the server's response, or in the address."""


_HTML = b"<!DOCTYPE html>\n<title>Sign in</title>" + b"x" * 1000
_JSON = b'{"id": "1", "choices": [], "note": "' + b"x" * 1000 + b'"}'

_ROWS = (
    Fault("none", "nothing: the whole answer", spoiled.in_full(lambda body: [body])),
    # The vendor refuses the request
    Fault(
        "rate-limited",
        "429 with Retry-After: 1",
        spoiled.refusal("429 Too Many Requests", "rate_limit_error", "Slow down", retry_after="1"),
        RateLimitError,
        keeps=0,
        retryable=True,
        retry_after=1.0,
        shows="Slow down",
    ),
    Fault(
        "bad-request",
        "400, the request is not understood",
        spoiled.refusal("400 Bad Request", "invalid_request_error", "No such parameter"),
        BadRequestError,
        keeps=0,
        retryable=False,
        shows="No such parameter",
    ),
    Fault(
        "wrong-key",
        "401, the key is refused",
        spoiled.refusal("401 Unauthorized", "authentication_error", "Incorrect API key"),
        AuthenticationError,
        keeps=0,
        retryable=False,
        shows="Incorrect API key",
    ),
    Fault(
        "forbidden",
        "403, the key has no permission",
        spoiled.refusal("403 Forbidden", "permission_error", "Not with this key"),
        AuthenticationError,
        keeps=0,
        retryable=False,
        shows="Not with this key",
    ),
    Fault(
        "no-such-model",
        "404, the model is unknown",
        spoiled.refusal("404 Not Found", "not_found_error", "No such model"),
        NotFoundError,
        keeps=0,
        retryable=False,
        shows="No such model",
    ),
    Fault(
        "server-error",
        "500",
        spoiled.refusal("500 Internal Server Error", "api_error", "It broke"),
        ServerError,
        keeps=0,
        retryable=True,
        shows="It broke",
    ),
    Fault(
        "bad-gateway",
        "502 with an HTML page, as proxies send it",
        lambda wire, answer: spoiled.sized("502 Bad Gateway", b"<h1>upstream sent too big header</h1>", "text/html"),
        ServerError,
        keeps=0,
        retryable=True,
        shows="502",
    ),
    Fault(
        "unavailable",
        "503 without a body",
        lambda wire, answer: spoiled.sized("503 Service Unavailable", b"", "text/plain"),
        OverloadedError,
        keeps=0,
        retryable=True,
        shows="503",
    ),
    Fault(
        "overloaded",
        "529",
        spoiled.refusal("529 Overloaded", "overloaded_error", "Too busy"),
        OverloadedError,
        keeps=0,
        retryable=True,
        shows="Too busy",
    ),
    # No response
    Fault(
        "connection-refused",
        "nothing listens on the port",
        spoiled.exactly(),
        ConnectionFailed,
        keeps=0,
        retryable=True,
        place="closed-port",
    ),
    Fault(
        "unknown-host",
        "the name cannot be resolved",
        spoiled.exactly(),
        ConnectionFailed,
        keeps=0,
        retryable=True,
        place="unknown-host",
    ),
    Fault(
        "https-to-http",
        "the port does not speak TLS",
        spoiled.exactly(*spoiled.sized("400 Bad Request", b"")),
        ConnectionFailed,
        keeps=0,
        retryable=False,
        place="https",
    ),
    Fault(
        "reset-before-headers",
        "the connection is reset before the first byte of the response",
        spoiled.exactly(Reset()),
        ConnectionFailed,
        keeps=0,
        retryable=True,
    ),
    Fault(
        "closed-before-headers",
        "the connection is closed before the first byte of the response",
        spoiled.exactly(),
        ConnectionFailed,
        keeps=0,
        retryable=True,
    ),
    Fault(
        "cut-headers",
        "the connection is closed in the middle of the headers",
        spoiled.exactly(Send(b"HTTP/1.1 200 OK\r\ncontent-ty")),
        ConnectionFailed,
        keeps=0,
        retryable=True,
    ),
    Fault(
        "no-http",
        "the server uses another protocol",
        spoiled.exactly(Send(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")),
        ConnectionFailed,
        keeps=0,
        retryable=True,
    ),
    Fault(
        "mute",
        "the request is read and never answered",
        spoiled.exactly(Hold()),
        StreamTimeout,
        keeps=0,
        clock="silence",
        timeouts={"silence": 0.2},
    ),
    Fault(
        "late",
        "the request is read and not answered within the reader's `first_token`",
        spoiled.exactly(Hold()),
        StreamTimeout,
        keeps=0,
        clock="first_token",
        timeouts={"first_token": 0.2},
    ),
    # A stream that breaks
    Fault(
        "reset-mid-stream",
        "the connection is reset after two tokens",
        spoiled.then(Reset()),
        StreamInterrupted,
        spoiled.KEPT,
    ),
    Fault(
        "closed-mid-stream", "the connection is closed within the body", spoiled.then(), StreamInterrupted, spoiled.KEPT
    ),
    Fault(
        "broken-chunks",
        "the chunked encoding of the body is not valid",
        spoiled.then(Send(b"zz\r\nxx\r\n"), Hold()),
        StreamInterrupted,
        spoiled.KEPT,
    ),
    Fault(
        "end-without-mark",
        "the body ends properly after two tokens, without the vendor's mark",
        spoiled.then(Send(spoiled.END)),
        StreamInterrupted,
        spoiled.KEPT,
    ),
    Fault(
        "cut-event",
        "the body ends properly in the middle of an event",
        spoiled.half_an_event,
        StreamInterrupted,
        spoiled.KEPT,
    ),
    Fault(
        "empty-200",
        "200 with an empty body",
        spoiled.exactly(Send(spoiled.chunked() + spoiled.END)),
        StreamInterrupted,
        keeps=0,
    ),
    Fault(
        "close-delimited-cut",
        "a body without length or chunks is closed after two tokens",
        spoiled.until_closed(of_whole=False),
        StreamInterrupted,
        spoiled.KEPT,
    ),
    Fault(
        "length-unmet",
        "the connection is closed 1,000 bytes before the declared length",
        spoiled.length(of_whole=False, more=1000),
        StreamInterrupted,
        spoiled.KEPT,
    ),
    Fault(
        "length-too-short",
        "the body is longer than its declared length, which ends after two tokens",
        spoiled.length_too_short,
        StreamInterrupted,
        spoiled.KEPT,
    ),
    Fault(
        "truncated-gzip",
        "the body ends properly within the gzip data",
        spoiled.gzip_cut,
        StreamInterrupted,
        spoiled.KEPT,
    ),
    # A stream that becomes silent
    Fault(
        "stall",
        "two tokens, then nothing on an open connection",
        spoiled.then(Hold()),
        StreamTimeout,
        spoiled.KEPT,
        clock="stall",
        timeouts={"stall": 0.2},
    ),
    Fault(
        "silent-stall",
        "the same, for a reader with a limit on silence",
        spoiled.then(Hold()),
        StreamTimeout,
        spoiled.KEPT,
        clock="silence",
        timeouts={"silence": 0.5, "stall": 60},
    ),
    Fault(
        "stall-with-comments",
        "two tokens, then comments without end",
        spoiled.keep_alive(b": keep-alive\n\n"),
        StreamTimeout,
        spoiled.KEPT,
        clock="stall",
        timeouts={"stall": 0.2},
    ),
    Fault(
        "stall-with-pings",
        "two tokens, then the vendor's pings without end",
        spoiled.keep_alive(None),
        StreamTimeout,
        spoiled.KEPT,
        clock="stall",
        timeouts={"stall": 0.2},
    ),
    Fault(
        "headers-only",
        "the headers of a stream, then nothing",
        spoiled.exactly(Send(spoiled.chunked()), Hold()),
        StreamTimeout,
        keeps=0,
        clock="first_token",
        timeouts={"first_token": 0.2},
    ),
    # A 200 that is not an event stream
    Fault(
        "html-200",
        "200 with an HTML page",
        spoiled.page(_HTML, "text/html"),
        MalformedStream,
        keeps=0,
        shows=repr(_HTML.decode()[:200]),
    ),
    Fault(
        "json-200",
        "200 with a JSON body instead of a stream",
        spoiled.page(_JSON, "application/json"),
        MalformedStream,
        keeps=0,
        shows=repr(_JSON.decode()[:200]),
    ),
    Fault("says-gzip", "content-encoding: gzip over plain bytes", spoiled.says_gzip, MalformedStream, keeps=0),
    Fault("garbled-gzip", "gzip, and garbage after two tokens", spoiled.gzip_garbled, MalformedStream, spoiled.KEPT),
    Fault(
        "malformed-json",
        "an event that is not JSON",
        spoiled.then_event(spoiled.broken_event(b'{"broken": ')),
        MalformedStream,
        spoiled.KEPT,
        shows="event ",
    ),
    Fault(
        "invalid-utf8",
        "an event that is not UTF-8",
        spoiled.then_event(spoiled.broken_event(b'{"x": "\xff"}')),
        MalformedStream,
        spoiled.KEPT,
        shows="event ",
    ),
    Fault(
        "deep-json",
        "an event nested 100,000 deep",
        spoiled.then_event(spoiled.broken_event(b"[" * 100_000 + b"]" * 100_000)),
        MalformedStream,
        spoiled.KEPT,
        shows="event ",
    ),
    Fault(
        "huge-event",
        "an event of 20 MiB",
        spoiled.then_event(spoiled.huge),
        MalformedStream,
        spoiled.KEPT,
        shows=str(8 * spoiled.MIB),
    ),
    Fault(
        "endless-event",
        "an event that never ends",
        spoiled.endless,
        MalformedStream,
        spoiled.KEPT,
        shows=str(8 * spoiled.MIB),
    ),
    Fault(
        "wrong-checksum",
        "one bit of an event's frame is changed",
        spoiled.then_event(spoiled.flipped),
        MalformedStream,
        spoiled.KEPT,
        shows="checksum",
        framing="binary",
    ),
    Fault(
        "wrong-length",
        "the length of an event's frame is changed",
        spoiled.then_event(spoiled.wrong_length),
        MalformedStream,
        spoiled.KEPT,
        shows="prelude",
        framing="binary",
    ),
    # Errors that the vendor sends as events
    Fault(
        "error-event",
        "an event in the stream reports that the vendor is overloaded",
        spoiled.then_event(spoiled.error("overloaded_error", "Too busy")),
        OverloadedError,
        spoiled.KEPT,
        retryable=True,
        shows="Too busy",
    ),
    Fault(
        "error-event-final",
        "an event in the stream reports that the request is invalid",
        spoiled.then_event(spoiled.error("invalid_request_error", "No such thing")),
        BadRequestError,
        spoiled.KEPT,
        retryable=False,
        shows="No such thing",
    ),
    Fault(
        "error-event-first",
        "the first event of a 200 reports that the vendor is overloaded",
        spoiled.at_once,
        OverloadedError,
        keeps=0,
        retryable=True,
        shows="Too busy",
    ),
    # Unusual, but complete
    Fault("byte-by-byte", "each byte arrives in a separate read", spoiled.in_full(spoiled.byte_by_byte)),
    Fault(
        "split-characters",
        "CRLF line ends; reads end within characters and line ends",
        spoiled.in_full(spoiled.split_characters),
        framing="sse",
    ),
    Fault(
        "bom",
        "a byte order mark comes first",
        spoiled.in_full(lambda body: [b"\xef\xbb\xbf" + body]),
        framing="sse",
    ),
    Fault(
        "no-last-blank-line",
        "the blank line after the last event is missing",
        spoiled.in_full(lambda body: [body.rstrip()]),
        framing="sse",
    ),
    Fault("gzip", "the body is compressed", spoiled.gzipped),
    Fault("unknown-encoding", "the body's declared encoding is unknown", spoiled.unknown_encoding),
    Fault(
        "close-delimited",
        "a body without length or chunks ends with the connection",
        spoiled.until_closed(of_whole=True),
    ),
    Fault("length-too-long", "the declared length is 1,000 bytes too long", spoiled.length(of_whole=True, more=1000)),
    Fault("more-after-mark", "another answer follows the mark of the end", spoiled.more_after_mark),
    Fault("held-after-mark", "the body does not end after the mark of the end", spoiled.after_mark(Hold())),
    Fault("reset-after-mark", "the connection is reset after the mark of the end", spoiled.after_mark(Reset())),
    Fault(
        "slow-with-pings",
        "the model thinks for 0.6 s after two tokens, and pings meanwhile",
        spoiled.thinking,
        timeouts={"silence": 0.5, "stall": 30},
    ),
    Fault(
        "pause",
        "a pause of 0.1 s between headers and body",
        lambda wire, answer: [
            Send(spoiled.streamed(wire)),
            Pause(0.1),
            Send(b"".join(map(spoiled.framed, spoiled.whole(wire, answer))) + spoiled.END),
        ],
    ),
)

FAULTS: Mapping[str, Fault] = MappingProxyType({fault.name: fault for fault in _ROWS})
"""Every fault by its name, `none` first."""


def slowed(fault: Fault, factor: float) -> Fault:
    """Return the fault with its timeouts, and the server's pauses, so many times as long, for a busy machine.

    A fault without timeouts is returned as it is.
    """
    if not fault.timeouts:
        return fault

    def steps(wire: str, answer: Answer) -> list[Step]:
        return [slower(step, factor) for step in fault.steps(wire, answer)]

    return replace(
        fault,
        steps=steps,
        timeouts={clock: factor * seconds for clock, seconds in fault.timeouts.items()},
    )


def find_fault(name: str) -> Fault:
    """Return the fault with this name.

    Raises:
        ValueError: if there is none; the message lists all faults and suggests one.
    """
    if name in FAULTS:
        return FAULTS[name]
    near = difflib.get_close_matches(name, FAULTS, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"there is no fault {name!r}{meant} The faults are: {', '.join(FAULTS)}")
