"""Judge what a reader saw of a stream: the checks that the conformance suite makes after every row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from streamcore.chunk import Chunk
from streamcore.errors import ProviderError, StreamcoreError, StreamTimeout
from streamcore.provider import Provider
from streamcore.stream import Stream
from streamcore.testing.faults.table import Fault
from streamcore.testing.simulator.answers import Answer


def need(condition: object, what: str) -> None:
    """Fail the test, with a sentence, unless the condition holds; pytest does not rewrite asserts of this package."""
    if not condition:
        pytest.fail(what, pytrace=False)


def equal(found: object, wanted: object, what: str) -> None:
    """Fail the test unless both are the same."""
    need(found == wanted, f"{what} must be {wanted!r}, not {found!r}")


class Reading:
    """What a reader of a stream has seen: chunks, and the error that ended them."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.chunks: list[Chunk] = []
        self.error: StreamcoreError | None = None

    async def to_the_end(self) -> Reading:
        """Read until the stream ends, well or with an error of streamcore's."""
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
    """Fail the test unless the stream ended as the fault says, once, and kept what had come."""
    partial = reading.stream.partial
    equal(reading.text, "".join(answer.tokens[: fault.keeps]), "the text that the reader saw")
    equal(partial.text, reading.text, "the text in stream.partial")
    if fault.error is None:
        need(reading.error is None, f"the answer came whole, but reading it raised {reading.error!r}")
        need(partial.complete, "stream.partial.complete is False after a whole answer")
        equal(await reading.stream.collect(), partial, "what a finished stream says when it is asked again")
        return
    error = reading.error
    if error is None:
        pytest.fail(f"the stream ended as if it were whole; {fault.error.__name__} must be raised", pytrace=False)
    judge_error(error, fault, provider)
    need(error.partial is not None, "the error has no .partial")
    equal(error.partial, partial, "the error's .partial")
    await stays_failed(reading.stream, error)


def judge_error(error: StreamcoreError, fault: Fault, provider: Provider) -> None:
    """Fail the test unless an error says what the fault's row wants."""
    need(type(error) is fault.error, f"{fault.error and fault.error.__name__} must be raised, not {error!r}")
    need(fault.shows in str(error), f"the message must hold {fault.shows!r}: {error}")
    if isinstance(error, StreamTimeout):
        equal(error.clock, fault.clock, "the clock that ran out")
    if isinstance(error, ProviderError):
        equal(error.provider, provider.name, "the error's provider")
        equal(len(error.attempts), 1, "the number of the error's attempts")
        equal(error.retryable, fault.retryable, "the error's retryable")
        equal(error.retry_after, fault.retry_after, "the error's retry_after")
        need(error.status is None or error.status >= 400, f"status {error.status} is no error's")


async def stays_failed(stream: Stream, error: BaseException) -> None:
    """Fail the test unless every later call raises the same error, and none says that the answer is whole."""
    calls: list[Callable[[], Awaitable[object]]] = [stream.collect, stream.__anext__, stream.text().__anext__]
    for call in calls:
        try:
            await call()
        except StreamcoreError as again:
            need(again is error, f"a later call raised another error: {again!r}")
        else:
            pytest.fail("a later call did not raise the error again", pytrace=False)
    need(not stream.partial.complete, "stream.partial.complete is True after an error")
