"""Read data for the vendor that a client has kept and sends back; clients can change them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.chunk import Opaque
from streamcore.wire.lenient import is_array, is_object

FIELDS = frozenset({"reasoning", "reasoning_content", "tool_calls"})
"""The fields that come back: others would let a client write keys of the vendor's request."""


def returned_opaque(kept: Mapping[str, Any]) -> Opaque | None:
    """Return the data in `wire`, `items`, `fields` and `source`; None if they do not have their types."""
    wire, items, fields, source = (kept.get(name) for name in ("wire", "items", "fields", "source"))
    if not (isinstance(wire, str) and is_array(items) and is_object(fields) and all(map(is_object, items))):
        return None
    allowed = {key: one for key, one in fields.items() if key in FIELDS}
    return Opaque(wire, tuple(items), allowed, source if isinstance(source, str) else None)
