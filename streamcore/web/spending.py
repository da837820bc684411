"""Limit what each owner may spend in a period: add up what their answers cost, and refuse requests above the limit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import Depends, HTTPException, Request

from streamcore.errors import ConfigError, RelayError
from streamcore.graph.limits import RunLimits
from streamcore.observe import AnswerEnded, Event, observe
from streamcore.pricing.limit import amount_of, known_cost
from streamcore.pricing.loading import load_prices
from streamcore.web.peers import Peers
from streamcore.web.spending_sums import SMALLEST, MemorySums, Sums
from streamcore.web.users import owner

if TYPE_CHECKING:
    from collections.abc import Generator

log = logging.getLogger("streamcore")

PERIODS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
"""The seconds of each period; all begin at multiples of their length since 1970, in UTC."""


@dataclass(frozen=True, slots=True)
class SpendingLimit:
    """The most US dollars that one owner may spend in a period."""

    amount: Decimal
    period: str = "day"

    @classmethod
    def of(cls, given: object) -> SpendingLimit:
        """Return the limit that a text as `5/day`, or a number for a day, describes.

        Raises:
            ConfigError: the amount or the period is not valid, or there are no prices to compare the amount with.
        """
        amount, slash, period = str(given).partition("/")
        if slash and period not in PERIODS:
            raise ConfigError(
                f"max_cost (--max-cost) is an amount in US dollars and a period, as 5/day, not {given!r}; the periods "
                f"are {', '.join(PERIODS)}"
            )
        return cls(amount_of(amount if slash else given), period or "day")

    @property
    def seconds(self) -> int:
        """The length of the period."""
        return PERIODS[self.period]

    def __str__(self) -> str:
        return f"{self.amount} US dollars per {self.period}"


class Spending:
    """What the owners of a service spent in the current period.

    Args:
        limit: what each of them may spend.
        sums: where the sums are kept.
        now: returns the seconds since 1970.
    """

    def __init__(self, limit: SpendingLimit, sums: Sums, now: Callable[[], float] = time.time) -> None:
        self.limit = limit
        self._sums = sums
        self._now = now
        self._unsent: dict[tuple[str, int], Decimal] = {}
        self._lock = anyio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def _window(self) -> int:
        return int(self._now() // self.limit.seconds)

    @property
    def left_seconds(self) -> int:
        """The seconds until the next period begins, at least 1."""
        return max(1, int((self._window() + 1) * self.limit.seconds - self._now()))

    def note(self, who: str, amount: Decimal) -> None:
        """Add an amount; it is sent to the other workers soon, and before the next request is checked here."""
        if not amount:
            return
        key = who, self._window()
        self._unsent[key] = self._unsent.get(key, Decimal(0)) + amount
        if isinstance(self._sums, MemorySums):
            return
        try:
            task = asyncio.get_running_loop().create_task(self._send_quietly())
        except RuntimeError:  # ended by another thread
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def spent(self, who: str) -> Decimal:
        """Return what an owner spent in this period.

        Raises:
            RelayError: the Redis with the sums cannot be reached.
        """
        await self.send()
        return await self._sums.sum(who, self._window())

    async def send(self) -> None:
        """Add what was noted to the sums; what cannot be added is kept for the next time.

        Raises:
            RelayError: the Redis with the sums cannot be reached.
        """
        async with self._lock:
            for key in [*self._unsent]:
                amount = self._unsent[key]
                await self._sums.add(*key, amount)
                self._unsent[key] -= amount  # more may have been noted meanwhile
                if not self._unsent[key]:
                    del self._unsent[key]

    async def _send_quietly(self) -> None:
        try:
            await self.send()
        except RelayError as error:
            log.warning("what answers cost was not sent to the other workers yet: %s", error)

    async def aclose(self) -> None:
        """Send what is left."""
        with anyio.CancelScope(shield=True):
            await self._send_quietly()


class SpendingReached(HTTPException):
    """Refuse a request, since its owner has spent what may be spent.

    Attributes:
        retry_after: the seconds until the next period begins, as in the header `Retry-After`.
    """

    def __init__(self, limit: SpendingLimit, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(
            429,
            f"The limit of cost is reached: {limit}. Try again when the next {limit.period} begins.",
            {"Retry-After": str(retry_after), "X-Should-Retry": "false"},
        )


class Account:
    """The spending of the owner of one request; an observer, which adds up what its answers cost."""

    def __init__(self, spending: Spending, who: str) -> None:
        self._spending = spending
        self._who = who
        self.left = spending.limit.amount
        """What the owner may still spend, as of `check`."""

    def __call__(self, event: Event) -> None:
        """Add an answer that has ended, in any way."""
        if isinstance(event, AnswerEnded):
            self._spending.note(self._who, known_cost(event.completion))

    async def check(self) -> None:
        """Refuse a request whose owner has spent what may be spent.

        Raises:
            SpendingReached: it has.
            RelayError: the Redis with the sums cannot be reached.
        """
        await load_prices()
        limit = self._spending.limit
        self.left = limit.amount - await self._spending.spent(self._who)
        if self.left <= 0:
            raise SpendingReached(limit, self._spending.left_seconds)


_account: ContextVar[Account | None] = ContextVar("streamcore_account", default=None)
"""The account that pays for what the current request begins."""


@contextmanager
def _paid_by(account: Account) -> Generator[None]:
    token = _account.set(account)
    try:
        with observe(account):
            yield
    finally:
        _account.reset(token)


def paid(spending: Spending | None, peers: Peers) -> list[Any]:
    """Return the dependencies that let the owner of a request, else its address, pay for its answers."""
    if spending is None:
        return []

    async def pay(request: Request) -> AsyncGenerator[None]:
        user = owner(request)
        who = f"user {user}" if user else f"address {peers.address(request)}"
        # FastAPI enters and leaves this in the task of the request, after its response was sent.
        with _paid_by(Account(spending, who)):
            yield

    return [Depends(pay)]


async def check_spending() -> None:
    """Refuse to start an answer whose owner has spent what may be spent; see `Account.check`."""
    account = _account.get()
    if account is not None:
        await account.check()


def run_cost(limits: RunLimits) -> Decimal | None:
    """Return the most that a run may cost: what its limits allow, and what is left of the owner's."""
    own = None if limits.max_cost is None else Decimal(str(limits.max_cost))
    account = _account.get()
    left = None if account is None else max(account.left, SMALLEST)
    return min((one for one in (own, left) if one is not None), default=None)
