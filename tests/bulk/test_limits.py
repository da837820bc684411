"""Test the limits of requests and tokens per minute with a simulated clock."""

from __future__ import annotations

import pytest

from streamcore.bulk import RateLimit
from streamcore.bulk.limits import RateLimiter
from streamcore.errors import ConfigError

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def starts(limit: RateLimit, count: int, *, tokens: int = 0, requests: int = 1) -> list[float]:
    """Return when requests begin, in seconds, if each ends at once and uses these tokens and attempts."""
    clock = Clock()
    limiter = RateLimiter(limit, clock, clock.sleep)
    found: list[float] = []
    for _ in range(count):
        reserved = await limiter.admit()
        found.append(clock.now - 100.0)
        limiter.settle(reserved, requests, tokens)
    return found


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(start <= time < start + 60 for time in times) for start in times)


@pytest.mark.parametrize("a_minute", [6, 60, 600])
async def test_requests_a_minute(a_minute: int) -> None:
    times = await starts(RateLimit(requests=a_minute), 4 * a_minute)
    assert most_in_a_minute(times) <= a_minute + max(1, a_minute // 60) + 1
    assert times[-1] == pytest.approx(4 * 60, rel=0.3)  # nor slower than allowed


async def test_tokens_a_minute() -> None:
    times = await starts(RateLimit(tokens=6_000), 100, tokens=300)
    assert most_in_a_minute(times) * 300 <= 6_000 + 2 * 300
    assert times[-1] == pytest.approx(100 * 300 / 100, rel=0.1)


async def test_retries_count() -> None:
    times = await starts(RateLimit(requests=60), 30, requests=2)
    assert times[-1] == pytest.approx(58, abs=3)


async def test_a_pause_delays_all() -> None:
    clock = Clock()
    limiter = RateLimiter(RateLimit(requests=6_000), clock, clock.sleep)
    limiter.pause(20)
    await limiter.admit()
    assert clock.now == pytest.approx(120)


@pytest.mark.parametrize("bad", [0, -1, float("inf"), float("nan")])
def test_limits_are_above_0(bad: float) -> None:
    with pytest.raises(ConfigError, match="requests a minute must be a number above 0"):
        RateLimit(requests=bad)
