"""Define what a provider is, and find one by its name among those that are installed."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from streamcore.chunk import Chunk
from streamcore.errors import ConfigError, MissingAPIKey, ProviderNotFound, ProviderNotInstalled
from streamcore.request import Request

if TYPE_CHECKING:
    import httpx2

GROUP = "streamcore.providers"
"""The entry-point group by which providers are found."""


@runtime_checkable
class Provider(Protocol):
    """What streams a request: an adapter over a vendor's SDK, or anything else that makes chunks.

    Two more methods are used where a provider has them: `model_for(request)` names the model that answers, and
    `takes_schema(schema)` says whether the vendor holds answers to this JSON Schema if `Request.output_schema` has it;
    without, the model is told the schema in words.
    """

    name: str

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Send the request and yield its chunks, a list for each network read (an empty one says: bytes came).

        A `finish` chunk says that the vendor marked the end; a stream without one was interrupted. Closing the
        generator closes the vendor's response. How long a read may take is not its matter: `Stream` has clocks.

        Raises:
            ConfigError: the request holds something that this provider cannot say.
            ProviderError: the vendor refused it or could not be reached.
            StreamError: the stream broke.
        """
        ...

    async def aclose(self) -> None:
        """Release what this provider alone owns."""
        ...


@dataclass(frozen=True, slots=True)
class Vendor:
    """Say what can be known of a provider before its SDK is imported."""

    name: str
    sdk: str | None
    """The module of the SDK, None if there is none."""
    install: str | None
    """The distribution that brings it."""
    default_model: str | None = None
    base_url: str | None = None
    """Where it is reached if nothing else is said; None leaves it to the SDK."""
    needs_key: bool = True
    settings: str = ""
    """The name whose `<NAME>_API_KEY`, `<NAME>_BASE_URL` and `<NAME>_MODEL` count; "" is the provider's own."""

    def variable(self, what: str) -> str:
        """Return the name of an environment variable, as in `OPENAI_API_KEY`."""
        return f"{(self.settings or self.name).upper().replace('-', '_')}_{what}"

    def from_environment(self, what: str) -> str | None:
        """Return the variable's value, None if it is unset or empty."""
        return os.environ.get(self.variable(what)) or None

    def seen(self) -> tuple[str | None, str | None]:
        """Return the key and the address that the environment has."""
        return self.from_environment("API_KEY"), self.from_environment("BASE_URL")

    @property
    def installed(self) -> bool:
        """True if the SDK can be imported."""
        if self.sdk is None:
            return True
        try:
            return find_spec(self.sdk) is not None
        except ImportError:  # what the module is in is not there
            return False

    def require_sdk(self) -> None:
        """Raise unless the SDK can be imported.

        Raises:
            ProviderNotInstalled: with the command that installs it.
        """
        if not self.installed:
            raise ProviderNotInstalled(
                f"provider {self.name!r} needs the package {self.install!r}, which is not installed; "
                f"run: pip install {self.install}"
            )

    def resolve_model(self, request: Request, model: str | None) -> str:
        """Return the model of the request, else of the provider, else of the environment, else the default.

        Raises:
            ConfigError: none of them names one.
        """
        found = request.model or model or self.from_environment("MODEL") or self.default_model
        if found is None:
            raise ConfigError(
                f"provider {self.name!r} has no default model; give model= in the call or to get_provider(), "
                f"`model:` in the prompt, or set {self.variable('MODEL')}"
            )
        return found

    def missing_key(self) -> MissingAPIKey:
        """Return the error for a key that is nowhere."""
        return MissingAPIKey(
            f"provider {self.name!r} has no API key; set {self.variable('API_KEY')} or give api_key= "
            f"to get_provider({self.name!r}, ...)"
        )

    def unsupported(self, what: str, instead: str) -> ConfigError:
        """Return the error for a part of a request that this vendor's API has no word for."""
        return ConfigError(f"provider {self.name!r} cannot send {what}; {instead}")


class Factory(Protocol):
    """What an entry point of the group `streamcore.providers` names: a class or function that makes a provider."""

    def __call__(self, **settings: Any) -> Provider:
        """Make a provider of the settings that were given; see `get_provider`."""
        ...


def get_provider(
    name: str,
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    http_client: httpx2.AsyncClient | None = None,
    client: Any = None,
    headers: Mapping[str, str] | None = None,
    transport: str | None = None,
    **settings: Any,
) -> Provider:
    """Return the provider of that name.

    Args:
        name: an installed provider (`streamcore providers` lists them), or `module:attribute` for one's own.
        model: the model to ask when a request names none.
        api_key: the vendor's key; without it, the SDK looks where it always does.
        base_url: another server. Anthropic and Mistral want it without `/v1`, all others with it.
        http_client: an `httpx2.AsyncClient` to send through (proxies, custom CAs, tests). It stays the caller's:
            it is neither shared nor closed here.
        client: a ready client of the vendor's SDK (Azure, Bedrock, Vertex). It stays the caller's, too.
        headers: more headers for every request.
        transport: what to send over, `httpx2` or `aiohttp`, see docs/transport.md; else `STREAMCORE_TRANSPORT` says it.
        settings: what this provider alone understands.

    Raises:
        ProviderNotFound: nothing of that name is installed.
        ProviderNotInstalled: the vendor's SDK is missing.
        ConfigError: the provider does not know one of the settings.
    """
    factory = _factory(name)
    given: dict[str, Any] = {
        "model": model,
        "api_key": api_key,
        "base_url": base_url,
        "http_client": http_client,
        "client": client,
        "headers": headers,
        "transport": transport,
        **settings,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if not callable(factory):
        if given:
            raise ConfigError(f"{name!r} is a ready provider and takes no settings; got {', '.join(given)}")
        return _checked(name, factory)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise ConfigError(f"provider {name!r} does not take these settings: {error}") from error
    return _checked(name, factory(**given))


def _checked(name: str, found: object) -> Provider:
    if isinstance(found, Provider) and isinstance(getattr(found, "name", None), str):
        return found
    raise ConfigError(
        f"{name!r} gives a {type(found).__name__}, which is no provider: it needs `name`, `stream` and `aclose`; "
        "see docs/providers.md"
    )


def provider_names() -> list[str]:
    """Return the names of all installed providers, in alphabetical order."""
    return sorted(_installed())


def vendor(name: str) -> Vendor | None:
    """Return what a provider says of itself without its SDK; None if it says nothing."""
    found = getattr(_factory(name), "vendor", None)
    return found if isinstance(found, Vendor) else None


@cache
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _factory(name: str) -> Callable[..., Provider]:
    point = _installed().get(name)
    if point is not None:
        return cast("Callable[..., Provider]", point.load())
    if ":" in name:
        return _own(name)
    near = difflib.get_close_matches(name, _installed(), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ProviderNotFound(
        f"there is no provider {name!r}; {hint}installed are: {', '.join(provider_names())}. "
        "For one of your own, give 'module:attribute'"
    )


def _own(name: str) -> Callable[..., Provider]:
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ProviderNotFound(f"provider {name!r} cannot be loaded: {error}") from error
    return cast("Callable[..., Provider]", found)
