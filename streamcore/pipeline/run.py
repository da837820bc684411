"""Drive one answer from the first request to its one ending: reads under clocks, retries, the contract."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError, current_task
from collections.abc import AsyncGenerator
from typing import Any

import anyio

from streamcore.chunk import CONTENT_KINDS, Chunk
from streamcore.completion import Attempt, Completion, Fold
from streamcore.concurrency.generators import opened
from streamcore.errors import OutputValidationError, ProviderError, StreamcoreError, StreamInterrupted
from streamcore.pipeline.adapt import What, adapted, refuses
from streamcore.pipeline.clocks import Clocks, alarm, timed
from streamcore.pipeline.retry import Candidate, Retries
from streamcore.pipeline.structured import UNFINISHED, Output

log = logging.getLogger("streamcore")


class AnswerRun:
    """One answer: its attempts, what has come of it, and how it ended.

    `chunks()` is the source of a `Stream`. Guarantees: it ends without an error only after a `finish` chunk; every
    error has `partial` and, where it is the vendor's, whom it came from and all attempts.
    """

    def __init__(self, retries: Retries, clocks: Clocks, output: Output | None = None) -> None:
        self.fold = Fold()
        self.output = output
        self.document = ""
        """The JSON of the answer, once it was found to fit."""
        self.parsed: Any = None
        self.attempts: tuple[Attempt, ...] = ()
        self._retries = retries
        self._clocks = clocks

    @property
    def stopped(self) -> bool:
        """True if the reader asked for the end before the vendor came to it."""
        return self._clocks.stopped and not self.fold.finished

    def stop(self) -> None:
        """End the stream where it is; it is then neither complete nor broken."""
        self._clocks.stop()

    async def chunks(self) -> AsyncGenerator[list[Chunk]]:
        """Yield the chunks of every read, of as many attempts as it takes."""
        clocks, bell, fold = self._clocks, alarm(self._clocks), self.fold
        now, loop = time.monotonic, None if bell is None else bell.loop
        if bell is not None:
            clocks.interrupt = bell.ring
        try:
            schema = None if self.output is None else self.output.schema
            while True:
                candidate = self._retries.candidate
                chunks: list[Chunk] | None = None
                added: set[What] = set()
                begun = now()
                try:
                    request, added = adapted(candidate.provider, candidate.request, schema)
                    source = candidate.provider.stream(request)
                    reads = timed(source, clocks, self._came) if bell is None else source
                    async with opened(reads) as hidden:
                        reading = hidden.__anext__()
                        if bell is not None:
                            bell.limit_changed()
                        keep_text, flowing = fold.texts.append, False
                        while True:
                            # Every token passes here, so alarm and fold are worked by hand: a generator around the
                            # reads, or a method for each of these lines, would cost as much as all of it does.
                            if bell is not None:
                                bell.start = now()
                                bell.task = current_task(loop)
                            try:
                                chunks = await reading
                            except StopAsyncIteration:
                                break
                            except CancelledError:
                                if bell is None or not bell.rang():
                                    raise
                                if clocks.stopped:
                                    break
                                raise clocks.ran_out(self._came()) from None
                            if bell is not None:
                                bell.task = None
                            if (
                                flowing
                                and len(chunks) == 1
                                and (chunk := chunks[0]).kind == "text"
                                and not chunk.choice
                            ):
                                keep_text(chunk.text)
                            else:
                                fold.add(chunks)
                                keep_text = fold.texts.append
                                if bell is not None and not (flowing and chunks and chunks[0].kind in CONTENT_KINDS):
                                    clocks.read(chunks, now() - bell.start)
                                    bell.limit_changed()
                                    flowing = clocks.limit == clocks.flow
                            yield chunks
                            if clocks.stopped:
                                break
                            reading = anext(reads)
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
                    yield restart
        finally:
            if bell is not None:
                bell.stop()
                clocks.interrupt = None  # they would hold one another until the garbage collector comes

    def _check(self, candidate: Candidate) -> None:
        """Let a stream end only if the vendor marked its end, or the reader wanted it."""
        if not self.fold.finished and not self._clocks.stopped:
            raise StreamInterrupted(
                f"the stream of provider {candidate.provider.name!r} ended without its terminal mark; "
                "what arrived is in .partial"
            )
        if self.output is not None and self.output.load is not None and not self._clocks.stopped:
            answer = self.fold.completion(complete=True)
            if answer.finish_reason not in UNFINISHED:
                self.document, self.parsed = self.output.find(answer)
        self._note(candidate, None)

    def _next_pause(self, candidate: Candidate, error: StreamcoreError) -> float:
        """Return how long to wait before the next attempt, or raise the error, which is then the last."""
        self._note(candidate, error)
        if isinstance(error, OutputValidationError):
            pause = self._retries.next_answer(self.fold.completion(complete=True), error.errors, self._clocks.left)
        else:
            pause = self._retries.next_pause(error, content=self.fold.has_content, left=self._clocks.left)
        if pause is None:
            self._finish(error)
            raise error
        # The text of a validation error quotes the answer, and answers are not for logs.
        reason = type(error).__name__ if isinstance(error, OutputValidationError) else error
        following = self._retries.candidate
        if following.provider is candidate.provider:
            log.info("trying again in %.1f s after %s", pause, reason)
        else:
            model = f" with model {following.request.model!r}" if following.request.model else ""
            log.info("asking the fallback provider %r%s after %s", following.provider.name, model, reason)
        return pause

    def _came(self) -> str:
        """Say what there is so far, for the message of a clock."""
        answer = self.fold.completion(complete=False)
        counts = [
            f"{len(text)} characters of {kind}"
            for kind, text in (("text", answer.text), ("reasoning", answer.reasoning), ("refusal", answer.refusal))
            if text
        ]
        counts += [f"{len(answer.tool_calls)} tool calls"] if answer.tool_calls else []
        return f"{', '.join(counts) or 'nothing'} had come"

    def _note(self, candidate: Candidate, error: StreamcoreError | None) -> None:
        """Write an attempt down."""
        model = self.fold.model or candidate.request.model
        if isinstance(error, ProviderError):
            error.provider = error.provider or candidate.provider.name
            error.model = error.model or model
            model = model or error.model
        said = None if error is None else f"{type(error).__name__}: {error}"
        self.attempts = (*self.attempts, Attempt(candidate.provider.name, model, said, self.fold.usage))

    def _finish(self, error: StreamcoreError) -> None:
        if isinstance(error, ProviderError):
            error.attempts = self.attempts
        error.partial = self.completion(complete=isinstance(error, OutputValidationError))

    def completion(self, *, complete: bool) -> Completion:
        """Return what has come so far, with the attempts and, at the end, the value."""
        return self.fold.completion(complete=complete, attempts=self.attempts, parsed=self.parsed)
