"""Define what a wire needs on the server's side, and find the wires that are installed.

A package names its wires in the entry-point group `streamcore.wires`. None of them imports the vendor's SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol, cast

from streamcore.chunk import Chunk
from streamcore.completion import Completion
from streamcore.errors import ConfigError, StreamcoreError
from streamcore.request import Request
from streamcore.wire.event_stream import CONTENT_TYPE

GROUP = "streamcore.wires"
SSE = "text/event-stream; charset=utf-8"

ProblemKind = Literal[
    "invalid",
    "authentication",
    "permission",
    "not_found",
    "conflict",
    "too_large",
    "rate_limit",
    "failed",
    "overloaded",
    "timeout",
]
"""Why a request has no answer, or none that is complete. Each wire has its own word and status for it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Describe why a request failed, for the client."""

    kind: ProblemKind
    message: str
    param: str | None = None
    """The parameter of the client's request that is the reason, as the client wrote it."""
    code: str | None = None
    status: int | None = None
    """The HTTP status; None: the one that the wire has for `kind`."""


class RequestRefused(StreamcoreError):  # noqa: N818
    """Report that a client's request is not valid, or has something that cannot be honoured; see `problem`."""

    def __init__(
        self, message: str, *, param: str | None = None, kind: ProblemKind = "invalid", code: str | None = None
    ) -> None:
        super().__init__(message)
        self.problem = Problem(kind, message, param, code)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Describe what an encoder writes around the chunks of one answer."""

    id: str | None = None
    """The response's id; None: that of the `start` chunk."""
    model: str = ""
    """The model, unless the `start` chunk names it."""
    created: int = 0
    """When the response was created, in seconds since 1970."""
    include_usage: bool = True
    """Whether the client asked for token counts, where the wire sends them on request only."""
    native: bool = False
    """True if the chunks were decoded from this wire: the vendor's words, its events without a normal form, and the
    order of its events are kept. False: the client gets only what the wire's documentation has."""
    reasoning_key: str = "reasoning_content"
    """The field of reasoning, where servers have several."""
    done_event: bool = True
    """Whether `[DONE]` ends the stream also where the last event of the answer already marks its end."""
    echo: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the request that the response repeats."""


class AnswerEncoder(Protocol):
    """Encode the chunks of one answer: call `feed` for each batch, then once `end` or `error`.

    Each method returns whole events, or b"". Only `end` writes the mark of the end. After `error` the caller breaks the
    connection, since most clients take a body that ends properly for a complete answer.
    """

    def feed(self, chunks: Iterable[Chunk]) -> bytes:
        """Return the events of some chunks.

        Raises:
            ConfigError: a `restart` after content: the wire cannot take back what was sent.
        """
        ...

    def end(self) -> bytes:
        """Return the end of an answer that is complete."""
        ...

    def error(self, problem: Problem) -> bytes:
        """Return the event that reports an answer that failed or was cut."""
        ...


@dataclass(frozen=True, slots=True)
class WireRequest:
    """Represent a client's request that was read from a wire."""

    model: str
    """The model that the client names."""
    request: Request
    """The request, without the model. `extra` has the parameters that `Request` has no field for."""
    stream: bool = False
    include_usage: bool = True
    echo: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the request that the response repeats; see `AnswerHead.echo`."""
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    """The client's names of fields of `Request`, for errors: `{"stop": "stop_sequences"}`."""
    store: bool = False
    """Whether the answer can be read again later."""
    background: bool = False
    """Whether the answer is generated while nobody reads it."""
    previous: str | None = None
    """The id of the stored answer that the request continues."""

    def param(self, field: str) -> str:
        """Return the client's name of a field of `Request`."""
        return self.params.get(field, field)


@dataclass(frozen=True, slots=True)
class Wire:
    """Describe the server's side of a wire."""

    name: str
    """The wire's name, as in `openai-chat`."""
    encoder: Callable[[AnswerHead], AnswerEncoder]
    """Return the encoder of one streamed answer."""
    whole: Callable[[Completion, AnswerHead], dict[str, Any]]
    """Return the JSON of an answer that is not streamed."""
    read_request: Callable[[Mapping[str, Any]], WireRequest]
    """Read the JSON of a request. Raises `RequestRefused`."""
    error_body: Callable[[Problem, str | None], dict[str, Any]]
    """Return the JSON of an HTTP error; the second argument is the id of the HTTP request."""
    statuses: Mapping[ProblemKind, int]
    """The HTTP status of each kind of problem."""
    cannot: Mapping[str, str]
    """What the wire cannot carry, and what an encoder does with it. The keys are kinds of chunks and fields."""
    path: str | None = None
    """The path at which clients expect the wire; None: `streamcore serve` does not serve it."""
    request_id_header: str = "x-request-id"
    shared: frozenset[str] = frozenset()
    """The parameters in `Request.extra` that mean the same on other wires that list them."""
    informative: frozenset[str] = frozenset()
    """The parameters in `Request.extra` that do not change the answer; only providers of this wire get them."""
    required: frozenset[str] = frozenset()
    """The fields of `Request` that every request of this wire sets, so that they say nothing of what a client wants."""
    id_prefix: str = ""
    """How the ids of its responses begin."""
    binary: bool = False
    """True if the events are frames of `streamcore.wire.event_stream`, not Server-Sent Events."""
    stored: bool = False
    """True if clients can read an answer again by its id."""

    @property
    def content_type(self) -> str:
        """The content type of a streamed answer."""
        return CONTENT_TYPE if self.binary else SSE

    def status(self, problem: Problem) -> int:
        """Return the HTTP status of a problem."""
        return problem.status or self.statuses[problem.kind]


STATUSES: Mapping[ProblemKind, int] = {
    "invalid": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "rate_limit": 429,
    "failed": 500,
    "overloaded": 503,
    "timeout": 504,
}
"""The HTTP status of each kind of problem; a wire may have others."""


@cache
def wires() -> Mapping[str, Wire]:
    """Return the installed wires by name."""
    return {point.name: cast("Wire", point.load()) for point in entry_points(group=GROUP)}


def find_wire(name: str) -> Wire:
    """Return the wire with this name.

    Raises:
        ConfigError: it is not installed.
    """
    found = wires().get(name)
    if found is None:
        raise ConfigError(
            f"there is no wire {name!r}; installed are: {', '.join(sorted(wires())) or 'none'}. If streamcore was "
            "updated in place, install it again, so that its entry points are known: pip install -e ."
        )
    return found
