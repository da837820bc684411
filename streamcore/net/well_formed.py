"""Send a request whose texts have half a surrogate pair, which no encoding can write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from streamcore.base.redact import encodable

T = TypeVar("T")


async def send_well_formed(send: Callable[[dict[str, Any]], Awaitable[T]], body: dict[str, Any]) -> T:
    """Return the result of `send(body)`; if a text of `body` cannot be encoded, send a well-formed copy instead.

    Other requests cost nothing, since only the encoder looks at the texts. `send` must not change `body`.
    """
    try:
        return await send(body)
    except UnicodeEncodeError:
        mended = well_formed_json(body)
        if mended == body:  # something else cannot be encoded, such as a header
            raise
    return await send(mended)


def well_formed_json(value: Any) -> Any:
    """Return JSON data with both halves of a surrogate pair joined, and U+FFFD for a half without its other half."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        given = cast("Mapping[str, Any]", value)
        return {well_formed_json(key): well_formed_json(item) for key, item in given.items()}
    if isinstance(value, list | tuple):
        items: list[Any] | tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
        return [well_formed_json(item) for item in items]
    return value
