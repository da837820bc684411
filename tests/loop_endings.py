"""End event loops under open streams, in a process whose stderr a test reads.

    python tests/loop_endings.py BACKEND PROVIDER=BASE_URL ...

Each function runs on a new loop, and leaves a stream in another state.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from typing import Any

import anyio

from streamcore import Chunk, Message, Provider, Request, Stream, get_provider, stream_request

kept: list[object] = []


def ask(provider: Provider) -> Stream:
    return stream_request(Request([Message("user", "Hi")]), provider=provider)


async def broken_off(provider: Provider) -> None:
    """Break in the last statement, so that closing begins in an event loop that is ending."""
    async for chunk in ask(provider):
        if chunk.kind == "text":
            break


async def texts_broken_off(provider: Provider) -> None:
    async for _ in ask(provider).text():
        break


async def referenced(provider: Provider) -> None:
    """Keep a reference to the stream until the loop ends."""
    stream = ask(provider)
    kept.append(stream)
    await anext(stream)
    await anext(stream)


async def failed(provider: Provider) -> None:
    """Keep the stream through an error's traceback."""
    stream = ask(provider)
    async for _ in stream:
        raise ZeroDivisionError


async def wrapped(provider: Provider) -> None:
    """Wrap the stream in a generator, which the loop closes too."""

    async def wrap() -> AsyncGenerator[Chunk]:
        async with ask(provider) as stream:
            async for chunk in stream:
                yield chunk

    generator = wrap()
    kept.append(generator)
    await anext(generator)


async def still_read(provider: Provider) -> None:
    """Start a task that still reads the stream when the loop ends."""
    begun = anyio.Event()

    async def read() -> None:
        async for _ in ask(provider):
            begun.set()

    if sys.argv[1] == "trio":
        import trio

        trio.lowlevel.spawn_system_task(read)
    else:
        kept.append(asyncio.ensure_future(read()))
    await begun.wait()


async def cancelled(provider: Provider) -> None:
    with anyio.move_on_after(0):
        await ask(provider).collect()


async def one_dropped(provider: Provider) -> None:
    """Open two streams, and drop one of them."""
    stream, other = ask(provider), ask(provider)
    kept.append(stream)
    await anext(stream)
    await anext(other)


async def finished(provider: Provider) -> None:
    """Close one stream, and open another without reading it."""
    async with ask(provider) as stream:
        await anext(stream)
    async with ask(provider):
        pass


def loop_of(backend: str) -> dict[str, Any]:
    """Return the arguments of `anyio.run` for asyncio, trio or uvloop."""
    uvloop = {"backend": "asyncio", "backend_options": {"use_uvloop": True}}
    return uvloop if backend == "uvloop" else {"backend": backend}


ENDINGS = [broken_off, texts_broken_off, referenced, failed, wrapped, still_read, cancelled, one_dropped, finished]


def main() -> None:
    backend, *targets = sys.argv[1:]
    for target in targets:
        name, _, url = target.partition("=")
        for ending in ENDINGS:
            provider = get_provider(name, api_key="sk-0123456789", model="m", base_url=url)
            with contextlib.suppress(ZeroDivisionError):
                anyio.run(ending, provider, **loop_of(backend))
            kept.clear()
            print(name, ending.__name__, flush=True)


if __name__ == "__main__":
    main()
