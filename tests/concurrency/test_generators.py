"""Hide async generators from the event loop, and close them at the end of a block."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager

import anyio
import pytest

from streamcore.concurrency.generators import opened, unregistered


@contextmanager
def noted() -> Generator[list[object]]:
    """List the async generators that the loop registers while the block runs."""
    hooks = sys.get_asyncgen_hooks()
    known: list[object] = []
    sys.set_asyncgen_hooks(firstiter=known.append)
    try:
        yield known
    finally:
        sys.set_asyncgen_hooks(*hooks)


class Nested:
    """Two async generators, one inside the other, that record when they are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def inner(self) -> AsyncGenerator[int]:
        try:
            await anyio.lowlevel.checkpoint()
            for number in range(3):
                yield number
        finally:
            await anyio.lowlevel.checkpoint()
            self.closed.append("inner")

    async def outer(self) -> AsyncGenerator[int]:
        inner = self.inner()
        try:
            async for number in inner:
                yield number
        finally:
            await inner.aclose()
            self.closed.append("outer")


@pytest.mark.anyio
async def test_an_opened_generator_and_those_inside_it_are_hidden_from_the_loop() -> None:
    nested = Nested()
    with noted() as known:
        async with opened(nested.outer()) as items:
            assert [item async for item in items] == [0, 1, 2]
        assert known == []
    assert nested.closed == ["inner", "outer"]


@pytest.mark.anyio
async def test_leaving_the_block_early_closes_the_generator_first() -> None:
    nested = Nested()
    async with opened(nested.outer()) as items:
        async for _ in items:
            break
    assert nested.closed == ["inner", "outer"]


@pytest.mark.anyio
async def test_an_error_in_the_block_passes_on_and_the_generator_is_closed() -> None:
    nested = Nested()
    with pytest.raises(ZeroDivisionError):
        async with opened(nested.outer()) as items:
            async for _ in items:
                raise ZeroDivisionError
    assert nested.closed == ["inner", "outer"]


@pytest.mark.anyio
async def test_cancelling_the_block_closes_the_generator() -> None:
    closed: list[int] = []

    async def forever() -> AsyncGenerator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            closed.append(1)

    with anyio.CancelScope() as scope:
        async with opened(forever()) as items:
            async for _ in items:
                scope.cancel()
    assert scope.cancelled_caught
    assert closed == [1]


@pytest.mark.anyio
async def test_the_rest_may_be_read_from_the_source_itself() -> None:
    nested = Nested()
    source = nested.outer()
    async with opened(source) as items:
        assert await anext(items, None) == 0
        assert [item async for item in source] == [1, 2]


@pytest.mark.anyio
async def test_a_generator_without_items_gives_the_default() -> None:
    async def empty() -> AsyncGenerator[bytes]:
        nothing: list[bytes] = []
        await anyio.lowlevel.checkpoint()
        for item in nothing:
            yield item

    async with opened(empty(), finalizer=False) as items:
        assert await anext(items, b"none") == b"none"


@pytest.mark.anyio
@pytest.mark.parametrize("finalizer", [True, False])
async def test_a_dropped_generator_is_finalized_by_the_loop_only_if_allowed(finalizer: bool) -> None:
    hooks = sys.get_asyncgen_hooks()
    finalized: list[object] = []

    async def never_awaits() -> AsyncGenerator[int]:
        yield 1
        yield 2

    sys.set_asyncgen_hooks(hooks.firstiter, finalized.append)
    try:
        source = never_awaits()
        await anext(opened(source, finalizer=finalizer))
        del source
    finally:
        sys.set_asyncgen_hooks(*hooks)
    gc.collect()
    assert len(finalized) == finalizer
    for generator in finalized:
        await generator.aclose()  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_generators_that_begin_unregistered_are_unknown_to_the_loop() -> None:
    async def inner() -> AsyncGenerator[int]:
        await anyio.lowlevel.checkpoint()
        yield 1
        yield 2

    async def outer() -> AsyncGenerator[int]:
        await anyio.lowlevel.checkpoint()
        async for number in inner():
            yield number

    hooks = sys.get_asyncgen_hooks()
    generator = outer()
    known: list[object] = []
    sys.set_asyncgen_hooks(firstiter=known.append)
    try:
        assert await unregistered(generator.__anext__) == 1
        assert known == []
        assert await anext(generator) == 2
        with pytest.raises(StopAsyncIteration):
            await unregistered(generator.__anext__)
        registered = inner()
        assert await anext(registered) == 1
        assert known == [registered]
    finally:
        sys.set_asyncgen_hooks(*hooks)
    await registered.aclose()


@pytest.mark.anyio
async def test_errors_and_cancellation_pass_through_unregistered() -> None:
    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError

    async def forever() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            left.append(sys.get_asyncgen_hooks())

    left: list[object] = []
    hooks = sys.get_asyncgen_hooks()
    with pytest.raises(ZeroDivisionError):
        await unregistered(fail)
    assert sys.get_asyncgen_hooks() == hooks
    with anyio.move_on_after(0.01) as scope:
        await unregistered(forever)
    assert scope.cancelled_caught
    assert len(left) == 1
    assert sys.get_asyncgen_hooks() == hooks


@pytest.mark.anyio
async def test_an_error_that_passed_through_unregistered_keeps_nothing_alive() -> None:
    class Thing:
        pass

    dropped: list[weakref.ref[Thing]] = []

    async def hold() -> None:
        thing = Thing()
        dropped.append(weakref.ref(thing))
        await anyio.sleep_forever()

    gc.collect()
    gc.disable()  # so that only reference counts can free it
    try:
        with anyio.move_on_after(0.01):
            await unregistered(hold)
        await anyio.lowlevel.checkpoint()
        assert dropped[0]() is None
    finally:
        gc.enable()
