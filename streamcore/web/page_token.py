"""Give pages of the service a token, which proves that a GET request comes from one of them.

`GET /token` returns the token and sets it as a cookie. A page of another site can neither read the response nor make a
browser send a `SameSite=Strict` cookie, so a request that has the token in both is from a page of this origin. Browsers
send no `Sec-Fetch-Site` to a service on plain HTTP, where the token is the only proof. Nothing is stored, so that every
worker accepts every worker's token.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from fastapi import Query, Request, Response

from streamcore.web.models import PageToken

_GRAMMAR = re.compile(r"[A-Za-z0-9_-]{43}")

InToken = Annotated[
    str | None,
    Query(description="The token of GET /token, with which pages of this service may start a run by GET."),
]


async def page_token(request: Request, response: Response) -> PageToken:
    """Return a token for pages of this service, and set it as a cookie; `GET /stream?prompt=...&token=` needs it."""
    token = _cookie(request) or secrets.token_urlsafe(32)  # all tabs of a browser have the same
    response.set_cookie(_name(request), token, secure=_is_https(request), httponly=True, samesite="strict", path="/")
    return PageToken(token=token)


def remember_token(request: Request, token: InToken = None) -> None:
    """Store the token that a request names, for `has_token`."""
    request.state.page_token = token


def has_token(request: Request) -> bool:
    """Return whether a request has the same token in its query and its cookie."""
    token: str | None = getattr(request.state, "page_token", None)
    cookie = _cookie(request)
    return token is not None and cookie is not None and secrets.compare_digest(token.encode(), cookie.encode())


def _cookie(request: Request) -> str | None:
    cookie = request.cookies.get(_name(request), "")
    return cookie if _GRAMMAR.fullmatch(cookie) else None


def _name(request: Request) -> str:
    """Return the cookie's name; with the prefix, no other host of the domain can set it."""
    return "__Host-streamcore-page" if _is_https(request) else "streamcore-page"


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https"
