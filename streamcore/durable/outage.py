"""Log a store that cannot be reached once at the beginning, then once a minute, and when it can be reached again."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

log = logging.getLogger("streamcore")

REPEAT_SECONDS = 60.0


class Outage:
    """The log of one thing that fails while a store cannot be reached, however often it is tried meanwhile.

    Args:
        what: what fails, as in "the search for lost workers".
        clock: returns the time in seconds.
    """

    def __init__(self, what: str, clock: Callable[[], float] = anyio.current_time) -> None:
        self._what = what
        self._clock = clock
        self._since: float | None = None
        self._logged = 0.0

    def failed(self, error: Exception) -> None:
        """Note that it failed."""
        now = self._clock()
        if self._since is None:
            self._since = self._logged = now
            log.warning("%s fails, and is tried again until it works: %s", self._what, error)
        elif now - self._logged >= REPEAT_SECONDS:
            self._logged = now
            log.warning("%s has failed for %.0f s: %s", self._what, now - self._since, error)

    def worked(self) -> None:
        """Note that it worked."""
        if self._since is not None:
            log.warning("%s works again, after %.0f s", self._what, self._clock() - self._since)
            self._since = None
