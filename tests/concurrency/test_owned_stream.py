"""Own an async generator: one reader, one ending, closed before the reader goes on."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator

import anyio
import pytest

from streamcore import Completion, ConfigError, StreamInterrupted
from streamcore.concurrency.owned_stream import OwnedStream
from streamcore.concurrency.resources import known_resources
from tests.support import eventually


class Source:
    """An async generator that records whether it is open."""

    def __init__(self, *items: int, error: Exception | None = None, endless: bool = False) -> None:
        self.items = items
        self.error = error
        self.endless = endless
        self.begun = self.open = False

    async def read(self) -> AsyncGenerator[int]:
        self.begun = self.open = True
        try:
            for item in self.items:
                await anyio.lowlevel.checkpoint()
                yield item
            if self.error is not None:
                raise self.error
            if self.endless:
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            self.open = False


async def read(stream: OwnedStream[int]) -> int:
    try:
        return await stream.next()
    except BaseException as error:
        stream.end(error)
        raise


@pytest.mark.anyio
async def test_nothing_begins_before_the_first_read() -> None:
    source = Source(1)
    stream = OwnedStream(source.read)
    await stream.ensure_open()
    assert not source.begun
    assert await read(stream) == 1
    assert source.open
    await stream.aclose()
    assert not source.open


@pytest.mark.anyio
async def test_the_end_is_reported_by_every_later_read() -> None:
    stream = OwnedStream(Source(1, 2).read)
    assert [await read(stream), await read(stream)] == [1, 2]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await read(stream)
    assert stream.ended
    resources = known_resources()
    assert resources is not None
    assert resources.streams == set()


@pytest.mark.anyio
async def test_an_error_is_raised_again_by_every_later_read() -> None:
    error = ValueError("broken")
    stream = OwnedStream(Source(1, error=error).read)
    await read(stream)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken") as caught:
            await read(stream)
        assert caught.value is error
    assert not stream.ended


@pytest.mark.anyio
async def test_a_source_that_cannot_be_opened_has_failed() -> None:
    def fail() -> AsyncGenerator[int]:
        raise ConfigError("no such model")

    stream = OwnedStream(fail)
    for _ in range(2):
        with pytest.raises(ConfigError, match="no such model"):
            await read(stream)


@pytest.mark.anyio
@pytest.mark.parametrize("reads", [0, 1])
async def test_a_stream_that_its_reader_closed_never_looks_finished(reads: int) -> None:
    source = Source(1, 2)
    stream = OwnedStream(source.read)
    for _ in range(reads):
        await read(stream)
    await stream.aclose()
    await stream.aclose()
    assert not source.open
    with pytest.raises(StreamInterrupted, match=r"closed by its reader before the end of the stream$"):
        await read(stream)
    assert not stream.ended


@pytest.mark.anyio
async def test_a_cancelled_read_is_an_interruption_with_the_received_data() -> None:
    source = Source(1, endless=True)
    stream = OwnedStream(source.read, lambda: Completion(text="so far"))
    await read(stream)
    with anyio.move_on_after(0.01) as scope:
        await read(stream)
    assert scope.cancelled_caught
    assert not source.open
    with pytest.raises(StreamInterrupted, match=r"reading was cancelled .*what arrived is in \.partial") as caught:
        await read(stream)
    assert caught.value.partial == Completion(text="so far")


@pytest.mark.anyio
async def test_a_second_reader_is_refused_and_the_first_reads_on() -> None:
    stream = OwnedStream(Source(1, endless=True).read)
    await read(stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, stream)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ConfigError, match="a stream has one reader"):
            await read(stream)
        assert not stream.closed
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("reads", [0, 1])
async def test_a_stream_that_is_dropped_is_closed_without_the_garbage_collector(reads: int) -> None:
    source = Source(1, 2)
    stream = OwnedStream(source.read)
    gc.disable()
    try:
        await stream.ensure_open()
        for _ in range(reads):
            await read(stream)
        del stream
        await eventually(lambda: not source.open, "the generator was closed")
        resources = known_resources()
        assert resources is not None
        await eventually(lambda: resources.streams == set(), "nothing is kept of it")
    finally:
        gc.enable()
