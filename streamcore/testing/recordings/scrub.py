"""Replace keys in recorded exchanges with a mark of the same length, so that lengths and read boundaries stay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import httpx2

from streamcore.base.redact import redact_bytes, secret_forms
from streamcore.net.credentials import credentials
from streamcore.testing.recordings.exchange import Read, is_array, is_object

_PRIVATE_HEADER = re.compile("cookie|auth|organization|account|project|api-key")
_MARK = b"SCRUBBED"


def secrets_of(request: httpx2.Request) -> set[str]:
    """Return everything that a request carries as a key."""
    return set(credentials(request))


def _masked(secret: bytes) -> bytes:
    return _MARK.ljust(len(secret), b"-")


def scrub_text(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret replaced by a mark of the same length, also what has the shape of a key."""
    return scrub_bytes(text.encode("utf-8", "surrogatepass"), secrets).decode("utf-8", "surrogatepass")


def scrub_bytes(data: bytes, secrets: Iterable[str]) -> bytes:
    """Return bytes with every secret replaced by a mark of the same length, also what has the shape of a key."""
    return redact_bytes(data, secret_forms(secrets), _masked)


def scrub_json(value: Any, secrets: Sequence[str]) -> Any:
    """Return a JSON value without secrets in its texts and keys."""
    if isinstance(value, str):
        return scrub_text(value, secrets)
    if is_object(value):
        return {scrub_text(key, secrets): scrub_json(inner, secrets) for key, inner in value.items()}
    if is_array(value):
        return [scrub_json(inner, secrets) for inner in value]
    return value


def scrub_url(url: httpx2.URL, secrets: Sequence[str]) -> str:
    """Return an address without user, password, fragment and secrets."""
    plain = url.copy_with(userinfo=b"", fragment=None)
    return scrub_text(str(plain), secrets)


def scrub_headers(headers: Iterable[tuple[bytes, bytes]], secrets: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return a response's headers without secrets, cookies and what names an account; names in lower case."""
    kept = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    return tuple((name, scrub_text(value, secrets)) for name, value in kept if not _PRIVATE_HEADER.search(name))


def plain_body(
    headers: Sequence[tuple[bytes, bytes]], reads: Sequence[Read], secrets: Sequence[str]
) -> tuple[Sequence[tuple[bytes, bytes]], tuple[Read, ...]]:
    """Return a response's headers and its reads without secrets.

    A body that arrived compressed without being asked for so is kept as it is, unless a secret is in it: then it is
    kept unpacked, as one read at the time of the last, without the headers that describe the packing.
    """
    body = b"".join(read.data for read in reads)
    unpacked = _unpacked(headers, body)
    if unpacked is not None and scrub_bytes(unpacked, secrets) != unpacked:
        kept = [item for item in headers if item[0].lower() not in (b"content-encoding", b"content-length")]
        return kept, (Read(reads[-1].at, scrub_bytes(unpacked, secrets)),)
    body = scrub_bytes(body, secrets)
    edges, position = list[Read](), 0
    for read in reads:
        edges.append(Read(read.at, body[position : position + len(read.data)]))
        position += len(read.data)
    return headers, tuple(edges)


def _unpacked(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes | None:
    """Return the content of a compressed body, as far as it can be unpacked; None if it is not compressed."""
    if not any(name.lower() == b"content-encoding" for name, _ in headers):
        return None
    found = b""
    try:
        for piece in httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(body)).iter_bytes():
            found += piece
    except httpx2.DecodingError:
        pass
    return found
