"""Own an async generator for a caller who may stop at any time: read it, close it, and remember how it ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from streamcore.concurrency.generators import unregistered
from streamcore.concurrency.resources import OpenResources, open_resources
from streamcore.errors import ConfigError, StreamInterrupted

if TYPE_CHECKING:
    from streamcore.completion import Completion

T = TypeVar("T")


class OwnedStream(Generic[T]):
    """Own an async generator from its first read to its one ending.

    Guarantees: nothing begins before the first read or `open()`; `aclose()`, cancelling a read, an error and the end
    close the generator before they return; if the owner is dropped, the generator is closed in the loop's next turn.
    An error is raised again by every later read, and a stream that was cut off never looks finished.

        try:
            item = await stream.next()
        except BaseException as error:
            stream.end(error)
            raise

    The `try` is the caller's, since a coroutine around each read would cost as much as the read itself.
    """

    def __init__(
        self,
        start: Callable[[], AsyncGenerator[T]],
        partial: Callable[[], Completion] | None = None,
    ) -> None:
        """Note what to open, and what gives the `.partial` of an interruption; neither may refer to this object."""
        self._start = start
        self._partial = partial
        self._source: AsyncGenerator[T] | None = None
        self._resources: OpenResources | None = None
        self.ended = False
        """True once the stream has ended without an error."""
        self.error: Exception | None = None
        """The error that ended the stream."""

    @property
    def closed(self) -> bool:
        """True if no more can be read."""
        return self.ended or self.error is not None

    def next(self) -> Awaitable[T]:
        """Return the next item, to be awaited at once. After the first, this is the source's own method.

        Raises:
            StopAsyncIteration: the stream has ended.
        """
        return self._first()

    async def _first(self) -> T:
        """Read for the first time; or, after the end, report again how the stream ended."""
        if self.error is not None:
            raise self.error
        if self.ended:
            raise StopAsyncIteration
        source = self._source or await self.open()
        item = await unregistered(source.__anext__)
        self.next = source.__anext__  # type: ignore[method-assign]
        return item

    async def open(self) -> AsyncGenerator[T]:
        """Make the generator, which begins with the first read; raises what making it raises."""
        source = self._start()
        self._resources = await open_resources()
        self._source = source
        self._resources.streams.add(source)
        return source

    async def ensure_open(self) -> None:
        """Make the generator unless it is open or closed already."""
        if self._source is None and not self.closed:
            await self.open()

    def end(self, error: BaseException) -> None:
        """Note the exception that a read raised: how the stream ended. The generator has closed itself.

        Raises:
            ConfigError: another task is reading; the stream has not ended.
        """
        if self.closed:
            return
        if getattr(self._source, "ag_running", False):
            raise ConfigError(
                "another task is reading this stream; a stream has one reader, so give each task a stream of its own"
            ) from error
        if isinstance(error, StopAsyncIteration):
            self.ended = True
        elif isinstance(error, Exception):
            self.error = error
        else:  # cancelled during a read: the generator is gone, and must not look finished to a later call
            self._interrupt("reading was cancelled")
        source = self._release()
        if source is not None and self._resources is not None:
            self._resources.streams.discard(source)

    async def aclose(self) -> None:
        """Close the generator. Harmless when repeated."""
        source = self._release()
        if not self.closed:
            self._interrupt("the stream was closed by its reader")
        if source is not None and self._resources is not None:
            await self._resources.close(source)

    def _interrupt(self, why: str) -> None:
        hint = "" if self._partial is None else "; what arrived is in .partial"
        error = StreamInterrupted(f"{why} before the end of the stream{hint}")
        error.partial = None if self._partial is None else self._partial()
        self.error = error

    def _release(self) -> AsyncGenerator[T] | None:
        """Forget the generator, and return it."""
        source, self._source = self._source, None
        self.__dict__.pop("next", None)
        return source

    def __del__(self) -> None:
        # Reached by a bare `async for` that was left early. A stream that ended or failed has closed itself.
        if self._source is not None and self._resources is not None:
            self._resources.close_later(self._source)
