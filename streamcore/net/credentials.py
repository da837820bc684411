"""Find the credentials of a request, its client and its proxies, and remove them from everything that an error shows.

Vendors, gateways and proxies echo keys in their answers. Which header has a key is not known: every value that the
caller set counts, and every header of a request whose value is not public.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import getproxies

from streamcore.base.redact import redact, redact_bytes, redact_json, redact_text, secret_forms
from streamcore.errors import ProviderError

if TYPE_CHECKING:
    import httpx2

    from streamcore.chunk import Chunk
    from streamcore.completion import Completion
    from streamcore.provider import Provider

_PUBLIC_HEADER = re.compile(
    "accept(-.*)?|connection|content-(type|length|encoding)|host|user-agent|transfer-encoding|date|expect|te|.*-referer"
    "|referer|x-title|x-stainless-.*|.*-version|.*-beta|.*-browser-access|traceparent|tracestate|(x-)?request-id"
)
"""Headers whose values SDKs set, and messages may name."""
_SCHEME = re.compile(r"[A-Za-z][\w-]*\s+(\S+)\s*")
_PAIR = re.compile(r"=\s*\"?([^\s;,&\"]+)")
SHORTEST_SECRET = 8
"""A shorter value is a placeholder, often a word that messages use."""
_SHORTEST_PASSWORD = 5
_VENDORS_WORDS = ("id", "model", "request_id", "served_by", "service_tier", "raw_finish_reason")
"""Fields of an answer that are no part of it, but names and ids that the vendor chose."""


def credentials(request: httpx2.Request) -> Sequence[str]:
    """Return the secrets in a request's headers and URL, set by the SDK or the caller; the longest first."""
    names, values = zip(*request.headers.raw, strict=True) if request.headers else ((), ())
    return _kept_credentials(str(request.url), *compress(values, map(_is_private_name, names)))


@lru_cache(maxsize=128)
def _kept_credentials(url: str, *private: bytes) -> tuple[str, ...]:
    """Return the secrets in a URL and in the values of headers; the requests of a service have the same few."""
    parts = {part for value in private for part in _parts(_text(value)) if len(part) >= SHORTEST_SECRET}
    return tuple(sorted(parts | url_secrets(url), key=len, reverse=True))


def _text(value: bytes) -> str:
    """Return the value of a header as a text, as httpx2 decodes it."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


@lru_cache(maxsize=256)
def _is_public(name: str) -> bool:
    return _PUBLIC_HEADER.fullmatch(name.lower()) is not None


@lru_cache(maxsize=256)
def _is_private_name(name: bytes) -> bool:
    return not _is_public(name.decode("latin-1"))


def clean_start(chunks: list[Chunk], secrets: Sequence[str]) -> bool:
    """Remove secrets of the request from the `start` chunk, if it is among these; return whether it is.

    A vendor may repeat a key as the id or the model of its answer, and send them late.
    """
    for number, chunk in enumerate(chunks):
        if chunk.kind == "start":
            forms = secret_forms(secrets)
            given = (chunk.id, chunk.model, chunk.request_id)
            together = "\n".join(filter(None, given))  # nearly always without a secret, so they are searched at once
            if redact_text(together, forms) != together:
                names = [name and redact_text(name, forms) for name in given]
                chunks[number] = replace(chunk, id=names[0], model=names[1], request_id=names[2])
            return True
    return False


def header_secrets(headers: Mapping[str, str], *, all_names: bool = False) -> set[str]:
    """Return the values that are no public ones, and the parts that are keys: of Bearer, Basic, cookies.

    Args:
        headers: names and values.
        all_names: count every name; for headers that the caller gave.
    """
    found: set[str] = set()
    for name, value in headers.items():
        if all_names or not _is_public(name):
            found |= _parts(value)
    return {value for value in found if len(value) >= SHORTEST_SECRET}


def _parts(value: str) -> set[str]:
    found = {value}
    scheme = _SCHEME.fullmatch(value)
    if scheme is not None:
        found.add(scheme[1])
        with suppress(binascii.Error, ValueError):
            user, _, password = base64.b64decode(scheme[1], validate=True).decode("utf-8").partition(":")
            found |= {user, password, f"{user}:{password}"}
    return found | set(_PAIR.findall(value))


def url_secrets(url: str | None) -> set[str]:
    """Return the credentials and the query values of a URL, as they are written and as they are meant."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return set()
    user, mark, password = parts.netloc.rpartition("@")[0].partition(":")
    found = {user, unquote(user), *(value for _, value in parse_qsl(parts.query))}
    found = {value for value in found if len(value) >= SHORTEST_SECRET}
    if mark:
        found |= {text for text in (password, unquote(password)) if len(text) >= _SHORTEST_PASSWORD}
        plain = f"{unquote(user)}:{unquote(password)}"
        found.add(base64.b64encode(plain.encode("utf-8", "surrogatepass")).decode())
    return found


