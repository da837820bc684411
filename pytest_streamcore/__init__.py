"""Define the pytest plugin: an option, a marker, fixtures. It imports streamcore only when a test uses one of them.

It is a package of its own because importing anything below `streamcore` would import all of it, at the start of every
test run in every project where streamcore is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from streamcore.testing import Recording, Simulator
    from streamcore.testing.plugin import StartFault, Tape

_MARKER = "recording"
_MADE: pytest.StashKey[dict[Path, Recording]] = pytest.StashKey()
_AUTO_TRANSPORT = "STREAMCORE_AUTO_TRANSPORT"
_BEFORE: pytest.StashKey[str | None] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--record`."""
    parser.getgroup("streamcore").addoption(
        "--record",
        action="store_true",
        help="make or refresh the recordings of the selected tests, from the vendors; keys come from the environment",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and let requests go over httpx2 by default, which recordings and mocks answer."""
    config.stash[_BEFORE] = os.environ.get(_AUTO_TRANSPORT)
    os.environ.setdefault(_AUTO_TRANSPORT, "httpx2")
    config.addinivalue_line(
        "markers",
        "recording(path, pace=0): answer every request over httpx2 from this recording (a path beside the test's "
        "file); --record makes it. pace: 0 at once, 'recorded', or reads per second",
    )
    config.stash[_MADE] = {}


def pytest_unconfigure(config: pytest.Config) -> None:
    """Restore the default transport."""
    if config.stash.get(_BEFORE, None) is None:
        os.environ.pop(_AUTO_TRANSPORT, None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Add the fixture to each test that has the marker."""
    names: list[str] | None = getattr(item, "fixturenames", None)
    if names is not None and _MARKER not in names and item.get_closest_marker(_MARKER) is not None:
        names.insert(0, _MARKER)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the recordings that were made."""
    made = config.stash[_MADE]
    if made:
        terminalreporter.section("recordings made")
        for path in made:
            terminalreporter.line(str(path))


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> Iterator[Tape]:
    """Answer every request over httpx2 from the recording that the marker names, or make it under `--record`."""
    from streamcore.testing.plugin import block_network, keep, make, play, tape_of

    tape = tape_of(request.node, making=bool(request.config.getoption("record")))
    failed = request.session.testsfailed
    with pytest.MonkeyPatch.context() as patch:  # not the test's `monkeypatch`, which the test may undo
        if tape.making:
            make(tape, patch)
        else:
            block_network(patch)
            play(tape, patch)
        yield tape
    if request.session.testsfailed > failed:
        return
    if tape.unrecorded:  # the test's code may have turned the error into a fallback, an event or a status
        pytest.fail(str(tape.unrecorded[0]), pytrace=False)
    if tape.making and tape.recording.exchanges:
        keep(tape, request.config.stash[_MADE], getattr(request.config, "workerinput", {}).get("testrunuid"))


@pytest.fixture
def _streamcore_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Block the network, unless this test records."""
    from streamcore.testing.plugin import block_network

    with pytest.MonkeyPatch.context() as patch:
        if not (_MARKER in request.fixturenames and request.config.getoption("record")):
            block_network(patch)
        yield


@pytest.fixture
def simulator(_streamcore_network: None) -> Iterator[Simulator]:
    """Serve the APIs of all vendors on loopback, with generated answers; connections beyond loopback are blocked."""
    from streamcore.testing import Simulator

    with Simulator() as running:
        yield running


@pytest.fixture
def fault_server(_streamcore_network: None) -> Iterator[StartFault]:
    """Start servers that play faults, as `fault_server("stall", wire="openai-chat").url`, until the test ends."""
    from streamcore.testing.plugin import fault_servers

    with fault_servers() as start:
        yield start
