"""Check the table of endings of `/api/chat`: what is sent, and what the AI SDK's chat shows."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.node_clients import NodeClients
from tests.web.endpoints.conftest import ROOT
from tests.web.endpoints.endings import ENDINGS, Ending
from tests.web.endpoints.test_endings import ending

pytestmark = pytest.mark.long
PAGE = ROOT / "docs" / "endpoints" / "ai-sdk.md"
BROKEN = "`error`, then the connection breaks"
SENT: Mapping[str, str] = {
    "complete": "`finish` with `stop`",
    "length": "`finish` with `length`",
    "tools": "`finish` with `tool-calls`",
    "filtered": "`finish` with `content-filter`",
    "filtered-empty": "`finish` with `content-filter`",
    "refused-in-text": "text, `finish` with `stop`",
    "refused": "`finish` with `content-filter`",
    "cut": BROKEN,
    "reset": BROKEN,
    "malformed": BROKEN,
    "failed": BROKEN,
    "timed-out": BROKEN,
    "over-a-limit": BROKEN,
    "stopped": BROKEN,
    "bad-request": "400",
    "no-such-model": "404",
    "rate-limited": "429",
    "server-error": "500",
    "overloaded": "503",
    "wrong-key": "500",
    "unreachable": "500",
    "empty": "500",
    "too-long": "413",
}
OWN = (
    ("the user stops the answer", "`abort`", "`ready`"),
    ("the page's connection breaks", "the answer continues for the grace period", "`error` until `resumeStream()`"),
)


def status_of(sent: str) -> str:
    return "`ready`" if "finish" in sent else "`error`"


def table() -> str:
    """Return the table of the page."""
    rows = [(row.says, SENT[row.name], status_of(SENT[row.name])) for row in ENDINGS if row.name in SENT]
    lines = ["| What happens | What is sent | `status` of `useChat` |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {says} | {sent} | {status} |" for says, sent, status in [*rows, *OWN])]) + "\n"


def test_the_page_has_the_table() -> None:
    assert table() in PAGE.read_text("utf-8"), f"the table of {PAGE.name} must be:\n{table()}"


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ENDINGS if row.name in SENT])
def test_what_the_chat_makes_of_it(
    node: NodeClients, row: Ending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = SENT[row.name]
    with ending(row, 1, tmp_path, monkeypatch) as (url, then), ThreadPoolExecutor(1) as pool:
        given = {"api": url, "id": "c1", "send": ["Hi"], "body": {"model": row.model}, "says": bool(row.then)}
        process = node.start("ui_chat.mjs", given)
        assert process.stdout is not None
        if row.then:
            assert process.stdout.readline() == b"begun\n"
            pool.submit(then).result()
        found = node.result(process)
    assert f"`{found['status']}`" == status_of(sent)
    if "finish" in sent:
        assert sent.endswith(f"`{found['finishReason']}`")
        assert found["errors"] == []
        return
    (message,) = found["errors"]
    assert message
    assert "operator-key" not in message
    if sent == BROKEN:
        assert found["finishReason"] is None
        assert found["texts"][1][1].startswith("Hello") or row.name not in ("timed-out", "over-a-limit", "stopped")
