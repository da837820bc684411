"""Serve on uvloop, which `streamcore serve` uses where it is installed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvloop

from streamcore.cli.serve import new_server
from streamcore.testing import Answer, Simulator
from streamcore.web import create_app
from tests.serving import listen, serving
from tests.support import DEADLINE, KEY, wait_until


def test_serve_uses_uvloop_where_it_is_installed() -> None:
    factory = new_server(object()).config.get_loop_factory()
    assert factory is not None
    loop = factory()
    loop.close()
    assert isinstance(loop, uvloop.Loop)
    assert isinstance(loop, asyncio.AbstractEventLoop)


@pytest.mark.long
@pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
def test_answers_and_disconnects(
    transport: str, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
    prompt = tmp_path / "say.yaml"
    prompt.write_text('user: "Say {message}"\nprovider: openai\nmodel: m\n', "utf-8")
    with serving(create_app(prompt, transport=transport, grace=0.1), loop="uvloop") as url:
        messages = listen(url, "/stream?prompt=hello&format=json")
        assert messages[-1].json["complete"]
        body: dict[str, Any] = {"model": "say", "messages": [{"role": "user", "content": "Hi"}]}
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=DEADLINE)
        assert answer.json()["choices"][0]["finish_reason"] == "stop"
        simulator.decide = lambda asked: Answer.of("word " * 2000)
        simulator.rate = 20  # so that the answer takes longer than anything here on a busy machine
        asked = body | {"stream": True}
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=asked, timeout=DEADLINE) as response:
            pieces = response.iter_bytes()  # which closes the response when nothing refers to it
            next(pieces)
            wait_until(lambda: simulator.open == 1, "the vendor answers")
        wait_until(lambda: simulator.open == 0, "the vendor's answer was given up")
