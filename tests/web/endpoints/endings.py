"""List how an answer can end, and what the clients of each endpoint see: the rows of the tables in docs/endpoints.

`test_endings.py` produces each row over sockets, and holds what was seen, what the vendors' SDKs make of it, and the
tables of the pages to these rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from streamcore.chunk import Chunk, ToolCall, Usage
from streamcore.graph.limits import RunLimits
from streamcore.testing.faults import spoiled
from streamcore.testing.faults.steps import Hold, Pause, Send, Step
from streamcore.wire.encoding.wire import AnswerHead, find_wire

Play = str | Sequence[Step]

PAGES = {"chat": "chat-completions", "messages": "messages", "responses": "responses"}
PATHS = {name: f"/v1/{page.replace('-', '/')}" for name, page in PAGES.items()}
TEXT = "Hello"


def answer(*chunks: Chunk, wire: str = "openai-chat") -> list[Step]:
    """Return the steps of a vendor that sends these chunks and the mark of the end."""
    encoder = find_wire(wire).encoder(AnswerHead(id="answer-1", model="m", created=1))
    body = encoder.feed([Chunk("start", id="answer-1", model="m"), *chunks]) + encoder.end()
    return [Send(spoiled.chunked(body) + spoiled.END)]


def begun(*chunks: Chunk) -> bytes:
    """Return the first bytes of an answer."""
    return find_wire("openai-chat").encoder(AnswerHead(id="answer-1", model="m", created=1)).feed(chunks)


class Gated(Sequence[Step]):
    """Steps of which the later ones are played once `gate` is set: when the client has the first."""

    def __init__(self, first: Step, rest: Sequence[Step]) -> None:
        self.gate = threading.Event()
        self._first = first
        self._rest = rest

    def __iter__(self) -> Iterator[Step]:
        yield self._first
        while not self.gate.is_set():
            yield Pause(0.01)
        yield from self._rest

    def __len__(self) -> int:
        return 1 + len(self._rest)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...
    def __getitem__(self, index: Any) -> Any:
        steps: Any = [self._first, *self._rest]
        return steps[index]


@dataclass(frozen=True, slots=True)
class Ending:
    """One way in which an answer ends.

    The cells are what the client of an endpoint sees, in the form of `seen.described`; None leaves the endpoint out.
    """

    name: str
    says: str
    play: Play = field(repr=False)
    chat: tuple[str, str] | None
    """Streamed, and not streamed."""
    messages: tuple[str, str] | None
    responses: tuple[str, str] | None
    model: str = "openai/m"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More arguments of `create_app`."""
    then: str = ""
    """What is done once the client has the first event: `gate` opens that of `play`, `stop` stops the service."""

    def cells(self, endpoint: str) -> tuple[str, str] | None:
        """Return what the client of an endpoint sees."""
        found: tuple[str, str] | None = getattr(self, endpoint)
        return found


def _same(cell: str) -> tuple[str, str]:
    return cell, cell


def _broken(chat: tuple[str, int], messages: tuple[str, int], code: str) -> dict[str, Any]:
    """Return the cells of an answer that breaks: the type of the error, and the status of one that is not streamed."""
    return {
        "chat": (f"error `{chat[0]}`, then the connection breaks", f"{chat[1]}, `{chat[0]}`"),
        "messages": (f"error `{messages[0]}`, then the connection breaks", f"{messages[1]}, `{messages[0]}`"),
        "responses": (
            f"error `{chat[0]}`, `response.failed` with `{code}`, then the connection breaks",
            f"{chat[1]}, `{chat[0]}`",
        ),
    }


def _only_streamed(cells: dict[str, Any]) -> dict[str, Any]:
    """Return the cells without those of an answer that is not streamed."""
    only: dict[str, Any] = {name: (pair[0], "") for name, pair in cells.items()}
    return only


def _status(
    status: int, chat: str, messages: str, responses: str, *, messages_status: int | None = None
) -> dict[str, Any]:
    """Return the cells of an error that is a status, streamed or not."""
    return {
        "chat": _same(f"{status}, `{chat}`"),
        "messages": _same(f"{messages_status or status}, `{messages}`"),
        "responses": _same(f"{status}, `{responses}`"),
    }


_CALL = Chunk("tool_call", tool_call=ToolCall("call_1", "clock", "{}", 0))
_FAILED = _status(500, "server_error", "api_error", "server_error")

