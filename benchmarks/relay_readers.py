"""Measure how late tokens reach 2,000 readers on one worker, whose runs another worker produces, through Redis.

Another process produces the runs, one token a second each. This process reads all of them, as the readers of 2,000
browsers would be. Each token carries the time when it was made. Printed are the delays, the CPU of the reading process,
and its connections to Redis, of which one receives what is published.

    python benchmarks/relay_readers.py [--readers N] [--seconds N] [--redis redis://...]

Exits 1 if a reader lacks a token, or if the readers use more than two connections.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

from streamcore.errors import RelayError
from streamcore.relay import Relay, open_log

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.relay import redis_url

GRACE, LEASE = 3600.0, 120.0
"""Seconds; long, so that a busy machine only shows in the delays."""
NAME = "relay-readers"


async def tokens(seconds: int, begin: float) -> AsyncGenerator[str]:
    """Yield a token a second, each with the time when it was made; begin at a time between 0 and 1 s after `begin`."""
    chance = random.random()  # noqa: S311
    for number in range(seconds):
        await asyncio.sleep(max(0.0, begin + chance + number - time.monotonic()))
        yield f"{time.monotonic():.6f}"


async def produce(url: str, readers: int, seconds: int) -> None:
    """Produce the runs, which begin once all are started."""
    async with Relay(open_log(url), grace=GRACE, lease=LEASE, max_runs=readers) as relay:
        begin = time.monotonic() + 2 + readers / 200
        for number in range(readers):
            await relay.start(f"readers-{number}", lambda: tokens(seconds, begin))
        while relay.running:  # noqa: ASYNC110  the relay has no event for it
            await asyncio.sleep(0.1)


async def ask_redis(url: str) -> tuple[list[dict[str, str]], float]:
    """Return the connections of the reading process, and the CPU seconds that Redis has used."""
    from redis.asyncio import Redis

    redis = cast("Any", Redis).from_url(url)
    try:
        found: list[dict[str, str]] = await redis.client_list()
        spent: dict[str, float] = await redis.info("cpu")
    finally:
        await redis.aclose()
    return [one for one in found if one["name"] == NAME], spent["used_cpu_user"] + spent["used_cpu_sys"]


async def measure(url: str, readers: int, seconds: int) -> bool:
    """Read all runs, print the figures, and return whether all is well."""
    command = (__file__, "--produce", "--readers", str(readers), "--seconds", str(seconds), "--redis", url)
    producer = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=subprocess.DEVNULL)
    late: list[float] = []
    short = 0
    async with Relay(open_log(f"{url}{'&' if '?' in url else '?'}client_name={NAME}")) as relay:

        async def read(number: int) -> None:
            nonlocal short
            count = after = 0
            while True:
                reader = relay.read(f"readers-{number}", after)
                try:
                    async for item in reader:
                        late.append(time.monotonic() - float(cast("str", item)))
                        count, after = count + 1, reader.seq
                    break
                except RelayError:  # it has not begun, or Redis is too busy
                    await asyncio.sleep(0.5)
            short += count != seconds

        cpu = time.process_time()
        reading = asyncio.gather(*[read(number) for number in range(readers)])
        await asyncio.sleep(2 + readers / 200 + seconds / 2)
        found, _ = await ask_redis(url)
        await reading
        used = time.process_time() - cpu
    await producer.wait()
    _, of_redis = await ask_redis(url)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    late.sort()
    cuts = statistics.quantiles(late, n=1000)
    print(f"{readers} readers of as many runs, {len(late)} tokens; readers that lack a token: {short}")
    print(f"delay in ms: median {cuts[499] * 1e3:.1f}, p90 {cuts[899] * 1e3:.1f}, ", end="")
    print(f"p99 {cuts[989] * 1e3:.1f}, most {late[-1] * 1e3:.1f}")
    print(f"CPU seconds: reading {used:.1f}, producing {spent.ru_utime + spent.ru_stime:.1f}, Redis {of_redis:.1f}")
    print(f"its connections to Redis (runs subscribed): {', '.join(sorted(one['ssub'] for one in found))}")
    return not short and len(found) <= 2


def main() -> int:
    """Measure, or produce for the process that measures."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--readers", type=int, default=2000)
    arguments.add_argument("--seconds", type=int, default=20)
    arguments.add_argument("--redis", help="the URL of a Redis to use instead of starting one")
    arguments.add_argument("--produce", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.produce:
        asyncio.run(produce(given.redis, given.readers, given.seconds))
        return 0
    with redis_url(given.redis) as url:
        if url is None:
            print("there is no redis-server here")
            return 0
        return 0 if asyncio.run(measure(url, given.readers, given.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