def proxy_secrets() -> set[str]:
    """Return the credentials of the environment's proxies."""
    return {secret for url in getproxies().values() for secret in url_secrets(url if "://" in url else f"http://{url}")}


def scrub_error(error: BaseException, secrets: Iterable[str | None] = ()) -> None:
    """Replace secrets in every text of an error, its causes, its context, its notes and, of a group, its members.

    Errors of other libraries are changed, too, since a traceback prints them. One whose text does not change is
    unchained.
    """
    forms = secret_forms(secrets)
    seen, waiting = {id(error)}, [error]
    while waiting:
        link = waiting.pop()
        _scrub_one(link, forms)
        suppressed = link.__suppress_context__
        for name in ("__cause__", "__context__"):
            inner: BaseException | None = getattr(link, name)
            if inner is None or id(inner) in seen:
                continue
            _scrub_one(inner, forms)
            if _shows(inner, forms):
                setattr(link, name, None)
                continue
            seen.add(id(inner))
            waiting.append(inner)
        link.__suppress_context__ = suppressed
        if isinstance(link, BaseExceptionGroup):
            members = cast("tuple[BaseException, ...]", link.exceptions)  # pyright: ignore[reportUnknownMemberType]
            waiting += [inner for inner in members if id(inner) not in seen]
            seen.update(map(id, members))


def _scrub_one(error: BaseException, forms: tuple[bytes, ...]) -> None:
    """Replace secrets in the texts that one error has as arguments and attributes."""
    with suppress(AttributeError, TypeError):
        error.args = redact_json(error.args, forms)
    for name, value in list(vars(error).items()):
        if isinstance(value, str) or name in ("body", "__notes__"):
            with suppress(AttributeError, TypeError):
                setattr(error, name, redact_json(value, forms))


def _shows(error: BaseException, forms: tuple[bytes, ...]) -> bool:
    """Return whether the text of an error has a secret all the same."""
    shown = f"{error}\n{error!r}".encode("utf-8", "surrogatepass")
    return redact_bytes(shown, forms) is not shown


def clean_partial(provider: Provider, partial: Completion) -> Completion:
    """Return the answer of an error without secrets in its ids and in the names that the vendor gave."""
    forms = secret_forms(_known(provider))
    values: dict[str, Any] = {name: getattr(partial, name) for name in _VENDORS_WORDS}
    clean: dict[str, Any] = {name: value and redact_text(value, forms) for name, value in values.items()}
    return partial if clean == values else replace(partial, **clean)


def _known(provider: Provider) -> list[str]:
    known: Callable[[], Iterable[str]] | None = getattr(provider, "secrets", None)
    return list(known()) if known is not None else []


def scrub_attempt(provider: Provider, model: str | None, error: BaseException | None) -> str | None:
    """Complete the error of an attempt with provider and model, and replace all secrets; return the model's name.

    `model` may be the vendor's word, so it is scrubbed, too. The provider's optional method `secrets()` returns what it
    knows by value.
    """
    if isinstance(error, ProviderError):
        error.provider = error.provider or provider.name
        error.model = error.model or model
        model = model or error.model
    secrets = _known(provider) if error is not None else []
    if error is not None:
        scrub_error(error, secrets)
    if error is None:
        return model and _clean_name(model)
    return model and redact(model, secrets)


@lru_cache(maxsize=128)
def _clean_name(model: str) -> str:
    """Return a model's name without what has the shape of a key."""
    return redact(model)
