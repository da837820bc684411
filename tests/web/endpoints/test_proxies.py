"""Read streams through nginx and Caddy, configured as docs/endpoints/proxies.md shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from streamcore.chunk import Chunk
from streamcore.testing import Answer, FaultServer, Simulator
from streamcore.testing.faults import spoiled
from streamcore.testing.faults.steps import Send
from streamcore.wire.encoding.wire import AnswerHead, find_wire
from tests.snippets import all_blocks
from tests.support import DEADLINE, free_port, require, wait_until
from tests.web.endpoints.conftest import ROOT, Serve
from tests.web.endpoints.endings import Gated
from tests.web.endpoints.readers import READERS
from tests.web.endpoints.seen import PATIENCE, body_for, described, requested

PAGE = ROOT / "docs" / "endpoints" / "proxies.md"
LANGUAGES = {"nginx": "nginx", "caddy": "text"}
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""
CADDY = "{{\n    admin off\n    auto_https off\n    storage file_system {folder}\n}}\n{server}"
BODY = body_for("chat", "openai/m", stream=True)

pytestmark = [pytest.mark.long, pytest.mark.real]


def command(proxy: str, folder: Path, port: int, url: str) -> list[str]:
    """Write the configuration of the page for another port and service, and return the command of the proxy."""
    program = shutil.which(proxy, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    require(program, f"{proxy} is not installed")
    assert program is not None
    shown = next(block.code for block in all_blocks(PAGE) if block.language == LANGUAGES[proxy])
    server = shown.replace("http://127.0.0.1:8000", url).replace("127.0.0.1:8000", url.removeprefix("http://"))
    file = folder / "config"
    if proxy == "nginx":
        server = server.replace("listen 8080", f"listen 127.0.0.1:{port}")
        user = "user root;" if os.geteuid() == 0 else ""
        file.write_text(NGINX.format(folder=folder, user=user, server=server), "utf-8")
        return [program, "-p", str(folder), "-c", str(file)]
    server = server.replace(":8080", f"http://127.0.0.1:{port}")
    file.write_text(CADDY.format(folder=folder, server=server), "utf-8")
    return [program, "run", "--adapter", "caddyfile", "--config", str(file)]


@contextmanager
def proxied(proxy: str, folder: Path, url: str) -> Generator[str]:
    """Run the proxy before a service, and yield the proxy's URL."""
    port = free_port()
    with (folder / "output").open("wb") as output:
        environment = {**os.environ, "HOME": str(folder)}
        running = subprocess.Popen(
            command(proxy, folder, port, url), stdout=output, stderr=output, cwd=folder, env=environment
        )

    def answers() -> bool:
        assert running.poll() is None, (folder / "output").read_text("utf-8")
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/health", timeout=DEADLINE).status_code == 200
        except httpx2.HTTPError:
            return False

    try:
        wait_until(answers, f"{proxy} answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(DEADLINE)


@pytest.mark.parametrize("proxy", LANGUAGES)
def test_a_stream_is_not_buffered(serve: Serve, tmp_path: Path, proxy: str) -> None:
    """The vendor sends the rest only once the client has the first token."""
    encoder = find_wire("openai-chat").encoder(AnswerHead(id="answer-1", model="m"))
    first = encoder.feed([Chunk("text", "Hello")])
    rest = encoder.feed([Chunk("text", " there"), Chunk("finish", finish_reason="stop")]) + encoder.end()
    steps = Gated(Send(spoiled.chunked(first)), [Send(spoiled.framed(rest) + spoiled.END)])
    with FaultServer(steps) as server, serve(server) as url, proxied(proxy, tmp_path, url) as behind:
        raw = requested(behind, "chat", "openai/m", stream=True, first=steps.gate.set)
    assert described("chat", raw) == "`stop`, `[DONE]`"
    assert b"Hello" in raw.body
    assert b" there" in raw.body


@pytest.mark.parametrize("proxy", LANGUAGES)
def test_a_cut_reaches_the_client(serve: Serve, tmp_path: Path, proxy: str) -> None:
    """Caddy may end the body properly; the SDKs report the error event in both cases."""
    with FaultServer("end-without-mark") as server, serve(server) as url, proxied(proxy, tmp_path, url) as behind:
        raw = requested(behind, "chat", "openai/m", stream=True)
        assert raw.broken or proxy == "caddy"
        raw.broken = True
        assert described("chat", raw) == "error `server_error`, then the connection breaks"
        for reader in READERS:
            if reader.stream:
                assert reader.outcome(behind, "openai/m", lambda: None).startswith("raised "), reader.name


@pytest.mark.parametrize("proxy", LANGUAGES)
def test_a_client_that_disconnects_closes_the_upstream(serve: Serve, tmp_path: Path, proxy: str) -> None:
    with Simulator(Answer(["w "] * 5000), rate=50) as simulator, serve(simulator) as url:
        with proxied(proxy, tmp_path, url) as behind:
            with httpx2.stream("POST", f"{behind}/v1/chat/completions", json=BODY, timeout=PATIENCE) as response:
                pieces = response.iter_raw()  # which closes the response when nothing refers to it
                first = next(pieces)
                assert response.status_code == 200, first
                wait_until(lambda: simulator.open == 1, "the upstream answers")
            wait_until(lambda: simulator.open == 0 and simulator.abandoned == 1, "the upstream was closed")


@pytest.mark.parametrize("proxy", LANGUAGES)
def test_large_requests_pass(serve: Serve, tmp_path: Path, proxy: str) -> None:
    with Simulator("Yes.") as simulator, serve(simulator, max_input=4_000_000) as url:
        with proxied(proxy, tmp_path, url) as behind:
            raw = requested(behind, "chat", "openai/m", stream=False, text="x" * 3_000_000)
    assert raw.status == 200
