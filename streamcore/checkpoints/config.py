"""Create the checkpointer that a graph file or a caller describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamcore.checkpoints.memory import PROCESS
from streamcore.checkpoints.protocol import Checkpointer
from streamcore.errors import ConfigError
from streamcore.files.environment import expanded

_KEYS: Mapping[str, Sequence[str]] = {
    "memory": ("type",),
    "sqlite": ("type", "path"),
    "redis": ("type", "url", "ttl", "prefix"),
    "redis-simple": ("type", "url", "ttl", "prefix"),
    "postgres": ("type", "url", "schema"),
}
_URLS: Mapping[str, Sequence[str]] = {
    "redis": ("redis://", "rediss://", "unix://", "redis+cluster://", "rediss+cluster://"),
    "postgres": ("postgresql://", "postgres://"),
}


def of_url(url: str) -> dict[str, Any]:
    """Return the mapping for a URL: `postgresql://...`, `redis://...`, or `sqlite:///` and the path of a file.

    Raises:
        ConfigError: it is none of these. The message does not have it, since it may have a password.
    """
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return {"type": "sqlite", "path": url.removeprefix("sqlite:///")}
    for kind, beginnings in _URLS.items():
        if url.startswith(tuple(beginnings)):
            return {"type": kind, "url": url}
    raise ConfigError(
        "the URL of a checkpointer must be postgresql://user:password@host:5432/database, "
        "redis://user:password@host:6379/0, or sqlite:///threads.db (with four slashes for an absolute path)"
    )


def open_checkpointer(config: Mapping[str, Any] | Checkpointer | str | None) -> Checkpointer:
    """Return the checkpointer for a mapping or a URL, as in graph files; a ready checkpointer is returned unchanged.

    Nothing is opened or connected before the first use. Equal mappings share threads and connections.

    Args:
        config: `{"type": "memory"}` (as None: the memory of the process), `{"type": "sqlite", "path": ...}`,
            `{"type": "redis", "url": ..., "ttl": minutes, "prefix": ...}`, or `{"type": "postgres", "url": ...,
            "schema": ...}`; or a URL, see `of_url`. `${VAR}` is replaced by the environment variable.

    Raises:
        ConfigError: a key or a value is wrong, a variable is not set, or redis-py or psycopg is missing.
    """
    if config is None:
        return PROCESS
    if isinstance(config, str) and "://" in config:
        config = of_url(config)
    if not isinstance(config, Mapping):
        if isinstance(config, Checkpointer):  # pyright: ignore[reportUnnecessaryIsInstance]
            return config
        raise ConfigError(
            f"a checkpointer is a mapping, as {{'type': 'sqlite', 'path': 'threads.db'}}, or a URL, as "
            f"sqlite:///threads.db, or has load, save, delete and aclose; got a {type(config).__name__}"
        )
    given = {
        key: expanded(value, f"checkpointer: `{key}`") if isinstance(value, str) else value
        for key, value in config.items()
    }
    kind = str(given.get("type"))
    if kind not in _KEYS:
        raise ConfigError(
            f"checkpointer: `type` must be one of {', '.join(_KEYS)}, not {kind!r}{_did_you_mean(kind, _KEYS)}"
        )
    for key in given:
        if key not in _KEYS[kind]:
            known = _KEYS[kind]
            hint = _did_you_mean(key, known) or f"; known are {', '.join(known)}"
            raise ConfigError(f"checkpointer of type {kind!r}: unknown key {key!r}{hint}")
    if kind == "memory":
        return PROCESS
    if kind == "sqlite":
        from streamcore.checkpoints.sqlite import SQLiteCheckpointer

        return SQLiteCheckpointer(_text(given, "path", "threads.db"))
    if kind == "postgres":
        from streamcore.checkpoints.postgres import DEFAULT_SCHEMA, PostgresCheckpointer

        schema = _text(given, "schema", DEFAULT_SCHEMA) if "schema" in given else DEFAULT_SCHEMA
        return PostgresCheckpointer(_text(given, "url", "postgresql://localhost/threads"), schema=schema)
    from streamcore.checkpoints.redis import DEFAULT_PREFIX, RedisCheckpointer

    prefix = _text(given, "prefix", DEFAULT_PREFIX) if "prefix" in given else DEFAULT_PREFIX
    return RedisCheckpointer(_text(given, "url", "redis://localhost:6379"), ttl=_minutes(given), prefix=prefix)


def _text(given: Mapping[str, object], key: str, example: str) -> str:
    value = given.get(key)
    if isinstance(value, str) and value:
        return value
    problem = "is missing" if value is None else "must be text that is not empty"
    raise ConfigError(f"checkpointer of type {given['type']!r}: the key {key!r} {problem}, as in {key}: {example}")


def _minutes(given: Mapping[str, object]) -> float | None:
    value = given.get("ttl")
    if value is None:
        return None
    try:
        minutes = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise ConfigError(f"checkpointer: `ttl` is a number of minutes above 0, not {value!r}")
    return minutes


def _did_you_mean(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    from streamcore.files.yaml_model import did_you_mean  # imports pydantic, which only errors need here

    return did_you_mean(word, list(known))
