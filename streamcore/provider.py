"""Define what a provider is, find one by name, and resolve which provider and model answer a call."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeGuard, cast, runtime_checkable
from urllib.parse import urlsplit

from streamcore.chunk import Chunk
from streamcore.errors import ConfigError, MissingAPIKey, ProviderNotFound, ProviderNotInstalled, UnsupportedField
from streamcore.reports.report import Observer
from streamcore.request import Request

if TYPE_CHECKING:
    import httpx2

GROUP = "streamcore.providers"
"""The entry-point group by which providers are found."""
DISTRIBUTION = "streamcore-llm"
"""The name of the distribution that contains this file and the built-in providers."""
DIALECTS = "streamcore.dialects"
"""The entry-point group of the functions that make a provider for a server without a row, given its name."""


@runtime_checkable
class Provider(Protocol):
    """Stream the answer to a request: an adapter over a vendor's SDK, or anything else that makes chunks.

    Optional methods are used where a provider has them: `model_for(request)` names the model that answers, and
    `takes_schema(schema)` is True if the vendor enforces this JSON Schema when `Request.output_schema` has it. Without
    `takes_schema`, the schema is added to the instructions in words. `secrets()`
    lists what no error may show, and the coroutine `warm_up()` loads what the first request needs. An attribute
    `observer` receives the events of all answers of this provider; see the guide "Observing".
    """

    name: str

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Send the request and yield its chunks: a list for each network read, empty if the read completed no chunk.

        A `finish` chunk means that the vendor marked the end; a stream without one was interrupted. Closing the
        generator closes the vendor's response. A provider sets no timeout on reads: `Stream` has clocks.

        Raises:
            ConfigError: this provider cannot express something in the request.
            ProviderError: the vendor refused the request or could not be reached.
            StreamError: the stream broke.
        """
        ...

    async def aclose(self) -> None:
        """Release what this provider alone owns."""
        ...


AnyProvider = str | Mapping[str, Any] | Provider
"""A provider where a call takes one: its name, a mapping of `name` and settings (see `get_provider`), or itself."""


class ProviderSettings(TypedDict, total=False):
    """The settings that every built-in provider takes; `get_provider` documents each one.

    A provider with these settings is written as `def __init__(self, **settings: Unpack[ProviderSettings])`.
    """

    model: str | None
    api_key: str | None
    base_url: str | None
    http_client: httpx2.AsyncClient | None
    client: Any
    headers: Mapping[str, str] | None
    transport: str | None


def check_settings(name: str, settings: Mapping[str, Any], *others: str) -> None:
    """Refuse settings that are neither in `ProviderSettings` nor among `others`; `name` is the provider's.

    Raises:
        ConfigError: a setting is unknown; the message names it.
    """
    known = sorted({*ProviderSettings.__optional_keys__, *others})
    for setting in settings:
        if setting not in known:
            hint = _suggestion(setting, known)
            raise ConfigError(f"provider {name!r} has no setting {setting!r}{hint} Known are: {', '.join(known)}")


def _suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name, with the most similar known one."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(word, names, n=1) or difflib.get_close_matches(word.lower(), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


