"""Define `Recording`: load and save its exchanges, change their reads and pace, play them through respx."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from streamcore.errors import ConfigError
from streamcore.testing.recordings.exchange import Exchange, Pace, Read, RecordingError

if TYPE_CHECKING:
    import respx

Cuts = Sequence[int] | Callable[[bytes], Iterable[bytes]]
"""Where to cut a body: offsets, or a function that returns its pieces."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The exchanges of one recording, in the order of their requests."""

    exchanges: tuple[Exchange, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a recording's file.

        Raises:
            RecordingError: if the file is not valid; the message has file, line, key and what was expected.
        """
        from streamcore.testing.recordings.recording_file import load

        return cls(load(Path(path)))

    def save(self, path: str | Path) -> None:
        """Write the recording to a file, from which `load` reads the same bytes; missing folders are created."""
        from streamcore.testing.recordings.recording_file import save

        save(self.exchanges, Path(path))

    @property
    def provider(self) -> str:
        """The one provider that the exchanges name.

        Raises:
            RecordingError: if they name none, or several.
        """
        named = sorted({exchange.provider for exchange in self.exchanges if exchange.provider})
        if len(named) == 1:
            return named[0]
        what = f"names several providers ({', '.join(named)})" if named else "names no provider"
        raise RecordingError(f"the recording {what}; put `provider:` into its exchanges, or give speaks=")

    def recut(self, cuts: Cuts) -> Recording:
        """Return the same bytes in other reads; each read arrives when the last of its bytes arrived.

        Args:
            cuts: offsets into each body, in any order (those beyond its end do nothing), or a function that
                takes a body and returns its pieces.

        Raises:
            ValueError: if the joined pieces are not the body.
        """
        return self._with(lambda exchange: _recut(exchange, cuts))

    def at_pace(self, pace: Pace) -> Recording:
        """Return the same reads at other times; see `Pace`.

        Raises:
            ConfigError: if the pace is negative or another text than 'recorded'.
        """
        if pace == "recorded":
            return self
        if isinstance(pace, str) or not 0 <= pace < float("inf"):
            raise ConfigError(
                f"the pace {pace!r} is not valid: give 'recorded', a number of reads per second, or 0 for at once"
            )
        every = 1 / pace if pace else 0.0

        def paced(exchange: Exchange) -> tuple[Read, ...]:
            return tuple(Read(number * every, read.data) for number, read in enumerate(exchange.reads))

        return self._with(paced)

    def mock(self, router: respx.Router, pace: Pace = 0) -> list[respx.Route]:
        """Answer the recorded requests at their real URLs through respx; return the routes.

        Args:
            router: respx's, for httpx2: the fixture `httpx2_mock`, or `respx.mock(using="httpcore2")` after
                `import pytest_httpx2`.
            pace: how fast the bodies are sent; see `Pace`.
        """
        from streamcore.testing.recordings.respx_routes import mock

        return mock(self.at_pace(pace).exchanges, router)

    def _with(self, reads: Callable[[Exchange], tuple[Read, ...]]) -> Recording:
        return Recording(tuple(replace(exchange, reads=reads(exchange)) for exchange in self.exchanges))


def _recut(exchange: Exchange, cuts: Cuts) -> tuple[Read, ...]:
    body = exchange.body
    pieces = list(cuts(body) if callable(cuts) else _between(body, cuts))
    if b"".join(pieces) != body:
        raise ValueError(f"the pieces, joined, are not the body of {exchange.request.url} ({len(body)} bytes)")
    ends: list[tuple[int, float]] = []
    for read in exchange.reads:
        ends.append(((ends[-1][0] if ends else 0) + len(read.data), read.at))
    reads: list[Read] = []
    position, number = 0, 0
    for piece in filter(None, pieces):
        position += len(piece)
        while ends[number][0] < position:
            number += 1
        reads.append(Read(ends[number][1], piece))
    return tuple(reads)


def _between(body: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for cut in sorted({cut for cut in cuts if 0 < cut < len(body)}):
        yield body[start:cut]
        start = cut
    yield body[start:]
