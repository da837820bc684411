"""Find the recorded exchange that matches a request, or describe how the request differs from the recorded ones.

A request matches a recorded one if its method is the same, its path ends in the same endpoint (host, port, a gateway's
prefix and the query are ignored), and its JSON body has every key of the recorded body, with the same value, at every
level. Keys that only the request has are ignored; lists must have the same length. To let a key differ, delete it from
the recorded body. Headers are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from streamcore.testing.recordings.exchange import (
    Exchange,
    RecordedRequest,
    RecordingError,
    is_array,
    is_object,
    json_or_bytes,
)

_ENDPOINT = re.compile(
    r"/(?:chat/completions|responses|messages|models/[^/]+:streamGenerateContent|model/[^/]+/converse-stream)$"
)
_SHOWN = 120  # characters of a value
_MOST = 8  # differences


class UnrecordedRequest(RecordingError):  # noqa: N818
    """A request matches no recorded exchange; the message has the request, the recorded ones and the differences."""


class Player:
    """Return for each request the first matching exchange that was not played yet, else the last matching one."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self.exchanges = tuple(exchanges)
        self.unrecorded: list[UnrecordedRequest] = []
        """The errors of the requests that matched no exchange."""
        self._given: set[int] = set()

    @property
    def unplayed(self) -> tuple[Exchange, ...]:
        """The exchanges that no request has matched yet."""
        return tuple(one for number, one in enumerate(self.exchanges) if number not in self._given)

    def find(self, method: str, url: str, body: bytes) -> Exchange:
        """Return the exchange that matches a request.

        Raises:
            UnrecordedRequest: if no exchange matches.
        """
        asked = RecordedRequest(method, url, json_or_bytes(body))
        fitting = [
            number
            for number, exchange in enumerate(self.exchanges)
            if next(differences(exchange.request, asked), None) is None
        ]
        if not fitting:
            self.unrecorded.append(self._unrecorded(asked))
            raise self.unrecorded[-1]
        number = next((one for one in fitting if one not in self._given), fitting[-1])
        self._given.add(number)
        return self.exchanges[number]

    def _unrecorded(self, asked: RecordedRequest) -> UnrecordedRequest:
        message = f"no recorded exchange answers {asked.method} {_without_query(asked.url)}"
        for number, exchange in enumerate(self.exchanges, 1):
            recorded = exchange.request
            message += f"\n  exchange {number} answers {recorded.method} {recorded.url}, but"
            found = list(differences(recorded, asked))
            message += "".join(f"\n    {line}" for line in found[:_MOST])
            if len(found) > _MOST:
                message += f"\n    and {len(found) - _MOST} more"
        if not self.exchanges:
            message += "; the recording is empty"
        return UnrecordedRequest(
            f"{message}\nRecord it again, or delete the keys that may differ from the recording's body"
        )


def differences(recorded: RecordedRequest, asked: RecordedRequest) -> Iterator[str]:
    """Yield each difference that keeps a request from matching a recorded one, as a line."""
    if recorded.method.upper() != asked.method.upper():
        yield f"the method is {asked.method}, recorded is {recorded.method}"
    if endpoint(recorded.url) != endpoint(asked.url):
        yield f"the path is {urlsplit(asked.url).path}, recorded is {urlsplit(recorded.url).path}"
    if recorded.body is not None:
        yield from _differ(recorded.body, asked.body, "body")


def endpoint(url: str) -> str:
    """Return the part of a URL that is compared."""
    path = urlsplit(url).path
    found = _ENDPOINT.search(path)
    return found[0] if found else path


def _differ(recorded: Any, asked: Any, where: str) -> Iterator[str]:
    if is_object(recorded) and is_object(asked):
        for key, value in recorded.items():
            if key in asked:
                yield from _differ(value, asked[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is missing, recorded is {_shown(value)}"
    elif is_array(recorded) and is_array(asked):
        if len(recorded) != len(asked):
            yield f"{where} has {len(asked)} items, recorded are {len(recorded)}"
        for number, (value, found) in enumerate(zip(recorded, asked, strict=False)):
            yield from _differ(value, found, f"{where}[{number}]")
    elif recorded != asked or isinstance(recorded, bool) != isinstance(asked, bool):
        yield f"{where} is {_shown(asked)}, recorded is {_shown(recorded)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _without_query(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()
