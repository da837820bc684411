"""Give every stream exactly one honest ending, and every error what had come before it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from streamcore.chunk import Chunk
from streamcore.completion import Attempt, Fold
from streamcore.errors import ProviderError, StreamcoreError, StreamInterrupted
from streamcore.provider import Provider
from streamcore.request import Request


async def contract(provider: Provider, request: Request, fold: Fold) -> AsyncGenerator[list[Chunk]]:
    """Pass the provider's chunks on, folding them as they go.

    Raises:
        StreamInterrupted: the provider's stream ended without a `finish` chunk.
        StreamcoreError: whatever the provider raised, with `partial` set, and whom it was that failed.
    """
    try:
        async with aclosing(provider.stream(request)) as source:
            async for chunks in source:
                fold.add(chunks)
                yield chunks
        if not fold.finished:
            raise StreamInterrupted(
                f"the stream of provider {provider.name!r} ended without its terminal mark; "
                "what arrived is in .partial"
            )
    except StreamcoreError as error:
        model = fold.completion(complete=False).model or request.model
        if isinstance(error, ProviderError):
            error.provider = error.provider or provider.name
            error.model = error.model or model
            error.attempts = (Attempt(provider.name, model, str(error)),)
        error.partial = fold.completion(
            complete=False, attempts=(Attempt(provider.name, model, f"{type(error).__name__}: {error}"),)
        )
        raise
