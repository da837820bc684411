"""Forget the threads of chats and AG-UI clients that were unused longest, where only memory keeps them."""

from __future__ import annotations

from collections import OrderedDict

from streamcore.web.sessions import MAX_SESSION_BYTES, MAX_SESSIONS
from streamcore.web.target import ServedTarget


class RecentThreads:
    """Forget the threads that were unused longest, if only memory keeps them and they become too many."""

    def __init__(self, most: int = MAX_SESSIONS, most_bytes: int = MAX_SESSION_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._targets: OrderedDict[str, ServedTarget] = OrderedDict()

    async def use(self, key: str, target: ServedTarget) -> None:
        """Note that a thread is used."""
        self._targets[key] = target
        self._targets.move_to_end(key)
        while len(self._targets) > 1 and self._too_many():
            oldest, owner = self._targets.popitem(last=False)
            await owner.forget(oldest)

    def _too_many(self) -> bool:
        targets = {id(target): target for target in self._targets.values()}
        kept = sum(target.kept_bytes for target in targets.values())
        return len(self._targets) > self._most or kept > self._most_bytes
