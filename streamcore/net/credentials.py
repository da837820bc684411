"""Find the credentials in an HTTP request, and remove them from errors: vendors echo keys in their answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamcore.errors import ProviderError, StreamcoreError, scrub, scrub_json

if TYPE_CHECKING:
    import httpx2

_SECRET_HEADER = re.compile("auth|key|token|secret|cookie")
_SHORTEST_SECRET = 8
"""A shorter value is a placeholder, often a word that messages use."""


def credentials(request: httpx2.Request) -> list[str]:
    """Return the keys and tokens in a request's headers, whoever set them, the longest first."""
    values = [value for name, value in request.headers.items() if _SECRET_HEADER.search(name)]
    parts = {part for value in values for part in (value, value.rpartition(" ")[2])}
    return sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True)


def scrub_error(error: StreamcoreError, secrets: list[str]) -> None:
    """Replace secrets in the texts of an error."""
    if isinstance(error, ProviderError):
        error.message = scrub(error.message, secrets)
        error.code = error.code and scrub(error.code, secrets)
        error.body = scrub_json(error.body, secrets)
    error.args = tuple(scrub(part, secrets) if isinstance(part, str) else part for part in error.args)


def cause_without_secrets(error: Exception, secrets: list[str]) -> Exception | None:
    """Return the error to chain as a cause, or None if its traceback would print a secret."""
    link: BaseException | None = error
    while link is not None:
        if scrub(str(link), secrets) != str(link):
            return None
        link = link.__cause__ or link.__context__
    return error
