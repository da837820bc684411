"""Run what the pages of the endpoints show: their Python and their requests with curl."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx2
import pytest

from streamcore.testing import Simulator
from tests.snippets import all_blocks, run_script
from tests.web.endpoints.conftest import ROOT, Serve

pytestmark = pytest.mark.long
DOCS = ROOT / "docs"
PAGES = [DOCS / "endpoints.md", *sorted((DOCS / "endpoints").glob("*.md"))]
SHOWN = "http://127.0.0.1:8000"
"""The address of the service in the pages."""
ANSWER = "Hello, World!"


def blocks(page: Path, language: str) -> list[str]:
    return [block.code for block in all_blocks(page) if block.language == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_prints_the_answer(serve: Serve, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = blocks(page, "py")
    with Simulator(ANSWER) as simulator, serve(simulator, "chat", provider="openai") as url:
        if found:  # the blocks of a page continue each other
            run_script("\n".join(found).replace(SHOWN, url), page.name)
    printed = capsys.readouterr().out
    assert printed.startswith(ANSWER) or not found
    if page.name == "responses.md":
        assert printed.endswith("response.completed\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_requests_with_curl_are_answered(serve: Serve, page: Path) -> None:
    with Simulator(ANSWER) as simulator, serve(simulator, "chat", provider="openai") as url:
        for command in blocks(page, "sh"):
            words = shlex.split(command.replace("\\\n", " "))
            assert words[:2] == ["curl", "-N"]
            body = json.loads(words[words.index("-d") + 1])
            response = httpx2.post(words[2].replace(SHOWN, url), json=body, timeout=60)
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")


def test_every_endpoint_has_a_page_with_both_languages_and_its_endings() -> None:
    for name in ("chat-completions", "messages", "responses", "ai-sdk", "agui"):
        text = (DOCS / "endpoints" / f"{name}.md").read_text("utf-8")
        for heading in ("**Python**", "**TypeScript**", "**curl**", "## Supported and refused", "## Endings"):
            assert heading in text, f"{name}: {heading}"
        assert re.search(rf"\]\(endpoints/{name}\.md\)", (DOCS / "endpoints.md").read_text("utf-8"))
