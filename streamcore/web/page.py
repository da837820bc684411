"""Serve the chat page and its files from `assets/`: no inline scripts, nothing from other servers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response

from streamcore.web.guard import SAFE_HEADERS, limited

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CSP,
    **SAFE_HEADERS,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
FILES = (
    "app.js",
    "approval.js",
    "chat.js",
    "icon.svg",
    "markdown.js",
    "messages.js",
    "sse.js",
    "style.css",
    "vendor/marked.js",
    "vendor/purify.js",
)


def page_routes() -> APIRouter:
    """Return the routes `/` and `/assets/...`."""
    routes = APIRouter(include_in_schema=False, route_class=limited(4096))
    root = files("streamcore.web") / "assets"
    contents = {name: root.joinpath(*name.split("/")).read_bytes() for name in ("index.html", *FILES)}
    tags = {name: f'"{hashlib.sha256(content).hexdigest()[:16]}"' for name, content in contents.items()}

    def answer(request: Request, name: str) -> Response:
        headers = {**HEADERS, "ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        kind = TYPES[name.rpartition(".")[2]]
        return Response(contents[name], headers=headers, media_type=f"{kind}; charset=utf-8")

    @routes.get("/")
    async def page(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return answer(request, "index.html")

    @routes.get("/assets/{name:path}")
    async def asset(request: Request, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        if name not in FILES:
            raise HTTPException(404, f"The page has no file {name!r}.")
        return answer(request, name)

    return routes
