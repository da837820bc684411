"""Encode a stream for a client of a wire: its events, its error, or the status if nothing was sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from streamcore.chunk import CONTENT_KINDS, Chunk
from streamcore.completion import Completion
from streamcore.errors import ProviderError
from streamcore.sse.encoder import Refusal
from streamcore.web.spending import SpendingReached
from streamcore.wire.encoding.events import dumps
from streamcore.wire.encoding.wire import AnswerHead, Problem, Wire
from streamcore.wire.lenient import mapping

COMMENT = b": keep-alive\n\n"
CANCELLED = Problem("failed", "the answer was cancelled", code="cancelled")


class WireEvents:
    """Encode one answer; an `EventEncoder` for `SSEResponse`.

    Args:
        wire: the wire.
        head: what is written around the chunks.
        problem_of: returns what the client learns about an error.
        headers: the headers of a refusal.
        waits: nothing is encoded before the first content, so that an error before it has a status of its own.
        skip: how many events the client already has.
    """

    def __init__(
        self,
        wire: Wire,
        head: AnswerHead,
        problem_of: Callable[[Exception], Problem],
        headers: dict[str, str],
        *,
        waits: bool = True,
        skip: int = 0,
    ) -> None:
        self._wire = wire
        self._head = head
        self._encoder = wire.encoder(head)
        self._problem_of = problem_of
        self._headers = headers
        self._waiting: list[Chunk] | None = [] if waits else None
        self._skip = skip
        self._finished = False

    def start(self) -> bytes:
        """Return b"": the first chunk begins the answer."""
        return b""

    def feed(self, items: Sequence[Any]) -> bytes:
        """Return the events of some chunks; items of a relay that are no chunks are left out."""
        if self._waiting is None and not self._skip and len(items) == 1 and _is_text(items[0]):
            return self._encoder.feed(items)  # a token, which changes nothing here
        chunks = [item for item in _flat(items) if isinstance(item, Chunk)]
        self._finished = self._finished or any(chunk.kind == "finish" for chunk in chunks)
        if self._waiting is not None:
            for chunk in chunks:
                if chunk.kind == "restart":
                    self._waiting.clear()
                else:
                    self._waiting.append(chunk)
            if not any(chunk.kind in CONTENT_KINDS or chunk.kind == "finish" for chunk in self._waiting):
                return b""
            chunks, self._waiting = self._waiting, None
        return self._rest(self._encoder.feed([self._named(chunk) for chunk in chunks]))

    def _named(self, chunk: Chunk) -> Chunk:
        """Return the chunk with the model's name that the client gets."""
        return replace(chunk, model=self._head.model) if chunk.kind == "start" and self._head.model else chunk

    def heartbeat(self) -> bytes:
        """Return a comment, which keeps proxies from closing an idle connection."""
        return COMMENT

    def end(self, completion: Completion | None = None) -> bytes:
        """Return the end of an answer; of one that was stopped, its error."""
        if not self._finished:
            return self._rest(self._encoder.error(CANCELLED))
        return self._rest(self._encoder.end())

    def error(self, error: Exception) -> bytes:
        """Return the events of what waits, and the error."""
        waiting, self._waiting = self._waiting, None
        before = self._encoder.feed([self._named(chunk) for chunk in waiting]) if waiting else b""
        return self._rest(before + self._encoder.error(self._problem_of(error)))

    def refusal(self, error: Exception) -> Refusal:
        """Return the response for an error that came before the first event."""
        problem = self._problem_of(error)
        headers = {**self._headers, **retry_headers(error)}
        body = dumps(self._wire.error_body(problem, headers.get(self._wire.request_id_header)))
        return Refusal(self._wire.status(problem), body, headers)

    def _rest(self, data: bytes) -> bytes:
        """Return the events that the client does not have."""
        while self._skip and data:
            event, _, data = data.partition(b"\n\n")
            if not event.startswith(b":"):
                self._skip -= 1
        return data


def _is_text(item: Any) -> bool:
    return isinstance(item, Chunk) and item.kind == "text"


def _flat(items: Sequence[Any]) -> list[Any]:
    """Return the items, with those that a relay's gap replaces."""
    found: list[Any] = []
    for item in items:
        event = mapping(item)
        found += event["items"] if event.get("type") == "gap" else [item]
    return found


def retry_headers(error: Exception) -> dict[str, str]:
    """Return the headers that say when to try again, if the vendor has said so, or that it is of no use."""
    seconds = getattr(error, "retry_after", None)
    found = {"retry-after": f"{seconds:.0f}"} if isinstance(seconds, int | float) else {}
    if isinstance(error, SpendingReached) or (isinstance(error, ProviderError) and not error.retryable):
        found["x-should-retry"] = "false"  # which the vendors' SDKs obey; they try again after each 5xx
    return found