@dataclass(frozen=True, slots=True)
class Vendor:
    """Describe a provider without importing its SDK."""

    name: str
    sdk: str | None
    """The module of the SDK; None if there is none."""
    install: str | None
    """What `pip install` takes to install the SDK."""
    default_model: str | None = None
    base_url: str | None = None
    """The default base URL; None leaves it to the SDK."""
    needs_key: bool = True
    environment: str = ""
    """The name whose `<NAME>_API_KEY`, `<NAME>_BASE_URL` and `<NAME>_MODEL` are read; "" means `name`."""
    needs_base_url: bool = False
    """True if there is no default base URL, so that the caller or the environment has to give one."""
    substitute: str | None = None
    """The provider of the same models that a race asks if the SDK is not installed."""
    hosts: tuple[str, ...] = ()
    """The domains of the vendor's own servers; empty means the host of `base_url`."""
    more_keys: tuple[str, ...] = ()
    """Further environment variables that may have the API key; `<NAME>_API_KEY` overrides them."""
    package: str = ""
    """The name of the SDK's package; "" means the first part of `sdk`."""
    price_list_id: str = ""
    """The vendor's id in `genai-prices`; "" means `name`."""
    telemetry_name: str = ""
    """The vendor's name in OpenTelemetry's conventions (`gen_ai.provider.name`); "" means `name`."""
    cache_apart: bool = False
    """True if the vendor's count of the prompt's tokens leaves cached tokens out."""

    def source(self, base_url: str | None) -> str:
        """Return the name of the server at an address, as `Opaque.source` has it.

        Opaque data go back to the server that sent them, and two servers may answer under one provider's name.
        """
        return _source(self.name, self.hosts or (_host(self.base_url),), base_url)

    @property
    def family(self) -> str:
        """The name under which the APIs of one vendor share keys and models."""
        return self.environment or self.name

    def variable(self, suffix: str) -> str:
        """Return the name of an environment variable, as in `OPENAI_API_KEY`."""
        return _variable(self.family, suffix)

    def from_environment(self, suffix: str) -> str | None:
        """Return the variable's value, None if it is unset or empty."""
        return os.environ.get(self.variable(suffix)) or None

    def find_key(self) -> str | None:
        """Return the API key in the environment, None if there is none."""
        further = (os.environ.get(name) for name in self.more_keys)
        return self.from_environment("API_KEY") or next(filter(None, further), None)

    @property
    def installed(self) -> bool:
        """True if the SDK can be imported."""
        if self.sdk is None:
            return True
        try:
            return find_spec(self.sdk) is not None
        except ImportError:  # the package that contains the module is missing
            return False

    def require_sdk(self) -> None:
        """Raise unless the SDK can be imported.

        Raises:
            ProviderNotInstalled: the SDK is missing; the message has the command that installs it.
        """
        if not self.installed:
            package = self.package or (self.sdk or "").partition(".")[0]
            raise ProviderNotInstalled(
                f"provider {self.name!r} needs the package {package!r}, which is not installed; "
                f"run: pip install {self.install}"
            )

    def resolve_model(self, request: Request, model: str | None) -> str:
        """Return the model of the request, else `model` (the provider's), else the environment's, else the default.

        Raises:
            ConfigError: none of them names a model.
        """
        found = request.model or model or self.from_environment("MODEL") or self.default_model
        if found is None:
            raise ConfigError(
                f"provider {self.name!r} has no default model; give model= in the call or to get_provider(), "
                f"`model:` in the node, the graph's defaults or the prompt, or set {self.variable('MODEL')}"
            )
        return found

    def missing_key(self) -> MissingAPIKey:
        """Return the error for a missing API key."""
        return MissingAPIKey(
            f"provider {self.name!r} has no API key; set {self.variable('API_KEY')} or give api_key= "
            f"to get_provider({self.name!r}, ...)"
        )

    def unsupported(self, part: str, advice: str, *, field: str = "messages") -> UnsupportedField:
        """Return the error for a part of a request that this vendor's API cannot express.

        `field` is the field of `Request` that has the part.
        """
        return UnsupportedField(f"provider {self.name!r} cannot send {part}; {advice}", field=field)


@lru_cache(maxsize=256)
def _source(name: str, hosts: tuple[str, ...], base_url: str | None) -> str:
    host = _host(base_url)
    if not host or any(host == one or host.endswith(f".{one}") for one in hosts):
        return name
    return f"{name} at {host}"


@cache
def _variable(family: str, suffix: str) -> str:
    return f"{family.upper().replace('-', '_')}_{suffix}"


@lru_cache(maxsize=256)
def _host(url: str | None) -> str:
    return urlsplit(url or "").netloc.rpartition("@")[2].lower()


