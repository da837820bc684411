"""Check what a reader saw of a stream against what a fault's row expects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from streamcore.chunk import Chunk
from streamcore.errors import ProviderError, StreamcoreError, StreamInterrupted, StreamTimeout
from streamcore.provider import Provider
from streamcore.stream import Stream
from streamcore.testing.faults.table import Fault
from streamcore.testing.simulator.answers import Answer


def need(condition: object, what: str) -> None:
    """Fail the test with this message unless the condition is true; pytest rewrites no asserts in this package."""
    if not condition:
        pytest.fail(what, pytrace=False)


def equal(found: object, wanted: object, what: str) -> None:
    """Fail the test unless both are equal."""
    need(found == wanted, f"{what} must be {wanted!r}, not {found!r}")


class Reading:
    """The chunks that a reader has seen, and the error that ended them."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.chunks: list[Chunk] = []
        self.error: StreamcoreError | None = None

    async def to_the_end(self) -> Reading:
        """Read until the stream ends, with or without an error of streamcore."""
        try:
            async for chunk in self.stream:
                self.chunks.append(chunk)
        except StreamcoreError as error:
            self.error = error
        return self

    @property
    def text(self) -> str:
        """The text of all the chunks."""
        return "".join(chunk.text for chunk in self.chunks if chunk.kind == "text")

    @property
    def kinds(self) -> list[str]:
        """The kinds of all the chunks."""
        return [chunk.kind for chunk in self.chunks]


async def judge(reading: Reading, fault: Fault, answer: Answer, provider: Provider) -> None:
    """Fail the test unless the stream ended as the fault's row states, once, and kept the text so far."""
    partial = reading.stream.partial
    equal(reading.text, "".join(answer.tokens[: fault.keeps]), "the text that the reader saw")
    equal(partial.text, reading.text, "the text in stream.partial")
    if fault.error is None:
        need(reading.error is None, f"the answer is complete, but reading it raised {reading.error!r}")
        need(partial.complete, "stream.partial.complete is False after a complete answer")
        equal(await reading.stream.collect(), partial, "what a second collect() of a finished stream returns")
        return
    error = reading.error
    if error is None:
        pytest.fail(f"the stream ended without an error; {fault.error.__name__} must be raised", pytrace=False)
    judge_error(error, fault, provider)
    need(error.partial is not None, "the error has no .partial")
    equal(error.partial, partial, "the error's .partial")
    await stays_failed(reading.stream, error)


def judge_error(error: StreamcoreError, fault: Fault, provider: Provider) -> None:
    """Fail the test unless the error is the one that the fault's row describes."""
    need(type(error) is fault.error, f"{fault.error and fault.error.__name__} must be raised, not {error!r}")
    need(fault.shows in str(error), f"the message must contain {fault.shows!r}: {error}")
    if isinstance(error, StreamTimeout):
        equal(error.clock, fault.clock, "the clock that expired")
    if isinstance(error, ProviderError):
        equal(error.provider, provider.name, "the error's provider")
        equal(len(error.attempts), 1, "the number of the error's attempts")
        equal(error.retryable, fault.retryable, "the error's retryable")
        equal(error.retry_after, fault.retry_after, "the error's retry_after")
        need(error.status is None or error.status >= 400, f"status {error.status} is not the status of an error")


async def stays_failed(stream: Stream, error: BaseException) -> None:
    """Fail the test unless every later call raises the same error, and the answer does not look complete."""
    calls: list[Callable[[], Awaitable[object]]] = [stream.collect, stream.__anext__, stream.text().__anext__]
    for call in calls:
        try:
            await call()
        except StreamcoreError as again:
            need(again is error, f"a later call raised another error: {again!r}")
        else:
            pytest.fail("a later call did not raise the error again", pytrace=False)
    need(not stream.partial.complete, "stream.partial.complete is True after an error")


async def looks_unfinished(stream: Stream) -> None:
    """Fail the test if a stream that its reader left looks finished to a later call."""
    try:
        await stream.collect()
    except StreamInterrupted as error:
        await stays_failed(stream, error)
    else:
        pytest.fail("a stream that its reader left early looks finished", pytrace=False)
