"""Define providers that each break one rule; tests/testing/suites/test_provider.py checks that the suite finds it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from streamcore import AuthenticationError, Chunk, Provider, Request, StreamInterrupted, get_provider
from streamcore.testing.suites.provider import ProviderSuite

KEY = "sk-test-0123456789abcdef"


class Honest:
    """Forward what the real provider streams."""

    name = "openai"

    def __init__(self, url: str) -> None:
        self._inner = get_provider("openai", api_key=KEY, model="m", base_url=url + "/v1")

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        async with aclosing(self._inner.stream(request)) as batches:
            async for batch in batches:
                yield batch

    async def aclose(self) -> None: ...


class Swallows(Honest):
    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        try:
            async with aclosing(super().stream(request)) as batches:
                async for batch in batches:
                    yield batch
        except StreamInterrupted:
            yield [Chunk("finish", finish_reason="stop")]


class Hoards(Honest):
    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        async with aclosing(super().stream(request)) as batches:
            everything = [batch async for batch in batches]
        for batch in everything:
            yield batch


class Merges(Honest):
    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        merged = ""
        async with aclosing(super().stream(request)) as batches:
            async for batch in batches:
                texts = [chunk for chunk in batch if chunk.kind == "text"]
                merged += "".join(chunk.text for chunk in texts)
                others = [chunk for chunk in batch if chunk.kind != "text"]
                if any(chunk.kind == "finish" for chunk in others):
                    others.insert(0, Chunk("text", merged))
                yield others


class Loses(Honest):
    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        async with aclosing(super().stream(request)) as batches:
            async for batch in batches:
                yield [replace(chunk, text=chunk.text.rstrip()) for chunk in batch]


class KeepsOpen(Honest):
    kept: list[Any] = []  # noqa: RUF012

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        batches = self._inner.stream(request)
        self.kept.append(batches)
        async for batch in batches:
            yield batch


class LeavesATask(Honest):
    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        self._task = asyncio.create_task(asyncio.sleep(60))
        async with aclosing(super().stream(request)) as batches:
            async for batch in batches:
                yield batch


class Mutters(Honest):
    async def aclose(self) -> None:
        print("closing", file=sys.stderr)


class Leaks(Honest):
    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        try:
            async with aclosing(super().stream(request)) as batches:
                async for batch in batches:
                    yield batch
        except AuthenticationError as error:
            raise RuntimeError(str(error)) from error


class ShowsTheKey(Honest):
    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        try:
            async with aclosing(super().stream(request)) as batches:
                async for batch in batches:
                    yield batch
        except AuthenticationError:
            logging.getLogger("acme").warning("refused with %s", KEY)  # streamcore scrubs errors, and cannot scrub this
            raise


class OnAsyncio(ProviderSuite):
    backends = ("asyncio",)
    kind: Any = Honest

    def provider(self, url: str) -> Provider:
        made: Provider = self.kind(url)
        return made


class TestHonest(OnAsyncio): ...


class TestSwallows(OnAsyncio):
    kind = Swallows


class TestHoards(OnAsyncio):
    kind = Hoards


class TestMerges(OnAsyncio):
    kind = Merges


class TestLoses(OnAsyncio):
    kind = Loses


class TestKeepsOpen(OnAsyncio):
    kind = KeepsOpen


class TestLeavesATask(OnAsyncio):
    kind = LeavesATask


class TestMutters(OnAsyncio):
    kind = Mutters


class TestLeaks(OnAsyncio):
    kind = Leaks


class TestShowsTheKey(OnAsyncio):
    kind = ShowsTheKey


class TestIsBetterThanItSays(OnAsyncio):
    deviations = {"none": "it would be sad"}  # noqa: RUF012
