"""Run one graph with an agent through two workers, and return the spans that a collector receives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from tests.servers import RedisServer
from tests.serving import listen
from tests.support import wait_until
from tests.telemetry.otlp import Received, only, receiver

ROOT = Path(__file__).resolve().parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
SCOPES = ("streamcore", "application")
"""What writes the spans that are looked at; the web framework may write its own around them."""
SPANS = 11
GRAPH = """
name: trip
prompts_dir: prompts
prompts_relative: true
state: {message: str}
tools:
  weather: {type: python, module: tests.telemetry.worker, function: weather, description: Tell the weather.}
nodes:
  plan: {type: llm, prompt: plan, state_key: plan}
  advise: {type: agent, prompt: advise, tools: [weather], state_key: answer}
edges:
  - {from: START, to: plan}
  - {from: plan, to: advise}
  - {from: advise, to: END}
"""


@contextmanager
def _worker(*arguments: str) -> Generator[str]:
    command = [sys.executable, "-m", "tests.telemetry.worker", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def spans_of_one_run(folder: Path) -> list[Received]:
    """Start a run at one worker as a client with a trace of its own, read it at the other one, and return its spans."""
    (folder / "prompts").mkdir()
    (folder / "prompts" / "plan.yaml").write_text("system: Plan a trip.\nuser: '{message}'\n")
    (folder / "prompts" / "advise.yaml").write_text("system: Advise.\nuser: '{message}'\n")
    (folder / "trip.yaml").write_text(GRAPH)
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder))
        collector = stack.enter_context(receiver())
        given = (str(folder / "trip.yaml"), redis.url, collector.url)
        first = stack.enter_context(_worker("worker 1", *given))
        second = stack.enter_context(_worker("worker 2", *given))
        headers = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
        begun = httpx2.post(f"{first}/start", json={"prompt": "Where to?"}, headers=headers, timeout=60).json()
        listen(second, f"/{begun['stream']}&format=json", headers=headers)
        wait_until(lambda: len(only(collector.spans, SCOPES)) >= SPANS, "all spans have arrived")
        return only(list(collector.spans), SCOPES)
