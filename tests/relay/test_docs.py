"""Run the snippets of docs/relay.md, and the measurement that it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import httpx2
import pytest

from streamcore.relay import Relay
from streamcore.testing.suites.run_log import RunLogSuite
from tests.servers import RedisServer
from tests.serving import messages_in, serving
from tests.snippets import blocks, run_script

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "relay.md"
FIRST, SERVICE, REDIS, NATS, LOG = blocks(PAGE, "python")


def test_the_first_snippet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    run_script(FIRST)
    text = capsys.readouterr().out
    assert text.startswith("Hello! You asked: “hello”")
    assert text.endswith("\nstop\n")


def test_the_service() -> None:
    names = run_script(SERVICE)
    app, relay = names["app"], names["relay"]

    async def tokens() -> object:
        for number in range(5):
            await anyio.sleep(0.01)
            yield f"{number} "

    async def start() -> None:
        await relay.start("a", tokens())

    app.add_api_route("/start", start, methods=["POST"])
    with serving(app) as url:
        assert httpx2.get(f"{url}/answers/a").status_code == 404
        httpx2.post(f"{url}/start")
        assert "".join(one.data for one in messages_in(httpx2.get(f"{url}/answers/a").content)) == "0 1 2 3 4 [DONE]"
        again = httpx2.get(f"{url}/answers/a", headers={"Last-Event-ID": "3"})
        assert [one.data for one in messages_in(again.content)] == ["3 ", "4 ", "[DONE]"]
        gone = httpx2.get(f"{url}/answers/b", headers={"Last-Event-ID": "3"})
        assert messages_in(gone.content)[0].name == "stream-error"
        end = httpx2.get(f"{url}/answers/a", headers={"Last-Event-ID": "end"})
        assert [one.data for one in messages_in(end.content)] == ["[DONE]"]


def test_the_others() -> None:
    assert isinstance(run_script(REDIS)["relay"], Relay)
    assert isinstance(run_script(NATS)["relay"], Relay)
    assert issubclass(run_script(LOG)["TestMyLog"], RunLogSuite)


@pytest.mark.long
@pytest.mark.real
def test_the_measurement_runs(tmp_path: Path) -> None:
    """Its figures depend on the machine; that nothing is lost does not."""
    with RedisServer(tmp_path) as server:
        command = [sys.executable, str(ROOT / "benchmarks/relay.py"), "--quick", "--redis", server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.stdout.count("100 of 100 simultaneous runs") == 2, done.stdout + done.stderr
