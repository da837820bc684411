"""Count the tokens of a request before it is sent: by the vendor where it counts, else by an estimate."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio

from streamcore.errors import StreamTimeout
from streamcore.parts import Document, Text
from streamcore.provider import AnyProvider, get_provider
from streamcore.request import Message, Request
from streamcore.storage.sizes import utf8_size

BYTES_PER_TOKEN = 4
"""The bytes of text, in UTF-8, that are estimated as a token."""
MESSAGE_TOKENS = 4
"""What a message is estimated to need besides its content."""
PART_TOKENS = 1500
"""What an image, or a document that is not text, is estimated to need."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Represent how many tokens the prompt of a request has; `estimated` says whether that is exact."""

    input_tokens: int
    """The tokens of messages, tools and schema together."""
    estimated: bool
    """False: the vendor counted. True: the vendor does not count, and this is a rough estimate from the length of the
    texts: most are within a third of the truth, those in other scripts than Latin may be further away."""
    provider: str
    """The provider's name."""
    model: str | None
    """The model whose tokens were counted; None if the provider chooses it."""


async def count_tokens(request: Request, provider: AnyProvider, *, timeout: float | None = 60.0) -> TokenCount:
    """Return how many tokens the prompt of a request has, before it is sent.

    Anthropic, Gemini and OpenAI count it themselves, free of charge; for all others, and for other servers with their
    APIs that do not count, it is an estimate, and `TokenCount.estimated` is True.

    Args:
        request: the request, which is not sent.
        provider: a name or a mapping, as in `get_provider`, or a ready provider. A provider of your own may have a
            coroutine method `count_tokens(request)` that returns the number, or None if it cannot count.
        timeout: the maximum number of seconds that the vendor may take; None: no limit.

    Raises:
        ProviderError: the vendor refused to count, as it would refuse the request.
        StreamTimeout: the vendor did not answer in time.
        ConfigError: the provider cannot express something in the request, or is not set up.
    """
    found = get_provider(provider) if isinstance(provider, str | Mapping) else provider
    model_for: Callable[[Request], str] | None = getattr(found, "model_for", None)
    model = request.model if model_for is None else model_for(request)
    count: Callable[[Request], Awaitable[int | None]] | None = getattr(found, "count_tokens", None)
    if count is not None:
        counted = await _in_time(count(request), timeout, found.name)
        if counted is not None:
            return TokenCount(counted, False, found.name, model)
    return TokenCount(estimated_tokens(request), True, found.name, model)


async def _in_time(counting: Awaitable[int | None], seconds: float | None, name: str) -> int | None:
    if seconds is None:
        return await counting
    with anyio.move_on_after(seconds):
        return await counting
    raise StreamTimeout(
        f"provider {name!r} did not count the tokens within {seconds:g} s (timeout=)", clock="total", seconds=seconds
    )


def estimated_tokens(request: Request) -> int:
    """Return an estimate of a request's tokens, from the length of its texts."""
    size = sum(
        utf8_size(tool.name) + utf8_size(tool.description) + _json_size(tool.parameters) for tool in request.tools
    )
    if request.output_schema is not None:
        size += _json_size(request.output_schema)
    tokens = 0
    for message in request.messages:
        text, parts = _content(message)
        size += text
        tokens += MESSAGE_TOKENS + parts * PART_TOKENS
    return tokens + -(-size // BYTES_PER_TOKEN)


def _content(message: Message) -> tuple[int, int]:
    """Return the bytes of a message's texts, and how many of its parts are no text."""
    size = sum(utf8_size(call.name or "") + utf8_size(call.arguments) for call in message.tool_calls)
    if isinstance(message.content, str):
        return size + utf8_size(message.content), 0
    others = 0
    for part in message.content:
        if isinstance(part, Text):
            size += utf8_size(part.text)
        elif isinstance(part, Document) and part.data is not None and (part.media_type or "").startswith("text/"):
            size += len(part.data)
        else:
            others += 1
    return size, others


def _json_size(value: object) -> int:
    return len(json.dumps(value, default=str))
