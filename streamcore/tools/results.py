"""Turn what a tool returned or raised into its result, as the model gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from streamcore.chunk import ToolCall, ToolResult
from streamcore.errors import ToolError
from streamcore.parts import Document, Image, Part, Text
from streamcore.request import Message
from streamcore.storage.sizes import utf8_size

MAX_RESULT_BYTES = 8 * 2**20
"""The maximum number of bytes of a tool's result: it is kept in the conversation, and sent with every further step."""
MAX_ERROR = 20_000
"""The maximum number of characters of a tool's error."""
NOTHING = "Success"
"""The content of a result that is None: vendors refuse an empty one."""


def result_of(call: ToolCall, value: Any, seconds: float = 0.0) -> ToolResult:
    """Return the result for the value that a tool returned.

    A `str` is the content as it is. `Text`, `Image`, `Document` and sequences of them are sent as parts. None is
    "Success". All other values are written as JSON, pydantic models and dataclasses too. Above `MAX_RESULT_BYTES` the
    result is an error.

    Raises:
        TypeError: the value cannot be written as JSON.
    """
    content, parts = _content(value)
    size = utf8_size(content) + sum(len(part.data or b"") for part in parts if not isinstance(part, Text))
    if size > MAX_RESULT_BYTES:
        why = f"the result has {size:,} bytes, and may have {MAX_RESULT_BYTES:,}; ask for less of it"
        return failed(call, f"ResultTooLarge: {why}", seconds)
    return ToolResult(call.id or "", call.name or "", content, seconds=seconds, parts=parts)


def failed(call: ToolCall, error: str, seconds: float = 0.0) -> ToolResult:
    """Return the result of a call that failed; `error` has the class and the message."""
    error = error[:MAX_ERROR]
    return ToolResult(call.id or "", call.name or "", f"Error: {error}", error, seconds)


def error_text(error: BaseException) -> str:
    """Return the class and the message of an error, as a model and a reader get it: no traceback."""
    message = str(error)
    if isinstance(error, ToolError) and message:
        return message
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def message_of(result: ToolResult) -> Message:
    """Return the message that tells the model the result of its call."""
    return Message(
        "tool",
        result.parts or result.content,
        tool_call_id=result.call_id,
        is_error=result.error is not None,
    )


def _content(value: Any) -> tuple[str, tuple[Part, ...]]:
    if value is None:
        return NOTHING, ()
    if isinstance(value, str):
        return value or NOTHING, ()
    parts = _parts(value)
    if parts:
        text = "".join(part.text for part in parts if isinstance(part, Text))
        return text, () if all(isinstance(part, Text) for part in parts) else parts
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(value).decode(), ()
    except (PydanticSerializationError, UnicodeDecodeError) as error:
        raise TypeError(
            f"a {type(value).__name__} cannot be the result of a tool: {error}; return text, JSON data, a pydantic "
            "model, or parts as Text and Image"
        ) from error


def _parts(value: Any) -> tuple[Part, ...]:
    """Return a value as parts of a message; nothing if it is not one part or several."""
    if isinstance(value, Text | Image | Document):
        return (value,)
    if isinstance(value, list | tuple):
        given = cast("Sequence[Any]", value)
        if given and any(isinstance(one, Text | Image | Document) for one in given):
            return tuple(one if isinstance(one, Text | Image | Document) else Text(_content(one)[0]) for one in given)
    return ()
