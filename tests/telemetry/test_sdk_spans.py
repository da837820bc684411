"""Test that spans which an SDK writes itself do not double ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECORDING = Path(__file__).resolve().parents[1] / "recordings" / "mistral-thinking.sse"
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
import httpx2
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracers)

from streamcore import Message, Request, get_provider, stream_request
from streamcore.telemetry import instrument

instrument()
body = Path(sys.argv[1]).read_bytes()


def answer(request):
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)


async def main():
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        provider = get_provider("mistral", api_key="sk-test", model="m", http_client=client)
        found = await stream_request(Request([Message("user", "Hello")]), provider=provider).collect()
        assert found.complete and found.text
    spans = [[span.instrumentation_scope.name, span.name] for span in exporter.get_finished_spans()]
    print(json.dumps(sorted(spans)))


asyncio.run(main())
"""
OURS = ["streamcore", "chat m"]
THEIRS = ["mistralai_sdk_tracer", "chat m"]


@pytest.mark.parametrize(
    ("setting", "spans"), [("", [OURS]), pytest.param("global", [THEIRS, OURS], marks=pytest.mark.long)]
)
def test_the_sdk_of_mistral_writes_spans_only_if_its_variable_is_set(setting: str, spans: list[list[str]]) -> None:
    """Its variable MISTRAL_SDK_TELEMETRY is for spans besides ours, which then do not disturb the answer."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(RECORDING)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MISTRAL_SDK_TELEMETRY": setting},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == spans
