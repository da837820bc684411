"""Define the data of a recording: HTTP requests and their responses, read by read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from streamcore.errors import ConfigError

Pace = float | Literal["recorded"]
"""How fast to play: `recorded` for the recorded times, a number of reads per second, or 0 for at once."""
End = Literal["whole", "broken", "left"]


class RecordingError(ConfigError):
    """A recording cannot be read or used; the message names it, the place, and what was expected."""


@dataclass(frozen=True, slots=True)
class Read:
    """The bytes of one network read, and the seconds from the headers to its arrival."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """The parts of a request that are kept. Headers are not: they have keys and change with each version of an SDK."""

    method: str
    url: str
    body: Any = None
    """The JSON value; bytes if it is not JSON; None if there is none."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response.

    Attributes:
        headers: names in lower case, and values; without cookies and headers that name an account.
        reads: the body as it arrived, before any content encoding is undone.
        provider: the name of the provider that sent the request and can read the response.
        end: `whole`; `broken`: the connection failed after the last read; `left`: the reader closed the response.
    """

    request: RecordedRequest
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    reads: tuple[Read, ...] = field(default=(), repr=False)
    provider: str | None = None
    end: End = "whole"

    @property
    def body(self) -> bytes:
        """The bytes of all reads."""
        return b"".join(read.data for read in self.reads)


def json_or_bytes(data: bytes) -> Any:
    """Return the JSON value in these bytes; the bytes if they are not JSON; None if there are none."""
    try:
        return json.loads(data) if data else None
    except ValueError:  # or its subclass UnicodeDecodeError
        return data


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return True if a JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Return True if a JSON value is an array."""
    return isinstance(value, list)
