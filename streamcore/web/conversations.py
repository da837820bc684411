"""Keep the conversations of the chat page for each user in the store of threads: a list, and a record for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.checkpoints import Checkpointer
from streamcore.errors import ThreadConflict
from streamcore.web.input_check import size_of

MAX_BYTES = 4 * 2**20
"""The maximum number of characters of one conversation's record."""
MAX_USER_BYTES = 64 * 2**20
"""The maximum number of characters of all conversations of one user."""
MAX_CONVERSATIONS = 1000
"""The maximum number of conversations of one user."""

_TRIES = 20


class ConversationsFull(Exception):  # noqa: N818
    """A record does not fit into a user's conversations; the message says why, for the user."""


@dataclass(frozen=True, slots=True)
class Conversations:
    """The conversations of all users of one service; `name` is the service's."""

    store: Checkpointer
    name: str

    async def listed(self, owner: str) -> list[dict[str, Any]]:
        """Return `id`, `title`, `created` and `updated` (Unix time in milliseconds) of each, the latest first."""
        saved = await self.store.load(self._key(owner))
        entries: Mapping[str, Any] = {} if saved is None else saved.data["conversations"]
        found = [{"id": one, **{k: v for k, v in entry.items() if k != "size"}} for one, entry in entries.items()]
        return sorted(found, key=lambda entry: -entry["updated"])

    async def load(self, owner: str, conversation: str) -> dict[str, Any] | None:
        """Return a record as the page saved it; None if there is none."""
        saved = await self.store.load(self._key(owner, conversation))
        return None if saved is None else dict(saved.data["record"])

    async def save(self, owner: str, conversation: str, title: str, record: Mapping[str, Any]) -> int:
        """Store a record, the last writer's, and return the time of the change.

        Raises:
            ConversationsFull: the record is too large, or the user has too many conversations.
        """
        size, now = size_of(record), time.time_ns() // 1_000_000
        if size > MAX_BYTES:
            raise ConversationsFull(f"A conversation may have at most {MAX_BYTES} characters; this one has {size}.")

        def entered(entries: dict[str, Any]) -> None:
            created = entries.get(conversation, {}).get("created", now)
            entries[conversation] = {"title": title, "created": created, "updated": now, "size": size}
            if len(entries) > MAX_CONVERSATIONS or sum(one["size"] for one in entries.values()) > MAX_USER_BYTES:
                raise ConversationsFull("The space for your conversations is used up. Delete some of them.")

        await self._change_list(owner, entered)
        await self._change(self._key(owner, conversation), lambda _: {"record": dict(record)})
        return now

    async def delete(self, owner: str, conversation: str) -> None:
        """Delete a record; one that does not exist is no error."""
        await self.store.delete(self._key(owner, conversation))
        if await self.store.load(self._key(owner)) is not None:
            await self._change_list(owner, lambda entries: entries.pop(conversation, None))

    async def _change_list(self, owner: str, change: Callable[[dict[str, Any]], object]) -> None:
        def changed(data: Mapping[str, Any]) -> dict[str, Any]:
            entries = dict(data.get("conversations", {}))
            change(entries)
            return {"conversations": entries}

        await self._change(self._key(owner), changed)

    async def _change(self, key: str, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        """Save what `change` makes of the data; again, if another request has saved in between."""
        for left in reversed(range(_TRIES)):
            saved = await self.store.load(key)
            try:
                await self.store.save(key, change(saved.data if saved else {}), saved.version if saved else 0)
            except ThreadConflict:
                if not left:
                    raise
            else:
                return

    def _key(self, owner: str, conversation: str = "") -> str:
        """Return a name in the store; a service's name has no colon, so no session has the same."""
        return f"{self.name}:page/{owner}/{conversation}"
