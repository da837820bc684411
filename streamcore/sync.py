"""Define the same functions for code without an event loop: plain iteration and plain values.

Each call runs its own event loop in the calling thread, until the call or the stream ends. Where a loop is running in
that thread already, as in a notebook, it runs in a thread of its own, and the caller waits for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from streamcore import execute
from streamcore.chunk import Chunk
from streamcore.completion import Completion
from streamcore.concurrency.blocking import BlockingLoop
from streamcore.concurrency.event_loop import loop_is_running
from streamcore.provider import AnyProvider
from streamcore.request import Message, Request

T = TypeVar("T")


class _Iteration(Generic[T]):
    """Iterate over an async iterator, which it also closes."""

    def __init__(self, source: Any) -> None:
        self._source: Any = source
        self._loop: BlockingLoop | None = None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item: T = self._next_of(self._source)
        return item

    def _next_of(self, source: AsyncIterator[Any]) -> Any:
        """Return the next item of the source, or of something that reads it."""
        if self._loop is None:  # the first read, or one after the end, which the source answers at once
            self._loop = BlockingLoop()
        try:
            return self._loop.run(_next(source))
        except StopAsyncIteration:
            self.close()
            raise StopIteration from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the vendor's response and the event loop. Harmless when repeated."""
        loop, self._loop = self._loop or BlockingLoop(), None
        _close(loop, self._source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def partial(self) -> Completion:
        """The answer as far as it has been received."""
        partial: Completion = self._source.partial
        return partial

    def __del__(self) -> None:
        # When the interpreter exits, the sockets close with the process; there is no loop to close them properly.
        if self._loop is None or sys.is_finalizing():
            return
        loop, self._loop = self._loop, None
        if loop_is_running():  # a finalizer must not block it
            with suppress(RuntimeError):  # no thread can be started while the interpreter exits
                threading.Thread(target=_close, args=(loop, self._source), name="streamcore-close").start()
        else:
            _close(loop, self._source)


class SyncTextStream(_Iteration[str]):
    """A `TextStream` for plain `for` and `with`."""


class SyncStream(_Iteration[Chunk]):
    """A `Stream` for plain `for` and `with`."""

    def text(self) -> Iterator[str]:
        """Iterate over the text: non-empty `str`."""
        for chunk in self:
            if chunk.text and chunk.kind in ("text", "refusal") and not (chunk.choice or chunk.path):
                yield chunk.text

    def partial_objects(self) -> Iterator[Any]:
        """Iterate over the object in the answer as it grows; see `Stream.partial_objects`."""
        growing = self._source.partial_objects()
        while True:
            try:
                found = self._next_of(growing)
            except StopIteration:
                return
            yield found

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation; see `Stream.messages`."""
        messages: tuple[Message, ...] = self._source.messages
        return messages

    def collect(self) -> Completion:
        """Read to the end and return the whole answer."""
        for _ in self:
            pass
        return self.partial


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)


def _close(loop: BlockingLoop, source: Any) -> None:
    """Close a stream, and then the loop on which it was read."""
    try:
        loop.run(source.aclose())
    finally:
        loop.close()


def _run(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = BlockingLoop()
    try:
        return loop.run(start())
    finally:
        loop.close()


def stream_request(request: Request, *, provider: AnyProvider, **options: Any) -> SyncStream:
    """Return the stream of the answer to a request; see `streamcore.stream_request`."""
    return SyncStream(execute.stream_request(request, provider=provider, **options))


def stream_prompt(prompt_name: str, variables: Mapping[str, Any] | None = None, **options: Any) -> SyncStream:
    """Return the stream of the answer to a prompt file; see `streamcore.stream_prompt`."""
    return SyncStream(execute.stream_prompt(prompt_name, variables, **options))


def stream_agent(prompt: str | Request, variables: Mapping[str, Any] | None = None, **options: Any) -> SyncStream:
    """Return the stream of an agent; see `streamcore.stream_agent`. Its tools run while the stream is read."""
    return SyncStream(execute.stream_agent(prompt, variables, **options))


def execute_prompt_streaming(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[execute.TextOptions],
) -> SyncTextStream:
    """Stream the text of the answer; see `streamcore.execute_prompt_streaming`."""
    return SyncTextStream(execute.execute_prompt_streaming(prompt_name, variables, temperature, provider, **options))


@overload
def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: None = None,
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[execute.AnswerOptions],
) -> str | Any: ...


@overload
def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: type[T] = ...,  # pyright: ignore[reportInvalidTypeVarUse]  the first overload has it left out
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[execute.AnswerOptions],
) -> T: ...


def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: Any = None,
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[execute.AnswerOptions],
) -> Any:
    """Return the whole answer; see `streamcore.execute_prompt_async`. In spite of its name, it blocks."""
    return _run(
        lambda: execute.execute_prompt_async(prompt_name, variables, output_model, temperature, provider, **options)
    )


def execute_prompts_concurrent(prompts: Sequence[Mapping[str, Any]], *, limit: int = 10) -> list[Any]:
    """Run several prompts at once; see `streamcore.execute_prompts_concurrent`."""
    return _run(lambda: execute.execute_prompts_concurrent(prompts, limit=limit))
