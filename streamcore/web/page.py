"""Serve the chat page and its files from `assets/`: no inline scripts, nothing from other servers."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from streamcore.web.guard import SAFE_HEADERS, limited
from streamcore.web.page_options import LOGO_TYPES, PageOptions

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "
)
HEADERS: Mapping[str, str] = {
    **SAFE_HEADERS,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "woff2": "font/woff2",
}
COMPRESSED = ("js", "css", "svg", "html")


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, ready to be sent."""

    content: bytes
    zipped: bytes
    """The content in gzip; empty for a type that is compressed already."""
    tag: str
    kind: str

    @classmethod
    def of(cls, content: bytes, suffix: str, kind: str) -> _File:
        zipped = gzip.compress(content, mtime=0) if suffix in COMPRESSED else b""
        return cls(content, zipped, f'"{hashlib.sha256(content).hexdigest()[:16]}"', kind)


def page_routes(options: PageOptions, *, asks_key: bool) -> APIRouter:
    """Return the routes `/` and `/assets/...`; `asks_key`: users sign in with a key."""
    routes = APIRouter(include_in_schema=False, route_class=limited(4096))
    served = _files(options, asks_key=asks_key)
    csp = CSP + (" ".join(options.frame_ancestors) or "'none'")

    def answer(request: Request, name: str) -> Response:
        file = served[name]
        headers = {**HEADERS, "Content-Security-Policy": csp, "ETag": file.tag}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        if file.zipped and "gzip" in request.headers.get("accept-encoding", ""):
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
            return Response(file.zipped, headers=headers, media_type=file.kind)
        return Response(file.content, headers=headers, media_type=file.kind)

    @routes.get("/")
    async def page(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return answer(request, "index.html")

    @routes.get("/assets/{name:path}")
    async def asset(request: Request, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        if name not in served or name == "index.html":
            raise HTTPException(404, f"The page has no file {name!r}.")
        return answer(request, name)

    return routes


@functools.cache
def _assets() -> Mapping[str, _File]:
    """Return the files of the package by their names; they are compressed once in a process."""
    root = Path(str(files("streamcore.web") / "assets"))
    return {
        path.relative_to(root).as_posix(): _File.of(path.read_bytes(), suffix, TYPES[suffix])
        for path in root.rglob("*.*")
        if (suffix := path.suffix[1:]) in TYPES
    }


def _files(options: PageOptions, *, asks_key: bool) -> dict[str, _File]:
    """Return all files by their names, with the operator's logo and settings."""
    found = dict(_assets())
    if options.logo is not None:
        suffix = Path(options.logo).suffix[1:].lower()
        found["logo"] = _File.of(Path(options.logo).read_bytes(), suffix, LOGO_TYPES[suffix])
    settings = {
        "title": options.title,
        "greeting": options.greeting,
        "logo": options.logo is not None,
        "color": options.color,
        "login_url": options.login_url,
        "asks_key": asks_key,
        "show_usage": options.show_usage,
        "while_running": options.while_running,
        "feedback": options.on_feedback is not None,
    }
    found["settings.json"] = _File.of(json.dumps(settings).encode(), "json", TYPES["json"])
    return found
