"""Run a few hundred of the random streams of `make stress`."""

from __future__ import annotations

import anyio
import pytest

from tests.stress import run_many
from tests.support import BACKENDS


@pytest.mark.long
@pytest.mark.parametrize("streams", [150, pytest.param(500, marks=pytest.mark.long)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_streams_lose_nothing_and_leave_nothing_open(backend: str, streams: int) -> None:
    anyio.run(run_many, streams, 20261125, backend, backend=backend)
