"""Run the conformance suite on the documentation's own provider, and on providers that each break one promise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import Chunk, Provider, Request, get_provider
from streamcore.testing import FAULTS, Fault
from streamcore.testing.faults.fault_server import ANSWER
from streamcore.testing.faults.spoiled import PING_EVERY
from streamcore.testing.faults.steps import Repeat
from streamcore.testing.faults.table import slowed
from streamcore.testing.suites.provider import ProviderSuite
from tests.snippets import blocks, run_script

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "testing.md"
WALK_THROUGH = next(code for code in blocks(ROOT / "docs" / "providers.md", "python") if "class TypedProvider" in code)
TypedProvider: Any = run_script(WALK_THROUGH)["TypedProvider"]


# What the typed stream of the SDK costs, row by row.
WRAPPED = "the SDK wraps errors of a stream that has begun as if there had been no connection"
NO_STREAM = "the SDK takes any 200 for a stream"
LEAKS = "the SDK raises what its parser raises"
NO_LIMIT = "the SDK takes events of any size"
EVENTS = "the SDK raises its plain APIError, without status, for an error in a stream"
NO_HEADERS = "the example reads no Retry-After"
DEVIATIONS = {
    "rate-limited": NO_HEADERS,
    "retried-rate-limited": NO_HEADERS,
    "never-waits-past-total": NO_HEADERS,
    "https-to-http": "the example takes every lost connection for one that may come back",
    "reset-mid-stream": WRAPPED,
    "closed-mid-stream": WRAPPED,
    "broken-chunks": WRAPPED,
    "length-unmet": WRAPPED,
    "nothing-is-repeated-after-content": WRAPPED,
    "says-gzip": WRAPPED,
    "garbled-gzip": WRAPPED,
    "html-200": NO_STREAM,
    "json-200": NO_STREAM,
    "malformed-json": LEAKS,
    "invalid-utf8": LEAKS,
    "deep-json": LEAKS,
    "huge-event": NO_LIMIT,
    "endless-event": NO_LIMIT,
    "error-event": EVENTS,
    "error-event-final": EVENTS,
    "error-event-first": EVENTS,
    "retried-error-event-first": EVENTS,
    "secrets": "the example shows the vendor's words as they are",
    "reasoning": "the example passes text, tool calls, usage and the end",
}


@pytest.mark.long
class TestTypedProvider(ProviderSuite):
    """The provider of docs/providers.md, which uses an SDK's typed stream."""

    wire = "openai-chat"
    backends = ("asyncio",)  # under trio the SDK leaves its generators to the garbage collector, of which trio warns
    deviations = DEVIATIONS

    def provider(self, url: str) -> Provider:
        made: Provider = TypedProvider(base_url=url + "/v1", api_key="docs-key-0123456789")
        return made


# A busy machine


class Late:
    """A provider that sends each request only after a while, as on a machine that is busy with other work."""

    name = "openai"

    def __init__(self, url: str) -> None:
        self._inner = get_provider("openai", api_key="docs-key-0123456789", model="m", base_url=url + "/v1")

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        await anyio.sleep(0.5)
        async with aclosing(self._inner.stream(request)) as batches:
            async for batch in batches:
                yield batch

    async def aclose(self) -> None:
        await self._inner.aclose()


class OnABusyMachine(ProviderSuite):
    wire = "openai-chat"

    def provider(self, url: str) -> Provider:
        return Late(url)


@pytest.mark.long
@pytest.mark.anyio
@pytest.mark.parametrize("name", ["mute", "late", "headers-only"])
async def test_a_timeout_that_expired_before_the_server_saw_the_request_is_tried_again(name: str) -> None:
    await OnABusyMachine().test_fault(FAULTS[name])
    await OnABusyMachine().test_retried(FAULTS[name])


def test_a_slowed_fault_has_its_timeouts_and_pauses_so_many_times_as_long() -> None:
    fault = slowed(FAULTS["slow-with-pings"], 5)
    assert fault.timeouts == {"silence": 2.5, "stall": 150}
    assert [step.every for step in fault.steps("openai-chat", ANSWER) if isinstance(step, Repeat)] == [5 * PING_EVERY]
    assert slowed(FAULTS["pause"], 5) is FAULTS["pause"]


