"""Replace secrets in texts: keys that are known by value, in every encoding, and what has the shape of a known key.

Vendors, gateways and proxies echo what they were sent: in an error's text, a status line, a header line, a chunk size.
Every text of an error passes through `redact`. Its time is linear in the length of the text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, cast
from urllib.parse import quote, quote_plus

MARK = "[secret]"

_SHORTEST_PART = 12
"""How many of a key's first characters are a secret, where a text was cut inside the key."""
_LONGEST_KEPT = 1000
"""How many characters a secret has at most whose forms are kept for the next answer."""
_SHORT_TEXT = 512
"""A text of at most so many bytes is first searched for all secrets at once: an id or a name, in every answer."""
_DEEPEST = 64
"""How many levels of a JSON value are kept."""

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_SHAPES = rb"""
    -----BEGIN[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY-----(?:(?!-----END)[\s\S])*(?:-----END[ A-Z0-9]{0,50}-----)?
    | (?<![A-Za-z0-9]) (?:
        (?:sk|pk|rk)[-_][A-Za-z0-9_\-]{12,}
        | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}
        | AIza[A-Za-z0-9_\-]{20,} | ya29\.[A-Za-z0-9_\-]{16,} | GOCSPX-[A-Za-z0-9_\-]{16,}
        | (?:xox[a-z]|xapp)-[A-Za-z0-9\-]{8,}
        | gh[a-z]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{16,} | glpat-[A-Za-z0-9_\-]{16,}
        | (?:hf|gsk|r8|npm|whsec|tgp_v1|dop_v1|lsv2)_[A-Za-z0-9_\-]{16,}
        | (?:xai|pplx|nvapi|csk|pypi|fw|key|tvly)-[A-Za-z0-9_\-]{20,}
        | SG\.[A-Za-z0-9_\-]{12,}\.[A-Za-z0-9_\-]{12,}
    )
    | (?<![A-Za-z0-9_\-]) eyJ[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]{6,}(?:\.[A-Za-z0-9_\-]*)?
    | (?<=://) [^\s/@"'<>\[\]\\]{3,400} (?=@)
    """
"""What is a key at any place."""

_LABELLED = rb"""
    (?:
        (?<![a-z0-9]) (?:bearer|basic) (?:\s|%20|\\u0020|\+){1,4}
        | [?&;] [a-z0-9_\-.]{0,40} (?:key|token|secret|signature|sig|auth|password|passwd|credential) =
        | (?:api[-_]?key|authorization|access[-_]?key|access[-_]?token|auth[-_]?token|client[-_]?secret
            |secret[-_]?key|account[-_]?key|security[-_]?token|password|passwd) \\?["']? \s{0,3} [:=] \s{0,3} \\?["']?
    )
    ([^\s"'`,;&<>(){}\[\]\\]{8,})
    """
"""What is a key after such a label, if it looks like one."""
_LABELS = rb"[:=]|[Bb][EeAa][AaSs]"
"""What every match of `_LABELLED` has; the ids and names of an answer mostly have none of it."""
_NO_WORD = re.compile(rb"[0-9=]|[a-z][A-Z]|.{24}", re.DOTALL)

Replace = Callable[[bytes], bytes]


def secret_forms(secrets: Iterable[str | None]) -> tuple[bytes, ...]:
    """Return secrets in lower case, as they are and as URLs, JSON, HTML, Python and Base64 write them.

    The longest comes first.
    """
    stripped = {secret.strip() for secret in secrets if secret and not secret.isspace()}
    lowered: set[bytes] = set()
    for secret in stripped:
        lowered |= _kept_forms(secret) if len(secret) <= _LONGEST_KEPT else _forms(secret)
    return tuple(sorted(lowered, key=len, reverse=True))


def _forms(secret: str) -> frozenset[bytes]:
    """Return the forms of one secret."""
    quoted = quote(secret, safe="", errors="surrogatepass")
    written = json.dumps(secret)[1:-1]
    data = secret.encode("utf-8", "surrogatepass")
    plus, path = quote_plus(secret, errors="surrogatepass"), quote(secret, errors="surrogatepass")
    forms = {secret, quoted, plus, path, quote(quoted, safe=""), secret.translate(_HTML)}
    forms |= {written, written.replace("/", "\\/"), repr(secret)[1:-1], json.dumps(written)[1:-1]}
    forms |= {encode(data).decode("ascii").rstrip("=") for encode in (base64.b64encode, base64.urlsafe_b64encode)}
    return frozenset(form.encode("utf-8", "surrogatepass").lower() for form in forms)


