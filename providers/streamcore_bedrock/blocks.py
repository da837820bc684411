"""Collect the content blocks of an answer, and return them in the form in which a request sends them back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streamcore.chunk import ToolCall
from streamcore.wire.lenient import is_object

SERVER_TOOL = "server_tool_use"
"""The type of a call that the server answers itself."""


def is_server_tool(fields: Mapping[str, Any]) -> bool:
    """True for a call of a tool that the server runs."""
    return fields.get("type") == SERVER_TOOL


class OpenBlock:
    """Collect the events of one content block; `kind` is its key in a request's content."""

    __slots__ = ("call", "citations", "data", "index", "kind", "pieces", "redacted", "results", "signature")

    def __init__(self, kind: str, index: int, data: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self.index = index
        self.data = data or {}
        self.call: ToolCall | None = None
        self.pieces: list[str] = []
        self.signature: list[str] = []
        self.redacted: list[str] = []
        self.results: list[Any] = []
        self.citations: list[Any] = []

    def is_plain(self, first: bool) -> bool:
        """True if a message's text and calls represent all of this block, in this order."""
        if self.kind == "text":
            return not self.citations and (first or not any(self.pieces))
        return self.kind == "toolUse" and self.call is not None

    def whole(self) -> dict[str, Any] | None:
        """Return the block for a request; None for an empty text."""
        written = "".join(self.pieces)
        match self.kind:
            case "text" if self.citations:
                return {"citationsContent": {"content": [{"text": written}], "citations": list(self.citations)}}
            case "text":
                return {"text": written} if written else None
            case "reasoningContent" if self.redacted:
                return {"reasoningContent": {"redactedContent": joined_base64(self.redacted)}}
            case "reasoningContent":
                reasoning = {"text": written}
                if self.signature:
                    reasoning["signature"] = "".join(self.signature)
                return {"reasoningContent": {"reasoningText": reasoning}}
            case "toolUse":
                return {"toolUse": {**self.data, "input": _input(written)}}
            case "toolResult":
                return {"toolResult": {**self.data, "content": list(self.results)}}
            case _:
                return {self.kind: self.data}


def _input(arguments: str) -> Any:
    try:
        given: object = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, ValueError):
        given = None  # the call was cut; its `ToolCall` is not complete, so no request is sent with it
    return given if is_object(given) else {}


def joined_base64(pieces: Sequence[str]) -> str:
    """Return the Base64 of the bytes of several texts in Base64, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece) for piece in pieces)).decode("ascii")
    except (binascii.Error, ValueError):
        return "".join(pieces)
