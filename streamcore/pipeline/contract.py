"""Give every stream exactly one honest ending, and every error what had come before it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from streamcore.chunk import Chunk
from streamcore.completion import Attempt, Fold
from streamcore.errors import ProviderError, StreamcoreError, StreamInterrupted


async def contract(
    source: AsyncGenerator[list[Chunk]], fold: Fold, *, provider: str, model: str | None
) -> AsyncGenerator[list[Chunk]]:
    """Pass the source's chunks on, folding them as they go; the names are for errors.

    Raises:
        StreamInterrupted: the source ended without a `finish` chunk.
        StreamcoreError: whatever the source raised, with `partial` set, and whom it was that failed.
    """
    try:
        async with aclosing(source):
            async for chunks in source:
                fold.add(chunks)
                yield chunks
        if not fold.finished:
            raise StreamInterrupted(
                f"the stream of provider {provider!r} ended without its terminal mark; what arrived is in .partial"
            )
    except StreamcoreError as error:
        model = fold.completion(complete=False).model or model
        if isinstance(error, ProviderError):
            error.provider = error.provider or provider
            model = error.model = error.model or model
        attempts = (Attempt(provider, model, f"{type(error).__name__}: {error}"),)
        if isinstance(error, ProviderError):
            error.attempts = attempts
        error.partial = fold.completion(complete=False, attempts=attempts)
        raise