ENDINGS = (
    Ending(
        "complete",
        "the answer is complete",
        answer(Chunk("text", TEXT), Chunk("finish", finish_reason="stop"), Chunk("usage", usage=Usage(3, 1))),
        ("`stop`, `[DONE]`", "`stop`"),
        ("`end_turn`, `message_stop`", "`end_turn`"),
        ("`response.completed`", "`completed`"),
    ),
    Ending(
        "length",
        "the client's or the model's limit of tokens is reached",
        answer(Chunk("text", TEXT), Chunk("finish", finish_reason="length")),
        ("`length`, `[DONE]`", "`length`"),
        ("`max_tokens`, `message_stop`", "`max_tokens`"),
        ("`response.incomplete`: `max_output_tokens`", "`incomplete`: `max_output_tokens`"),
    ),
    Ending(
        "tools",
        "the model calls tools",
        answer(_CALL, Chunk("finish", finish_reason="tool_calls")),
        ("`tool_calls`, `[DONE]`", "`tool_calls`"),
        ("`tool_use`, `message_stop`", "`tool_use`"),
        ("`response.completed`", "`completed`"),
    ),
    Ending(
        "filtered",
        "a content filter ends the answer",
        answer(Chunk("text", TEXT), Chunk("finish", finish_reason="content_filter")),
        ("`content_filter`, `[DONE]`", "`content_filter`"),
        ("`refusal`, `message_stop`", "`refusal`"),
        ("`response.incomplete`: `content_filter`", "`incomplete`: `content_filter`"),
    ),
    Ending(
        "filtered-empty",
        "a content filter leaves nothing of the answer",
        answer(Chunk("finish", finish_reason="content_filter")),
        ("`content_filter`, `[DONE]`", "`content_filter`"),
        ("`refusal`, `message_stop`", "`refusal`"),
        ("`response.incomplete`: `content_filter`", "`incomplete`: `content_filter`"),
    ),
    Ending(
        "refused-in-text",
        "the model refuses, and says so",
        answer(Chunk("refusal", TEXT), Chunk("finish", finish_reason="stop")),
        ("text in `refusal`, `stop`, `[DONE]`", "text in `refusal`, `stop`"),
        ("`refusal`, `message_stop`", "`refusal`"),
        ("text in `refusal`, `response.completed`", "text in `refusal`, `completed`"),
    ),
    Ending(
        "refused",
        "the model refuses (Anthropic's `refusal`)",
        answer(Chunk("text", TEXT), Chunk("finish", finish_reason="refusal"), wire="anthropic-messages"),
        ("`content_filter`, `[DONE]`", "`content_filter`"),
        ("`refusal`, `message_stop`", "`refusal`"),
        ("`response.incomplete`: `content_filter`", "`incomplete`: `content_filter`"),
        model="anthropic/m",
    ),
    Ending(
        "cut",
        "the vendor's stream is cut",
        "end-without-mark",
        **_broken(("server_error", 500), ("api_error", 500), "server_error"),
    ),
    Ending(
        "reset",
        "the vendor's connection breaks",
        "reset-mid-stream",
        **_broken(("server_error", 500), ("api_error", 500), "server_error"),
    ),
    Ending(
        "malformed",
        "the vendor sends what is not valid",
        "malformed-json",
        **_broken(("server_error", 500), ("api_error", 500), "server_error"),
    ),
    Ending(
        "failed",
        "the vendor reports in its stream that it is overloaded",
        "error-event",
        **_broken(("server_error", 503), ("overloaded_error", 529), "server_error"),
    ),
    Ending(
        "timed-out",
        "the vendor stalls",
        [Send(spoiled.chunked(begun(Chunk("text", TEXT)))), Hold()],
        **_broken(("server_error", 504), ("timeout_error", 504), "server_error"),
        model="slow",
    ),
    Ending(
        "over-a-limit",
        "the service's limit of tokens or seconds is reached",
        Gated(
            Send(spoiled.chunked(begun(Chunk("text", TEXT)))),
            [Send(spoiled.framed(begun(Chunk("text", "x" * 1000)))), Hold()],
        ),
        **_broken(("server_error", 500), ("api_error", 500), "server_error"),
        options={"limits": RunLimits(max_tokens=100)},
        then="gate",
    ),
    Ending(
        "stopped",
        "the service is stopped",
        [Send(spoiled.chunked(begun(Chunk("text", TEXT)))), Hold()],
        **_only_streamed(_broken(("server_error", 500), ("api_error", 500), "server_error")),
        then="stop",
    ),
    Ending(
        "bad-request",
        "the vendor's 400",
        "bad-request",
        **_status(400, "invalid_request_error", "invalid_request_error", "invalid_request_error"),
    ),
    Ending(
        "no-such-model",
        "the vendor's 404",
        "no-such-model",
        **_status(404, "invalid_request_error", "not_found_error", "not_found"),
    ),
    Ending(
        "rate-limited",
        "the vendor's 429, after two retries",
        "rate-limited",
        **_status(429, "rate_limit_error", "rate_limit_error", "too_many_requests"),
    ),
    Ending("server-error", "the vendor's 500, 502 and others, after two retries", "server-error", **_FAILED),
    Ending(
        "overloaded",
        "the vendor's 503 and 529, after two retries",
        "overloaded",
        **_status(503, "server_error", "overloaded_error", "server_error", messages_status=529),
    ),
    Ending("wrong-key", "the vendor refuses the operator's key", "wrong-key", **_FAILED),
    Ending("unreachable", "the vendor cannot be reached, after two retries", "connection-refused", **_FAILED),
    Ending("empty", "the vendor's stream is empty", "empty-200", **_FAILED),
    Ending(
        "too-long",
        "a message is longer than the service's limit",
        "none",
        **_status(413, "invalid_request_error", "request_too_large", "invalid_request_error"),
        options={"max_input": 1},
    ),
)


def table(endpoint: str) -> str:
    """Return the table of an endpoint, as its page has it."""
    lines = ["| What happens | Streamed | Not streamed |", "|---|---|---|"]
    for ending in ENDINGS:
        cells = ending.cells(endpoint)
        if cells is not None:
            lines.append(f"| {ending.says} | {cells[0]} | {cells[1] or 'the server waits for the answer'} |")
    return "\n".join(lines) + "\n"
