"""Limit how many answers run at once: in this worker, and for each client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from streamcore.chunk import Chunk
from streamcore.web.endpoints.sources import Source
from streamcore.wire.encoding.wire import RequestRefused


class Slots:
    """The answers that run now.

    Args:
        most: how many may run at once, with those that `others` counts.
        per_client: how many of one client.
        others: returns how many other answers run in this worker.
    """

    def __init__(self, most: int, per_client: int, others: Callable[[], int]) -> None:
        self.running = 0
        self._most = most
        self._per_client = per_client
        self._others = others
        self._clients: Counter[str] = Counter()

    def take(self, client: str | None) -> Slot:
        """Return a place for an answer; the caller closes it. None is a client that is not counted.

        Raises:
            RequestRefused: a limit is reached.
        """
        if self.running + self._others() >= self._most:
            raise RequestRefused(f"at most {self._most} answers may run at once; try again later", kind="rate_limit")
        if client is not None and self._clients[client] >= self._per_client:
            raise RequestRefused(
                f"at most {self._per_client} answers per client may run at once; try again later", kind="rate_limit"
            )
        return Slot(self, client)

    def add(self, client: str | None, change: int) -> None:
        """Count an answer, or one that has ended."""
        self.running += change
        if client is not None:
            self._clients[client] += change
            if not self._clients[client]:
                del self._clients[client]


class Slot:
    """The place of one answer, and its source."""

    def __init__(self, slots: Slots, client: str | None) -> None:
        self._slots = slots
        self._client = client
        self._source: Source | None = None
        self._open = True
        slots.add(client, 1)

    def fill(self, source: Source) -> None:
        """Set the source."""
        self._source = source
        self.next_batch = source.next_batch  # type: ignore[method-assign]  # one call less for each token

    async def next_batch(self) -> list[Chunk] | None:
        """Return what has arrived; see `Source.next_batch`."""
        return None if self._source is None else await self._source.next_batch()

    async def aclose(self) -> None:
        """Close the source, and give the place back. Harmless when repeated."""
        try:
            if self._source is not None:
                await self._source.aclose()
        finally:
            if self._open:
                self._open = False
                self._slots.add(self._client, -1)