class Factory(Protocol):
    """Make a provider: the class or function that an entry point of the group `streamcore.providers` names."""

    def __call__(self, **settings: Any) -> Provider:
        """Return a provider with these settings; see `get_provider`."""
        ...


def get_provider(
    name: str | Mapping[str, Any],
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    http_client: httpx2.AsyncClient | None = None,
    client: Any = None,
    headers: Mapping[str, str] | None = None,
    transport: str | None = None,
    observer: Observer | None = None,
    **settings: Any,
) -> Provider:
    """Return the provider with this name.

    Args:
        name: an installed provider (`streamcore providers` lists them), or `module:attribute` for a custom one; with
            `dialect=`, any name for a server that has none. Or a mapping, as prompt files have it: `name` and settings.
        model: the model that answers if a request names none.
        api_key: the vendor's key; defaults to `<NAME>_API_KEY`, or to what else the SDK reads.
        base_url: another server; defaults to `<NAME>_BASE_URL`. Anthropic and Mistral take it without `/v1`, all
            others with it.
        http_client: an `httpx2.AsyncClient` to send through (proxies, custom CAs, tests). The caller closes it; it is
            not shared.
        client: a ready client of the vendor's SDK (Azure, Bedrock, Vertex). The caller closes it; it is not shared.
        headers: additional headers for every request.
        transport: `auto`, `httpx2` or `aiohttp`; defaults to `STREAMCORE_TRANSPORT`, then `auto`: aiohttp where it is
            installed and asyncio runs, else httpx2. See the guide "Transports".
        observer: a function that receives the events of all answers of this provider; see the guide "Observing".
        settings: settings that only this provider has. `dialect="openai-chat"` with a `base_url` makes a provider for
            any server with that API; the guide "Providers" lists its other settings.

    Raises:
        ProviderNotFound: no provider, or no dialect, with this name is installed.
        ProviderNotInstalled: the vendor's SDK is missing.
        ConfigError: the provider does not have one of the settings.
    """
    named: ProviderSettings = {
        "model": model,
        "api_key": api_key,
        "base_url": base_url,
        "http_client": http_client,
        "client": client,
        "headers": headers,
        "transport": transport,
    }
    if not isinstance(name, str):
        if is_provider(name):
            raise ConfigError(f"{name.name!r} is a provider already; use it as it is")
        check_provider(name, "the first argument of get_provider")
        return _from_mapping(name, {**named, "observer": observer, **settings})
    factory = _dialect(name, settings.pop("dialect")) if "dialect" in settings else _factory(name)
    given = {key: value for key, value in {**named, **settings}.items() if value is not None}
    if not callable(factory):
        if given:
            raise ConfigError(f"{name!r} is a ready provider and takes no settings; got {', '.join(given)}")
        return _observed(_checked(name, factory), observer)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        hint = _nothing_is_sent(factory, given)
        raise ConfigError(f"provider {name!r} does not take these settings: {error}{hint}") from error
    return _observed(_checked(name, factory(**given)), observer)


def _observed(provider: Provider, observer: Observer | None) -> Provider:
    """Return the provider, with an observer of all its answers."""
    if observer is not None:
        try:
            provider.observer = observer  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        except AttributeError as error:
            raise ConfigError(
                f"provider {provider.name!r} takes no observer, since its class has no attribute 'observer'; give "
                "observer= to the call, or use observe()"
            ) from error
    return provider


def _nothing_is_sent(factory: object, given: Mapping[str, Any]) -> str:
    """Return the end of an error that explains why `demo` and `replay` take no HTTP client, key or address."""
    known = getattr(factory, "vendor", None)
    without_network = isinstance(known, Vendor) and known.sdk is None
    refused = [key for key in ("api_key", "base_url", "http_client", "client", "headers") if key in given]
    return (
        f"; it sends nothing over a network, so leave out {', '.join(refused)}" if without_network and refused else ""
    )


