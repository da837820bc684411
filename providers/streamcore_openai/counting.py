"""Count the tokens of a request with OpenAI's endpoint for the Responses API, which charges nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from streamcore.errors import ProviderError
from streamcore.net.small_answer import read_count
from streamcore.request import Request
from streamcore_openai.sdk import Connection

if TYPE_CHECKING:
    import httpx2
    import openai

_COUNTED = frozenset({"model", "input", "tools", "tool_choice", "text", "reasoning"})
"""What the endpoint accepts of the keys of a response."""


async def count_input(connection: Connection, request: Request, model: str, provider: str) -> int | None:
    """Return how many tokens a request has; None if the server, which is not OpenAI's own, does not count.

    The two APIs of OpenAI take the same tokens for the same messages, tools and schema.

    Raises:
        ProviderError: OpenAI refused to count.
        ConfigError: the Responses API cannot express something in the request.
    """
    from streamcore_openai.responses import responses_body

    reasoning = None if isinstance(request.reasoning, int) else request.reasoning
    counted = replace(request, seed=None, stop=(), reasoning=reasoning)  # which have no tokens
    body = responses_body(counted, model, connection.source)

    async def send() -> httpx2.Response:
        return await connection.send(_count, {key: value for key, value in body.items() if key in _COUNTED})

    try:
        return await read_count(send, "input_tokens", connection.secrets, provider=provider, model=model)
    except ProviderError as error:
        if connection.source != provider and error.status in (404, 405, 501):
            return None
        raise


def _count(client: openai.AsyncOpenAI) -> Callable[..., Any]:
    return cast("Callable[..., Any]", client.responses.input_tokens.with_streaming_response.count)
