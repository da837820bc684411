"""Limit requests and tokens a minute, by provider."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from streamcore.errors import ConfigError

_SOON = 1e-6
"""Seconds that are not waited for; less than a clock can tell."""
_FIRST_GUESS = 1_000
"""The tokens that an answer is taken to need before one has been counted."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests and tokens a minute a provider may get; None is no limit."""

    requests: float | None = None
    """Requests a minute; a retry is a request."""
    tokens: float | None = None
    """Tokens a minute, those of the prompts and of the answers."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` if a limit is not above 0."""
        for name in ("requests", "tokens"):
            value: float | None = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} a minute must be a number above 0, not {value!r}")


class _Bucket:
    """A number of permits that grows with time, up to one second's worth; it may be overdrawn."""

    def __init__(self, a_minute: float, now: float) -> None:
        self._rate = a_minute / 60
        self._most = max(self._rate, 1.0)
        self._amount, self._at = self._most, now

    def take(self, amount: float, now: float) -> None:
        self._amount = min(self._most, self._amount + (now - self._at) * self._rate) - amount
        self._at = now

    def seconds(self, needed: float, now: float) -> float:
        """Return how long until there are this many permits."""
        self.take(0, now)
        return max(0.0, (needed - self._amount) / self._rate)


class RateLimiter:
    """Delay the requests to one provider, so that its limits hold.

    Requests are spread over the minute: at most one second's worth begins at once. What an answer used is known when it
    ends; until then it counts as the mean of the answers before it.
    """

    def __init__(
        self,
        limit: RateLimit,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        now = clock()
        self._requests = None if limit.requests is None else _Bucket(limit.requests, now)
        self._tokens = None if limit.tokens is None else _Bucket(limit.tokens, now)
        self._turn = anyio.Lock()
        self._paused_until = now
        self._counted = self._answers = 0

    @property
    def _guess(self) -> float:
        return self._counted / self._answers if self._answers else _FIRST_GUESS

    async def admit(self) -> float:
        """Wait until a request may begin; return the tokens that it counts as, for `settle`."""
        async with self._turn:
            while True:
                now = self._clock()
                seconds = max(
                    self._paused_until - now,
                    0.0 if self._requests is None else self._requests.seconds(1, now),
                    0.0 if self._tokens is None else self._tokens.seconds(0, now),
                )
                if seconds < _SOON:
                    break
                await self._sleep(seconds)
            guess = self._guess
            self._take(1, guess)
            return guess

    def settle(self, reserved: float, requests: int, tokens: int) -> None:
        """Count what an answer really used: `requests` attempts, and tokens."""
        self._answers += 1
        self._counted += tokens
        self._take(requests - 1, tokens - reserved)

    def pause(self, seconds: float) -> None:
        """Let no request begin for this time: the provider asked for it."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _take(self, requests: int, tokens: float) -> None:
        now = self._clock()
        if self._requests is not None:
            self._requests.take(requests, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
