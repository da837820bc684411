"""Describe an MCP server: how it is started or reached, what it is called in errors, and which texts are secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from streamcore.base.redact import redact
from streamcore.errors import ConfigError
from streamcore.net.credentials import SHORTEST_SECRET, header_secrets, proxy_secrets, url_secrets

_LAUNCHERS = re.compile(r"uvx?|npx|bunx?|pnpm|pipx|node|deno|docker|podman|python[\d.]*(\.exe)?")
"""Programs that run another one, which is what the server is called after."""
_SUBCOMMANDS = ("run", "exec", "dlx", "tool", "x")
_SHORTEST_SEGMENT = 16  # some hosted servers have the key in the path of their URL


@dataclass(frozen=True, slots=True, repr=False)
class McpServer:
    """Hold the settings of one MCP server, after their check."""

    name: str
    """What errors and prefixes call it."""
    command: tuple[str, ...]
    """The program and its arguments; empty for a server with a URL."""
    url: str
    """The URL of the endpoint; "" for a server with a command."""
    env: Mapping[str, str]
    """Variables for the program, beside the few that it gets in any case."""
    cwd: str | None
    """The folder in which the program is started; None is the current one."""
    headers: Mapping[str, str]
    """HTTP headers for each request."""
    timeout: float
    """How many seconds the start, the listing of the tools and each call may take."""

    def __repr__(self) -> str:
        return f"McpServer({self.name!r}, {self.where})"

    def __str__(self) -> str:
        return f"MCP server {self.name!r} ({self.where})"

    @property
    def where(self) -> str:
        """The program, or the URL's host; arguments, path and query may have secrets."""
        if self.command:
            return f"command {self.command[0]!r}"
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def secrets(self) -> set[str]:
        """Return what no error may show: values of the variables and headers, and the credentials of the URL."""
        found = {value for value in self.env.values() if len(value) >= SHORTEST_SECRET}
        found |= header_secrets(self.headers, all_names=True) | url_secrets(self.url) | proxy_secrets()
        return found | {part for part in urlsplit(self.url).path.split("/") if len(part) >= _SHORTEST_SEGMENT}

    def clean(self, text: str) -> str:
        """Return a text without the secrets."""
        return redact(text, self.secrets())


def checked_server(
    *,
    command: Sequence[str] | None,
    url: str | None,
    name: str | None,
    env: Mapping[str, str] | None,
    cwd: str | Path | None,
    headers: Mapping[str, str] | None,
    timeout: float,
) -> McpServer:
    """Return the settings of a server.

    Raises:
        ConfigError: neither or both of `command` and `url` are given, or a setting is not valid.
    """
    if (command is None) == (url is None):
        raise ConfigError("McpTools takes either command= (a program to start) or url= (a server that runs)")
    if command is not None and (isinstance(command, str) or not command or not all(_is_text(one) for one in command)):
        raise ConfigError(
            "command= of McpTools is a list of the program and its arguments, as in "
            "['uvx', 'mcp-server-time']; no shell reads it"
        )
    if url is not None and not re.match(r"https?://[^/?#]", url):
        raise ConfigError("url= of McpTools must begin with http:// or https:// and name a host")
    if command is not None and headers:
        raise ConfigError("headers= of McpTools is for a server with url=; a program gets env=")
    if url is not None and (env or cwd is not None):
        raise ConfigError("env= and cwd= of McpTools are for a server with command=; a URL gets headers=")
    for given, option in ((env, "env"), (headers, "headers")):
        wrong = [key for key, value in (given or {}).items() if not (_is_text(key) and _is_text(value))]
        if wrong:
            raise ConfigError(f"{option}= of McpTools takes texts only; the value of {wrong[0]!r} is not one")
    if isinstance(timeout, bool) or not timeout > 0:
        raise ConfigError(f"timeout= of McpTools is a number of seconds above 0, not {timeout!r}")
    called = name or (_program_name(command) if command is not None else urlsplit(url or "").hostname or "")
    return McpServer(
        name=accepted_name(called).strip("_") or "mcp",
        command=tuple(command or ()),
        url=url or "",
        env=dict(env or {}),
        cwd=None if cwd is None else str(cwd),
        headers=dict(headers or {}),
        timeout=float(timeout),
    )


def accepted_name(text: str) -> str:
    """Return a text as the vendors accept the name of a tool: letters without accents, digits, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _program_name(command: Sequence[str]) -> str:
    """Return what a program is called: of `uvx mcp-server-time --utc` that is `mcp-server-time`."""
    program = Path(command[0]).name
    if not _LAUNCHERS.fullmatch(program):
        return program
    named = (word for word in command[1:] if not word.startswith("-") and word not in _SUBCOMMANDS)
    return Path(next(named, program)).stem
