"""Define `Timeouts`: how long a stream waits; `pipeline/clocks.py` measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamcore.files.settings import check_fields, from_mapping

_SECONDS: Mapping[str, Any] = {"expected": "a number of seconds above 0 or null", "gt": 0}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limit how long a stream waits, in seconds; None is no limit. The defaults suit a person who waits for an answer.

    A mapping with the same keys is accepted too, in calls and as `timeouts:` in YAML.

    Raises:
        ConfigError: a value is not a number of seconds above 0.
    """

    first_token: float | None = field(default=120.0, metadata=_SECONDS)
    """From sending the request to the first content (text, reasoning, refusal, tool call or citation)."""
    stall: float | None = field(default=60.0, metadata=_SECONDS)
    """From content to content. Pings, usage and comments are not content: a server that sends only those is stuck."""
    silence: float | None = field(default=120.0, metadata=_SECONDS)
    """From byte to byte, pings and comments included."""
    total: float | None = field(default=None, metadata=_SECONDS)
    """For the whole stream, retries and their pauses included. None by default: answers may be long."""

    def __post_init__(self) -> None:
        check_fields(self, "timeouts")

    @classmethod
    def of(cls, value: Timeouts | Mapping[str, Any] | None) -> Timeouts:
        """Return timeouts from an object or a mapping; missing keys have their defaults.

        Raises:
            ConfigError: a key is unknown, or a value is not a number of seconds.
        """
        return DEFAULT if value is None else from_mapping(cls, "timeouts", value)


DEFAULT = Timeouts()
