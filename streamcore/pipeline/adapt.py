"""Add a default temperature and a schema to a request, and leave them out for models that refuse them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from streamcore.errors import BadRequestError
from streamcore.provider import Provider
from streamcore.request import Request, with_temperature
from streamcore.structured.output import instructed

log = logging.getLogger("streamcore")

What = Literal["a temperature", "a schema"]

_NAMES: Mapping[What, re.Pattern[str]] = {
    "a temperature": re.compile(r"temperature", re.IGNORECASE),
    "a schema": re.compile(r"schema|response_?format|output_(config|format)|text\.format|structured", re.IGNORECASE),
}
_refusing: set[tuple[str, str | None, What]] = set()
"""What was refused, by provider and model."""


def adapted(provider: Provider, request: Request, schema: Mapping[str, Any] | None) -> tuple[Request, set[What]]:
    """Return the request to send, and what was added to it.

    The default temperature is added where none was set. The schema is added where the vendor enforces it; elsewhere it
    becomes an instruction in the system message. What the request itself sets is sent as it is.
    """
    added: set[What] = set()
    if _takes_default_temperature(request):
        added.add("a temperature")
    if schema is not None and _takes(provider, schema):
        added.add("a schema")
    if added:
        model = _model(provider, request)
        added = {what for what in added if (provider.name, model, what) not in _refusing}
    return _form(request, schema, added), added


def refuses(error: Exception, provider: Provider, request: Request, added: set[What]) -> bool:
    """Return True if a model refuses something that was added, and remember it: it costs one request for each model."""
    if not isinstance(error, BadRequestError):
        return False
    refused: What | None = next((what for what in added if _NAMES[what].search(str(error))), None)
    if refused is None:
        return False
    log.info("%s refuses %s; the request is sent again without it", error.model or provider.name, refused)
    _refusing.add((provider.name, _model(provider, request), refused))
    return True


def _form(request: Request, schema: Mapping[str, Any] | None, tries: set[What]) -> Request:
    if "a temperature" in tries:
        request = with_temperature(request, request.default_temperature)
    if schema is None:
        return request
    return replace(request, output_schema=schema) if "a schema" in tries else instructed(request, schema)


def _takes_default_temperature(request: Request) -> bool:
    """True if nothing sets a temperature, and reasoning, with which vendors refuse one, is not asked for."""
    unset = request.temperature is None and request.reasoning is None and "temperature" not in request.extra
    return unset and request.default_temperature is not None


def _takes(provider: Provider, schema: Mapping[str, Any]) -> bool:
    """Return True if the provider has `takes_schema` and its vendor enforces this schema."""
    takes_schema = getattr(provider, "takes_schema", None)
    return takes_schema is not None and bool(takes_schema(schema))


def _model(provider: Provider, request: Request) -> str | None:
    """Return the model that answers: the request's, or the one that the provider would choose."""
    model_for = getattr(provider, "model_for", None)
    return request.model if model_for is None else model_for(request)