def _from_mapping(given: Mapping[str, Any], settings: Mapping[str, Any]) -> Provider:
    """Return the provider that a mapping describes; `settings` that are set override it."""
    name: object = given.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError("a provider given as a mapping needs 'name', as in {'name': ..., 'base_url': ...}")
    merged = {**given, **{key: value for key, value in settings.items() if value is not None}}
    del merged["name"]
    return get_provider(name, **merged)


def _dialect(name: str, dialect: str) -> Callable[..., Provider]:
    """Return the function that makes a provider of this name for a server with this dialect."""
    if name in _installed():
        raise ConfigError(f"{name!r} is the name of an installed provider; leave dialect= out, or choose another name")
    known = {point.name: point for point in entry_points(group=DIALECTS)}
    if dialect not in known:
        raise ProviderNotFound(
            f"there is no dialect {dialect!r}{_suggestion(dialect, known)} Known are: {', '.join(sorted(known))}"
        )
    return partial(cast("Callable[..., Provider]", known[dialect].load()), name)


def _checked(name: str, found: object) -> Provider:
    if is_provider(found):
        return found
    raise ConfigError(
        f"{name!r} gives a {type(found).__name__}, which is not a provider: it needs `name`, `stream` and `aclose`; "
        "see the guide 'Providers'"
    )


def is_provider(given: object) -> TypeGuard[Provider]:
    """Return True for an object that has what a provider needs; a class of providers is none."""
    named = isinstance(getattr(given, "name", None), str) and not isinstance(given, type)
    return named and callable(getattr(given, "stream", None)) and callable(getattr(given, "aclose", None))


def check_provider(given: object, argument: str = "provider") -> None:
    """Refuse what is neither the name of a provider, nor a mapping, nor a provider.

    Raises:
        ConfigError: the message names `argument`.
    """
    if isinstance(given, str | Mapping) or is_provider(given):
        return
    if isinstance(given, type):
        raise ConfigError(f"{argument} is a provider's name or a provider, not a class; call it: {given.__name__}(...)")
    raise ConfigError(
        f"{argument} is a provider's name, a mapping of name and settings, or an object with `name`, `stream` and "
        f"`aclose`, not a {type(given).__name__}; see the guide 'Providers'"
    )


_CALL = "provider= in the call"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Name the provider, model and temperature of one source: a call, a node, a graph's defaults, a prompt file."""

    provider: AnyProvider | None = None
    model: str | None = None
    temperature: float | None = None
    source: str = _CALL
    """Where a provider can be given, as an error names it."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The provider, model and temperature that answer a call.

    A `model` of None leaves it to `Vendor.resolve_model` (the provider's, the environment's, the default), and a
    `temperature` of None to `Request.default_temperature`.
    """

    provider: AnyProvider
    model: str | None
    temperature: float | None


def resolve_provider(choices: Sequence[ModelChoice], what: str) -> ResolvedModel:
    """Resolve which provider, model and temperature answer: the first of `choices` that names one overrides the rest.

    After `choices` comes the environment: `STREAMCORE_PROVIDER`, then `PROVIDER`. A model belongs to the provider
    that its own source names, or else to the next one that a later source names. It is ignored if a vendor with other
    models was chosen.

    Args:
        choices: the sources, the one that overrides all others first: call, node, graph defaults, prompt file.
        what: what needs a provider, as the error names it.

    Raises:
        ConfigError: no source names a provider; the message lists every source.
        ProviderNotFound: there is no such provider; the message has the source.
    """
    chosen = next((choice for choice in choices if choice.provider), None)
    provider = environment_provider() if chosen is None else chosen.provider
    if provider is None:
        sources = ", ".join(choice.source for choice in choices)
        raise ConfigError(
            f"no provider for {what}; give {sources}, or set STREAMCORE_PROVIDER or PROVIDER. The provider 'demo' "
            "needs no key and no network"
        )
    _check_name(provider, "in the environment" if chosen is None else chosen.source)
    model: str | None = None
    for number, choice in enumerate(choices):
        owner = _first_provider(choices[number:])
        if choice.model and (owner is None or owner is provider or _family(owner) == _family(provider)):
            model = choice.model
            break
    temperature = next((one.temperature for one in choices if one.temperature is not None), None)
    return ResolvedModel(provider, model, temperature)


