"""Log which request failed or was refused, and whose it was."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from streamcore.answer_log import JSONFormatter
from streamcore.errors import OverloadedError
from streamcore.pricing import use_prices
from streamcore.testing import ScriptedProvider
from tests.web.test_guards import clients
from tests.web.test_spending import REQUESTS, answered, scripted

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").write_text('user: "{message}"\n', "utf-8")


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """Return the records of this kind as they are written as JSON."""
    written = [json.loads(JSONFormatter().format(record)) for record in caplog.records]
    return [line for line in written if line.get("event") == event]


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_request_that_a_limit_refuses_is_logged_with_its_user(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    use_prices({"m": {"input": 1_000_000, "output": 1_000_000}})
    try:
        with caplog.at_level(logging.INFO, "streamcore"):
            async with clients(provider=scripted(), max_cost="1/day", auth=lambda: "ada") as client:
                await answered(client, path)
                assert not lines(caplog, "refusal")
                assert (await answered(client, path)).status_code == 429
    finally:
        use_prices(None)
    (line,) = lines(caplog, "refusal")
    assert (line["level"], line["owner"], line["route"], line["status"]) == ("INFO", "ada", f"POST {path}", 429)
    assert "was refused to 'ada': The limit of cost is reached" in line["message"]


async def test_a_store_of_conversations_that_fails_is_503_and_a_line_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = {"type": "sqlite", "path": str(tmp_path / "threads.db")}
    async with clients(provider=scripted(), checkpointer=store, auth=lambda: "ada") as client:
        (tmp_path / "threads.db").unlink(missing_ok=True)
        (tmp_path / "threads.db").mkdir()
        response = await client.get("/state/s")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["detail"] == "The conversation cannot be saved or loaded at the moment. Try again later."
    line = lines(caplog, "failure")[0]
    assert (line["route"], line["owner"], line["error"]) == ("GET /state/{session_id}", "ada", "CheckpointError")
    assert "threads.db" in line["message"]
    assert "exception" not in line


async def test_a_vendor_that_fails_is_logged_with_its_status_and_ids(caplog: pytest.LogCaptureFixture) -> None:
    error = OverloadedError(
        "busy", provider="vendor", status=529, code="overloaded", request_id="req_9", retryable=False
    )
    async with clients(provider=ScriptedProvider(error), auth=lambda: "ada") as client:
        response = await answered(client, "/v1/messages")
    assert response.status_code == 529
    (line,) = lines(caplog, "failure")
    assert (line["route"], line["owner"], line["provider"]) == ("POST /v1/messages", "ada", "vendor")
    assert (line["status"], line["code"], line["request_id"]) == (529, "overloaded", "req_9")
    assert line["reference"] in response.text


async def test_a_run_that_fails_is_logged_with_its_name_and_its_user(caplog: pytest.LogCaptureFixture) -> None:
    error = OverloadedError("busy", provider="vendor", status=529, retryable=False)
    async with clients(provider=ScriptedProvider(error), auth=lambda: "ada") as client:
        begun = (await client.post("/start", json={"prompt": "Hello"})).json()
        body = (await client.get(f"/{begun['stream']}")).text
    produced, read = lines(caplog, "failure")
    assert produced["run_id"] == read["run_id"] == begun["run"]
    assert (produced["owner"], produced["status"], produced["error"]) == ("ada", 529, "OverloadedError")
    assert produced["reference"] == read["reference"]
    assert produced["reference"] in body
