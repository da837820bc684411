"""Open the stores of a service: the relay, and the conversations."""

from __future__ import annotations

from typing import Any

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer, open_checkpointer
from streamcore.errors import ConfigError
from streamcore.relay import Relay, open_log
from streamcore.relay.open import is_nats
from streamcore.web.durable import Durable
from streamcore.web.history import HistoryLimit

CONVERSATION_MINUTES = 7 * 24 * 60
"""How long the relay's Redis keeps a conversation after its last run."""


def most_per_user(max_streams: int, max_per_user: int | None) -> int:
    """Return how many answers of one client may run at once."""
    return max(1, max_streams // 4) if max_per_user is None else max_per_user


def open_relay(
    relay: Relay | str | None,
    name: str,
    grace: float,
    max_streams: int,
    max_per_user: int | None,
    max_seconds: float | None,
) -> Relay:
    """Return the caller's relay, or one of the service."""
    if isinstance(relay, Relay):
        return relay
    per_user = most_per_user(max_streams, max_per_user)
    log = open_log(relay, name=name)
    return Relay(log, grace=grace, max_runs=max_streams, max_per_owner=per_user, max_seconds=max_seconds)


def conversation_stores(
    checkpointer: Any, relay: Relay | str | None, history: HistoryLimit | None, durable: Durable | str | None
) -> dict[str, Any]:
    """Return the store of conversations, the one that is used without it, and how much of one is kept."""
    given = open_checkpointer(checkpointer) if isinstance(checkpointer, str) else checkpointer
    kept = Durable.of(durable)
    if given is None and kept is not None:
        given = kept.threads()
    if isinstance(relay, str) and is_nats(relay):
        if given is None:
            raise ConfigError(
                "NATS keeps answers, but no conversations; with a relay in NATS, name a store that all workers share, "
                "as checkpointer='postgresql://host/database' or 'redis://host:6379/0' (--checkpointer)"
            )
        return {"checkpointer": given, "fallback": open_checkpointer(given), "history": history}
    return {"checkpointer": given, "fallback": _memory(relay), "history": history}


def _memory(relay: Relay | str | None) -> Checkpointer:
    """Return the default store of conversations: the relay's Redis if several workers share one, else memory."""
    if isinstance(relay, str) and relay != "memory:":
        return open_checkpointer({"type": "redis", "url": relay, "ttl": CONVERSATION_MINUTES})
    return MemoryCheckpointer()
