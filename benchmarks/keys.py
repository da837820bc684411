"""Measure what a key for each user costs: memory, connections and clients after a request with each of many keys.

    python benchmarks/keys.py [--keys 10000] [--provider openai] [--held]

A server on loopback answers. `--held` keeps every provider, as a service does that has one for each user that is logged
in; else each is dropped after its request. The limit is 50 MiB for 10,000 keys.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from streamcore import Message, Request, aclose_providers, get_provider, stream_request
from streamcore.concurrency.resources import open_resources
from streamcore.net.client_cache import CachedClient
from streamcore.testing import Answer
from tests.support import body_of, wire_of

MOST_BYTES_PER_KEY = 50 * 2**20 // 10_000
CONNECTIONS: set[asyncio.StreamWriter] = set()
WARM = 200
"""Requests before the measurement, so that imports, pools and caches are not counted."""


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


async def serve(answer: bytes) -> asyncio.Server:
    """Answer every request on loopback with the same body, and keep the connection open."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(answer)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        CONNECTIONS.add(writer)
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                length = request.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or b"0"))
                writer.write(head + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            CONNECTIONS.discard(writer)
            writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


async def measure(name: str, keys: int, *, held: bool) -> int:
    """Print what the keys cost; return the bytes of one."""
    server = await serve(body_of(wire_of(name), Answer.of("Hello!")))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    request = Request([Message("user", "Hello")])
    kept: list[object] = []

    async def ask(number: int) -> None:
        provider = get_provider(name, api_key=f"key-of-user-{number:08}", base_url=url, model="m")
        assert (await stream_request(request, provider=provider, max_retries=0).collect()).complete
        if held:
            kept.append(provider)

    for number in range(WARM):
        await ask(-number)
    gc.collect()
    before = resident()
    for number in range(keys):
        await ask(number)
    gc.collect()
    cost = resident() - before
    clients = sum(isinstance(client, CachedClient) for client, _ in (await open_resources()).clients.values())
    print(
        f"{name}: {keys:,} keys{', providers held' if held else ''}: {cost / 2**20:.1f} MiB, {cost / keys:.0f} bytes a "
        f"key, {clients} clients, {len(CONNECTIONS)} connections"
    )
    server.close()
    await aclose_providers()
    while CONNECTIONS:  # noqa: ASYNC110  the handlers end with their connections
        await asyncio.sleep(0.01)
    return cost // keys


def main() -> None:
    """Run the measurement that the arguments name; exit with 1 if a key costs more than the limit."""
    options = argparse.ArgumentParser(description="Measure what a key for each user costs.")
    options.add_argument("--keys", type=int, default=10_000)
    options.add_argument("--provider", default="openai")
    options.add_argument("--held", action="store_true")
    given = options.parse_args()
    cost = asyncio.run(measure(given.provider, given.keys, held=given.held))
    sys.exit(cost > MOST_BYTES_PER_KEY)


if __name__ == "__main__":
    main()
