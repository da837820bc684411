"""Read a thousand streams at once, and measure lag and memory next to the SDK's typed stream and bare httpx2.

A simulator in its own process sends each stream a token every 20 ms. Each way of reading them runs in a process of its
own, one after the other; the streams begin within a second. Lag is how much later than its turn a token reached the
reader, counted from the most punctual token of its stream; memory is what the process grew by at its peak. A reader
that is too slow for all streams falls behind: its lag then grows to seconds, and the rate shows what it can do.

    python benchmarks/load.py [--streams 1000] [--tokens 100] [--interval 20] [--provider openai] [--transport aiohttp]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import httpx2

from streamcore import Message, Request, StreamcoreError, aclose_providers, get_provider, stream_request
from streamcore.testing.simulator.received import BASE_PATHS

QUESTION = "Count."
Reader = Callable[[], AsyncIterator[object]]
Close = Callable[[], Awaitable[object]]
MakeReader = Callable[[str, str, str], tuple[Reader, Close]]


@dataclass(frozen=True, slots=True)
class Load:
    """Describe the results of all streams together."""

    whole: int
    """The number of streams that delivered every token."""
    failed: int
    tokens_per_second: float
    lag_median_ms: float
    lag_p99_ms: float
    cpu_us_per_token: float
    kib_per_stream: float


def streamcore_reader(url: str, provider: str, transport: str) -> tuple[Reader, Close]:
    """Read with `stream_request`."""
    found = get_provider(provider, api_key="k", base_url=url, model="m", transport=transport)
    request = Request([Message("user", QUESTION)])

    def read() -> AsyncIterator[object]:
        return stream_request(request, provider=found).text()

    return read, aclose_providers


def sdk_reader(url: str, provider: str, transport: str) -> tuple[Reader, Close]:
    """Read the SDK's typed stream, over its own client for the transport."""
    messages: Any = [{"role": "user", "content": QUESTION}]
    if provider == "anthropic":
        import anthropic

        claude = anthropic.AsyncAnthropic(
            api_key="k",
            base_url=url,
            http_client=anthropic.DefaultAioHttpClient() if transport == "aiohttp" else None,
        )

        async def read_anthropic() -> AsyncIterator[object]:
            async with claude.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
                async for text in stream.text_stream:
                    yield text

        return read_anthropic, claude.close

    import openai

    client = openai.AsyncOpenAI(
        api_key="k", base_url=url, http_client=openai.DefaultAioHttpClient() if transport == "aiohttp" else None
    )

    async def read_openai() -> AsyncIterator[object]:
        async for event in await client.chat.completions.create(model="m", messages=messages, stream=True):
            if event.choices and event.choices[0].delta.content:
                yield event

    return read_openai, client.close


def bare_reader(url: str, provider: str, transport: str) -> tuple[Reader, Close]:
    """Read the bytes through httpx2 and count their events."""
    client = httpx2.AsyncClient(timeout=600, limits=httpx2.Limits(max_connections=None))
    path = "/v1/messages" if provider == "anthropic" else "/chat/completions"
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION}]}

    async def read() -> AsyncIterator[object]:
        async with client.stream("POST", url + path, json=body) as response:
            async for data in response.aiter_bytes():
                for _ in range(data.count(b"\n\n")):
                    yield data

    return read, client.aclose


READERS: dict[str, MakeReader] = {"streamcore": streamcore_reader, "SDK": sdk_reader, "bare httpx2": bare_reader}


async def measure(read: Reader, close: Close, streams: int, tokens: int, interval: float) -> Load:
    """Read that many streams at once."""
    lags: list[float] = []
    whole = failed = 0

    async def one(wait: float = 0) -> None:
        nonlocal whole, failed
        turns: list[float] = []  # when the stream would have begun, had each token come in its turn
        await asyncio.sleep(wait)
        try:
            async for _ in read():
                turns.append(time.monotonic() - len(turns) * interval)
        except (StreamcoreError, OSError) as error:
            print(f"failed: {error}", file=sys.stderr)
            failed += 1
        begun = min(turns, default=0.0)
        lags.extend(turn - begun for turn in turns)
        whole += len(turns) >= tokens

    await one()  # imports, connections, caches
    lags.clear()
    whole = failed = 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(one(number / streams) for number in range(streams)))
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    await close()
    lags.sort()
    return Load(
        whole=whole,
        failed=failed,
        tokens_per_second=len(lags) / seconds,
        lag_median_ms=lags[len(lags) // 2] * 1000,
        lag_p99_ms=lags[len(lags) * 99 // 100] * 1000,
        cpu_us_per_token=cpu / (streams * tokens) * 1e6,
        kib_per_stream=grown / streams - len(lags) * 64 / 1024 / streams,  # without our own lists
    )


def run_all(options: argparse.Namespace) -> bool:
    """Start the simulator, then each reader; print the table and return True if every stream was complete."""
    interval = options.interval / 1000
    simulator = [
        sys.executable,
        "-m",
        "streamcore.testing",
        "--tokens",
        str(options.tokens),
        "--rate",
        str(1 / interval),
    ]
    print(
        f"{options.streams} streams, a token every {options.interval:g} ms: {options.streams / interval:,.0f}/s offered"
    )
    print(f"{'':12}{'whole':>8}{'failed':>8}{'tokens/s':>10}{'median lag':>12}{'p99 lag':>10}", end="")
    print(f"{'CPU/token':>11}{'memory/stream':>15}")
    good = True
    with subprocess.Popen(simulator, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = cast("Any", server.stdout).readline().strip() + BASE_PATHS.get(options.provider, "/v1")
            for name in READERS:
                command = [sys.executable, __file__, "--reader", name, "--url", url, *sys.argv[1:]]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                load = Load(**json.loads(done.stdout))
                good = good and (name != "streamcore" or (load.whole, load.failed) == (options.streams, 0))
                print(
                    f"{name:12}{load.whole:8}{load.failed:8}{load.tokens_per_second:10,.0f}"
                    f"{load.lag_median_ms:9.0f} ms{load.lag_p99_ms:7.0f} ms{load.cpu_us_per_token:8.0f} us"
                    f"{load.kib_per_stream:11.0f} KiB"
                )
        finally:
            server.terminate()
    return good


def main() -> None:
    """Measure; exit 1 if a stream through streamcore failed or lost a token."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--interval", type=float, default=20, help="milliseconds between two tokens of a stream")
    parser.add_argument("--provider", choices=["openai", "anthropic"], default="openai")
    parser.add_argument("--transport", choices=["httpx2", "aiohttp"], default="httpx2")
    parser.add_argument("--reader", choices=list(READERS), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader is None:
        sys.exit(0 if run_all(options) else 1)
    read, close = READERS[options.reader](options.url, options.provider, options.transport)
    load = asyncio.run(measure(read, close, options.streams, options.tokens, options.interval / 1000))
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
