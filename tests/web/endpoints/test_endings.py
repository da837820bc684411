"""Check the table of endings: what is sent, what the vendors' SDKs return, and what the pages show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from streamcore.sse import end_streams
from streamcore.testing import FaultServer
from streamcore.web import create_app
from tests.serving import serving
from tests.support import DEADLINE
from tests.web.endpoints.conftest import ALLOWED, ROOT, point_at
from tests.web.endpoints.endings import ENDINGS, PAGES, Ending, Gated, table
from tests.web.endpoints.readers import READERS, Reader
from tests.web.endpoints.seen import described, requested

pytestmark = pytest.mark.long
STALL = "user: '{query}'\nprovider: openai\ntimeouts: {stall: 0.3}\n"


@contextmanager
def ending(
    row: Ending, streams: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[tuple[str, Callable[[], None]]]:
    """Serve an answer that ends so; yield the URL, and what each of the `streams` clients calls at its first event."""
    (folder / "slow.yaml").write_text(STALL, "utf-8")
    wire = "anthropic-messages" if row.model.startswith("anthropic") else "openai-chat"
    if isinstance(row.play, Gated):
        row.play.gate.clear()  # an earlier test with this row opened it
    with FaultServer(row.play, wire=wire) as server:
        point_at(server.url, monkeypatch)
        app = create_app("slow", prompts_dir=folder, allow_models=ALLOWED, **row.options)

        async def stop() -> None:
            end_streams()

        app.add_api_route("/stop", stop, methods=["POST"])
        with serving(app) as url:
            yield url, (lambda: None) if not row.then else _together(row, url, streams)


def _together(row: Ending, url: str, streams: int) -> Callable[[], None]:
    """Return a function that does what the row says once all clients have called it."""

    def act() -> None:
        if isinstance(row.play, Gated):
            row.play.gate.set()
        else:
            httpx2.post(f"{url}/stop", timeout=DEADLINE)

    barrier = threading.Barrier(streams, act)
    return lambda: (barrier.wait(DEADLINE), None)[1]


SHORT = ("complete", "refused-in-text", "cut", "over-a-limit")
"""The rows that are not among the long tests."""
ROWS = [pytest.param(row, id=row.name, marks=() if row.name in SHORT else pytest.mark.long) for row in ENDINGS]


@pytest.mark.parametrize("row", ROWS)
def test_what_is_sent(row: Ending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each endpoint, streamed and not, all at once, since retries take seconds."""
    with ending(row, len(PAGES), tmp_path, monkeypatch) as (url, then), ThreadPoolExecutor(6) as pool:
        asked: dict[tuple[str, bool], Any] = {}
        for endpoint in PAGES:
            cells = row.cells(endpoint)
            if cells is not None:
                asked[endpoint, True] = pool.submit(requested, url, endpoint, row.model, stream=True, first=then)
                if cells[1]:
                    asked[endpoint, False] = pool.submit(requested, url, endpoint, row.model, stream=False)
        for (endpoint, stream), future in asked.items():
            raw, cells = future.result(), row.cells(endpoint)
            assert cells is not None
            assert described(endpoint, raw) == cells[0 if stream else 1], f"{endpoint}, stream={stream}"
            assert b"operator-key" not in raw.body


@pytest.mark.long
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ENDINGS])
def test_what_the_sdks_make_of_it(row: Ending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK raises if the answer has no end, and returns the reason of an end."""
    streams = sum(reader.stream for reader in READERS)
    with ending(row, streams, tmp_path, monkeypatch) as (url, then), ThreadPoolExecutor(len(READERS)) as pool:
        read: list[tuple[Reader, Any]] = []
        for reader in READERS:
            cells = row.cells(reader.endpoint)
            if cells is not None and (reader.stream or cells[1]):
                read.append((reader, pool.submit(reader.outcome, url, row.model, then)))
        for reader, future in read:
            cells = row.cells(reader.endpoint)
            assert cells is not None
            expected, outcome = cells[0 if reader.stream else 1], future.result()
            if "error" in expected or expected[0].isdigit():
                assert outcome.startswith("raised "), f"{reader.name} took it for an end: {outcome}"
            else:
                assert f"`{outcome}`" in expected, f"{reader.name} says {outcome}, not {expected}"


@pytest.mark.parametrize("endpoint", PAGES)
def test_the_page_has_the_table(endpoint: str) -> None:
    page = ROOT / "docs" / "endpoints" / f"{PAGES[endpoint]}.md"
    assert table(endpoint) in page.read_text("utf-8"), f"the table of {page.name} must be:\n{table(endpoint)}"


def test_a_refused_key_of_the_operator_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer("wrong-key") as server:
        point_at(server.url, monkeypatch)
        with serving(create_app(allow_models=ALLOWED)) as url:
            with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=3, timeout=DEADLINE) as client:
                with pytest.raises(openai.InternalServerError) as raised:
                    client.chat.completions.create(model="openai/m", messages=[{"role": "user", "content": "Hi"}])
        assert len(server.requests) == 1
    assert raised.value.code is None
    assert raised.value.response.headers["x-should-retry"] == "false"