# What the suite must find, and where; `Honest` shows that the row itself is not what fails.
FOUND = {
    "Swallows": "test_fault[asyncio-end-without-mark]",
    "Hoards": "test_a_slow_reader_slows_the_vendor_down[asyncio]",
    "Merges": "test_text_comes_token_by_token[asyncio]",
    "Loses": "test_fault[asyncio-none]",
    "KeepsOpen": "test_leaving_async_with_closes[asyncio]",
    "LeavesATask": "test_fault[asyncio-none]",
    "Mutters": "test_fault[asyncio-none]",
    "Leaks": "test_fault[asyncio-wrong-key]",
    "ShowsTheKey": "test_secrets[asyncio]",
    "IsBetterThanItSays": "test_fault[asyncio-none]",
}


def pytest_in_process_of_its_own(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-rA", "-p", "no:cacheprovider", *arguments]
    env = {name: value for name, value in os.environ.items() if name != "CI"}  # where the summary of pytest is longer
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=250, check=False).stdout


@pytest.mark.long
@pytest.mark.timeout(150)
def test_the_suite_finds_every_broken_promise() -> None:
    module = "tests/broken_providers.py"
    honest = [f"{module}::TestHonest::{row}" for row in sorted(set(FOUND.values()))]
    broken = [f"{module}::Test{name}::{row}" for name, row in FOUND.items()]
    message = pytest_in_process_of_its_own(*honest, *broken)
    for row in honest:
        assert f"PASSED {row}" in message
    for row in broken:
        assert f"FAILED {row}" in message or f"ERROR {row}" in message, row


@pytest.mark.parametrize(
    ("body", "reported"),
    [
        ("deviations = {'stal': 'x'}", "TestMine.deviations: no row is called stal"),
        ("wire = 'smoke-signals'", "TestMine.wire is one of anthropic-messages, bedrock-converse"),
    ],
)
def test_a_mistake_in_the_suites_settings_raises(tmp_path: Path, body: str, reported: str) -> None:
    path = tmp_path / "test_mine.py"
    text = "from streamcore.testing.suites.provider import ProviderSuite\n\nclass TestMine(ProviderSuite):\n    "
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    path.write_text(text + body + "\n", "utf-8")
    assert reported in pytest_in_process_of_its_own(path, "-c", tmp_path / "pytest.ini")


# The page that describes it


@pytest.mark.parametrize("row", FAULTS.values(), ids=FAULTS)
def test_the_page_lists_every_fault(row: Fault) -> None:
    end = (
        "the whole answer"
        if row.error is None
        else f"`{row.error.__name__}`" + (f" ({row.clock})" if row.clock else "")
    )
    assert f"| `{row.name}` | {row.says} | {end} |" in PAGE.read_text("utf-8").splitlines()


def test_the_pages_fault_snippets_run(capsys: pytest.CaptureFixture[str]) -> None:
    snippets = [code for code in blocks(PAGE, "python") if "FaultServer" in code]
    assert len(snippets) == 2
    for code in snippets:
        run_script(code)
    assert "Before that came: Héllo, wörld\n1 request, 0 connections left open" in capsys.readouterr().out


@pytest.mark.long
def test_the_pages_suites_run_as_a_newcomer_runs_them(tmp_path: Path) -> None:
    """On an honest provider, so that the page's deviations all pass, which strict expectations report."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    (tmp_path / "my_module.py").write_text(
        "from streamcore_openai import OpenAIProvider\n\n"
        "def MyProvider(base_url, api_key):\n    return OpenAIProvider(model='m', base_url=base_url, api_key=api_key)\n"
    )
    first, second = [code for code in blocks(PAGE, "python") if "my_module" in code]
    (tmp_path / "test_first.py").write_text(first, "utf-8")
    (tmp_path / "test_second.py").write_text(second, "utf-8")
    names = "reasoning or huge-event or reset-mid-stream or slow_reader or second_event_loop"
    message = pytest_in_process_of_its_own(tmp_path, "-c", tmp_path / "pytest.ini", "-k", names)
    assert message.count("[XPASS(strict)] our models do not think aloud") == 2
    assert "4 failed, 16 passed" in message
