"""Define `Stream`, what a caller holds: chunks or text as they come, the answer so far, and the way to close it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from streamcore.chunk import Chunk
from streamcore.completion import Completion
from streamcore.concurrency.closing import Held, held_open, unregistered
from streamcore.errors import ConfigError, ContentRefused, OutputValidationError, StreamInterrupted
from streamcore.pipeline.clocks import DEFAULT, Clocks, Timeouts
from streamcore.pipeline.json_text import NOTHING, GrowingJson
from streamcore.pipeline.retry import Fallback, OnInterrupt, Retries, Target
from streamcore.pipeline.run import Run
from streamcore.pipeline.smooth import smoothed
from streamcore.pipeline.smoother import StreamOptions
from streamcore.pipeline.structured import Output


@dataclass(slots=True)
class Plan:
    """Everything that was decided before the first request: whom to ask what, and how to treat the answer."""

    target: Target
    timeouts: Timeouts = DEFAULT
    options: StreamOptions | None = None
    max_retries: int = 2
    fallback: Sequence[Fallback] = ()
    on_interrupt: OnInterrupt = "raise"
    output: Output | None = None
    retries: int = 0
    transport: str | None = None


Prepare = Callable[[], Plan]


class Stream:
    """Iterate over the chunks of one answer.

    Nothing happens until the first iteration, `async with` or `collect()`; errors of configuration come there, too.
    Guarantees: chunks come in order; iteration ends without an error only if the vendor marked the end; an error is
    raised again by every later call; `partial` holds all that came.

    Leaving `async with`, cancelling, or `aclose()` closes the vendor's response before the next statement; breaking
    out of a bare `async for` does so within a turn of the loop after the last reference is gone.
    """

    def __init__(self, prepare: Prepare, *, restarts: bool = False) -> None:
        self._prepare = prepare
        self._restarts = restarts
        self._checked = True
        self._run: Run | None = None
        self._source: AsyncGenerator[list[Chunk]] | None = None
        self._held: Held | None = None
        self._next: Callable[[], Awaitable[list[Chunk]]] | None = None
        """The source's own method, between the first read and the end."""
        self._pending: list[Chunk] = []  # of the last read, the next one last
        self._complete = False
        self._ended = False
        self._error: Exception | None = None

    @property
    def partial(self) -> Completion:
        """The answer as far as it has come; `complete` once the vendor has marked its end."""
        if self._run is None:
            return Completion()
        return self._run.completion(complete=self._complete)

    @property
    def structured(self) -> bool:
        """True if the answer is checked against a schema; known once the stream is open."""
        return self._run is not None and self._run.output is not None and self._run.output.load is not None

    def text(self, *, refusals_raise: bool = False) -> TextStream:
        """Iterate over the text instead: non-empty `str`, a refusal's text included.

        With `refusals_raise`, a stream that ends refused or filtered without a single character raises
        `ContentRefused`, since its reader could not tell that from an empty answer.

        Raises:
            ConfigError: the stream was opened with `on_interrupt="restart"` or `retries`: text cannot tell a restart.
        """
        if self._restarts:
            raise ConfigError(
                "on_interrupt='restart' and retries need a reader of chunks: text alone cannot say that what came "
                "before is void"
            )
        return TextStream(self, refusals_raise=refusals_raise)

    def partial_objects(self) -> AsyncIterator[Any]:
        """Iterate over the object that the answer's JSON gives, as it grows: plain data, each time that it changes.

        The last is the whole of it, before validation made `partial.parsed` of it. After a restart it begins anew.
        Raises what iteration raises.
        """
        return _ObjectStream(self, lambda: "" if self._run is None else self._run.document)

    def unchecked(self) -> Self:
        """Ask for what the schema says, but do not check the answer; to be called before the stream is used."""
        self._checked = False
        return self

    async def collect(self) -> Completion:
        """Read to the end and return the whole answer.

        Raises:
            StreamcoreError: as iteration does; `.partial` has what came.
        """
        while await self.next_batch() is not None:
            pass
        return self.partial

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._pending:
            return self._pending.pop()
        while True:
            reads_on = self._next
            try:
                batch = await (self._first() if reads_on is None else reads_on())
            except BaseException as error:
                self._end(error)
                raise
            if len(batch) == 1:  # as a read mostly has
                return batch[0]
            if batch:
                self._pending = batch[::-1]
                return self._pending.pop()

    async def next_batch(self) -> list[Chunk] | None:
        """Return the chunks of the next network read, perhaps none; None at the end of the stream."""
        reads_on = self._next
        try:
            return await (self._first() if reads_on is None else reads_on())
        except StopAsyncIteration as error:
            self._end(error)
            return None
        except BaseException as error:
            self._end(error)
            raise

    async def _first(self) -> list[Chunk]:
        """Read for the first time; or after the end, and say again how that was."""
        if self._error is not None:
            raise self._error
        if self._ended:
            raise StopAsyncIteration
        source = self._source or await self._open()
        batch = await unregistered(source.__anext__)
        self._next = source.__anext__
        return batch

    def _end(self, error: BaseException) -> None:
        """Note how reading ended, and forget the source, which has closed itself."""
        if self._ended or self._error is not None:
            return
        if getattr(self._source, "ag_running", False):
            raise ConfigError(
                "another task is reading this stream; a stream has one reader, so give each task a stream of its own"
            ) from error
        if isinstance(error, StopAsyncIteration):
            self._complete = self._run is not None and not self._run.stopped
            self._ended = True
        elif isinstance(error, Exception):
            self._error = error
            self._complete = isinstance(error, OutputValidationError)  # the vendor came to its end
        else:  # cancelled in the middle of a read: the source is gone, and must not look finished to a later call
            self._fail("reading was cancelled")
        self._next = None
        if self._held is not None and self._source is not None:
            self._held.streams.discard(self._source)
        self._source = None

    def _fail(self, why: str) -> None:
        error = StreamInterrupted(f"{why} before the end of the stream; what arrived is in .partial")
        error.partial = self.partial
        self._error = error

    async def _open(self) -> AsyncGenerator[list[Chunk]]:
        plan = self._prepare()
        retries = Retries(plan.target, plan.fallback, plan.max_retries, plan.on_interrupt, plan.retries, plan.transport)
        output = plan.output
        if output is not None and not self._checked:
            output = replace(output, load=None)
        self._run = Run(retries, Clocks(plan.timeouts), output)
        self._held = await held_open()
        # The stages, in the order in which a chunk passes them.
        source = self._run.chunks()
        if plan.options is not None:
            source = smoothed(source, plan.options)
        self._source = source
        self._held.streams.add(source)
        return source

    def stop(self) -> None:
        """End the stream well where it is; may be called from another task.

        Whoever reads it sees its end, after what has come; the vendor's response is closed. `partial.complete` stays
        False. Cancelling a reader is another thing: that is its own task's end.
        """
        if self._run is None:
            self._ended = True
        else:
            self._run.stop()

    async def aclose(self) -> None:
        """Close the vendor's response; what has come stays in `partial`. Harmless when repeated."""
        source, self._source = self._source, None
        self._pending.clear()
        if not self._ended and self._error is None:
            self._fail("the stream was closed by its reader")
            self._next = None
        if source is not None and self._held is not None:
            await self._held.close(source)

    async def __aenter__(self) -> Self:
        if self._source is None and not self._ended and self._error is None:
            await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Reached by a bare `async for` that was broken off. A stream that ended or failed has closed itself.
        if self._source is not None and self._held is not None:
            self._held.close_later(self._source)


