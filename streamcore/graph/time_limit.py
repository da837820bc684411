"""Limit the time that a node or a run takes, without the time of its reader."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from streamcore.concurrency.generators import opened

T = TypeVar("T")
clock = anyio.current_time


@dataclass(slots=True)
class TimeLeft:
    """The seconds that are left, of those that were given."""

    seconds: float
    given: float = 0

    def __post_init__(self) -> None:
        self.given = self.seconds


async def in_time(source: AsyncGenerator[T], left: TimeLeft) -> AsyncGenerator[T]:
    """Yield the items of a source.

    Raises:
        TimeoutError: the source took longer than the time that was left.
    """
    async with opened(source) as items:
        while True:
            began = clock()
            item: Any = None
            with anyio.move_on_after(left.seconds) as limit:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            left.seconds -= clock() - began
            if limit.cancelled_caught:
                raise TimeoutError(f"it took longer than {left.given:g} s")
            yield item
