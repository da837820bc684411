"""End event loops under open streams, in a process whose stderr a test reads.

    python tests/loop_endings.py BACKEND PROVIDER=BASE_URL ...

Each function is run as a loop of its own, and leaves a stream behind in another state.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator

import anyio

from streamcore import Chunk, Message, Provider, Request, Stream, get_provider, stream_request

kept: list[object] = []


def ask(provider: Provider) -> Stream:
    return stream_request(Request([Message("user", "Hi")]), provider=provider)


async def broken_off(provider: Provider) -> None:
    """The last statement breaks off, so that closing has to begin in a loop that is ending."""
    async for chunk in ask(provider):
        if chunk.kind == "text":
            break


async def texts_broken_off(provider: Provider) -> None:
    async for _ in ask(provider).text():
        break


async def held(provider: Provider) -> None:
    """Somebody still holds the stream when the loop ends."""
    stream = ask(provider)
    kept.append(stream)
    await anext(stream)
    await anext(stream)


async def failed(provider: Provider) -> None:
    """An error keeps it, through the traceback."""
    stream = ask(provider)
    async for _ in stream:
        raise ZeroDivisionError


async def wrapped(provider: Provider) -> None:
    """A generator of the user's own, which the loop closes too, is between."""

    async def wrap() -> AsyncGenerator[Chunk]:
        async with ask(provider) as stream:
            async for chunk in stream:
                yield chunk

    generator = wrap()
    kept.append(generator)
    await anext(generator)


async def still_read(provider: Provider) -> None:
    """A task still reads it."""
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


async def two(provider: Provider) -> None:
    """Two are open, and one of them is dropped."""
    stream, other = ask(provider), ask(provider)
    kept.append(stream)
    await anext(stream)
    await anext(other)


async def finished(provider: Provider) -> None:
    """Opened and closed, and one that was never read."""
    async with ask(provider) as stream:
        await anext(stream)
    async with ask(provider):
        pass


ENDINGS = [broken_off, texts_broken_off, held, failed, wrapped, still_read, cancelled, two, finished]


def main() -> None:
    backend, *targets = sys.argv[1:]
    for target in targets:
        name, _, url = target.partition("=")
        for ending in ENDINGS:
            provider = get_provider(name, api_key="sk-0123456789", model="m", base_url=url)
            with contextlib.suppress(ZeroDivisionError):
                anyio.run(ending, provider, backend=backend)
            kept.clear()
            print(name, ending.__name__, flush=True)


if __name__ == "__main__":
    main()
