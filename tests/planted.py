"""Check the whole suite for leaks of the tests' API key: in every log, expected error and recording."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pytest

from streamcore import StreamcoreError
from streamcore.testing import Exchange, Recorder, Recording
from tests.support import KEY


class Watch(logging.Handler):
    """Check logs, errors and recordings, and list where the key was found."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def check(self, kind: str, *shown: object) -> None:
        """Check the text of objects as they are shown."""
        if any(KEY in str(part) for part in shown):
            self.found.append(f"{kind} in {os.environ.get('PYTEST_CURRENT_TEST', 'no test')}")

    def emit(self, record: logging.LogRecord) -> None:
        """Check a log record, its traceback and its attributes."""
        self.check("log", self.format(record), vars(record))

    def error(self, error: BaseException) -> None:
        """Check everything that a traceback prints of an error, and the attributes of streamcore's errors."""
        link: BaseException | None = error
        seen: set[int] = set()
        while link is not None and id(link) not in seen:  # respx chains an error to itself
            seen.add(id(link))
            carried: Any = vars(link) if isinstance(link, StreamcoreError) else getattr(link, "__notes__", ())
            self.check("error", link, repr(link), carried)
            if isinstance(link, BaseExceptionGroup):
                inner = cast("BaseExceptionGroup[BaseException]", link).exceptions
                for each in inner:
                    self.error(each)
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)

    def recording(self, recording: Recording) -> None:
        """Check everything that a recording contains."""
        for exchange in recording.exchanges:
            self.check("recording", exchange, exchange.body, b"".join(read.data for read in exchange.reads))


def watching(patch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Check until the end of the session."""
    watch = Watch()
    logging.getLogger().addHandler(watch)
    logging.getLogger("streamcore").setLevel(logging.DEBUG)
    leave, save = pytest.RaisesExc.__exit__, Recording.save
    recorded: Callable[[Recorder, Any], Exchange] = vars(Recorder)["_exchange"]

    def expected(
        self: pytest.RaisesExc[BaseException],
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is not None:
            watch.error(error)
        return leave(self, kind, error, traceback)

    def taken(self: Recorder, take: Any) -> Exchange:
        exchange = recorded(self, take)
        watch.recording(Recording((exchange,)))
        return exchange

    def saved(self: Recording, path: str | Path) -> None:
        save(self, path)
        watch.check("recording", Path(path).read_text("utf-8"))

    patch.setattr(pytest.RaisesExc, "__exit__", expected)
    patch.setattr(Recorder, "_exchange", taken)
    patch.setattr(Recording, "save", saved)
    yield watch
    logging.getLogger().removeHandler(watch)
