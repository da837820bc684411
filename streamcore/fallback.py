"""Define who may answer a request: a provider with its request, and how the entries of `fallback` name one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamcore.errors import ConfigError
from streamcore.provider import Provider, check_provider, get_provider
from streamcore.request import Request


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider, and the request that it gets: the first choice, or an entry of `fallback`."""

    provider: Provider
    request: Request


Fallback = str | Provider | Mapping[str, Any] | Candidate
"""An entry of `fallback`: a provider's name, `name/model`, a ready provider, or a mapping.

The mapping has `provider`, optionally `model`, and settings of the provider, such as `api_key` and `base_url`. An entry
without a model gets the default model of its provider. Entries are asked in order, each after the one before it has
failed before its first content. A `Candidate` is an entry of a prompt that was resolved before.
"""


def fallback_candidate(fallback: Fallback, request: Request, transport: str | None = None) -> Candidate:
    """Return the candidate of one entry of `fallback`: a name, `name/model`, a mapping, or a provider.

    An entry without a model gets the default model of its provider, since another vendor does not know the model of the
    first choice. It gets the transport of the first choice, unless it is a ready provider.

    Raises:
        ConfigError: the entry names no provider.
    """
    if isinstance(fallback, Candidate):
        return replace(fallback, request=replace(request, model=fallback.request.model))
    if isinstance(fallback, str):
        name, _, model = fallback.partition("/")
        return Candidate(get_provider(name, transport=transport), replace(request, model=model or None))
    if isinstance(fallback, Mapping):
        settings: dict[str, Any] = dict(fallback)
        if not {"client", "http_client"} & settings.keys():
            settings.setdefault("transport", transport)
        named: str | Mapping[str, Any] | None = settings.pop("provider", None)
        if not isinstance(named, str | Mapping):
            raise ConfigError(f"an entry of fallback has no 'provider' with a name; its keys are {sorted(fallback)}")
        model = settings.pop("model", None)
        return Candidate(get_provider(named, **settings), replace(request, model=model))
    check_provider(fallback, "an entry of fallback")
    return Candidate(fallback, replace(request, model=None))