def _check_name(provider: AnyProvider, source: str) -> None:
    """Raise ProviderNotFound, with the source of the name, for a name that no provider has."""
    if isinstance(provider, str) and ":" not in provider and provider not in _built_in():
        _factory(provider, "" if source == _CALL else f" ({source})")


def _first_provider(choices: Sequence[ModelChoice]) -> AnyProvider | None:
    return next((choice.provider for choice in choices if choice.provider), None)


def environment_provider() -> str | None:
    """Return the provider that the environment names, None if it names none."""
    return os.environ.get("STREAMCORE_PROVIDER") or os.environ.get("PROVIDER") or None


def provider_name(provider: AnyProvider) -> str:
    """Return the name of a provider, however a call gives it."""
    if isinstance(provider, Mapping):
        return str(provider.get("name"))
    check_provider(provider)
    return provider if isinstance(provider, str) else provider.name


def _family(provider: AnyProvider) -> str:
    """Return the name under which a vendor's providers share keys and models; both APIs of OpenAI have one."""
    name = provider_name(provider)
    known = vendor(name) if name in _installed() else None
    return name if known is None else known.family


def provider_problem(provider: AnyProvider | None) -> str | None:
    """Return what is wrong with a provider that a file names, None if nothing is.

    SDK, key and address may be missing here: another machine may run the file.
    """
    try:
        if isinstance(provider, str):
            _factory(provider)
        elif isinstance(provider, Mapping):  # an address may be in the environment of the machine that runs the file
            get_provider({"base_url": "http://localhost", **provider} if "dialect" in provider else provider)
    except ProviderNotInstalled:
        return None
    except ConfigError as error:
        return str(error)
    return None


def provider_names() -> list[str]:
    """Return the names of all installed providers, in alphabetical order."""
    return sorted(_installed())


def vendor(name: str) -> Vendor | None:
    """Return the description of a provider, which needs no SDK; None if it has none."""
    found = getattr(_factory(name), "vendor", None)
    return found if isinstance(found, Vendor) else None


@cache
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def _built_in() -> dict[str, EntryPoint]:
    """Return the providers of this distribution: reading the entry points of all others takes as long as an import."""
    try:
        points = distribution(DISTRIBUTION).entry_points
    except PackageNotFoundError:  # this is a checkout that is not installed
        return {}
    return {point.name: point for point in points if point.group == GROUP}


def _factory(name: str, where: str = "") -> Callable[..., Provider]:
    point = _built_in().get(name) or _installed().get(name)
    if point is not None:
        return cast("Callable[..., Provider]", point.load())
    if ":" in name:
        return _imported(name)
    head, slash, model = name.partition("/")
    if slash and head in _installed():
        raise ProviderNotFound(
            f"there is no provider {name!r}{where}; name the model apart, as in provider={head!r} and model={model!r}, "
            f"or Request(..., model={model!r})"
        )
    suggestion = _suggestion(name, _installed())
    own = (
        ". Give a custom provider as 'module:attribute', and a server that has none as any name with "
        "dialect='openai-chat' and base_url="
    )
    raise ProviderNotFound(
        f"there is no provider {name!r}{where}{suggestion} Installed are: {', '.join(provider_names())}"
        f"{own if suggestion == '.' else ''}"
    )


def _imported(name: str) -> Callable[..., Provider]:
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ProviderNotFound(f"provider {name!r} cannot be loaded: {error}") from error
    return cast("Callable[..., Provider]", found)
