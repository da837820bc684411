"""Open an async generator inside another one, hidden from the event loop, and close it at the end of the block.

An event loop notes each async generator when it begins, and closes all that are left when it ends, in any order. Our
generators are nested, and each closes the one inside it; closed by two sides at once they raise RuntimeError. So they
are hidden from the loop, and their owners close them: `opened` inside another generator, `OwnedStream` for a caller.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import coroutine
from typing import Any, Generic, Self, TypeVar

import anyio

T = TypeVar("T")

CLOSE_SECONDS = 2.0
"""How long closing a vendor's response may take when its reader is being cancelled, or the loop ends."""


class opened(Generic[T]):  # noqa: N801  used like contextlib.aclosing
    """Own an async generator for the length of a block: `async with opened(source) as items: async for item in items`.

    Everything that begins in the first step stays unknown to the event loop, `source` itself and the generators below
    it. The end of the block closes `source`. The rest of a source whose first item was read here may be read from
    `source` itself, which saves a call for each item.

    Args:
        source: an async generator that has not begun.
        finalizer: with True, the loop still closes a generator that is dropped without being closed. With False it
            does not, and does not warn: for generators that end without awaiting anything when they are dropped.
    """

    __slots__ = ("_begun", "_finalizer", "_source")

    def __init__(self, source: AsyncGenerator[T], *, finalizer: bool = True) -> None:
        self._source = source
        self._finalizer = finalizer
        self._begun = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if error[0] is None:
            await self._source.aclose()
            return
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):  # also while the caller is being cancelled
            await self._source.aclose()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T]:
        if self._begun:
            return self._source.__anext__()
        self._begun = True
        return unregistered(self._source.__anext__, finalizer=self._finalizer)


def unregistered(start: Callable[[], Awaitable[T]], *, finalizer: bool = True) -> Awaitable[T]:
    """Call `start()`, to be awaited at once; the async generators that begin in it stay unknown to the event loop.

    Only the classes of this package call this: they also close what they hide. `finalizer` is that of `opened`.
    """
    if finalizer and sys.get_asyncgen_hooks().firstiter is None:
        return start()  # the caller is itself awaited by an outer call of this function
    return _unregistered(start, finalizer)


@coroutine
def _unregistered(start: Callable[[], Awaitable[T]], finalizer: bool) -> Generator[Any, Any, T]:
    """Step through an awaitable, with the hooks removed during each of its steps and put back between them."""
    steps: Any = None
    value: Any = None
    thrown: BaseException | None = None
    while True:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, hooks.finalizer if finalizer else None)
        try:
            if steps is None:
                steps = start().__await__()
            waiting = steps.send(value) if thrown is None else steps.throw(thrown)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            sys.set_asyncgen_hooks(*hooks)
            value = thrown = None  # a traceback that holds its own frame would keep streams alive
        try:
            value = yield waiting
        except BaseException as error:  # noqa: BLE001  raised where it belongs, in the next step
            thrown = error