_kept_forms = lru_cache(maxsize=128)(
    _forms
)  # each request has the same few secrets, and its answer is searched for them


def redact(text: str, secrets: Iterable[str | None] = ()) -> str:
    """Replace every secret in a text by `[secret]`."""
    return redact_text(text, secret_forms(secrets))


def redact_text(text: str, forms: tuple[bytes, ...]) -> str:
    """Replace every secret in a text by `[secret]`; `forms` is the result of `secret_forms`.

    Half of a surrogate pair becomes U+FFFD, so that every log and terminal can write the text.
    """
    data = text.encode("utf-8", "surrogatepass")
    clean = redact_bytes(data, forms)
    return encodable(text if clean is data else clean.decode("utf-8", "surrogatepass"))


def redact_bytes(data: bytes, forms: tuple[bytes, ...], replace: Replace = lambda _: MARK.encode()) -> bytes:
    """Replace every secret in bytes by what `replace` returns for it; `forms` is the result of `secret_forms`."""
    spans = sorted([*_values(data, forms), *_shapes(data)])
    if not spans:
        return data
    parts: list[bytes] = []
    done, start, end = 0, *spans[0]
    for begin, stop in [*spans[1:], (len(data) + 1, 0)]:
        if begin <= end:
            end = max(end, stop)
            continue
        parts += [data[done:start], replace(data[start:end])]
        done, start, end = end, begin, stop
    return b"".join([*parts, data[done:]])


def _values(data: bytes, forms: tuple[bytes, ...]) -> Iterable[tuple[int, int]]:
    """Yield where the known secrets are, whole or cut."""
    low = data.lower()
    if not forms or (len(data) <= _SHORT_TEXT and not _any_of(forms).search(low)):
        return
    for form in forms:
        head = _head(form)
        at = low.find(head)
        while at >= 0:
            end = at + len(form) if low.startswith(form, at) else at + _common(low, at, form)
            yield at, end
            at = low.find(head, end)


@lru_cache(maxsize=128)
def _any_of(forms: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Return a pattern that finds the beginning of any of these secrets: one search instead of one for each."""
    return re.compile(b"|".join(re.escape(_head(form)) for form in forms))


def _head(form: bytes) -> bytes:
    """Return the beginning of a secret that is a secret, too."""
    return form[:_SHORTEST_PART] if len(form) > _SHORTEST_PART + 2 else form


def _common(data: bytes, at: int, form: bytes) -> int:
    """Return how many bytes of `data` from `at` on are those of `form`."""
    length = 0
    for left, right in zip(data[at : at + len(form)], form, strict=False):
        if left != right:
            break
        length += 1
    return length


def _shapes(data: bytes) -> Iterable[tuple[int, int]]:
    """Yield where something with the shape of a key is."""
    shapes, labels, labelled = _patterns()
    for match in shapes.finditer(data):
        yield match.span()
    if len(data) <= _SHORT_TEXT and not labels.search(data):
        return
    for match in labelled.finditer(data):
        if _NO_WORD.search(match[1]):
            yield match.span(1)


@cache
def _patterns() -> tuple[re.Pattern[bytes], re.Pattern[bytes], re.Pattern[bytes]]:
    """Compile the patterns with the first error: that takes milliseconds, which a first answer need not wait for."""
    return (
        re.compile(_SHAPES, re.VERBOSE),
        re.compile(_LABELS),
        re.compile(_LABELLED, re.VERBOSE | re.IGNORECASE),
    )


def redact_json(value: Any, forms: tuple[bytes, ...], levels: int = _DEEPEST) -> Any:
    """Replace every secret in the texts and keys of a JSON value; what is nested too deeply is left out."""
    if isinstance(value, str):
        return redact_text(value, forms)
    if isinstance(value, bytes):
        return redact_bytes(value, forms)
    if isinstance(value, Mapping | list | tuple) and levels == 0:
        return "[nested too deeply]"
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()  # type: ignore[redundant-cast]  # pyright needs it
        return {redact_json(key, forms, 0): redact_json(item, forms, levels - 1) for key, item in pairs}
    if isinstance(value, list | tuple):
        items = [redact_json(item, forms, levels - 1) for item in cast("list[Any]", value)]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def encodable(text: str) -> str:
    """Return the text with U+FFFD for each lone half of a surrogate pair, which no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
