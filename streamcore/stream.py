"""Define `Stream`: the chunks or the text of one answer as they arrive, the answer so far, and how to close it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from streamcore.chunk import Chunk
from streamcore.completion import Completion
from streamcore.concurrency.owned_stream import OwnedStream
from streamcore.errors import ConfigError, ContentRefused, OutputValidationError
from streamcore.fallback import Candidate, Fallback
from streamcore.pipeline.clocks import Clocks
from streamcore.pipeline.retry import OnInterrupt, Retries
from streamcore.pipeline.run import AnswerRun
from streamcore.pipeline.smoother import StreamOptions
from streamcore.reports.answer import AnswerReport
from streamcore.reports.report import Observer
from streamcore.request import Message
from streamcore.storage.sizes import MAX_ANSWER_BYTES
from streamcore.structured.output import Output
from streamcore.timeouts import DEFAULT, Timeouts


@dataclass(slots=True)
class Plan:
    """Everything that is decided before the first request: provider, request, and how to treat the answer."""

    candidate: Candidate
    timeouts: Timeouts = DEFAULT
    options: StreamOptions | None = None
    max_retries: int = 2
    fallback: Sequence[Fallback] = ()
    on_interrupt: OnInterrupt = "raise"
    output: Output | None = None
    retries: int = 0
    transport: str | None = None
    max_bytes: int = MAX_ANSWER_BYTES
    observer: Observer | None = None
    limited: Limited | None = None
    make_run: Callable[[Plan], Run] = field(default=lambda plan: answer_run(plan))


Prepare = Callable[[], Plan]
Limited = Callable[[AsyncGenerator[list[Chunk]], "Run"], AsyncGenerator[list[Chunk]]]


class Run(Protocol):
    """What a `Stream` reads: the run of one answer, or of an agent."""

    output: Output | None
    document: str
    outer_only: bool

    @property
    def stopped(self) -> bool: ...

    @property
    def messages(self) -> tuple[Message, ...]: ...

    def chunks(self) -> AsyncGenerator[list[Chunk]]: ...

    def completion(self, *, complete: bool) -> Completion: ...

    def stop(self) -> None: ...


def answer_run(plan: Plan) -> AnswerRun:
    """Return the run of one answer."""
    retries = Retries(plan.candidate, plan.fallback, plan.max_retries, plan.on_interrupt, plan.retries, plan.transport)
    report = AnswerReport(plan.candidate, plan.observer)
    return AnswerRun(retries, Clocks(plan.timeouts), report, plan.output, plan.max_bytes)


class _Answer:
    """Build the stages of one answer at its first read, and return what has arrived of it."""

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self.checked = True
        """False if the answer is not checked against its schema."""
        self.outer_only = False
        """True if the chunks of nested runs are left out."""
        self.run: Run | None = None

    def open(self) -> AsyncGenerator[list[Chunk]]:
        """Return the chunks of every read, through all stages."""
        plan = self._prepare()
        if plan.output is not None and not self.checked:
            plan = replace(plan, output=replace(plan.output, load=None))
        self.run = plan.make_run(plan)
        self.run.outer_only = self.outer_only
        # The stages, in the order in which a chunk passes them.
        source = self.run.chunks()
        if plan.limited is not None:
            source = plan.limited(source, self.run)
        if plan.options is not None:
            from streamcore.pipeline.smooth import smoothed

            source = smoothed(source, plan.options)
        return source

    def partial(self, *, complete: bool = False) -> Completion:
        """Return what has arrived of the answer."""
        return Completion() if self.run is None else self.run.completion(complete=complete)

    def document(self) -> str:
        """Return the JSON text that fits the schema; "" before one has been found."""
        return "" if self.run is None else self.run.document


class Stream:
    """Iterate over the chunks of one answer.

    Nothing happens until the first iteration, `async with` or `collect()`; errors of configuration are raised there,
    too. Guarantees: chunks come in order; iteration ends without an error only if the vendor marked the end; an error
    is raised again by every later call; `partial` has all that was received.

    Leaving `async with`, cancelling, or `aclose()` closes the vendor's response before the next statement; breaking
    out of a bare `async for` does so within a turn of the loop after the last reference is gone.
    """

    def __init__(self, prepare: Prepare, *, restarts: bool = False) -> None:
        self.prepare = prepare
        """Makes the plan of the stream; nothing outside this package uses it."""
        self.restarts = restarts
        """True if the answer may begin again."""
        self._answer = _Answer(prepare)
        self._reads = OwnedStream(self._answer.open, self._answer.partial)
        self._pending: list[Chunk] = []  # of the last read, the next one last

    @property
    def partial(self) -> Completion:
        """The answer so far; `complete` once the vendor has marked its end."""
        run, reads = self._answer.run, self._reads
        ended = reads.ended and run is not None and not run.stopped
        # An answer that does not fit its schema is whole all the same.
        return self._answer.partial(complete=ended or isinstance(reads.error, OutputValidationError))

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation: the messages of the request, and what was added: answers and results of tools.

        An answer that was cut is not in it; of an agent, the results so far are. Empty before the stream is open.
        """
        run = self._answer.run
        return () if run is None else run.messages

    @property
    def structured(self) -> bool:
        """True if the answer is checked against a schema; known once the stream is open."""
        run = self._answer.run
        return run is not None and run.output is not None and run.output.load is not None

    def text(self, *, refusals_raise: bool = False) -> TextStream:
        """Iterate over the text instead: non-empty `str`, a refusal's text included.

        With `refusals_raise`, a stream that ends refused or filtered without a single character raises
        `ContentRefused`, since its reader could not tell that from an empty answer.

        Raises:
            ConfigError: the stream has `on_interrupt="restart"` or `retries`: text cannot represent a restart.
        """
        if self.restarts:
            raise ConfigError(
                "text() cannot be used with on_interrupt='restart' or retries: text cannot represent a restart; "
                "iterate over the chunks instead"
            )
        self._answer.outer_only = True
        if self._answer.run is not None:
            self._answer.run.outer_only = True
        return TextStream(self, self._reads, refusals_raise=refusals_raise)

    def partial_objects(self) -> AsyncIterator[Any]:
        """Iterate over the object that the answer's JSON gives, as it grows: plain data, each time that it changes.

        The last item is the whole object, before validation turns it into `partial.parsed`. After a restart the object
        begins anew. Raises what iteration raises.
        """
        from streamcore.structured.growing_objects import GrowingObjects

        return GrowingObjects(self, self._answer.document)

    def unchecked(self) -> Self:
        """Send the schema, but do not check the answer against it; call this before the stream is used."""
        self._answer.checked = False
        return self

    async def collect(self) -> Completion:
        """Read to the end and return the whole answer.

        Raises:
            StreamcoreError: as iteration does; `.partial` has what was received.
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
            try:
                batch = await self._reads.next()
            except BaseException as error:
                self._reads.end(error)
                raise
            if len(batch) == 1:  # as a read mostly has
                return batch[0]
            if batch:
                self._pending = batch[::-1]
                return self._pending.pop()

    async def next_batch(self) -> list[Chunk] | None:
        """Return the chunks of the next network read, perhaps none; None at the end of the stream."""
        try:
            return await self._reads.next()
        except BaseException as error:
            self._reads.end(error)
            if isinstance(error, StopAsyncIteration):
                return None
            raise

    def stop(self) -> None:
        """End the stream well where it is; may be called from another task.

        Its reader sees the end after what was received; the vendor's response is closed. `partial.complete` stays
        False. Cancelling the reader's task, by contrast, ends that task.
        """
        if self._answer.run is None:
            self._reads.ended = True
        else:
            self._answer.run.stop()

    async def aclose(self) -> None:
        """Close the vendor's response; what was received stays in `partial`. Harmless when repeated."""
        self._pending.clear()
        await self._reads.aclose()

    async def __aenter__(self) -> Self:
        await self._reads.ensure_open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class TextStream:
    """Iterate over the text of one answer: `str`, never empty, in order. See `Stream.text`."""

    def __init__(self, stream: Stream, reads: OwnedStream[list[Chunk]], *, refusals_raise: bool = False) -> None:
        self._stream = stream
        self._reads = reads
        self._pending: list[str] = []  # of the last read, the next one last
        self._refusals_raise = refusals_raise
        self._empty = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._pending:
            return self._pending.pop()
        while True:
            try:
                batch = await self._reads.next()
            except BaseException as error:
                self._reads.end(error)
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
        """The answer as far as it has been received."""
        return self._stream.partial

    def stop(self) -> None:
        """End the stream where it is; may be called from another task. See `Stream.stop`."""
        self._stream.stop()

    async def aclose(self) -> None:
        """Close the vendor's response."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


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
