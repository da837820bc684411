"""Drive one answer from the first request to its one ending: reads under clocks, retries, the contract."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio

from streamcore.chunk import Chunk
from streamcore.completion import Attempt, Fold
from streamcore.errors import ProviderError, StreamcoreError, StreamInterrupted
from streamcore.pipeline.clocks import Clocks, timed
from streamcore.pipeline.retry import Retries, Target
from streamcore.pipeline.temperature import with_temperature

log = logging.getLogger("streamcore")


class Run:
    """One answer: its attempts, what has come of it, and how it ended.

    `chunks()` is the source of a `Stream`. Guarantees: it ends without an error only after a `finish` chunk; every
    error has `partial` and, where it is the vendor's, whom it came from and all attempts.
    """

    def __init__(self, retries: Retries, clocks: Clocks) -> None:
        self.fold = Fold()
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
        while True:
            target = self._retries.target
            try:
                async with aclosing(self._reads(target)) as source:
                    async for chunks in source:
                        self.fold.add(chunks)
                        yield chunks
                if not self.fold.finished and not self._clocks.stopped:
                    raise StreamInterrupted(
                        f"the stream of provider {target.provider.name!r} ended without its terminal mark; "
                        "what arrived is in .partial"
                    )
            except StreamcoreError as error:
                self._note(target, error)
                pause = self._retries.next_pause(error, content=self.fold.has_content, left=self._clocks.left)
                if pause is None:
                    self._finish(error)
                    raise
                log.info("trying again in %.1f s after %s", pause, error)
            else:
                self._note(target, None)
                return
            await anyio.sleep(pause)
            self._clocks.spend(pause)
            self._clocks.restart()
            if self.fold.begun:  # the reader has seen something of the attempt that failed
                restart = [Chunk("restart")]
                self.fold.add(restart)
                yield restart

    def _reads(self, target: Target) -> AsyncGenerator[list[Chunk]]:
        source = with_temperature(target.provider, target.request)
        return timed(source, self._clocks, self._came)

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

    def _note(self, target: Target, error: StreamcoreError | None) -> None:
        """Write an attempt down."""
        model = self.fold.completion(complete=False).model or target.request.model
        if isinstance(error, ProviderError):
            error.provider = error.provider or target.provider.name
            error.model = error.model or model
            model = model or error.model
        said = None if error is None else f"{type(error).__name__}: {error}"
        self.attempts = (*self.attempts, Attempt(target.provider.name, model, said))

    def _finish(self, error: StreamcoreError) -> None:
        if isinstance(error, ProviderError):
            error.attempts = self.attempts
        error.partial = self.fold.completion(complete=False, attempts=self.attempts)