class TextStream:
    """Iterate over the text of one answer: `str`, never empty, in order. See `Stream.text`."""

    def __init__(self, stream: Stream, *, refusals_raise: bool = False) -> None:
        self._stream = stream
        self._pending: list[str] = []  # of the last read, the next one last
        self._refusals_raise = refusals_raise
        self._empty = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._pending:
            return self._pending.pop()
        stream = self._stream
        while True:
            reads_on = stream._next  # pyright: ignore[reportPrivateUsage]  the way around one more coroutine
            try:
                batch = await (stream._first() if reads_on is None else reads_on())  # pyright: ignore[reportPrivateUsage]
            except BaseException as error:
                stream._end(error)  # pyright: ignore[reportPrivateUsage]
                if isinstance(error, StopAsyncIteration):
                    self._check()
                raise
            if len(batch) == 1 and (chunk := batch[0]).kind == "text" and chunk.text and not chunk.choice:
                self._empty = False
                return chunk.text
            texts = [
                chunk.text
                for chunk in batch
                if chunk.text and (chunk.kind == "text" or chunk.kind == "refusal") and chunk.choice == 0
            ]
            if texts:
                self._empty = False
                self._pending = texts[::-1]
                return self._pending.pop()

    def _check(self) -> None:
        error = refused(self._stream.partial) if self._refusals_raise and self._empty else None
        if error is not None:
            raise error

    @property
    def partial(self) -> Completion:
        """The answer as far as it has come."""
        return self._stream.partial

    async def aclose(self) -> None:
        """Close the vendor's response."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class _ObjectStream:
    """Iterate over the object in a stream's text as it grows."""

    def __init__(self, stream: Stream, document: Callable[[], str]) -> None:
        self._stream = stream
        self._document = document  # the JSON that was found to fit, at the end
        self._growing = GrowingJson()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._ended:
            batch = await self._stream.next_batch()
            if batch is None:
                self._ended = True
                found = self._growing.end(self._document())
            else:
                found = self._add(batch)
            if found is not NOTHING:
                return found
        raise StopAsyncIteration

    def _add(self, batch: list[Chunk]) -> Any:
        new: list[str] = []
        for chunk in batch:
            if chunk.kind == "restart":
                self._growing, new = GrowingJson(), []
            elif chunk.kind == "text" and chunk.choice == 0:
                new.append(chunk.text)
        text = "".join(new)
        return self._growing.add(text) if text else NOTHING


def refused(answer: Completion) -> ContentRefused | None:
    """Return the error for an answer that ended refused or filtered without any text, None for any other."""
    if answer.text or answer.refusal or answer.finish_reason not in ("refusal", "content_filter"):
        return None
    error = ContentRefused(
        "the model refused to answer" if answer.finish_reason == "refusal" else "a content filter stopped the answer",
        provider=answer.attempts[-1].provider if answer.attempts else None,
        model=answer.model,
        code=answer.raw_finish_reason,
        request_id=answer.request_id,
    )
    error.partial = answer
    return error
