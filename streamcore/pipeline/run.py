"""Drive one answer from the first request to its one ending: attempts, timed reads, and the terminal contract."""

# Theory of operation
# ===================
#
# An answer is a sequence of attempts; an attempt is a request to one candidate (a provider and what it is asked) and
# the reads of its response. `AnswerRun.chunks` is in one of five states:
#
#   REQUESTING   the request is sent; nothing has been read. `chunks is None`.
#   READING      at least one read has returned; its chunks are folded into the answer and handed to the reader.
#   CHECKING     the source has ended without an error, or the reader has stopped the stream.
#   PAUSING      the attempt failed, and another will be made after `pause` seconds.
#   ENDED        `chunks` has returned or raised. There is no way out of this state.
#
#   from         what happens                                                    to
#   REQUESTING   the first read returns                                          READING
#   REQUESTING   the vendor refuses what we added (temperature, schema)          REQUESTING, without that, at once
#   READING      a read returns                                                  READING
#   either       a read raises StopAsyncIteration, or `stop()` was called      CHECKING
#   either       a read raises our error, or a clock runs out                    PAUSING, or ENDED with that error
#   either       the reader is cancelled, or closes the generator                ENDED, with that exception
#   CHECKING     the terminal mark arrived, and the answer fits its schema       ENDED, well
#   CHECKING     `stop()` was called                                             ENDED, well, but not complete
#   CHECKING     there was no terminal mark (StreamInterrupted)                  PAUSING, or ENDED with that error
#   CHECKING     the answer does not fit its schema (OutputValidationError)      PAUSING, or ENDED with that error
#   PAUSING      the pause is over                                               REQUESTING
#
# PAUSING or ENDED is decided by `Retries` alone: by the class of the error, by whether the reader has seen content,
# and by the seconds that the clock `total` has left. When a new attempt begins after the reader has seen anything of
# the last one, a `restart` chunk tells it that this is void. Every error that ends the answer has `.partial`, and a
# vendor's error has `.attempts`: both are set in `_finish`, and nowhere else.
#
# There are two ways to limit a read, for asyncio a timer (`ReadTimer`), for trio a cancel scope around each read
# (`timed`). On asyncio a timeout and `stop()` arrive in this task as CancelledError; `caused_cancellation` tells it
# from a cancellation by any other code, which passes through.

from __future__ import annotations

import time
from asyncio import CancelledError, current_task
from collections.abc import AsyncGenerator
from typing import Any

import anyio

from streamcore.chunk import CONTENT_KINDS, Chunk
from streamcore.completion import Attempt, Completion, Fold
from streamcore.concurrency.generators import opened
from streamcore.errors import OutputValidationError, ProviderError, StreamcoreError
from streamcore.fallback import Candidate
from streamcore.net.credentials import clean_partial, scrub_attempt
from streamcore.pipeline.adapt import What, adapted, refuses
from streamcore.pipeline.clocks import Clocks, ReadTimer, read_timer, timed
from streamcore.pipeline.retry import Retries
from streamcore.pipeline.think_tags import with_thinking_split
from streamcore.reports.answer import AnswerReport
from streamcore.reports.messages import after_fallback, received, too_large, without_mark
from streamcore.request import Message
from streamcore.storage.sizes import MAX_ANSWER_BYTES, AnswerSize
from streamcore.structured.output import Output, is_unfinished


