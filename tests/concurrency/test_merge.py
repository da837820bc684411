"""Test what `merged` promises: the order of arrival, one error, and bounded memory for a slow reader."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio.lowlevel
import pytest

from streamcore.concurrency.generators import opened
from streamcore.concurrency.merge import MOST_READY, MOST_READY_BYTES, merged

pytestmark = pytest.mark.anyio


def source(items: list[str], made: list[str]) -> AsyncGenerator[str]:
    async def generate() -> AsyncGenerator[str]:
        for item in items:
            made.append(item)
            yield item

    return generate()


async def settle() -> None:
    """Let the sources run until they wait."""
    for _ in range(500):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("size", "most"),
    [
        (MOST_READY_BYTES // 4, 4),
        (3 * MOST_READY_BYTES, 1),
        (10, MOST_READY + 3),
    ],
)
async def test_a_reader_that_pauses_stops_the_sources(size: int, most: int, count: int) -> None:
    made: list[str] = []
    sources = [source(["x" * size] * 200, made) for _ in range(count)]
    async with opened(merged(sources, count)) as items:
        await anext(items)
        await settle()
        assert len(made) <= most + count + 1
        for _ in range(20):
            await anext(items)
        await settle()
        assert len(made) <= most + count + 21


async def test_every_item_arrives_whatever_its_size() -> None:
    texts = [[letter * size for size in (0, MOST_READY_BYTES * 2, 5, MOST_READY_BYTES)] for letter in "abc"]
    found: list[list[str]] = [[], [], []]
    async with opened(merged([source(one, []) for one in texts], 3)) as items:
        async for number, item in items:
            found[number].append(item)
            await anyio.lowlevel.checkpoint()
    assert found == texts


async def test_an_error_follows_the_items_before_it() -> None:
    async def failing() -> AsyncGenerator[str]:
        yield "x" * MOST_READY_BYTES
        yield "y" * MOST_READY_BYTES
        raise ValueError("no")

    found: list[str] = []
    with pytest.raises(ValueError, match="no"):
        async with opened(merged([failing()], 1)) as items:
            async for _, item in items:
                await settle()
                found.append(item[0])
    assert found == ["x", "y"]
