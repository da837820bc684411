"""Send what not every model takes, a default temperature and a schema, and go without where it is refused."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from streamcore.chunk import Chunk
from streamcore.errors import BadRequestError
from streamcore.pipeline.structured import instructed
from streamcore.provider import Provider
from streamcore.request import Request

log = logging.getLogger("streamcore")

What = Literal["a temperature", "a schema"]

_NAMES: Mapping[What, re.Pattern[str]] = {
    "a temperature": re.compile(r"temperature", re.IGNORECASE),
    "a schema": re.compile(r"schema|response_?format|output_(config|format)|text\.format|structured", re.IGNORECASE),
}
_refusing: set[tuple[str, str | None, What]] = set()
"""The models (by provider) that were seen to refuse something."""


def adapted(provider: Provider, request: Request, schema: Mapping[str, Any] | None) -> AsyncGenerator[list[Chunk]]:
    """Return the provider's stream; what was added here and is refused costs one more request, once for each model.

    Added are the default temperature, where nobody set one, and a schema that the vendor holds answers to; where it
    does not, the model is told the schema in words. What the request itself sets is sent as it is, and refused as
    it may be.
    """
    tries: set[What] = set()
    if request.temperature is None and request.default_temperature is not None:
        tries.add("a temperature")
    if schema is not None and _takes(provider, schema):
        tries.add("a schema")
    if tries:
        model = _model(provider, request)
        tries = {what for what in tries if (provider.name, model, what) not in _refusing}
    if tries:
        return _try(provider, request, schema, tries)
    return provider.stream(_form(request, schema, tries))


async def _try(
    provider: Provider, request: Request, schema: Mapping[str, Any] | None, tries: set[What]
) -> AsyncGenerator[list[Chunk]]:
    while True:
        begun = False
        try:
            async with aclosing(provider.stream(_form(request, schema, tries))) as source:
                async for chunks in source:
                    begun = True
                    yield chunks
        except BadRequestError as error:
            refused: What | None = next((what for what in tries if _NAMES[what].search(str(error))), None)
            if begun or refused is None:
                raise
            log.info("%s refuses %s; asking again without", error.model or provider.name, refused)
        else:
            return
        tries.remove(refused)
        _refusing.add((provider.name, _model(provider, request), refused))


def _form(request: Request, schema: Mapping[str, Any] | None, tries: set[What]) -> Request:
    if "a temperature" in tries:
        request = replace(request, temperature=request.default_temperature)
    if schema is None:
        return request
    return replace(request, output_schema=schema) if "a schema" in tries else instructed(request, schema)


def _takes(provider: Provider, schema: Mapping[str, Any]) -> bool:
    """True if the provider says that its vendor holds answers to this schema; who says nothing does not."""
    takes_schema = getattr(provider, "takes_schema", None)
    return takes_schema is not None and bool(takes_schema(schema))


def _model(provider: Provider, request: Request) -> str | None:
    """Name the model that answers: the request's, or what the provider says it would take."""
    model_for = getattr(provider, "model_for", None)
    return request.model if model_for is None else model_for(request)
