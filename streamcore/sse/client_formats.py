"""Make the encoders of the formats that a client library reads, not a page of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from streamcore.sse.ai_sdk.encoder import UIMessageEncoder
from streamcore.sse.encoder import Describe, EventEncoder

ClientFormat = Literal["ai-sdk"]
"""`ai-sdk`: the UI message stream of the AI SDK, for `useChat`."""


def client_encoder(format: ClientFormat, *, wait: bool, describe: Describe | None) -> EventEncoder:  # noqa: A002
    """Return the encoder of one stream; with `wait`, nothing is sent before the first content."""
    return _ENCODERS[format](wait, describe)


def client_headers(format: ClientFormat) -> Mapping[str, str]:  # noqa: A002
    """Return the headers of a response in this format."""
    return _HEADERS.get(format, {})


_ENCODERS: Mapping[str, Callable[[bool, Describe | None], EventEncoder]] = {
    "ai-sdk": lambda wait, describe: UIMessageEncoder(waits=wait, describe=describe),
}
_HEADERS: Mapping[str, Mapping[str, str]] = {"ai-sdk": UIMessageEncoder.headers}
