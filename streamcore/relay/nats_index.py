"""Count the running runs of owners and clients in NATS, and name the newest run of each thread."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from streamcore.relay.nats_entries import dumps
from streamcore.relay.nats_store import NatsStore, Refused


class RunIndex:
    """What the state of a service has beside its runs; every change is a compare-and-set of one message.

    Args:
        store: the streams of the service.
        is_running: returns whether a run exists and has not ended.
    """

    def __init__(self, store: NatsStore, is_running: Callable[[str], Awaitable[bool]]) -> None:
        self._store = store
        self._is_running = is_running

    async def count(self, counter: str, run_id: str, until: float, limit: int | None) -> bool:
        """Count a run until a time, 0 for no longer; return False if there are `limit` others.

        `counter` is the subject of the owner or client.
        """
        while True:
            found = await self._store.last(self._store.state, counter)
            now = await self._store.now()
            runs: dict[str, float] = {} if found is None else json.loads(found.data)
            runs = {run: ends for run, ends in runs.items() if ends >= now and run != run_id}
            if limit is not None and len(runs) >= limit:
                return False
            if until:
                runs[run_id] = until
            try:
                await self._store.publish(counter, dumps(runs), 0 if found is None else found.number)
            except Refused:
                continue
            return True

    async def claim(self, thread: str, run_id: str) -> bool:
        """Make a run the newest of its thread; return False if the one that is has not ended."""
        subject = self._store.key("thread", thread)
        while True:
            found = await self._store.last(self._store.state, subject)
            newest = "" if found is None else found.data.decode("utf-8", "surrogatepass")
            if newest and newest != run_id and await self._is_running(newest):
                return False
            try:
                data = run_id.encode("utf-8", "surrogatepass")
                await self._store.publish(subject, data, 0 if found is None else found.number)
            except Refused:
                continue
            return True

    async def newest(self, thread: str) -> str | None:
        """Return the name of the run that `claim` made the newest, None if there is none."""
        found = await self._store.last(self._store.state, self._store.key("thread", thread))
        return None if found is None else found.data.decode("utf-8", "surrogatepass")