class AnswerRun:
    """Run one answer: make its attempts, keep what was received, and end once.

    `chunks()` is the source of a `Stream`. Guarantees: it ends without an error only after a `finish` chunk, or after
    `stop()`; every error has `partial` and, where it is the vendor's, the provider, the model and all attempts.
    """

    def __init__(
        self,
        retries: Retries,
        clocks: Clocks,
        report: AnswerReport,
        output: Output | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.fold = Fold()
        self.clocks = clocks
        self.output = output
        self.outer_only = False
        """True if the reader wants nothing of nested runs, which an answer does not have."""
        self.retries = retries
        self.document = ""
        """The JSON of the answer, once it was found to fit."""
        self.parsed: Any = None
        self.attempts: tuple[Attempt, ...] = ()
        self._max_bytes = max_bytes
        self._report = report
        clocks.on_content = report.first_content

    @property
    def stopped(self) -> bool:
        """True if `stop()` ended the stream before the vendor did."""
        return self.clocks.stopped and not self.fold.finished

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages of the request and, once it is complete, the answer."""
        asked = tuple(self.retries.candidate.request.messages)
        return (*asked, self.completion(complete=True).to_message()) if self.fold.finished else asked

    def stop(self) -> None:
        """End the stream where it is; it is then neither complete nor failed."""
        self.clocks.stop()

    async def chunks(self) -> AsyncGenerator[list[Chunk]]:
        """Yield the chunks of every read, of as many attempts as it takes; the theory is at the top of this file."""
        clocks, timer, fold = self.clocks, read_timer(self.clocks), self.fold
        now, loop = time.monotonic, None if timer is None else timer.loop
        if timer is not None:
            clocks.interrupt = timer.cancel_read
        try:
            schema = None if self.output is None else self.output.schema
            while True:
                candidate = self.retries.candidate
                chunks: list[Chunk] | None = None
                added: set[What] = set()
                begun = now()
                try:
                    request, added = adapted(candidate.provider, candidate.request, schema)
                    source = with_thinking_split(candidate.provider.stream(request), candidate.provider, request)
                    source = self._report.attempt(candidate.provider.name, request, source)
                    reads = timed(source, clocks, self._received, lambda: fold.finished) if timer is None else source
                    async with opened(reads) as hidden:
                        reading = hidden.__anext__()
                        if timer is not None:
                            timer.limit_changed()
                        # While `steady`, a read with one text chunk changes neither a limit nor the fold's state.
                        keep_text, steady, plain = fold.texts.append, False, False
                        size = self._report.size = AnswerSize(self._max_bytes, fold.texts, fold.breaks)
                        reads_on = True
                        while reads_on:
                            for _ in size.reads:
                                # Every token passes here, so timer and fold are inlined: a generator around the
                                # reads, or a method for each of these lines, would cost as much as all of it does.
                                if timer is not None:
                                    timer.start = now()
                                    timer.task = current_task(loop)
                                try:
                                    chunks = await reading
                                except StopAsyncIteration:
                                    reads_on = False
                                    break
                                except CancelledError:
                                    if not self._cancelled_by(timer):
                                        raise
                                    reads_on = False
                                    break
                                if timer is not None:
                                    timer.task = None
                                match chunks:
                                    case [chunk] if plain and chunk.kind == "text" and not chunk.choice:
                                        keep_text(chunk.text)
                                    case _:
                                        if fold.add(chunks) or not plain:
                                            size.note(chunks)
                                        keep_text = fold.texts.append
                                        if timer is not None and not (
                                            steady and chunks and chunks[0].kind in CONTENT_KINDS
                                        ):
                                            clocks.read(chunks, now() - timer.start)
                                            timer.limit_changed()
                                            steady = clocks.limit == clocks.steady_limit
                                            plain = steady and not request.include_raw
                                yield chunks
                                if clocks.stopped:
                                    reads_on = False
                                    break
                                reading = anext(reads)
                            self._check_size(size)
                    self._check(candidate)
                except StreamcoreError as error:
                    if chunks is None and refuses(error, candidate.provider, candidate.request, added):
                        clocks.read((), now() - begun)
                        continue
                    pause = self._next_pause(candidate, error)
                else:
                    return
                await anyio.sleep(pause)
                clocks.spend(pause)
                clocks.restart()
                if self.fold.begun:  # the reader has seen something of the attempt that failed
                    restart = [Chunk("restart")]
                    self.fold.add(restart)
                    self._report.restarted()
                    yield restart
        finally:
            self._report.ended(self)
            if timer is not None:
                timer.stop()
                clocks.interrupt = None  # a cycle of references, which only the garbage collector would free

    def _cancelled_by(self, timer: ReadTimer | None) -> bool:
        """Return True if the timer, and no other code, cancelled the read, and the answer needs nothing more.

        Raises:
            StreamTimeout: the timer cancelled the read because a limit was reached.
        """
        if timer is None or not timer.caused_cancellation():
            return False
        if not self.clocks.stopped and not self.fold.finished:
            raise self.clocks.ran_out(self._received()) from None
        return True

    def _check_size(self, size: AnswerSize) -> None:
        """Raise if the answer has become larger than it may be."""
        if size.exceeds_limit():
            raise too_large(self._max_bytes)

    def _check(self, candidate: Candidate) -> None:
        """Raise unless the vendor marked the end and the answer fits its schema, or the stream was stopped."""
        if not self.fold.finished and not self.clocks.stopped:
            raise without_mark(candidate.provider.name)
        if self.output is not None and self.output.load is not None and not self.clocks.stopped:
            answer = self.fold.completion(complete=True)
            if not is_unfinished(answer):
                self.document, self.parsed = self.output.find(answer)
        self._note(candidate, None)

    def _next_pause(self, candidate: Candidate, error: StreamcoreError) -> float:
        """Return how long to wait before the next attempt, or raise the error, which is then the last."""
        self._note(candidate, error)
        if isinstance(error, OutputValidationError):
            pause = self.retries.next_answer(self.fold.completion(complete=True), error.errors, self.clocks.left)
        else:
            pause = self.retries.next_pause(error, content=self.fold.has_content, left=self.clocks.left)
        if pause is None:
            self._finish(candidate, error)
            raise after_fallback(error, self.retries.failure)
        self._report.again(error, pause, candidate, self.retries.candidate)
        return pause

    def _received(self) -> str:
        """Describe what was received so far, for the message of a timeout."""
        return received(self.fold.completion(complete=False))

    def _note(self, candidate: Candidate, error: StreamcoreError | None) -> None:
        """Add an attempt to the list."""
        model = self.fold.model or candidate.request.model
        model = scrub_attempt(candidate.provider, model, error)
        message = None if error is None else f"{type(error).__name__}: {error}"
        facts = (self.fold.usage, self.fold.reported_cost)
        self.attempts = (*self.attempts, Attempt(candidate.provider.name, model, message, *facts))
        self._report.attempted(self.attempts[-1], error)

    def _finish(self, candidate: Candidate, error: StreamcoreError) -> None:
        """Give the error that ends the answer what was received and all attempts."""
        if isinstance(error, ProviderError):
            error.attempts = self.attempts
        partial = self.completion(complete=isinstance(error, OutputValidationError))
        error.partial = clean_partial(candidate.provider, partial)

    def completion(self, *, complete: bool) -> Completion:
        """Return what was received so far, with the attempts and, at the end, the validated value."""
        provider = self.retries.candidate.provider.name
        return self.fold.completion(complete=complete, attempts=self.attempts, parsed=self.parsed, provider=provider)
