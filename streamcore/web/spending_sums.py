"""Keep what the owners of a service spent in a period: in memory, or in a Redis that all workers share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from streamcore.errors import RelayError

if TYPE_CHECKING:
    from streamcore.net.redis_client import RedisDatabase

SMALLEST = Decimal("0.000000001")
"""The unit of the sums in Redis, in US dollars, and the least that a run may spend."""


_MOST = 10**15
"""The most units of one amount, a million dollars: Redis adds no more than 64 bits, and would refuse it each time."""


class Sums(Protocol):
    """Where the sums of a period are kept; `window` is the number of the period since 1970."""

    async def add(self, who: str, window: int, amount: Decimal) -> None: ...

    async def sum(self, who: str, window: int) -> Decimal: ...


class MemorySums:
    """Keep the sums of the current period in this process."""

    def __init__(self) -> None:
        self._window = 0
        self._sums: dict[str, Decimal] = {}

    async def add(self, who: str, window: int, amount: Decimal) -> None:
        """Add an amount to an owner's sum."""
        if window > self._window:
            self._window, self._sums = window, {}
        if window == self._window:
            self._sums[who] = self._sums.get(who, Decimal(0)) + amount

    async def sum(self, who: str, window: int) -> Decimal:
        """Return an owner's sum."""
        return self._sums.get(who, Decimal(0)) if window == self._window else Decimal(0)


class RedisSums:
    """Keep the sums in a Redis, which all workers of a service share.

    Args:
        url: of the Redis.
        name: the service's name.
        seconds: the length of the period, after which a sum is deleted.
    """

    def __init__(self, url: str, name: str, seconds: int) -> None:
        from streamcore.net.redis_client import RedisDatabase

        self._database: RedisDatabase = RedisDatabase(url, "limits of cost", "one worker")
        self._name = name
        self._seconds = seconds

    def _key(self, who: str, window: int) -> str:
        hashed = hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return f"streamcore:spent:{self._name}:{self._seconds}:{window}:{hashed}"

    async def add(self, who: str, window: int, amount: Decimal) -> None:
        """Add an amount to an owner's sum.

        Raises:
            RelayError: the Redis cannot be reached.
        """
        key, units = self._key(who, window), min(int(amount / SMALLEST), _MOST)

        async def send(client: Any) -> None:
            async with client.pipeline(transaction=True) as pipe:
                pipe.incrby(key, units)
                pipe.expire(key, 2 * self._seconds)
                await pipe.execute()

        await self._call(send)

    async def sum(self, who: str, window: int) -> Decimal:
        """Return an owner's sum.

        Raises:
            RelayError: the Redis cannot be reached.
        """
        found = await self._call(lambda client: client.get(self._key(who, window)))
        return int(found or 0) * SMALLEST

    async def _call(self, command: Callable[[Any], Any]) -> Any:
        from streamcore.net.redis_client import FAILURES

        try:
            return await command(await self._database.client())
        except FAILURES as error:
            raise RelayError(
                f"the sums of costs in {self._database.location} cannot be read or changed: "
                f"{self._database.describe(error)}"
            ) from error
