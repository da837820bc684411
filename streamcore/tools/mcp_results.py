"""Turn the result of an MCP server's tool into text and parts of a message."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from streamcore.parts import PDF, Document, Image, Part, Text

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""The formats of images that models take."""


def value_of(result: CallToolResult) -> str | list[Part]:
    """Return the result as a text, or as parts if it has an image or a document.

    Texts are separated by line breaks. Structured content is added as JSON unless a text says the same. What models
    do not take, such as audio, is named in a text.
    """
    parts = [_part(block) for block in result.content]
    structured = result.structured_content
    if structured is not None and not _repeated([part.text for part in parts if isinstance(part, Text)], structured):
        parts.append(Text(json.dumps(structured, ensure_ascii=False)))
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    return parts


def error_of(result: CallToolResult) -> str:
    """Return the text of a result that is an error."""
    value = value_of(result)
    text = value if isinstance(value, str) else "\n".join(part.text for part in value if isinstance(part, Text))
    return text or "the tool failed and gave no reason"


def _part(block: ContentBlock) -> Part:
    match block:
        case TextContent():
            return Text(block.text)
        case ImageContent():
            return _data(block.data, block.mime_type, "image")
        case AudioContent():
            return _data(block.data, block.mime_type, "audio")
        case ResourceLink():
            about = f": {block.description}" if block.description else ""
            return Text(f"{block.title or block.name} ({block.uri}){about}")
        case EmbeddedResource():
            resource = block.resource
            if isinstance(resource, BlobResourceContents):
                return _data(resource.blob, resource.mime_type or "", str(resource.uri))
            return Text(resource.text)


def _data(encoded: str, media_type: str, name: str) -> Part:
    """Return bytes as an image, a document or a text; what models do not take is only named."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return Text(f"[{name}: not valid Base64]")
    kind = media_type.partition(";")[0].strip().lower()
    if kind in IMAGES:
        return Image(data=data, media_type=kind)
    if kind == PDF:
        return Document(data=data, media_type=PDF, name=name.rpartition("/")[2] or None)
    if kind.startswith("text/") or kind == "application/json":
        return Text(data.decode("utf-8", "replace"))
    return Text(f"[{name}: {kind or 'data of an unknown format'}, {len(data)} bytes, not shown]")


def _repeated(texts: Sequence[str], structured: Any) -> bool:
    """Return True if the texts say the same as the structured content, as the specification asks servers to do.

    The SDK wraps a result that is no object as `{"result": ...}`, and writes a list as a text for each item.
    """
    said = {_json(structured)}
    if isinstance(structured, Mapping):
        fields = cast("Mapping[str, Any]", structured)
        if list(fields) == ["result"]:
            said.add(_json(fields["result"]))
    read = [_read(text) for text in texts]
    return any(_json(one) in said for one in [*read, *texts]) or _json(read) in said or _json(list(texts)) in said


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
