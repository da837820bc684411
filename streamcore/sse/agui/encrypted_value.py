"""Write data that the vendor needs with the next turn as an `encryptedValue`, and read one that a client returns."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from streamcore.chunk import Opaque
from streamcore.sse.encoder import json_bytes
from streamcore.sse.returned_opaque import FIELDS, returned_opaque
from streamcore.wire.lenient import mapping

_PLAIN = frozenset({"text", "tool_use", "message", "function_call"})
"""The types of items that the messages and calls of the conversation express, too."""


def encrypted_value(opaque: Opaque) -> str | None:
    """Return the value for the client; None if its messages contain all of it."""
    fields = {key: value for key, value in opaque.fields.items() if key in FIELDS}
    if not fields and all(item.get("type") in _PLAIN for item in opaque.items):
        return None
    kept: dict[str, Any] = {"wire": opaque.wire, "items": opaque.items, "fields": fields, "source": opaque.source}
    return base64.b64encode(json_bytes(kept)).decode("ascii")


def opaque_of(value: str | None) -> Opaque | None:
    """Return the data of a value that `encrypted_value` made; None if it was changed."""
    try:
        kept = mapping(json.loads(base64.b64decode(value or "", validate=True)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return returned_opaque(kept)
