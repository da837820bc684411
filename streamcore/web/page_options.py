"""Define what an operator may choose about the chat page: its look, its sign-in, and what it offers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from streamcore.errors import ConfigError

LOGO_TYPES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_ANCESTOR = re.compile(r"'self'|https?://(\*\.)?[A-Za-z0-9.-]+(:\d+)?")


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a user thinks of an answer."""

    owner: str
    """The user that `auth` returned; "" without one."""
    session_id: str
    """The conversation."""
    run: str
    """The run whose answer it is."""
    rating: Literal["good", "bad"] | None
    """None: the user took the rating back."""


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Describe the chat page of a service.

    Raises:
        ConfigError: a color, the logo, the address or an origin is not valid.
    """

    title: str | None = None
    """The title; by default the target's name."""
    greeting: str | None = None
    """The text of the empty page."""
    logo: str | Path | None = None
    """The file of an image: SVG, PNG, JPEG or WebP."""
    color: str | None = None
    """The color of buttons and links, as `#23604f`."""
    login_url: str | None = None
    """Where users sign in, if the service answers 401: a path or an `http(s)` address."""
    frame_ancestors: Sequence[str] = ()
    """The origins whose pages may show this one in a frame, as `https://app.example.org`, or `'self'`."""
    show_usage: bool = False
    """Whether the foot of an answer has its tokens, and its cost if it is known."""
    while_running: Literal["queue", "interrupt"] = "queue"
    """What a message does that is sent while an answer streams: it waits for the end, or it stops the answer."""
    on_feedback: Callable[[Feedback], Awaitable[Any] | Any] | None = None
    """Called when a user rates an answer; without it the page has no thumbs."""

    def __post_init__(self) -> None:
        if self.color is not None and not _COLOR.fullmatch(self.color):
            raise ConfigError(f"the color of the page must be #rrggbb, as #23604f, not {self.color!r}")
        if self.login_url is not None and not re.match(r"https?://|/(?!/)|[\w.?-]", self.login_url):
            raise ConfigError(f"login_url must be a path or an http(s) address, not {self.login_url!r}")
        if self.login_url is not None and re.match(r"(?!https?:)[a-zA-Z][a-zA-Z0-9+.-]*:", self.login_url):
            raise ConfigError(f"login_url must be a path or an http(s) address, not {self.login_url!r}")
        for origin in self.frame_ancestors:
            if not _ANCESTOR.fullmatch(origin):
                raise ConfigError(f"frame_ancestors has origins, as https://app.example.org, not {origin!r}")
        if self.logo is not None:
            path = Path(self.logo)
            if path.suffix[1:].lower() not in LOGO_TYPES:
                raise ConfigError(f"the logo must be a file of type {', '.join(LOGO_TYPES)}, not {str(path)!r}")
            if not path.is_file():
                raise ConfigError(f"there is no logo {str(path)!r}")
