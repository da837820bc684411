"""Define `Config`: what a caller sets for one run of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from streamcore.checkpoints import Checkpointer
from streamcore.errors import ConfigError
from streamcore.graph.limits import RunLimits
from streamcore.provider import AnyProvider, ModelChoice
from streamcore.reports.report import Observer

# Keys of LangGraph's config that have no meaning here.
_IGNORED = frozenset(
    {
        "checkpoint_id",
        "checkpoint_ns",
        "callbacks",
        "max_concurrency",
        "metadata",
        "recursion_limit",
        "run_id",
        "run_name",
        "tags",
    }
)

_TYPES: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("model", str, "the name of a model"),
    ("temperature", (int, float), "a number"),
    ("transport", str, "the name of a transport"),
    ("limits", RunLimits, "a streamcore.graph.limits.RunLimits, as RunLimits(max_cost=0.5)"),
)
"""What the values of the keys are."""


@dataclass(frozen=True, slots=True)
class Config:
    """Set options for one run of a graph; `streamcore.stream_graph_with_tokens` documents each one."""

    thread_id: str | None = None
    checkpointer: Checkpointer | Mapping[str, Any] | None = None
    resume: Any = None
    include_metadata: bool = False
    provider: AnyProvider | None = None
    model: str | None = None
    temperature: float | None = None
    transport: str | None = None
    limits: RunLimits | None = None
    observer: Observer | None = None

    @classmethod
    def of(cls, given: Config | Mapping[str, Any] | None) -> Config:
        """Return the config of a mapping, LangGraph's `{"configurable": {...}}` included; a `Config` is returned as is.

        Raises:
            ConfigError: a key is unknown, a value has the wrong type, or `thread_id` is empty. Under `configurable`,
                where callers keep their own keys, only keys that look like a misspelt one are errors.
        """
        if isinstance(given, Config):
            return given
        if given is not None and not isinstance(cast("object", given), Mapping):
            raise ConfigError(f"config must be a mapping, as {{'thread_id': 't1'}}, not a {type(given).__name__}")
        flat: dict[str, Any] = {key: value for key, value in (given or {}).items() if key not in _IGNORED}
        known = list(cls.__dataclass_fields__)
        inner: Mapping[str, Any] = flat.pop("configurable", None) or {}
        for key, value in inner.items():
            if key not in _IGNORED and (key in known or _did_you_mean(key, known)):
                flat[key] = value
        for key in flat:
            if key not in known:
                hint = _did_you_mean(key, known) or f"; known are {', '.join(known)}"
                raise ConfigError(f"unknown key {key!r} in config{hint}")
        if flat.get("thread_id") is not None:
            flat["thread_id"] = str(flat["thread_id"])
        config = cls(**flat)
        config._check()
        return config

    def _check(self) -> None:
        """Raise ConfigError for a value of the wrong type, and for an empty `thread_id`."""
        if self.thread_id is not None and not self.thread_id:  # all callers without an id would share one thread
            raise ConfigError("'thread_id' in config is empty; give the conversation a name, or leave the key out")
        for key, kinds, what in _TYPES:
            value: object = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise ConfigError(f"{key!r} in config is {what}, not {value!r}")
        if self.observer is not None and not callable(self.observer):
            raise ConfigError(f"'observer' in config is a function of an event, not {self.observer!r}")

    @property
    def choice(self) -> ModelChoice:
        """The provider, model and temperature that the caller names."""
        return ModelChoice(self.provider, self.model, self.temperature, "`provider` in the config")


def _did_you_mean(word: str, known: list[str]) -> str:
    from streamcore.files.yaml_model import did_you_mean  # imports pydantic, which only unknown keys need here

    return did_you_mean(word, known)
