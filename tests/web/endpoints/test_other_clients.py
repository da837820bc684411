"""Use the endpoints with other client libraries: LangChain, litellm and llm, in an environment of their own."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamcore.testing import Answer, FaultServer, PlannedCall, Simulator
from tests.support import require
from tests.web.endpoints.conftest import ROOT, Serve

PINS = ("langchain-openai==1.7.4", "litellm==1.110.2", "llm==0.36")
SCRIPT = Path(__file__).with_name("other_client.py")
HOME = Path(sys.prefix) / "clients"
APIS = {"langchain": ("chat", "responses"), "litellm": ("chat", "messages"), "llm": ("chat", "responses")}
MODELS = ("openai/m", "openai-responses/m", "anthropic/m")
FAULTS = ("end-without-mark", "reset-mid-stream", "error-event")
HOSTILE = [
    "Héllo",
    " 👋🏽",
    "\n\n",
    "data: x\n\n",
    "[DONE]",
    "\r\n",
    '{"error": {"message": "no"}}',
    "</think>",
    " \u2028",
]
FULL = Answer(
    HOSTILE,
    calls=[PlannedCall("clock", {"zone": "UTC"}, "call_1"), PlannedCall("clock", {"zone": "Zürich 👋"}, "call_2")],
)
ASKED = "".join(reversed(HOSTILE))
CALLS = [["clock", {"zone": "UTC"}], ["clock", {"zone": "Zürich 👋"}]]

pytestmark = [pytest.mark.long, pytest.mark.real]


@pytest.fixture(scope="session")
def python() -> Path:
    """Return the interpreter of the environment with the clients; it is made once, below this one."""
    found, stamp = HOME / "bin" / "python", HOME / "pins.txt"
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of the other workers of this run of the tests
        if not stamp.is_file() or stamp.read_text("utf-8") != "\n".join(PINS):
            for command in (
                ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(HOME)],
                ["pip", "install", "--quiet", "--python", str(found), *PINS],
            ):
                done = subprocess.run(
                    [sys.executable, "-m", "uv", *command], capture_output=True, text=True, check=False
                )
                require(done.returncode == 0, f"the clients cannot be installed: {done.stderr.strip()[-400:]}")
            stamp.write_text("\n".join(PINS), "utf-8")
    return found


def read(python: Path, client: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a client makes of each job."""
    done = subprocess.run(
        [str(python), str(SCRIPT), client],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=ROOT,
        env={"PATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "true", "LANGSMITH_TRACING": "false", "HOME": str(HOME)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == len(jobs)
    return found


@pytest.mark.parametrize("client", APIS)
def test_other_clients(serve: Serve, python: Path, client: str) -> None:
    """The model's name alone swaps the vendor, hostile texts and parallel calls arrive, and a cut is no end."""

    def jobs(model: str, url: str) -> list[dict[str, Any]]:
        return [
            {"url": url, "model": model, "text": ASKED, "api": api, "mode": mode, "tools": mode != "async"}
            for api in APIS[client]
            for mode in ("stream", "async", "whole")
        ]

    plays = [fault for fault in FAULTS for _ in jobs("", "")]
    with Simulator(FULL) as simulator, serve(simulator) as url:
        # the one vendor that cuts its answers is another model of the same service
        with FaultServer(*plays, wire="mistral-chat") as server, pytest.MonkeyPatch.context() as patch:
            patch.setenv("MISTRAL_BASE_URL", server.url)
            whole = [job for model in MODELS for job in jobs(model, url)]
            cut = [job for _ in FAULTS for job in jobs("mistral/cut", url)]
            found = read(python, client, [*whole, *cut])
        assert len(simulator.requests) == len(whole)
    for job, result in zip(whole, found, strict=False):
        assert (result["text"], result["raised"]) == ("".join(HOSTILE), None), job
        assert result["calls"] == (CALLS if job["tools"] or client != "llm" else []), job
        if client != "llm":  # which does not say how every answer ended
            assert result["end"] in ("tool_calls", "completed"), job
    for request in simulator.requests:
        assert json.dumps(ASKED) in json.dumps(request.body)
    for job, result in zip(cut, found[len(whole) :], strict=True):
        assert result["raised"], job
        assert result["text"] == ("" if job["mode"] == "whole" else "Héllo, wörld"), job
        assert "operator-key" not in result["raised"]
