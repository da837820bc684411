"""Check the page's table of what an AG-UI client receives at each ending, over sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.agui_support import checked, run_input
from tests.support import DEADLINE
from tests.web.endpoints.conftest import ROOT
from tests.web.endpoints.endings import ENDINGS, Ending
from tests.web.endpoints.test_endings import ending

pytestmark = pytest.mark.long
PAGE = ROOT / "docs" / "endpoints" / "agui.md"
SHORT = ("complete", "cut", "length")
"""The rows that are not among the long tests."""
ROWS = [pytest.param(row, id=row.name, marks=() if row.name in SHORT else pytest.mark.long) for row in ENDINGS]


def table() -> dict[str, str]:
    """Return what the page says of each ending."""
    text = PAGE.read_text("utf-8").partition("## Endings")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1] for row in rows[1:]}


def described(status: int, body: bytes, *, broken: bool) -> str:
    """Return what a client sees of the end of a run, as the table has it."""
    if status != 200:
        assert not broken
        return f"{status}, `{json.loads(body)['error']['type']}`"
    last = checked(body)[-1]
    assert broken == (last["type"] == "RUN_ERROR")  # a run that has no end never ends properly
    if broken:
        return f"`RUN_ERROR` `{last['code']}`, then the connection breaks"
    outcome = last["outcome"]
    more = ", `pendingToolCallIds`" if "pendingToolCallIds" in outcome else ""
    return f"`RUN_FINISHED` `{outcome['type']}`: `{last['result']['finishReason']}`{more}"


@pytest.mark.parametrize("row", ROWS)
def test_an_ending(row: Ending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, broken, status = b"", False, 0
    with ending(row, 1, tmp_path, monkeypatch) as (url, then):
        asked: dict[str, Any] = run_input("Hi", forwardedProps={"model": row.model})
        try:
            with httpx2.stream("POST", f"{url}/agui", json=asked, timeout=4 * DEADLINE) as response:
                status = response.status_code
                for piece in response.iter_raw():
                    if not body:
                        then()
                    body += piece
        except httpx2.RemoteProtocolError:
            broken = True
    assert described(status, body, broken=broken) == table().get(row.says)
    assert b"operator-key" not in body


def test_the_table_has_every_ending() -> None:
    assert [*table()] == [row.says for row in ENDINGS]
