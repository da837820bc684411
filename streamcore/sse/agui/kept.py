"""Give the client what the vendor needs with the next turn, as `encryptedValue`, and read it when it comes back."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from streamcore.chunk import Opaque
from streamcore.sse.encoder import json_bytes
from streamcore.wire.lenient import is_array, is_object, mapping

_PLAIN = frozenset({"text", "tool_use", "message", "function_call"})
"""The types of items that the messages and calls of the conversation express, too."""

_FIELDS = frozenset({"reasoning", "reasoning_content", "tool_calls"})
"""The fields that come back: others would let a client write keys of the vendor's request."""


def kept_value(opaque: Opaque) -> str | None:
    """Return the value for the client; None if its messages say all."""
    fields = {key: value for key, value in opaque.fields.items() if key in _FIELDS}
    if not fields and all(item.get("type") in _PLAIN for item in opaque.items):
        return None
    kept: dict[str, Any] = {"wire": opaque.wire, "items": opaque.items, "fields": fields, "source": opaque.source}
    return base64.b64encode(json_bytes(kept)).decode("ascii")


def opaque_of(value: str | None) -> Opaque | None:
    """Return the data of a value that `kept_value` made; None if it was changed."""
    try:
        kept = mapping(json.loads(base64.b64decode(value or "", validate=True)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    wire, items, fields, source = (kept.get(name) for name in ("wire", "items", "fields", "source"))
    if not (isinstance(wire, str) and is_array(items) and is_object(fields) and all(map(is_object, items))):
        return None
    allowed = {key: one for key, one in fields.items() if key in _FIELDS}
    return Opaque(wire, tuple(items), allowed, source if isinstance(source, str) else None)
