"""Send a default temperature where nobody set one, and go without where the model refuses it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from streamcore.chunk import Chunk
from streamcore.errors import BadRequestError
from streamcore.provider import Provider
from streamcore.request import Request

log = logging.getLogger("streamcore")

_refusing: set[tuple[str, str | None]] = set()
"""The models (by provider) that were seen to refuse a temperature."""


def with_temperature(provider: Provider, request: Request) -> AsyncGenerator[list[Chunk]]:
    """Return the provider's stream; a default temperature that the vendor refuses costs one more request, once.

    A temperature that somebody set is sent as it is, and refused as it may be.
    """
    default = request.default_temperature
    if request.temperature is not None or default is None or _key(provider, request) in _refusing:
        return provider.stream(request)
    return _try_default(provider, request, replace(request, temperature=default))


async def _try_default(provider: Provider, request: Request, warmer: Request) -> AsyncGenerator[list[Chunk]]:
    begun = False
    try:
        async with aclosing(provider.stream(warmer)) as source:
            async for chunks in source:
                begun = True
                yield chunks
    except BadRequestError as error:
        if begun or "temperature" not in str(error).lower():
            raise
        log.info("%s refuses a temperature; asking again without", error.model or provider.name)
    else:
        return
    _refusing.add(_key(provider, request))
    async with aclosing(provider.stream(request)) as source:
        async for chunks in source:
            yield chunks


def _key(provider: Provider, request: Request) -> tuple[str, str | None]:
    """Name the model that answers: the request's, or what the provider says it would take."""
    model_for = getattr(provider, "model_for", None)
    return provider.name, request.model if model_for is None else model_for(request)
