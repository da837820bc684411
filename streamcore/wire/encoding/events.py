"""Write JSON as Server-Sent Events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from streamcore.chunk import Chunk, FinishReason
from streamcore.errors import ConfigError
from streamcore.wire.lenient import mapping

COMMENT = b": ping\n\n"
"""A comment, which keeps proxies from closing an idle connection."""


def dumps(value: object) -> bytes:
    """Return a value as JSON; half of a surrogate pair becomes an escape."""
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value, enc_hook=_plain)).encode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def data_event(value: Mapping[str, Any]) -> bytes:
    """Return an event that has only data."""
    return b"data: %b\n\n" % dumps(value)


def typed_event(value: Mapping[str, Any]) -> bytes:
    """Return an event whose name is its `type`."""
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), dumps(value))


def raw_event(chunk: Chunk, *, named: bool) -> bytes:
    """Return the event of an `other` chunk as it was received."""
    name = b"event: %b\n" % chunk.event.encode() if named and chunk.event else b""
    return b"%bdata: %b\n\n" % (name, chunk.raw or b"{}")


def is_nested(chunk: Chunk) -> bool:
    """True for a chunk of a nested run, which is not part of the answer."""
    return bool(getattr(chunk, "path", ()))


def begins(chunk: Chunk) -> bool:
    """True for a chunk that begins an answer, if nothing has begun it."""
    return chunk.kind not in ("ping", "restart") and (chunk.kind != "other" or chunk.data is not None)


def cost_fields(chunk: Chunk | None) -> dict[str, Any]:
    """Return the fields of an event for a cost that a gateway reports outside of the token counts."""
    cost = mapping(None if chunk is None else (chunk.data or {}).get("cost"))
    if cost.get("source") == "cost":
        return {"cost": cost["amount"]}
    if str(cost.get("source")).startswith("provider_metadata"):
        return {"provider_metadata": {"gateway": {"cost": cost["amount"]}}}
    return {}


def reason_name(
    chunk: Chunk, known: Mapping[str, FinishReason], names: Mapping[FinishReason, str], *, native: bool
) -> str | None:
    """Return a wire's name for a finish reason: the vendor's own, if the wire has it, else that of `names`."""
    raw, reason = chunk.raw_finish_reason, chunk.finish_reason
    if native:
        return raw
    if raw in names.values() and raw is not None and known.get(raw) == reason:
        return raw
    return None if reason is None else names[reason]


def refuse_restart(wire: str) -> ConfigError:
    """Return the error for a restart after content."""
    return ConfigError(
        f"the answer was restarted, and the wire {wire!r} cannot take back what was sent; turn off "
        "on_interrupt: restart, and retries of answers that do not fit their schema"
    )
