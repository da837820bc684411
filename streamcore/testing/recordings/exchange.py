"""Hold what was asked over HTTP and what came back, read by read: the data of a recording."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from streamcore.errors import ConfigError

Pace = float | Literal["recorded"]
"""How fast to play: as recorded, so many reads per second, or 0: at once."""
End = Literal["whole", "broken", "left"]


class RecordingError(ConfigError):
    """A recording cannot be read or used; the message says which, where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Read:
    """The bytes of one network read, and how many seconds after the headers they came."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """What of a request is kept: its headers are not, since they hold keys and change with every version of an SDK."""

    method: str
    url: str
    body: Any = None
    """The JSON value; bytes if it is not JSON; None if there is none."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its response.

    Attributes:
        headers: names in lower case, and values; without cookies and what names an account.
        reads: the body as it came over the network, before any content encoding is undone.
        provider: the name of the provider that asked, and can read the answer.
        end: `whole`; `broken`: the connection failed after the last read; `left`: the reader did not stay.
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
    """Return the JSON value that these bytes say; the bytes if they say none; None if there are none."""
    try:
        return json.loads(data) if data else None
    except ValueError:  # UnicodeDecodeError is one
        return data


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """True if a JSON value is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """True if a JSON value is an array."""
    return isinstance(value, list)
